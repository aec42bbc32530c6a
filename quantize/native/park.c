/* Numbers of a parked cache; see park.h. */
#include "park.h"

#include <math.h>
#include <string.h>

static inline int32_t clamp_symbol(int32_t v) {
    return v < -ST_PARK_MAX ? -ST_PARK_MAX : v > ST_PARK_MAX ? ST_PARK_MAX : v;
}

/* floor(z / 2^shift). GCC and Clang shift copies of the sign in; a branch on the sign, which no processor can
 * predict, would take longer than all the rest. */
static inline int32_t high_part(int32_t z, uint8_t shift) {
    return z >> shift;
}

/* ---------------------------------------------------------------- values and numbers */

enum { TILE = 16 }; /* rows that are transposed at once */

void st_park_quantize(const float *y, int64_t n, int64_t n_comp, float inv_step, float bias, int32_t *z) {
    for (int64_t first = 0; first < n; first += TILE) {
        const int64_t last = first + TILE < n ? first + TILE : n;
        for (int64_t c = 0; c < n_comp; c++) {
            for (int64_t i = first; i < last; i++) {
                const float v = y[i * n_comp + c] * inv_step;
                const float a = fabsf(v) + bias;
                const int32_t m = a < 0x1p30f ? (int32_t)a : 1 << 30; /* NaN takes the largest, too */
                z[c * n + i] = v < 0 ? -m : m;
            }
        }
    }
}

void st_park_dequantize(const int32_t *z, int64_t n, int64_t n_comp, float step, const float *delta1,
                        const float *delta2, float *y) {
    for (int64_t first = 0; first < n; first += TILE) {
        const int64_t last = first + TILE < n ? first + TILE : n;
        for (int64_t c = 0; c < n_comp; c++) {
            const float one = (1.0f + delta1[c]) * step;
            const float more = delta2[c] * step;
            for (int64_t i = first; i < last; i++) {
                const int32_t v = z[c * n + i];
                const float m = (float)(v < 0 ? -(int64_t)v : v);
                const float a = m > 1.0f ? m * step + more : m * one;
                y[i * n_comp + c] = v < 0 ? -a : a;
            }
        }
    }
}

void st_park_count(const int32_t *z, int64_t n, int64_t n_comp, const uint8_t *shift, uint32_t *counts) {
    memset(counts, 0, (size_t)n_comp * ST_PARK_SYMBOLS * sizeof *counts);
    for (int64_t c = 0; c < n_comp; c++) {
        uint32_t *row = counts + c * ST_PARK_SYMBOLS;
        for (int64_t i = 0; i < n; i++) {
            row[clamp_symbol(high_part(z[c * n + i], shift[c])) + ST_PARK_MAX]++;
        }
    }
}

/* ---------------------------------------------------------------- what is not entropy-coded */

/* Bits, the lowest first. */
typedef struct bit_writer {
    uint8_t *at;
    uint64_t bits;
    int count;
} bit_writer;

static inline void put_bits(bit_writer *w, uint32_t value, int count) {
    w->bits |= (uint64_t)value << w->count;
    w->count += count;
    while (w->count >= 8) {
        *w->at++ = (uint8_t)w->bits;
        w->bits >>= 8;
        w->count -= 8;
    }
}

typedef struct byte_reader {
    const uint8_t *at;
    const uint8_t *end;
    uint64_t bits;
    int count;
    bool short_of; /* asked for more than there is */
} byte_reader;

static inline uint32_t get_bits(byte_reader *r, int count) {
    while (r->count < count) {
        if (r->at == r->end) {
            r->short_of = true;
            return 0;
        }
        r->bits |= (uint64_t)*r->at++ << r->count;
        r->count += 8;
    }
    const uint32_t value = (uint32_t)(r->bits & ((1ull << count) - 1));
    r->bits >>= count;
    r->count -= count;
    return value;
}

