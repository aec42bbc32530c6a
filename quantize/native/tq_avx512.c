/* tq4, tq3 and tq2 with AVX-512 (F, BW, VL, VBMI and VBMI2). */
#include "tq_write.h"

#include <immintrin.h>

/* ---------------------------------------------------------------- reading */

/* Words of a plane: a block of 128 has four, one of 64 two (the other half of the register is zero). */
static inline __m256i plane(const uint8_t *p, int block) {
    const __m256i even = _mm256_set1_epi8(0x55);
    if (block == 128) {
        const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
        return _mm256_and_si256(_mm256_srlv_epi64(both, _mm256_setr_epi64x(0, 0, 1, 1)), even);
    }
    const __m256i both = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_and_si256(_mm256_srlv_epi64(both, _mm256_setr_epi64x(0, 1, 64, 64)), even);
}

static inline __m256i points(const uint8_t *p, int block) {
    return block == 128 ? _mm256_loadu_si256((const __m256i *)p)
                        : _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p));
}

/* a where the mask has ones, else b. */
static inline __m256i select256(__m256i mask, __m256i a, __m256i b) {
    return _mm256_ternarylogic_epi64(mask, a, b, 0xca);
}
static inline __m512i select512(__m512i mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi64(mask, a, b, 0xca);
}

typedef struct st_levels {
    __m512i half[2]; /* one byte per value; a block of 64 has only the first */
} st_levels;

static inline st_levels block_levels(int bits, int block, const uint8_t *src) {
    const __m256i path = plane(src + 2, block);
    const __m256i history = _mm256_set1_epi64x((int64_t)st_tq_history(st_load_u16(src)));
    const __m256i before = _mm256_alignr_epi64(path, history, 3); /* history, w0, w1, w2 */
    const __m256i hi = _mm256_ternarylogic_epi64(path, _mm256_shldi_epi64(path, before, 2),
                                                 _mm256_shldi_epi64(path, before, 12), 0x96);
    const __m256i lo = _mm256_xor_si256(_mm256_shldi_epi64(path, before, 4), _mm256_shldi_epi64(path, before, 8));
    const __m256i subset = _mm256_or_si256(lo, _mm256_add_epi64(hi, hi));

    __m256i point;
    __m256i table = path;
    if (bits == 2) {
        point = _mm256_or_si256(plane(src + st_tq_second(block), block), _mm256_add_epi64(path, path));
    } else {
        point = points(src + st_tq_points(bits, block), block);
        table = bits == 3 ? path : plane(src + st_tq_second(block), block);
    }
    /* nibbles 4 point + subset: fields 0 and 2 in one register, 1 and 3 in another */
    const __m256i pairs = _mm256_set1_epi8(0x33);
    const __m256i even = select256(pairs, subset, _mm256_slli_epi64(point, 2));
    const __m256i odd = select256(pairs, _mm256_srli_epi64(subset, 2), point);

    const int8_t *levels = st_tq_book_of(bits)->levels;
    const __m512i book =
        _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)levels)); /* repeated: an index has 6 bits */
    const __m512i nibble = _mm512_set1_epi8(15);
    if (block == 128) {
        const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1); /* fields 0, 1 (and 2, 3) */
        __m512i first = both;
        __m512i second = _mm512_srli_epi64(both, 4);
        if (bits == 2) {
            first = _mm512_and_si512(first, nibble);
            second = _mm512_and_si512(second, nibble);
        } else { /* the table bit, from bit 2f to bit 4; the bits above 4 that come along are zero or not looked at */
            const __m512i bit = _mm512_broadcast_i64x4(table);
            first = select512(nibble, first, _mm512_sllv_epi64(bit, _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2)));
            second = select512(nibble, second, _mm512_srlv_epi64(bit, _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2)));
        }
        return (st_levels){{_mm512_permutexvar_epi8(first, book), _mm512_permutexvar_epi8(second, book)}};
    }
    const __m256i both = _mm256_inserti128_si256(even, _mm256_castsi256_si128(odd), 1);
    __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(both), _mm256_srli_epi64(both, 4), 1);
    if (bits == 2) {
        all = _mm512_and_si512(all, nibble);
    } else {
        const __m512i bit = _mm512_broadcast_i64x2(_mm256_castsi256_si128(table));
        const __m512i up = _mm512_sllv_epi64(bit, _mm512_setr_epi64(4, 4, 2, 2, 64, 64, 64, 64));
        const __m512i down = _mm512_srlv_epi64(bit, _mm512_setr_epi64(64, 64, 64, 64, 0, 0, 2, 2));
        all = select512(nibble, all, _mm512_or_si512(up, down));
    }
    return (st_levels){{_mm512_permutexvar_epi8(all, book), _mm512_setzero_si512()}};
}

static inline float scale_of(const uint8_t *p) {
    return _cvtsh_ss(st_load_u16(p) & 0x7fe0u) * (1.0f / 64.0f);
}

static inline void to_i8(int bits, int block, const void *src, int8_t *q, float *scale, int32_t step, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n / block; i++, p += st_tq_size(bits, block), q += block) {
        scale[i * step] = scale_of(p);
        const st_levels levels = block_levels(bits, block, p);
        for (int h = 0; h < block / 64; h++) {
            _mm512_storeu_si512(q + 64 * h, levels.half[h]);
        }
    }
}

