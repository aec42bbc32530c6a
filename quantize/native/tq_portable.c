/* tq4, tq3 and tq2 in plain C. */
#include "rows.h"
#include "tq_read.h"
#include "tq_write.h"

static int search(const st_tq_plan *plan, const int16_t *target, int steps, uint64_t *decisions) {
    int16_t cost[ST_TQ_STATES] = {0};
    for (int t = 0; t < steps; t++) {
        if (t > 0 && t % ST_TQ_RENORMALIZE == 0) {
            int16_t least = cost[0];
            for (int s = 1; s < ST_TQ_STATES; s++) {
                least = least < cost[s] ? least : cost[s];
            }
            for (int s = 0; s < ST_TQ_STATES; s++) {
                cost[s] = (int16_t)(cost[s] - least);
            }
        }
        int16_t metric[8];
        for (int class = 0; class < 8; class++) {
            int nearest = ST_TQ_MAX_DISTANCE;
            for (int row = 0; row < 4; row++) {
                const int gap = target[t] - plan->candidates[row][class];
                const int distance = gap < 0 ? -gap : gap;
                nearest = nearest < distance ? nearest : distance;
            }
            metric[class] = (int16_t)nearest;
        }
        for (int class = 0; class < 8; class++) {
            /* tq4 has half of a class's points in each of two columns */
            const int a = metric[class];
            const int b = plan->by_path ? a : metric[class ^ 4];
            const int nearest = a < b ? a : b;
            metric[class] = (int16_t)nearest;
        }
        for (int class = 0; class < 8; class++) {
            const int square = metric[class] * metric[class] >> plan->book->coarse;
            metric[class] = (int16_t)(square < ST_TQ_MAX_METRIC ? square : ST_TQ_MAX_METRIC);
        }
        int16_t next[ST_TQ_STATES];
        uint64_t chosen = 0;
        for (int s = 0; s < ST_TQ_STATES; s++) {
            const int a = cost[s >> 1] + metric[plan->class_of[0][s]];
            const int b = cost[s >> 1 | ST_TQ_STATES / 2] + metric[plan->class_of[1][s]];
            chosen |= (uint64_t)(b < a) << s;
            next[s] = (int16_t)(b < a ? b : a);
        }
        decisions[t] = chosen;
        memcpy(cost, next, sizeof cost);
    }
    int best = 0;
    for (int s = 1; s < ST_TQ_STATES; s++) {
        best = cost[s] < cost[best] ? s : best;
    }
    return best;
}

static inline void to_i8(int bits, int block, const void *src, int8_t *q, float *scale, int32_t step, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n / block; i++, p += st_tq_size(bits, block)) {
        scale[i * step] = st_tq_scale(st_load_u16(p));
        st_tq_levels(bits, block, p, q + i * block);
    }
}

static inline void to_f32(int bits, int block, const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i += block, p += st_tq_size(bits, block)) {
        int8_t q[ST_TQ_MAX_BLOCK];
        const float scale = st_tq_scale(st_load_u16(p));
        st_tq_levels(bits, block, p, q);
        for (int j = 0; j < block; j++) {
            dst[i + j] = (float)q[j] * scale;
        }
    }
}

#include "tq_entries.h"

const st_tq_ops *const st_tq_portable = entries;
