/* tq4, tq3 and tq2 with NEON (base AArch64). */
#include "tq_write.h"

#include <arm_neon.h>

/* ---------------------------------------------------------------- reading */

/* A block of 128 is four words in two registers, one of 64 is two words in one. */
enum { MAX_PARTS = 2 };

static inline void plane(const uint8_t *p, int block, uint64x2_t *words) {
    const uint64x2_t even = vdupq_n_u64(ST_TQ_EVEN);
    if (block == 128) {
        const uint64x2_t both = vreinterpretq_u64_u8(vld1q_u8(p));
        words[0] = vandq_u64(both, even);
        words[1] = vandq_u64(vshrq_n_u64(both, 1), even);
    } else {
        const uint64x1_t both = vreinterpret_u64_u8(vld1_u8(p));
        words[0] = vandq_u64(vcombine_u64(both, vshr_n_u64(both, 1)), even);
    }
}

static inline void block_levels(int bits, int block, const uint8_t *src, int8x16_t field[4][MAX_PARTS]) {
    const int parts = block / 64;
    uint64x2_t path[MAX_PARTS];
    uint64x2_t second[MAX_PARTS];
    plane(src + 2, block, path);
    if (bits != 3) {
        plane(src + st_tq_second(block), block, second);
    }
    const int8_t *levels = st_tq_book_of(bits)->levels;
    const int8x16x2_t book = {{vld1q_s8(levels), vld1q_s8(levels + 16)}};
    const uint8x16_t pairs = vdupq_n_u8(0x33);
    const uint8x16_t nibble = vdupq_n_u8(15);
    const uint8x16_t sixteen = vdupq_n_u8(16);
    uint64x2_t before = vdupq_n_u64(st_tq_history(st_load_u16(src)));
    for (int part = 0; part < parts; part++) {
        const uint64x2_t x = path[part];
        before = vextq_u64(before, x, 1); /* the word before each */
        const uint64x2_t back1 = vsriq_n_u64(vshlq_n_u64(x, 2), before, 62);
        const uint64x2_t back2 = vsriq_n_u64(vshlq_n_u64(x, 4), before, 60);
        const uint64x2_t back4 = vsriq_n_u64(vshlq_n_u64(x, 8), before, 56);
        const uint64x2_t back6 = vsriq_n_u64(vshlq_n_u64(x, 12), before, 52);
        before = x;
        const uint64x2_t hi = veorq_u64(veorq_u64(x, back1), back6);
        const uint64x2_t lo = veorq_u64(back2, back4);
        const uint8x16_t subset = vreinterpretq_u8_u64(vorrq_u64(lo, vaddq_u64(hi, hi)));
        const uint8x16_t point = bits == 2 ? vreinterpretq_u8_u64(vorrq_u64(second[part], vaddq_u64(x, x)))
                                           : vld1q_u8(src + st_tq_points(bits, block) + 16 * part);
        const uint8x16_t table = vreinterpretq_u8_u64(bits == 4 ? second[part] : x);
        const uint8x16_t even = vbslq_u8(pairs, subset, vshlq_n_u8(point, 2));
        const uint8x16_t odd = vbslq_u8(pairs, vshrq_n_u8(subset, 2), point);
        const uint8x16_t low[4] = {vandq_u8(even, nibble), vandq_u8(odd, nibble), vshrq_n_u8(even, 4),
                                   vshrq_n_u8(odd, 4)};
        if (bits == 2) {
            for (int f = 0; f < 4; f++) {
                field[f][part] = vqtbl1q_s8(book.val[0], low[f]);
            }
        } else {
            const uint8x16_t high[4] = {vshlq_n_u8(table, 4), vshlq_n_u8(table, 2), table, vshrq_n_u8(table, 2)};
            for (int f = 0; f < 4; f++) {
                field[f][part] = vqtbl2q_s8(book, vbslq_u8(sixteen, high[f], low[f]));
            }
        }
    }
}

static inline void to_i8(int bits, int block, const void *src, int8_t *q, float *scale, int32_t step, int64_t n) {
    const uint8_t *p = src;
    const int parts = block / 64;
    for (int64_t i = 0; i < n / block; i++, p += st_tq_size(bits, block)) {
        scale[i * step] = st_tq_scale(st_load_u16(p));
        int8x16_t field[4][MAX_PARTS];
        block_levels(bits, block, p, field);
        for (int f = 0; f < 4; f++) {
            for (int part = 0; part < parts; part++, q += 16) {
                vst1q_s8(q, field[f][part]);
            }
        }
    }
}

