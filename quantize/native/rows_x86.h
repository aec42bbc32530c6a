/* The 32 integers of a block of a stock format, with AVX2: shared by rows_avx2.c and rows_avx512.c. */
#ifndef STRETCH_ROWS_X86_H
#define STRETCH_ROWS_X86_H

#include "rows_layout.h"

#include <immintrin.h>

/* Bit j of `bits` as 16 in byte j. */
static inline __m256i st_spread_fifth(uint32_t bits) {
    const __m256i which = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i mask = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bits), which);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mask), mask);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

static inline __m256i st_block_i8(int type, const uint8_t *block) {
    const uint8_t *packed = block + st_row_head(type);
    if (type == GGML_Q8_0) {
        return _mm256_loadu_si256((const __m256i *)packed);
    }
    const __m128i bytes = _mm_loadu_si128((const __m128i *)packed);
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1);
    __m256i code = _mm256_and_si256(both, _mm256_set1_epi8(15));
    if (type == GGML_IQ4_NL) {
        const __m128i levels = _mm_loadu_si128((const __m128i *)ST_IQ4_NL_LEVELS);
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(levels), code);
    }
    if (st_row_has_fifth_bit(type)) {
        code = _mm256_or_si256(code, st_spread_fifth(st_row_fifth_bits(type, block)));
    }
    return st_row_bias(type) == 0 ? code : _mm256_sub_epi8(code, _mm256_set1_epi8((int8_t)st_row_bias(type)));
}

static inline float st_half(const uint8_t *p) {
    return _cvtsh_ss(st_load_u16(p));
}

static inline void row_i8(int type, const void *src, int8_t *q, float *scale, float *offset, int32_t step,
                          int64_t n) {
    const uint8_t *block = src;
    for (int64_t i = 0; i < n / ST_ROW_BLOCK; i++, block += st_row_bytes(type)) {
        scale[i * step] = st_half(block);
        if (st_row_has_offset(type)) {
            offset[i * step] = st_half(block + 2);
        }
        _mm256_storeu_si256((__m256i *)(q + i * ST_ROW_BLOCK), st_block_i8(type, block));
    }
}

#endif
