/* The entry points of the stock formats, made from the row_i8, row_f32, row_f16 and row_bf16 of the
 * including file. */
#ifndef STRETCH_ROWS_ENTRIES_H
#define STRETCH_ROWS_ENTRIES_H

#include "rows_layout.h"

static inline __attribute__((always_inline)) void rows_i8(const int type, const st_rows *rows) {
    const st_rows r = *rows; /* what is written through q cannot be one of these */
    const size_t bytes = (size_t)(r.n / ST_ROW_BLOCK * st_row_bytes(type));
    for (int32_t i = 0; i < r.n_row; i++) {
        const char *row = r.src + (size_t)i * r.stride;
        if (r.ahead > 0) {
            st_prefetch(row + r.ahead, bytes);
        }
        row_i8(type, row, r.q + (size_t)i * (size_t)r.n, r.scale + i, r.offset + i, r.step, r.n);
    }
}

static void q8_0_i8(const st_rows *rows) {
    rows_i8(GGML_Q8_0, rows);
}
static void q4_0_i8(const st_rows *rows) {
    rows_i8(GGML_Q4_0, rows);
}
static void q4_1_i8(const st_rows *rows) {
    rows_i8(GGML_Q4_1, rows);
}
static void q5_0_i8(const st_rows *rows) {
    rows_i8(GGML_Q5_0, rows);
}
static void q5_1_i8(const st_rows *rows) {
    rows_i8(GGML_Q5_1, rows);
}
static void iq4_nl_i8(const st_rows *rows) {
    rows_i8(GGML_IQ4_NL, rows);
}

static void q8_0_f32(const void *src, float *dst, int64_t n) {
    row_f32(GGML_Q8_0, src, dst, n);
}
static void q4_0_f32(const void *src, float *dst, int64_t n) {
    row_f32(GGML_Q4_0, src, dst, n);
}
static void q4_1_f32(const void *src, float *dst, int64_t n) {
    row_f32(GGML_Q4_1, src, dst, n);
}
static void q5_0_f32(const void *src, float *dst, int64_t n) {
    row_f32(GGML_Q5_0, src, dst, n);
}
static void q5_1_f32(const void *src, float *dst, int64_t n) {
    row_f32(GGML_Q5_1, src, dst, n);
}
static void iq4_nl_f32(const void *src, float *dst, int64_t n) {
    row_f32(GGML_IQ4_NL, src, dst, n);
}

static void f32_copy(const void *src, float *dst, int64_t n) {
    memcpy(dst, src, (size_t)n * sizeof(float));
}
static void f32_write(const float *src, void *dst, int64_t n) {
    memcpy(dst, src, (size_t)n * sizeof(float));
}

/* Indexed by ggml type id. Where there is no writer, ggml's own is used. */
static const st_row_ops row_entries[GGML_TYPE_COUNT] = {
    [GGML_F32] = {f32_copy, NULL, f32_write},
    [GGML_F16] = {row_f16, NULL, NULL},
    [GGML_BF16] = {row_bf16, NULL, NULL},
    [GGML_Q8_0] = {q8_0_f32, q8_0_i8, NULL},
    [GGML_Q4_0] = {q4_0_f32, q4_0_i8, NULL},
    [GGML_Q4_1] = {q4_1_f32, q4_1_i8, NULL},
    [GGML_Q5_0] = {q5_0_f32, q5_0_i8, NULL},
    [GGML_Q5_1] = {q5_1_f32, q5_1_i8, NULL},
    [GGML_IQ4_NL] = {iq4_nl_f32, iq4_nl_i8, NULL},
};

#endif