static inline void to_f32(int bits, int block, const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    const int parts = block / 64;
    for (int64_t i = 0; i < n / block; i++, p += st_tq_size(bits, block)) {
        const float scale = st_tq_scale(st_load_u16(p));
        int8x16_t field[4][MAX_PARTS];
        block_levels(bits, block, p, field);
        for (int f = 0; f < 4; f++) {
            for (int part = 0; part < parts; part++, dst += 16) {
                const int16x8_t a = vmovl_s8(vget_low_s8(field[f][part]));
                const int16x8_t b = vmovl_s8(vget_high_s8(field[f][part]));
                vst1q_f32(dst, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), scale));
                vst1q_f32(dst + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(a))), scale));
                vst1q_f32(dst + 8, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), scale));
                vst1q_f32(dst + 12, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(b))), scale));
            }
        }
    }
}

/* ---------------------------------------------------------------- writing */

/* The metrics of the eight classes for one target. */
static inline int16x8_t metrics(const st_tq_plan *plan, int16_t target) {
    const int16x8_t x = vdupq_n_s16(target);
    int16x8_t nearest = vdupq_n_s16(ST_TQ_MAX_DISTANCE);
    for (int row = 0; row < 4; row++) {
        nearest = vminq_s16(nearest, vabdq_s16(x, vld1q_s16(plan->candidates[row])));
    }
    if (!plan->by_path) {
        nearest = vminq_s16(nearest, vextq_s16(nearest, nearest, 4));
    }
    const int16x8_t square = vshlq_s16(vmulq_s16(nearest, nearest), vdupq_n_s16((int16_t)-plan->book->coarse));
    return vminq_s16(square, vdupq_n_s16(ST_TQ_MAX_METRIC));
}

static inline int16_t least_of(const int16x8_t *cost) {
    int16x8_t m = cost[0];
    for (int i = 1; i < 8; i++) {
        m = vminq_s16(m, cost[i]);
    }
    return vminvq_s16(m);
}

static int search(const st_tq_plan *plan, const int16_t *target, int steps, uint64_t *decisions) {
    static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t weight = vld1q_u8(weights);
    int16x8_t cost[8]; /* of the states in order */
    for (int i = 0; i < 8; i++) {
        cost[i] = vdupq_n_s16(0);
    }
    for (int t = 0; t < steps; t++) {
        if (t > 0 && t % ST_TQ_RENORMALIZE == 0) {
            const int16x8_t least = vdupq_n_s16(least_of(cost));
            for (int i = 0; i < 8; i++) {
                cost[i] = vsubq_s16(cost[i], least);
            }
        }
        const int8x16_t metric = vreinterpretq_s8_s16(metrics(plan, target[t]));
        int16x8_t next[8];
        uint8x16_t bits[4]; /* a byte per state, one bit of it set where the second predecessor is cheaper */
        for (int i = 0; i < 4; i++) {
            /* states 16 i .. 16 i + 15 come from 8 i .. 8 i + 7 and from those plus 32: each twice */
            const int16x8_t one[2] = {vzip1q_s16(cost[i], cost[i]), vzip2q_s16(cost[i], cost[i])};
            const int16x8_t two[2] = {vzip1q_s16(cost[i + 4], cost[i + 4]), vzip2q_s16(cost[i + 4], cost[i + 4])};
            uint8x8_t cheaper[2];
            for (int h = 0; h < 2; h++) {
                const uint8x16_t from_one = vld1q_u8(plan->shuffle[0] + 32 * i + 16 * h);
                const uint8x16_t from_two = vld1q_u8(plan->shuffle[1] + 32 * i + 16 * h);
                const int16x8_t a = vaddq_s16(one[h], vreinterpretq_s16_s8(vqtbl1q_s8(metric, from_one)));
                const int16x8_t b = vaddq_s16(two[h], vreinterpretq_s16_s8(vqtbl1q_s8(metric, from_two)));
                next[2 * i + h] = vminq_s16(a, b);
                cheaper[h] = vmovn_u16(vcgtq_s16(a, b));
            }
            bits[i] = vandq_u8(vcombine_u8(cheaper[0], cheaper[1]), weight);
        }
        const uint8x16_t sums = vpaddq_u8(vpaddq_u8(bits[0], bits[1]), vpaddq_u8(bits[2], bits[3]));
        decisions[t] = vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sums, sums)), 0);
        for (int i = 0; i < 8; i++) {
            cost[i] = next[i];
        }
    }
    const int16_t least = least_of(cost);
    int16_t last[ST_TQ_STATES];
    for (int i = 0; i < 8; i++) {
        vst1q_s16(last + 8 * i, cost[i]);
    }
    int best = 0;
    while (last[best] != least) {
        best++;
    }
    return best;
}

#include "tq_entries.h"

const st_tq_ops *const st_tq_neon = entries;