static inline void store16(float *dst, __m128i levels, __m512 scale) {
    _mm512_storeu_ps(dst, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels)), scale));
}

static inline void to_f32(int bits, int block, const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n / block; i++, p += st_tq_size(bits, block)) {
        const __m512 scale = _mm512_set1_ps(scale_of(p));
        const st_levels levels = block_levels(bits, block, p);
        for (int h = 0; h < block / 64; h++, dst += 64) {
            store16(dst, _mm512_castsi512_si128(levels.half[h]), scale);
            store16(dst + 16, _mm512_extracti32x4_epi32(levels.half[h], 1), scale);
            store16(dst + 32, _mm512_extracti32x4_epi32(levels.half[h], 2), scale);
            store16(dst + 48, _mm512_extracti32x4_epi32(levels.half[h], 3), scale);
        }
    }
}

/* ---------------------------------------------------------------- writing */

/* The metrics of the eight classes for one target, in all quarters of the register. */
static inline __m512i metrics(const st_tq_plan *plan, int16_t target) {
    const __m512i candidates = _mm512_load_si512(plan->candidates);
    const __m512i distance = _mm512_abs_epi16(_mm512_sub_epi16(_mm512_set1_epi16(target), candidates));
    __m256i pairs = _mm256_min_epi16(_mm512_castsi512_si256(distance), _mm512_extracti64x4_epi64(distance, 1));
    __m128i nearest = _mm_min_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    if (!plan->by_path) {
        nearest = _mm_min_epi16(nearest, _mm_shuffle_epi32(nearest, 0x4e));
    }
    nearest = _mm_min_epi16(nearest, _mm_set1_epi16(ST_TQ_MAX_DISTANCE));
    const __m128i square = _mm_srl_epi16(_mm_mullo_epi16(nearest, nearest), _mm_cvtsi32_si128(plan->book->coarse));
    return _mm512_broadcast_i32x4(_mm_min_epi16(square, _mm_set1_epi16(ST_TQ_MAX_METRIC)));
}

static inline __m128i least_of(__m512i low, __m512i high) {
    const __m512i m = _mm512_min_epi16(low, high);
    const __m256i n = _mm256_min_epi16(_mm512_castsi512_si256(m), _mm512_extracti64x4_epi64(m, 1));
    return _mm_minpos_epu16(_mm_min_epi16(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1)));
}

static int search(const st_tq_plan *plan, const int16_t *target, int steps, uint64_t *decisions) {
    __m512i low = _mm512_setzero_si512();  /* costs of the states 0 .. 31 */
    __m512i high = _mm512_setzero_si512(); /* 32 .. 63 */
    const __m512i twice_low = _mm512_set_epi16(15, 15, 14, 14, 13, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8, 7, 7, 6, 6,
                                               5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512i twice_high = _mm512_add_epi16(twice_low, _mm512_set1_epi16(16));
    const __m512i one_low = _mm512_load_si512(plan->shuffle[0]);
    const __m512i one_high = _mm512_load_si512(plan->shuffle[0] + 64);
    const __m512i two_low = _mm512_load_si512(plan->shuffle[1]);
    const __m512i two_high = _mm512_load_si512(plan->shuffle[1] + 64);
    for (int t = 0; t < steps; t++) {
        if (t > 0 && t % ST_TQ_RENORMALIZE == 0) {
            const __m512i least = _mm512_broadcastw_epi16(least_of(low, high));
            low = _mm512_sub_epi16(low, least);
            high = _mm512_sub_epi16(high, least);
        }
        /* state s comes from s / 2 and from s / 2 + 32 */
        const __m512i metric = metrics(plan, target[t]);
        const __m512i a_low = _mm512_add_epi16(_mm512_permutexvar_epi16(twice_low, low), _mm512_shuffle_epi8(metric, one_low));
        const __m512i a_high = _mm512_add_epi16(_mm512_permutexvar_epi16(twice_high, low), _mm512_shuffle_epi8(metric, one_high));
        const __m512i b_low = _mm512_add_epi16(_mm512_permutexvar_epi16(twice_low, high), _mm512_shuffle_epi8(metric, two_low));
        const __m512i b_high = _mm512_add_epi16(_mm512_permutexvar_epi16(twice_high, high), _mm512_shuffle_epi8(metric, two_high));
        decisions[t] = (uint64_t)_mm512_cmpgt_epi16_mask(a_low, b_low) | (uint64_t)_mm512_cmpgt_epi16_mask(a_high, b_high) << 32;
        low = _mm512_min_epi16(a_low, b_low);
        high = _mm512_min_epi16(a_high, b_high);
    }
    const __m512i least = _mm512_broadcastw_epi16(least_of(low, high));
    const uint64_t where = (uint64_t)_mm512_cmpeq_epi16_mask(low, least) | (uint64_t)_mm512_cmpeq_epi16_mask(high, least) << 32;
    return __builtin_ctzll(where);
}

#include "tq_entries.h"

const st_tq_ops *const st_tq_avx512 = entries;
