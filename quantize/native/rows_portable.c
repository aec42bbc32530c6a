/* Reading rows of the stock formats in plain C.
 *
 * The layouts are ggml's (ggml/src/ggml-common.h). All have 32 values per block:
 *
 *   q8_0    f16 d, 32 x i8                     x = d * q
 *   q4_0    f16 d, 16 bytes                    x = d * (nibble - 8)
 *   q4_1    f16 d, f16 m, 16 bytes             x = d * nibble + m
 *   q5_0    f16 d, u32 high bits, 16 bytes     x = d * (nibble + 16 * bit - 16)
 *   q5_1    f16 d, f16 m, u32, 16 bytes        x = d * (nibble + 16 * bit) + m
 *   iq4_nl  f16 d, 16 bytes                    x = d * level[nibble]
 *
 * Byte j holds value j in its low nibble and value j + 16 in its high one. */
#include "f16.h"
#include "rows.h"

enum { BLOCK = 32 };

const int8_t st_iq4_nl_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static inline void nibbles(const uint8_t *packed, int8_t *q, int shift_down) {
    for (int j = 0; j < BLOCK / 2; j++) {
        q[j] = (int8_t)((packed[j] & 15) - shift_down);
        q[j + BLOCK / 2] = (int8_t)((packed[j] >> 4) - shift_down);
    }
}

static inline void add_fifth_bits(uint32_t bits, int8_t *q) {
    for (int j = 0; j < BLOCK; j++) {
        q[j] = (int8_t)(q[j] + (int8_t)((bits >> j & 1u) << 4));
    }
}

/* ---------------------------------------------------------------- integers and scales of one block */

static inline void block_q8_0(const uint8_t *src, int8_t *q, float *scale, float *offset) {
    (void)offset;
    *scale = st_load_f16(src);
    memcpy(q, src + 2, BLOCK);
}

static inline void block_q4_0(const uint8_t *src, int8_t *q, float *scale, float *offset) {
    (void)offset;
    *scale = st_load_f16(src);
    nibbles(src + 2, q, 8);
}

static inline void block_q4_1(const uint8_t *src, int8_t *q, float *scale, float *offset) {
    *scale = st_load_f16(src);
    *offset = st_load_f16(src + 2);
    nibbles(src + 4, q, 0);
}

static inline void block_q5_0(const uint8_t *src, int8_t *q, float *scale, float *offset) {
    (void)offset;
    *scale = st_load_f16(src);
    nibbles(src + 6, q, 16);
    add_fifth_bits(st_load_u32(src + 2), q);
}

static inline void block_q5_1(const uint8_t *src, int8_t *q, float *scale, float *offset) {
    *scale = st_load_f16(src);
    *offset = st_load_f16(src + 2);
    nibbles(src + 8, q, 0);
    add_fifth_bits(st_load_u32(src + 4), q);
}

static inline void block_iq4_nl(const uint8_t *src, int8_t *q, float *scale, float *offset) {
    (void)offset;
    *scale = st_load_f16(src);
    nibbles(src + 2, q, 0);
    for (int j = 0; j < BLOCK; j++) {
        q[j] = st_iq4_nl_levels[q[j]];
    }
}

/* ---------------------------------------------------------------- whole rows */

typedef void (*block_fn)(const uint8_t *src, int8_t *q, float *scale, float *offset);

static inline void row_i8(block_fn block, int size, const void *src, int8_t *q, float *scale, float *offset,
                          int64_t n) {
    const uint8_t *p = src;
    float unused = 0.0f;
    for (int64_t i = 0; i < n / BLOCK; i++, p += size) {
        block(p, q + i * BLOCK, scale + i, offset != NULL ? offset + i : &unused);
    }
}

static inline void row_f32(block_fn block, int size, const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n / BLOCK; i++, p += size) {
        int8_t q[BLOCK];
        float scale = 0.0f;
        float offset = 0.0f;
        block(p, q, &scale, &offset);
        for (int j = 0; j < BLOCK; j++) {
            dst[i * BLOCK + j] = (float)q[j] * scale + offset;
        }
    }
}

static void q8_0_i8(const void *src, int8_t *q, float *scale, float *offset, int64_t n) {
    row_i8(block_q8_0, 34, src, q, scale, offset, n);
}
static void q4_0_i8(const void *src, int8_t *q, float *scale, float *offset, int64_t n) {
    row_i8(block_q4_0, 18, src, q, scale, offset, n);
}
static void q4_1_i8(const void *src, int8_t *q, float *scale, float *offset, int64_t n) {
    row_i8(block_q4_1, 20, src, q, scale, offset, n);
}
static void q5_0_i8(const void *src, int8_t *q, float *scale, float *offset, int64_t n) {
    row_i8(block_q5_0, 22, src, q, scale, offset, n);
}
static void q5_1_i8(const void *src, int8_t *q, float *scale, float *offset, int64_t n) {
    row_i8(block_q5_1, 24, src, q, scale, offset, n);
}
static void iq4_nl_i8(const void *src, int8_t *q, float *scale, float *offset, int64_t n) {
    row_i8(block_iq4_nl, 18, src, q, scale, offset, n);
}

static void q8_0_f32(const void *src, float *dst, int64_t n) {
    row_f32(block_q8_0, 34, src, dst, n);
}
static void q4_0_f32(const void *src, float *dst, int64_t n) {
    row_f32(block_q4_0, 18, src, dst, n);
}
static void q4_1_f32(const void *src, float *dst, int64_t n) {
    row_f32(block_q4_1, 20, src, dst, n);
}
static void q5_0_f32(const void *src, float *dst, int64_t n) {
    row_f32(block_q5_0, 22, src, dst, n);
}
static void q5_1_f32(const void *src, float *dst, int64_t n) {
    row_f32(block_q5_1, 24, src, dst, n);
}
static void iq4_nl_f32(const void *src, float *dst, int64_t n) {
    row_f32(block_iq4_nl, 18, src, dst, n);
}

static void f32_f32(const void *src, float *dst, int64_t n) {
    memcpy(dst, src, (size_t)n * sizeof(float));
}
static void f16_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = st_load_f16(p + 2 * i);
    }
}
static void bf16_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = st_bf16_to_f32(st_load_u16(p + 2 * i));
    }
}

static void f32_from_f32(const float *src, void *dst, int64_t n) {
    memcpy(dst, src, (size_t)n * sizeof(float));
}

const st_row_ops st_rows_portable[GGML_TYPE_COUNT] = {
    [GGML_F32] = {f32_f32, NULL, f32_from_f32},
    [GGML_F16] = {f16_f32, NULL, NULL},
    [GGML_BF16] = {bf16_f32, NULL, NULL},
    [GGML_Q8_0] = {q8_0_f32, q8_0_i8, NULL},
    [GGML_Q4_0] = {q4_0_f32, q4_0_i8, NULL},
    [GGML_Q4_1] = {q4_1_f32, q4_1_i8, NULL},
    [GGML_Q5_0] = {q5_0_f32, q5_0_i8, NULL},
    [GGML_Q5_1] = {q5_1_f32, q5_1_i8, NULL},
    [GGML_IQ4_NL] = {iq4_nl_f32, iq4_nl_i8, NULL},
};
