/* Layouts of the stock formats with 32 values per block (ggml/src/ggml-common.h):
 *
 *   q8_0    f16 d, 32 x i8                     x = d * q
 *   q4_0    f16 d, 16 bytes                    x = d * (nibble - 8)
 *   q4_1    f16 d, f16 m, 16 bytes             x = d * nibble + m
 *   q5_0    f16 d, u32 high bits, 16 bytes     x = d * (nibble + 16 * bit - 16)
 *   q5_1    f16 d, f16 m, u32, 16 bytes        x = d * (nibble + 16 * bit) + m
 *   iq4_nl  f16 d, 16 bytes                    x = d * level[nibble]
 *
 * Byte j holds value j in its low nibble and value j + 16 in its high one. The functions take the type
 * as a constant: after inlining nothing is left of the choice. */
#ifndef STRETCH_ROWS_LAYOUT_H
#define STRETCH_ROWS_LAYOUT_H

#include "f16.h"
#include "rows.h"

enum { ST_ROW_BLOCK = 32 };

static const int8_t ST_IQ4_NL_LEVELS[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

static inline bool st_row_has_offset(int type) {
    return type == GGML_Q4_1 || type == GGML_Q5_1;
}
static inline bool st_row_has_fifth_bit(int type) {
    return type == GGML_Q5_0 || type == GGML_Q5_1;
}
/* Bytes before the values: scale, offset, fifth bits. */
static inline int st_row_head(int type) {
    return 2 + (st_row_has_offset(type) ? 2 : 0) + (st_row_has_fifth_bit(type) ? 4 : 0);
}
static inline int st_row_bytes(int type) {
    return st_row_head(type) + (type == GGML_Q8_0 ? ST_ROW_BLOCK : ST_ROW_BLOCK / 2);
}
static inline uint32_t st_row_fifth_bits(int type, const uint8_t *block) {
    return st_load_u32(block + st_row_head(type) - 4);
}
/* What is subtracted from the stored number. */
static inline int st_row_bias(int type) {
    return type == GGML_Q4_0 ? 8 : type == GGML_Q5_0 ? 16 : 0;
}

#endif
