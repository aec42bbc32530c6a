/* tq4, tq3 and tq2 with AVX2. */
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
    const uint64_t word = st_load_u32(p) | (uint64_t)st_load_u32(p + 4) << 32;
    const __m128i both = _mm_set1_epi64x((int64_t)word);
    return _mm256_and_si256(_mm256_zextsi128_si256(_mm_srlv_epi64(both, _mm_set_epi64x(1, 0))), even);
}

static inline __m256i points(const uint8_t *p, int block) {
    return block == 128 ? _mm256_loadu_si256((const __m256i *)p)
                        : _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)p));
}

/* u[t - back] at the place of u[t]: `before` holds the word before each. (The shift counts are
 * constants once this is inlined.) */
static inline __m256i delayed(__m256i path, __m256i before, int back) {
    return _mm256_or_si256(_mm256_slli_epi64(path, 2 * back), _mm256_srli_epi64(before, 64 - 2 * back));
}

/* Levels of the values of field f, one per byte. `nibbles` hold 4 point + subset. */
static inline __m256i lookup(int bits, __m256i nibbles, __m256i table_bits, int f, __m256i low, __m256i high) {
    const __m256i index =
        _mm256_and_si256(f & 2 ? _mm256_srli_epi16(nibbles, 4) : nibbles, _mm256_set1_epi8(15));
    const __m256i first = _mm256_shuffle_epi8(low, index);
    if (bits == 2) {
        return first;
    }
    /* the table bit goes to the top of its byte, where a blend looks */
    return _mm256_blendv_epi8(first, _mm256_shuffle_epi8(high, index), _mm256_slli_epi16(table_bits, 7 - 2 * f));
}

typedef struct st_levels {
    __m256i field[4]; /* one byte per value; for blocks of 64 the lower halves count */
} st_levels;

static inline st_levels block_levels(int bits, int block, const uint8_t *src) {
    const __m256i path = plane(src + 2, block);
    const __m256i history = _mm256_castsi128_si256(_mm_cvtsi64_si128((int64_t)st_tq_history(st_load_u16(src))));
    const __m256i before =
        _mm256_blend_epi32(_mm256_permute4x64_epi64(path, 0x90), history, 0x03); /* history, w0, w1, w2 */
    const __m256i hi = _mm256_xor_si256(_mm256_xor_si256(path, delayed(path, before, 1)), delayed(path, before, 6));
    const __m256i lo = _mm256_xor_si256(delayed(path, before, 2), delayed(path, before, 4));
    const __m256i subset = _mm256_or_si256(lo, _mm256_add_epi64(hi, hi));

    __m256i point;
    __m256i table = path;
    if (bits == 2) {
        point = _mm256_or_si256(plane(src + st_tq_second(block), block), _mm256_add_epi64(path, path));
    } else {
        point = points(src + st_tq_points(bits, block), block);
        table = bits == 3 ? path : plane(src + st_tq_second(block), block);
    }
    const __m256i pairs = _mm256_set1_epi8(0x33);
    const __m256i even = _mm256_or_si256(_mm256_and_si256(subset, pairs),
                                         _mm256_slli_epi64(_mm256_and_si256(point, pairs), 2));
    const __m256i odd = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi64(subset, 2), pairs),
                                        _mm256_andnot_si256(pairs, point));
    const int8_t *levels = st_tq_book_of(bits)->levels;
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)levels));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(levels + 16)));
    return (st_levels){{lookup(bits, even, table, 0, low, high), lookup(bits, odd, table, 1, low, high),
                        lookup(bits, even, table, 2, low, high), lookup(bits, odd, table, 3, low, high)}};
}

static inline float scale_of(const uint8_t *p) {
    return _cvtsh_ss(st_load_u16(p) & 0x7fe0u) * (1.0f / 64.0f);
}

static inline void to_i8(int bits, int block, const void *src, int8_t *q, float *scale, int32_t step, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n / block; i++, p += st_tq_size(bits, block), q += block) {
        scale[i * step] = scale_of(p);
        const st_levels levels = block_levels(bits, block, p);
        for (int f = 0; f < 4; f++) {
            if (block == 128) {
                _mm256_storeu_si256((__m256i *)(q + 32 * f), levels.field[f]);
            } else {
                _mm_storeu_si128((__m128i *)(q + 16 * f), _mm256_castsi256_si128(levels.field[f]));
            }
        }
    }
}

/* 16 levels times the scale. */
static inline void store16(float *dst, __m128i levels, __m256 scale) {
    const __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(levels));
    const __m256 b = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(levels, levels)));
    _mm256_storeu_ps(dst, _mm256_mul_ps(a, scale));
    _mm256_storeu_ps(dst + 8, _mm256_mul_ps(b, scale));
}

static inline void to_f32(int bits, int block, const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n / block; i++, p += st_tq_size(bits, block)) {
        const __m256 scale = _mm256_set1_ps(scale_of(p));
        const st_levels levels = block_levels(bits, block, p);
        for (int f = 0; f < 4; f++) {
            store16(dst, _mm256_castsi256_si128(levels.field[f]), scale);
            dst += 16;
            if (block == 128) {
                store16(dst, _mm256_extracti128_si256(levels.field[f], 1), scale);
                dst += 16;
            }
        }
    }
}