/* Seven bits a byte, the lowest first; the eighth says that more follow. */
static inline uint8_t *put_varint(uint8_t *at, uint32_t value) {
    while (value >= 128) {
        *at++ = (uint8_t)(value | 128);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static inline uint32_t get_varint(byte_reader *r) {
    uint32_t value = 0;
    for (int position = 0; position < 35; position += 7) {
        if (r->at == r->end) {
            break;
        }
        const uint8_t byte = *r->at++;
        value |= (uint32_t)(byte & 127) << position;
        if (byte < 128) {
            return value;
        }
    }
    r->short_of = true;
    return 0;
}

/* ---------------------------------------------------------------- rANS */

/* What st_park_encode() writes: u32 words, u32 bytes of low bits, the states, the words, the low bits,
 * and the escapes to the end. */
enum { HEADER = 8 + 4 * ST_PARK_STATES };

static const uint32_t LOWEST = 1u << 16;

int64_t st_park_bound(int64_t n, int64_t n_comp, const uint8_t *shift) {
    int64_t low = 0;
    for (int64_t c = 0; c < n_comp; c++) {
        low += shift[c] * n;
    }
    /* At most 12 bits a symbol (16 with the rounding of a state), and 5 bytes if it is an escape. */
    return HEADER + 2 * (n * n_comp + 2) + low / 8 + 1 + 5 * n * n_comp + 64;
}

int64_t st_park_encode(const int32_t *z, int64_t n, int64_t n_comp, const uint8_t *table, const uint8_t *shift,
                       const st_park_tables *tables, uint8_t *out) {
    const int64_t total = n * n_comp;
    /* The decoder reads forwards what is written backwards: the words grow down from here. */
    uint8_t *const words_end = out + HEADER + 2 * (total + 2);
    uint8_t *word = words_end;
    uint32_t x[ST_PARK_STATES];
    for (int s = 0; s < ST_PARK_STATES; s++) {
        x[s] = LOWEST;
    }
    for (int64_t c = n_comp - 1; c >= 0; c--) {
        const uint16_t *freq = tables->freq + table[c] * ST_PARK_SYMBOLS;
        const uint16_t *cum = tables->cum + table[c] * ST_PARK_SYMBOLS;
        for (int64_t i = n - 1; i >= 0; i--) {
            const int32_t symbol = clamp_symbol(high_part(z[c * n + i], shift[c])) + ST_PARK_MAX;
            const uint32_t f = freq[symbol];
            const int s = (int)((c * n + i) % ST_PARK_STATES);
            uint32_t state = x[s];
            if (state >= (uint64_t)f << (32 - ST_PARK_PROB_BITS)) {
                word -= 2;
                word[0] = (uint8_t)state;
                word[1] = (uint8_t)(state >> 8);
                state >>= 16;
            }
            x[s] = ((state / f) << ST_PARK_PROB_BITS) + state % f + cum[symbol];
        }
    }
    const int64_t n_word_bytes = words_end - word;
    memmove(out + HEADER, word, (size_t)n_word_bytes);
    bit_writer low = {out + HEADER + n_word_bytes, 0, 0};
    for (int64_t c = 0; c < n_comp; c++) {
        for (int64_t i = 0; shift[c] > 0 && i < n; i++) {
            put_bits(&low, (uint32_t)z[c * n + i] & ((1u << shift[c]) - 1), shift[c]);
        }
    }
    if (low.count > 0) {
        put_bits(&low, 0, 8 - low.count);
    }
    uint8_t *at = low.at;
    const int64_t n_low = at - (out + HEADER + n_word_bytes);
    for (int64_t c = 0; c < n_comp; c++) {
        for (int64_t i = 0; i < n; i++) {
            const int32_t v = high_part(z[c * n + i], shift[c]);
            if (v <= -ST_PARK_MAX || v >= ST_PARK_MAX) {
                at = put_varint(at, (uint32_t)(v < 0 ? -v : v) - ST_PARK_MAX);
            }
        }
    }
    const uint32_t n_words = (uint32_t)(n_word_bytes / 2);
    const uint32_t low_bytes = (uint32_t)n_low;
    memcpy(out, &n_words, 4);
    memcpy(out + 4, &low_bytes, 4);
    memcpy(out + 8, x, sizeof x);
    return at - out;
}

bool st_park_decode(const uint8_t *data, int64_t size, int64_t n, int64_t n_comp, const uint8_t *table,
                    const uint8_t *shift, const st_park_tables *tables, int32_t *z) {
    if (size < HEADER) {
        return false;
    }
    uint32_t n_words, n_low, x[ST_PARK_STATES];
    memcpy(&n_words, data, 4);
    memcpy(&n_low, data + 4, 4);
    memcpy(x, data + 8, sizeof x);
    if (HEADER + 2 * (int64_t)n_words + (int64_t)n_low > size) {
        return false;
    }
    const uint8_t *word = data + HEADER;
    const uint8_t *const words_end = word + 2 * (int64_t)n_words;
    for (int64_t c = 0; c < n_comp; c++) {
        if (table[c] >= tables->n_tables || shift[c] > ST_PARK_MAX_SHIFT) {
            return false;
        }
        const uint16_t *freq = tables->freq + table[c] * ST_PARK_SYMBOLS;
        const uint16_t *cum = tables->cum + table[c] * ST_PARK_SYMBOLS;
        const uint8_t *slots = tables->slot + (int64_t)table[c] * ST_PARK_PROB_SUM;
        for (int64_t i = 0; i < n; i++) {
            const int s = (int)((c * n + i) % ST_PARK_STATES);
            const uint32_t slot = x[s] & (ST_PARK_PROB_SUM - 1);
            const uint8_t symbol = slots[slot];
            uint32_t state = freq[symbol] * (x[s] >> ST_PARK_PROB_BITS) + slot - cum[symbol];
            if (state < LOWEST) {
                if (word == words_end) {
                    return false;
                }
                state = state << 16 | (uint32_t)word[0] | (uint32_t)word[1] << 8;
                word += 2;
            }
            x[s] = state;
            z[c * n + i] = (int32_t)symbol - ST_PARK_MAX;
        }
    }
    for (int s = 0; s < ST_PARK_STATES; s++) { /* where the encoder began */
        if (x[s] != LOWEST) {
            return false;
        }
    }
    byte_reader low = {words_end, words_end + n_low, 0, 0, false};
    byte_reader escapes = {words_end + n_low, data + size, 0, 0, false};
    for (int64_t c = 0; c < n_comp; c++) {
        for (int64_t i = 0; i < n; i++) {
            int64_t v = z[c * n + i];
            if (v == -ST_PARK_MAX) {
                v -= get_varint(&escapes);
            } else if (v == ST_PARK_MAX) {
                v += get_varint(&escapes);
            }
            if (shift[c] > 0) {
                v = v * (1ll << shift[c]) + get_bits(&low, shift[c]);
            }
            z[c * n + i] = v < -(1 << 30) ? -(1 << 30) : v > 1 << 30 ? 1 << 30 : (int32_t)v;
        }
    }
    return word == words_end && !low.short_of && !escapes.short_of && escapes.at == escapes.end;
}
