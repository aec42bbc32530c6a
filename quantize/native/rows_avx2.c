/* Reading rows of the stock formats with AVX2 and F16C. */
#include "rows_x86.h"

static inline void row_f32(int type, const void *src, float *dst, int64_t n) {
    const uint8_t *block = src;
    for (int64_t i = 0; i < n / ST_ROW_BLOCK; i++, block += st_row_bytes(type), dst += ST_ROW_BLOCK) {
        const __m256 scale = _mm256_set1_ps(st_half(block));
        const __m256 offset = _mm256_set1_ps(st_row_has_offset(type) ? st_half(block + 2) : 0.0f);
        const __m256i q = st_block_i8(type, block);
        const __m128i half[2] = {_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1)};
        for (int j = 0; j < 4; j++) {
            const __m128i eight = j % 2 ? _mm_unpackhi_epi64(half[j / 2], half[j / 2]) : half[j / 2];
            const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight)), scale);
            _mm256_storeu_ps(dst + 8 * j, st_row_has_offset(type) ? _mm256_add_ps(x, offset) : x);
        }
    }
}

static void row_f16(const void *src, float *dst, int64_t n) {
    const uint16_t *p = src;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + i))));
    }
    for (; i < n; i++) {
        dst[i] = st_load_f16(p + i);
    }
}

static void row_bf16(const void *src, float *dst, int64_t n) {
    const uint16_t *p = src;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + i)));
        _mm256_storeu_si256((__m256i *)(dst + i), _mm256_slli_epi32(wide, 16));
    }
    for (; i < n; i++) {
        dst[i] = st_bf16_to_f32(st_load_u16(p + i));
    }
}

#include "rows_entries.h"

const st_row_ops *const st_rows_avx2 = row_entries;
