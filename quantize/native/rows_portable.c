/* Reading rows of the stock formats in plain C. */
#include "rows_layout.h"

static inline void block_i8(int type, const uint8_t *block, int8_t *q) {
    const uint8_t *packed = block + st_row_head(type);
    if (type == GGML_Q8_0) {
        memcpy(q, packed, ST_ROW_BLOCK);
        return;
    }
    const uint32_t fifth = st_row_has_fifth_bit(type) ? st_row_fifth_bits(type, block) : 0;
    for (int j = 0; j < ST_ROW_BLOCK; j++) {
        const int nibble = j < ST_ROW_BLOCK / 2 ? packed[j] & 15 : packed[j - ST_ROW_BLOCK / 2] >> 4;
        const int code = nibble + (int)(fifth >> j & 1u) * 16;
        q[j] = type == GGML_IQ4_NL ? ST_IQ4_NL_LEVELS[nibble] : (int8_t)(code - st_row_bias(type));
    }
}

static inline void row_i8(int type, const void *src, int8_t *q, float *scale, float *offset, int32_t step,
                          int64_t n) {
    const uint8_t *block = src;
    for (int64_t i = 0; i < n / ST_ROW_BLOCK; i++, block += st_row_bytes(type)) {
        scale[i * step] = st_load_f16(block);
        if (st_row_has_offset(type)) {
            offset[i * step] = st_load_f16(block + 2);
        }
        block_i8(type, block, q + i * ST_ROW_BLOCK);
    }
}

static inline void row_f32(int type, const void *src, float *dst, int64_t n) {
    const uint8_t *block = src;
    for (int64_t i = 0; i < n / ST_ROW_BLOCK; i++, block += st_row_bytes(type), dst += ST_ROW_BLOCK) {
        int8_t q[ST_ROW_BLOCK];
        const float scale = st_load_f16(block);
        const float offset = st_row_has_offset(type) ? st_load_f16(block + 2) : 0.0f;
        block_i8(type, block, q);
        for (int j = 0; j < ST_ROW_BLOCK; j++) {
            const float x = (float)q[j] * scale;
            dst[j] = st_row_has_offset(type) ? x + offset : x;
        }
    }
}

static void row_f16(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = st_load_f16(p + 2 * i);
    }
}

static void row_bf16(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = st_bf16_to_f32(st_load_u16(p + 2 * i));
    }
}

#include "rows_entries.h"

const st_row_ops *const st_rows_portable = row_entries;
