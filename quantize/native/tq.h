/* The TurboQuant formats tq4, tq3 and tq2: layout, trellis and codebooks.
 *
 * The format is explained, and checked byte for byte, in quantize/turboquant/trellis.py; its quality is
 * in docs/turboquant.md. In short, for a block of B = 128 or 64 values x of b bits:
 *
 *   u16        scale d: f16 with 5 bits of mantissa; bits 0-4 and 15 are the history u[-1] .. u[-6]
 *   B/8 bytes  path bits u
 *   B/8 bytes  tq2: point bit; tq4: table bit; not in tq3
 *   B/4 bytes  tq3, tq4: two point bits per value
 *
 *   x = d / 64 * level[table][point][subset]
 *
 * Step t of the trellis has the subset 2 * hi + lo (Ungerboeck 1982, 64 states, code 103, 024 octal):
 *
 *   hi = u[t] ^ u[t-1] ^ u[t-6]          lo = u[t-2] ^ u[t-4]
 *
 * A plane of B/8 bytes is read as B/32 words of 64 bits with one bit at each even position: first the
 * even bits of all bytes, then the odd ones. So are the point bits, with two bits per position. In word w
 * position 2i is step t = 32 w + i: going back one step is a shift by two bits. Byte j of all words (0 ..
 * B/4 - 1), field f (bits 2f, 2f + 1), is value v = (B/4) f + j: unpacking gives consecutive values. */
#ifndef STRETCH_TQ_H
#define STRETCH_TQ_H

#include "f16.h"
#include "stretch.h"
#include "tq_levels.h"

enum {
    ST_TQ_MEMORY = 6, /* bits of history; 64 states */
    ST_TQ_STATES = 64,
    ST_TQ_MAX_BLOCK = 128,
};

static const uint64_t ST_TQ_EVEN = 0x5555555555555555u;

/* Bytes of a block. */
static inline int st_tq_size(int bits, int block) {
    return 2 + bits * block / 8;
}

/* Offsets of the second plane (tq2, tq4) and of the point bits (tq3, tq4). */
static inline int st_tq_second(int block) {
    return 2 + block / 8;
}
static inline int st_tq_points(int bits, int block) {
    return 2 + block / 8 + (bits == 3 ? 0 : block / 8);
}

static inline float st_tq_scale(uint16_t head) {
    return st_f16_to_f32(head & 0x7fe0u) * (1.0f / 64.0f);
}

/* The history at the top of a word: u[-k] at bit 64 - 2k. */
static inline uint64_t st_tq_history(uint16_t head) {
    /* bit i of the index (u[-1-i]) goes to bit 14 - 2i */
    static const uint16_t spread[64] = {
        0x0000, 0x4000, 0x1000, 0x5000, 0x0400, 0x4400, 0x1400, 0x5400, 0x0100, 0x4100, 0x1100,
        0x5100, 0x0500, 0x4500, 0x1500, 0x5500, 0x0040, 0x4040, 0x1040, 0x5040, 0x0440, 0x4440,
        0x1440, 0x5440, 0x0140, 0x4140, 0x1140, 0x5140, 0x0540, 0x4540, 0x1540, 0x5540, 0x0010,
        0x4010, 0x1010, 0x5010, 0x0410, 0x4410, 0x1410, 0x5410, 0x0110, 0x4110, 0x1110, 0x5110,
        0x0510, 0x4510, 0x1510, 0x5510, 0x0050, 0x4050, 0x1050, 0x5050, 0x0450, 0x4450, 0x1450,
        0x5450, 0x0150, 0x4150, 0x1150, 0x5150, 0x0550, 0x4550, 0x1550, 0x5550};
    return (uint64_t)spread[(head & 31u) | (unsigned)(head >> 15) << 5] << 48;
}

/* Subset of a window of seven path bits, the newest in bit 0. */
static inline int st_tq_subset(unsigned window) {
    const unsigned hi = window ^ window >> 1 ^ window >> 6;
    const unsigned lo = window >> 2 ^ window >> 4;
    return (int)(2 * (hi & 1u) + (lo & 1u));
}

static inline const st_tq_book *st_tq_book_of(int bits) {
    return bits == 2 ? &st_tq2_book : bits == 3 ? &st_tq3_book : &st_tq4_book;
}

#endif