/* ---------------------------------------------------------------- writing */

/* The metrics of the eight classes for one target, in both halves of the register. */
static inline __m256i metrics(const st_tq_plan *plan, int16_t target) {
    const __m256i x = _mm256_set1_epi16(target);
    const __m256i a = _mm256_abs_epi16(_mm256_sub_epi16(x, _mm256_load_si256((const __m256i *)plan->candidates[0])));
    const __m256i b = _mm256_abs_epi16(_mm256_sub_epi16(x, _mm256_load_si256((const __m256i *)plan->candidates[2])));
    const __m256i pairs = _mm256_min_epi16(a, b);
    __m256i nearest = _mm256_min_epi16(pairs, _mm256_permute2x128_si256(pairs, pairs, 0x01));
    if (!plan->by_path) {
        nearest = _mm256_min_epi16(nearest, _mm256_shuffle_epi32(nearest, 0x4e));
    }
    nearest = _mm256_min_epi16(nearest, _mm256_set1_epi16(ST_TQ_MAX_DISTANCE));
    const __m256i square = _mm256_srl_epi16(_mm256_mullo_epi16(nearest, nearest),
                                            _mm_cvtsi32_si128(plan->book->coarse));
    return _mm256_min_epi16(square, _mm256_set1_epi16(ST_TQ_MAX_METRIC));
}

static inline __m128i least_of(const __m256i *cost) {
    const __m256i m = _mm256_min_epi16(_mm256_min_epi16(cost[0], cost[1]), _mm256_min_epi16(cost[2], cost[3]));
    return _mm_minpos_epu16(_mm_min_epi16(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1)));
}

static int search(const st_tq_plan *plan, const int16_t *target, int steps, uint64_t *decisions) {
    __m256i cost[4]; /* of the states in order */
    __m256i shuffle[2][4];
    for (int i = 0; i < 4; i++) {
        cost[i] = _mm256_setzero_si256();
        shuffle[0][i] = _mm256_load_si256((const __m256i *)plan->shuffle[0] + i);
        shuffle[1][i] = _mm256_load_si256((const __m256i *)plan->shuffle[1] + i);
    }
    for (int t = 0; t < steps; t++) {
        if (t > 0 && t % ST_TQ_RENORMALIZE == 0) {
            const __m256i least = _mm256_broadcastw_epi16(least_of(cost));
            for (int i = 0; i < 4; i++) {
                cost[i] = _mm256_sub_epi16(cost[i], least);
            }
        }
        const __m256i metric = metrics(plan, target[t]);
        __m256i next[4];
        __m256i other[4];
        for (int i = 0; i < 4; i += 2) {
            /* states 16 i .. 16 i + 31 come from 8 i .. 8 i + 15 and from those plus 32: each twice */
            const __m256i one = _mm256_permute4x64_epi64(cost[i / 2], 0xd8);
            const __m256i two = _mm256_permute4x64_epi64(cost[i / 2 + 2], 0xd8);
            const __m256i a0 = _mm256_add_epi16(_mm256_unpacklo_epi16(one, one), _mm256_shuffle_epi8(metric, shuffle[0][i]));
            const __m256i a1 = _mm256_add_epi16(_mm256_unpackhi_epi16(one, one), _mm256_shuffle_epi8(metric, shuffle[0][i + 1]));
            const __m256i b0 = _mm256_add_epi16(_mm256_unpacklo_epi16(two, two), _mm256_shuffle_epi8(metric, shuffle[1][i]));
            const __m256i b1 = _mm256_add_epi16(_mm256_unpackhi_epi16(two, two), _mm256_shuffle_epi8(metric, shuffle[1][i + 1]));
            next[i] = _mm256_min_epi16(a0, b0);
            next[i + 1] = _mm256_min_epi16(a1, b1);
            other[i] = _mm256_cmpgt_epi16(a0, b0);
            other[i + 1] = _mm256_cmpgt_epi16(a1, b1);
        }
        const __m256i low = _mm256_permute4x64_epi64(_mm256_packs_epi16(other[0], other[1]), 0xd8);
        const __m256i high = _mm256_permute4x64_epi64(_mm256_packs_epi16(other[2], other[3]), 0xd8);
        decisions[t] = (uint64_t)(uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
        for (int i = 0; i < 4; i++) {
            cost[i] = next[i];
        }
    }
    const int16_t least = (int16_t)_mm_extract_epi16(least_of(cost), 0);
    _Alignas(32) int16_t last[ST_TQ_STATES];
    for (int i = 0; i < 4; i++) {
        _mm256_store_si256((__m256i *)last + i, cost[i]);
    }
    int best = 0;
    while (last[best] != least) {
        best++;
    }
    return best;
}

#include "tq_entries.h"

const st_tq_ops *const st_tq_avx2 = entries;
