/* Reading rows of the stock formats with AVX-512. */
#include "rows_x86.h"

static inline void row_f32(int type, const void *src, float *dst, int64_t n) {
    const uint8_t *block = src;
    for (int64_t i = 0; i < n / ST_ROW_BLOCK; i++, block += st_row_bytes(type), dst += ST_ROW_BLOCK) {
        const __m512 scale = _mm512_set1_ps(st_half(block));
        const __m512 offset = _mm512_set1_ps(st_row_has_offset(type) ? st_half(block + 2) : 0.0f);
        const __m256i q = st_block_i8(type, block);
        const __m512i low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(q));
        const __m512i high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(q, 1));
        const __m512 a = _mm512_mul_ps(_mm512_cvtepi32_ps(low), scale);
        const __m512 b = _mm512_mul_ps(_mm512_cvtepi32_ps(high), scale);
        _mm512_storeu_ps(dst, st_row_has_offset(type) ? _mm512_add_ps(a, offset) : a);
        _mm512_storeu_ps(dst + 16, st_row_has_offset(type) ? _mm512_add_ps(b, offset) : b);
    }
}

static void row_f16(const void *src, float *dst, int64_t n) {
    const uint16_t *p = src;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + i))));
    }
    for (; i < n; i++) {
        dst[i] = st_load_f16(p + i);
    }
}

static void row_bf16(const void *src, float *dst, int64_t n) {
    const uint16_t *p = src;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p + i)));
        _mm512_storeu_si512(dst + i, _mm512_slli_epi32(wide, 16));
    }
    for (; i < n; i++) {
        dst[i] = st_bf16_to_f32(st_load_u16(p + i));
    }
}

#include "rows_entries.h"

const st_row_ops *const st_rows_avx512 = row_entries;
