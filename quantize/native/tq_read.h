/* Reading blocks in plain C, 64 bits at a time: what the SIMD versions are checked against. */
#ifndef STRETCH_TQ_READ_H
#define STRETCH_TQ_READ_H

#include "tq.h"

static inline uint64_t st_tq_load_word(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Word w of a plane: one bit per step at the even positions. */
static inline uint64_t st_tq_plane_word(const uint8_t *plane, int block, int w) {
    const int half = block / 64;
    return (w < half ? st_tq_load_word(plane + 8 * w) : st_tq_load_word(plane + 8 * (w - half)) >> 1) & ST_TQ_EVEN;
}

/* The integer levels of one block. */
static inline void st_tq_levels(int bits, int block, const uint8_t *src, int8_t *q) {
    const int8_t *levels = st_tq_book_of(bits)->levels;
    const uint8_t *second = src + st_tq_second(block);
    const uint8_t *points = src + st_tq_points(bits, block);
    const uint64_t pairs = 0x3333333333333333u;
    uint64_t before = st_tq_history(st_load_u16(src));
    for (int w = 0; w < block / 32; w++) {
        const uint64_t path = st_tq_plane_word(src + 2, block, w);
        const uint64_t hi = path ^ (path << 2 | before >> 62) ^ (path << 12 | before >> 52);
        const uint64_t lo = (path << 4 | before >> 60) ^ (path << 8 | before >> 56);
        const uint64_t subset = lo | hi << 1;
        before = path;
        uint64_t point;
        uint64_t table = 0;
        if (bits == 2) {
            point = st_tq_plane_word(second, block, w) | path << 1;
        } else {
            point = st_tq_load_word(points + 8 * w);
            table = bits == 3 ? path : st_tq_plane_word(second, block, w);
        }
        /* index = 16 table + 4 point + subset; even fields in one word of nibbles, odd fields in another */
        const uint64_t even = (subset & pairs) | (point & pairs) << 2;
        const uint64_t odd = (subset >> 2 & pairs) | (point & ~pairs);
        for (int j = 0; j < 8; j++) {
            for (int f = 0; f < 4; f++) {
                const uint64_t nibbles = f & 1 ? odd : even;
                const unsigned low = (unsigned)(nibbles >> (8 * j + 2 * (f & 2))) & 15u;
                const unsigned high = (unsigned)(table >> (8 * j + 2 * f)) & 1u;
                q[block / 4 * f + 8 * w + j] = levels[low | high << 4];
            }
        }
    }
}

#endif
