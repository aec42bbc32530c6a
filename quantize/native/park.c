/* Coding the numbers of a parked cache; see park.h. */
#include "park.h"

#include <string.h>

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

#define LOWEST (1u << 16)

/* Let x[n % ST_PARK_STATES] become x[0]: number i of a code belongs to state i % ST_PARK_STATES, and with the
 * states in the order in which they are needed next the compiler keeps them in registers. */
static inline void rotate(uint32_t *x, int64_t n) {
    uint32_t turned[ST_PARK_STATES];
    for (int s = 0; s < ST_PARK_STATES; s++) {
        turned[s] = x[(s + n) % ST_PARK_STATES];
    }
    memcpy(x, turned, sizeof turned);
}

typedef struct encoder {
    uint8_t *word; /* the words grow down from here */
    uint32_t x[ST_PARK_STATES];
} encoder;

static inline void encode_one(encoder *e, int s, int32_t symbol, const uint16_t *freq, const uint16_t *cum) {
    const uint32_t f = freq[symbol];
    uint32_t x = e->x[s];
    if (x >= (uint64_t)f << (32 - ST_PARK_PROB_BITS)) {
        e->word -= 2;
        e->word[0] = (uint8_t)x;
        e->word[1] = (uint8_t)(x >> 8);
        x >>= 16;
    }
    e->x[s] = ((x / f) << ST_PARK_PROB_BITS) + x % f + cum[symbol];
}

typedef struct decoder {
    const uint8_t *word, *end;
    uint32_t x[ST_PARK_STATES];
    bool short_of; /* asked for more words than there are */
} decoder;

static inline int32_t decode_one(decoder *d, int s, const uint16_t *freq, const uint16_t *cum,
                                 const uint8_t *slots) {
    const uint32_t slot = d->x[s] & (ST_PARK_PROB_SUM - 1);
    const uint8_t symbol = slots[slot];
    uint32_t x = freq[symbol] * (d->x[s] >> ST_PARK_PROB_BITS) + slot - cum[symbol];
    if (x < LOWEST) {
        if (d->word == d->end) {
            d->short_of = true;
        } else {
            x = x << 16 | (uint32_t)d->word[0] | (uint32_t)d->word[1] << 8;
            d->word += 2;
        }
    }
    d->x[s] = x;
    return (int32_t)symbol - ST_PARK_MAX;
}

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
    encoder e = {words_end, {LOWEST, LOWEST, LOWEST, LOWEST}};
    for (int64_t c = n_comp - 1; c >= 0; c--) {
        const uint16_t *freq = tables->freq + table[c] * ST_PARK_SYMBOLS;
        const uint16_t *cum = tables->cum + table[c] * ST_PARK_SYMBOLS;
        const int32_t *row = z + c * n;
        int64_t i = n - 1;
        for (; i >= ST_PARK_STATES - 1; i -= ST_PARK_STATES) {
            for (int s = 0; s < ST_PARK_STATES; s++) {
                encode_one(&e, ST_PARK_STATES - 1 - s, st_park_symbol(row[i - s], shift[c]), freq, cum);
            }
        }
        for (; i >= 0; i--) {
            encode_one(&e, ST_PARK_STATES - 1, st_park_symbol(row[i], shift[c]), freq, cum);
            rotate(e.x, ST_PARK_STATES - 1);
        }
    }
    uint8_t *const word = e.word;
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
            const int32_t v = st_park_high(z[c * n + i], shift[c]);
            if (v <= -ST_PARK_MAX || v >= ST_PARK_MAX) {
                at = put_varint(at, (uint32_t)(v < 0 ? -v : v) - ST_PARK_MAX);
            }
        }
    }
    const uint32_t n_words = (uint32_t)(n_word_bytes / 2);
    const uint32_t low_bytes = (uint32_t)n_low;
    memcpy(out, &n_words, 4);
    memcpy(out + 4, &low_bytes, 4);
    memcpy(out + 8, e.x, sizeof e.x);
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
    const uint8_t *const words = data + HEADER;
    decoder d = {words, words + 2 * (int64_t)n_words, {x[0], x[1], x[2], x[3]}, false};
    for (int64_t c = 0; c < n_comp; c++) {
        if (table[c] >= tables->n_tables || shift[c] > ST_PARK_MAX_SHIFT) {
            return false;
        }
        const uint16_t *freq = tables->freq + table[c] * ST_PARK_SYMBOLS;
        const uint16_t *cum = tables->cum + table[c] * ST_PARK_SYMBOLS;
        const uint8_t *slots = tables->slot + (int64_t)table[c] * ST_PARK_PROB_SUM;
        int32_t *row = z + c * n;
        int64_t i = 0;
        for (; i + ST_PARK_STATES <= n; i += ST_PARK_STATES) {
            for (int s = 0; s < ST_PARK_STATES; s++) {
                row[i + s] = decode_one(&d, s, freq, cum, slots);
            }
        }
        for (; i < n; i++) {
            row[i] = decode_one(&d, 0, freq, cum, slots);
            rotate(d.x, 1);
        }
        if (d.short_of) {
            return false;
        }
    }
    for (int s = 0; s < ST_PARK_STATES; s++) { /* where the encoder began */
        if (d.x[s] != LOWEST) {
            return false;
        }
    }
    byte_reader low = {d.end, d.end + n_low, 0, 0, false};
    byte_reader escapes = {d.end + n_low, data + size, 0, 0, false};
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
    return d.word == d.end && !low.short_of && !escapes.short_of && escapes.at == escapes.end;
}
