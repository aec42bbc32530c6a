/* Entropy coding of the numbers that park_rows.h makes of a cache.
 *
 * Range variant of asymmetric numeral systems (rANS, Duda, arXiv:1311.2540): a state x of 32 bits; symbol s
 * with frequency f of 2^12 and the sum c of the frequencies before it makes
 * x' = (x / f << 12) + x mod f + c, and 16 bits leave or enter whenever x would leave [2^16, 2^32).
 * Four states take turns, so that their divisions overlap. */
#ifndef STRETCH_PARK_H
#define STRETCH_PARK_H

#include "stretch.h"

enum {
    ST_PARK_PROB_BITS = 12,
    ST_PARK_PROB_SUM = 1 << ST_PARK_PROB_BITS,
    ST_PARK_MAX = 32,                      /* a magnitude from here on is an escape */
    ST_PARK_SYMBOLS = 2 * ST_PARK_MAX + 1, /* -32 .. 32 */
    ST_PARK_STATES = 4,
    ST_PARK_MAX_SHIFT = 24,
};

/* The distributions that a component can be coded with. */
typedef struct st_park_tables {
    const uint16_t *freq; /* [n_tables][ST_PARK_SYMBOLS], each row sums to ST_PARK_PROB_SUM, none is 0 */
    const uint16_t *cum;  /* [n_tables][ST_PARK_SYMBOLS]: the sum of the frequencies before */
    const uint8_t *slot;  /* [n_tables][ST_PARK_PROB_SUM]: the symbol of each slot */
    int64_t n_tables;
} st_park_tables;

/* floor(z / 2^shift). GCC and Clang shift copies of the sign in; a branch on the sign, which no processor can
 * predict, would take longer than all the rest. */
static inline int32_t st_park_high(int32_t z, uint8_t shift) {
    return z >> shift;
}

/* The symbol of a number, 0 to ST_PARK_SYMBOLS - 1. */
static inline int32_t st_park_symbol(int32_t z, uint8_t shift) {
    const int32_t v = st_park_high(z, shift);
    return (v < -ST_PARK_MAX ? -ST_PARK_MAX : v > ST_PARK_MAX ? ST_PARK_MAX : v) + ST_PARK_MAX;
}

/* Bytes that st_park_encode() needs at most for these numbers. */
ST_API int64_t st_park_bound(int64_t n, int64_t n_comp, const uint8_t *shift);

/* Code z[n_comp][n]; component c with tables row table[c], its low shift[c] bits as they are. Returns the
 * bytes written to `out`. */
ST_API int64_t st_park_encode(const int32_t *z, int64_t n, int64_t n_comp, const uint8_t *table,
                              const uint8_t *shift, const st_park_tables *tables, uint8_t *out);

/* The way back. False if `data` is not what st_park_encode() wrote for such numbers; nothing outside of the
 * arrays is touched whatever it holds. */
ST_API bool st_park_decode(const uint8_t *data, int64_t size, int64_t n, int64_t n_comp, const uint8_t *table,
                           const uint8_t *shift, const st_park_tables *tables, int32_t *z);

#endif
