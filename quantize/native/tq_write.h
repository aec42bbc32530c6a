/* Writing blocks: everything around the search for the path, which each instruction set has its own.
 * The arithmetic in floats has a fixed order, so that every version writes the same bytes. */
#ifndef STRETCH_TQ_WRITE_H
#define STRETCH_TQ_WRITE_H

#include "tq_plan.h"

#include <math.h>

/* The cheapest path: for each step the bits that tell which predecessor every state chose (bit s of
 * decisions[t]), and the best last state. `target` is in the order of the steps. */
typedef int (*st_tq_search_fn)(const st_tq_plan *plan, const int16_t *target, int steps, uint64_t *decisions);

enum { ST_TQ_LANES = 16 };

/* Halves added to halves. */
static inline float st_tq_fold(float *part) {
    for (int half = ST_TQ_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            part[i] += part[i + half];
        }
    }
    return part[0];
}

static inline float st_tq_sum_squares(const float *x, int n) {
    float part[ST_TQ_LANES] = {0.0f};
    for (int i = 0; i < n; i += ST_TQ_LANES) {
        for (int l = 0; l < ST_TQ_LANES; l++) {
            part[l] += x[i + l] * x[i + l];
        }
    }
    return st_tq_fold(part);
}

static inline float st_tq_peak(const float *x, int n) {
    float part[ST_TQ_LANES] = {0.0f};
    for (int i = 0; i < n; i += ST_TQ_LANES) {
        for (int l = 0; l < ST_TQ_LANES; l++) {
            const float a = fabsf(x[i + l]);
            part[l] = part[l] > a ? part[l] : a;
        }
    }
    float peak = 0.0f;
    for (int l = 0; l < ST_TQ_LANES; l++) {
        peak = peak > part[l] ? peak : part[l];
    }
    return peak;
}

static inline float st_tq_dot(const float *x, const int8_t *q, int n) {
    float part[ST_TQ_LANES] = {0.0f};
    for (int i = 0; i < n; i += ST_TQ_LANES) {
        for (int l = 0; l < ST_TQ_LANES; l++) {
            part[l] += x[i + l] * (float)q[i + l];
        }
    }
    return st_tq_fold(part);
}

static inline int32_t st_tq_norm(const int8_t *q, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) {
        sum += (int32_t)q[i] * (int32_t)q[i];
    }
    return sum;
}

/* Values in steps of 2^-fine levels, rounded to even, in the order of the trellis' steps. */
static inline void st_tq_targets(const float *x, int block, float inverse, float limit, int16_t *target) {
    int16_t by_value[ST_TQ_MAX_BLOCK];
    for (int i = 0; i < block; i++) {
        float y = x[i] * inverse;
        y = y < limit ? y : limit;
        y = y > -limit ? y : -limit;
        by_value[i] = (int16_t)((y + 12582912.0f) - 12582912.0f); /* 1.5 * 2^23: leaves no fraction */
    }
    for (int j = 0; j < block / 4; j++) {
        for (int f = 0; f < 4; f++) {
            target[4 * j + f] = by_value[block / 4 * f + j];
        }
    }
}

/* f16, then 5 bits of mantissa; at most the largest finite value. */
static inline uint16_t st_tq_round_scale(float scale) {
    const unsigned h = st_f32_to_f16(scale < 60000.0f ? scale : 60000.0f);
    const unsigned rounded = (h + 16u) & ~31u;
    return (uint16_t)(rounded < 0x7be0u ? rounded : 0x7be0u);
}

/* Four fields of two bits at the even positions of byte j of each half become one byte of a plane. */
static inline void st_tq_pack_plane(const uint8_t *fields, int block, uint8_t *plane) {
    for (int j = 0; j < block / 8; j++) {
        plane[j] = (uint8_t)(fields[j] | fields[j + block / 8] << 1);
    }
}

static inline void st_tq_write_block(const st_tq_plan *plan, int block, st_tq_search_fn search, const float *x,
                                     uint8_t *dst) {
    const st_tq_book *book = plan->book;
    const int bits = plan->bits;
    const float square = st_tq_sum_squares(x, block);
    if (!(square >= 1e-12f && square <= 3e38f)) {
        /* nothing, or nothing that can be coded: zeros, or infinity where the row was broken already */
        memset(dst, 0, (size_t)st_tq_size(bits, block));
        dst[1] = square < 1e-12f ? 0 : 0x7c;
        return;
    }
    const float rms = sqrtf(square * (1.0f / (float)block));
    const float unit = book->sigma_part * rms + book->peak_part * st_tq_peak(x, block);
    const float inverse = (float)(1 << book->fine) / unit;
    int16_t target[ST_TQ_MAX_BLOCK];
    st_tq_targets(x, block, inverse, (float)(127 << book->fine), target);

    uint64_t decisions[ST_TQ_MAX_BLOCK];
    unsigned state = (unsigned)search(plan, target, block, decisions);

    /* Back along the path: path bit, class and point of each step, four steps to a byte. */
    uint8_t path[ST_TQ_MAX_BLOCK / 4];
    uint8_t second[ST_TQ_MAX_BLOCK / 4];
    uint8_t point[ST_TQ_MAX_BLOCK / 4];
    int8_t level[ST_TQ_MAX_BLOCK];
    for (int j = block / 4 - 1; j >= 0; j--) {
        unsigned path4 = 0;
        unsigned second4 = 0;
        unsigned point4 = 0;
        for (int f = 3; f >= 0; f--) {
            const int t = 4 * j + f;
            const unsigned other = (unsigned)(decisions[t] >> state) & 1u;
            const unsigned class = plan->class_of[other][state];
            const int16_t twice = (int16_t)(2 * target[t]);
            unsigned p = 0;
            for (int i = 0; i < 8; i++) {
                p += twice > plan->borders[class][i];
            }
            level[block / 4 * f + j] = plan->level[class][p];
            path4 = path4 << 2 | (state & 1u);
            point4 = point4 << 2 | (p & 3u);
            second4 = second4 << 2 | (bits == 2 ? p : p >> 2);
            state = state >> 1 | other << (ST_TQ_MEMORY - 1);
        }
        path[j] = (uint8_t)path4;
        point[j] = (uint8_t)point4;
        second[j] = (uint8_t)second4;
    }

    /* d = <x, level> / <level, level>: the least squared error for these levels */
    const float best = st_tq_dot(x, level, block) / (float)st_tq_norm(level, block) * 64.0f;
    const unsigned head = st_tq_round_scale(best > 0.0f ? best : 0.0f) | (state & 31u) | state >> 5 << 15;
    dst[0] = (uint8_t)(head & 255u);
    dst[1] = (uint8_t)(head >> 8);
    st_tq_pack_plane(path, block, dst + 2);
    if (bits != 3) {
        st_tq_pack_plane(second, block, dst + st_tq_second(block));
    }
    if (bits != 2) {
        memcpy(dst + st_tq_points(bits, block), point, (size_t)block / 4);
    }
}

static inline void st_tq_write_row(int bits, int block, st_tq_search_fn search, const float *src, void *dst,
                                   int64_t n) {
    const st_tq_plan *plan = st_tq_plan_of(bits);
    uint8_t *out = dst;
    for (int64_t i = 0; i < n; i += block, out += st_tq_size(bits, block)) {
        st_tq_write_block(plan, block, search, src + i, out);
    }
}

#endif
