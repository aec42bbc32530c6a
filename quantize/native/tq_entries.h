/* The entry points of the six formats, made from the to_i8, to_f32 and search of the including file. */
#ifndef STRETCH_TQ_ENTRIES_H
#define STRETCH_TQ_ENTRIES_H

#include "rows.h"
#include "tq_write.h"

/* <x, y> with y in ggml's q8_0 (f16 scale and 32 integers): the product that ggml's own attention calls. */
static inline void dot(int bits, int block, int n, float *sum, const void *x, const void *y) {
    const uint8_t *px = x;
    const uint8_t *py = y;
    float total = 0.0f;
    for (int i = 0; i < n; i += block, px += st_tq_size(bits, block)) {
        int8_t q[ST_TQ_MAX_BLOCK];
        float scale = 0.0f;
        to_i8(bits, block, px, q, &scale, 1, block);
        float part = 0.0f;
        for (int j = 0; j < block; j += 32, py += 34) {
            const int8_t *other = (const int8_t *)py + 2;
            int32_t product = 0;
            for (int k = 0; k < 32; k++) {
                product += (int32_t)q[j + k] * (int32_t)other[k];
            }
            part += st_load_f16(py) * (float)product;
        }
        total += scale * part;
    }
    *sum = total;
}

static inline __attribute__((always_inline)) void rows_i8(const int bits, const int block, const st_rows *rows) {
    const st_rows r = *rows; /* what is written through q cannot be one of these */
    const size_t bytes = (size_t)(r.n / block * st_tq_size(bits, block));
    for (int32_t i = 0; i < r.n_row; i++) {
        const char *row = r.src + (size_t)i * r.stride;
        if (r.ahead > 0) {
            st_prefetch(row + r.ahead, bytes);
        }
        to_i8(bits, block, row, r.q + (size_t)i * (size_t)r.n, r.scale + i, r.step, r.n);
    }
}

static void tq4_128_f32(const void *src, float *dst, int64_t n) {
    to_f32(4, 128, src, dst, n);
}
static void tq4_128_i8(const st_rows *rows) {
    rows_i8(4, 128, rows);
}
static void tq4_128_write(const float *src, void *dst, int64_t n) {
    st_tq_write_row(4, 128, search, src, dst, n);
}
static void tq4_128_dot(int n, float *sum, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc) {
    (void)bs, (void)bx, (void)by, (void)nrc; /* one row at a time: nrows is 1 */
    dot(4, 128, n, sum, x, y);
}

static void tq4_64_f32(const void *src, float *dst, int64_t n) {
    to_f32(4, 64, src, dst, n);
}
static void tq4_64_i8(const st_rows *rows) {
    rows_i8(4, 64, rows);
}
static void tq4_64_write(const float *src, void *dst, int64_t n) {
    st_tq_write_row(4, 64, search, src, dst, n);
}
static void tq4_64_dot(int n, float *sum, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc) {
    (void)bs, (void)bx, (void)by, (void)nrc; /* one row at a time: nrows is 1 */
    dot(4, 64, n, sum, x, y);
}

static void tq3_128_f32(const void *src, float *dst, int64_t n) {
    to_f32(3, 128, src, dst, n);
}
static void tq3_128_i8(const st_rows *rows) {
    rows_i8(3, 128, rows);
}
static void tq3_128_write(const float *src, void *dst, int64_t n) {
    st_tq_write_row(3, 128, search, src, dst, n);
}
static void tq3_128_dot(int n, float *sum, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc) {
    (void)bs, (void)bx, (void)by, (void)nrc; /* one row at a time: nrows is 1 */
    dot(3, 128, n, sum, x, y);
}

static void tq3_64_f32(const void *src, float *dst, int64_t n) {
    to_f32(3, 64, src, dst, n);
}
static void tq3_64_i8(const st_rows *rows) {
    rows_i8(3, 64, rows);
}
static void tq3_64_write(const float *src, void *dst, int64_t n) {
    st_tq_write_row(3, 64, search, src, dst, n);
}
static void tq3_64_dot(int n, float *sum, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc) {
    (void)bs, (void)bx, (void)by, (void)nrc; /* one row at a time: nrows is 1 */
    dot(3, 64, n, sum, x, y);
}

static void tq2_128_f32(const void *src, float *dst, int64_t n) {
    to_f32(2, 128, src, dst, n);
}
static void tq2_128_i8(const st_rows *rows) {
    rows_i8(2, 128, rows);
}
static void tq2_128_write(const float *src, void *dst, int64_t n) {
    st_tq_write_row(2, 128, search, src, dst, n);
}
static void tq2_128_dot(int n, float *sum, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc) {
    (void)bs, (void)bx, (void)by, (void)nrc; /* one row at a time: nrows is 1 */
    dot(2, 128, n, sum, x, y);
}

static void tq2_64_f32(const void *src, float *dst, int64_t n) {
    to_f32(2, 64, src, dst, n);
}
static void tq2_64_i8(const st_rows *rows) {
    rows_i8(2, 64, rows);
}
static void tq2_64_write(const float *src, void *dst, int64_t n) {
    st_tq_write_row(2, 64, search, src, dst, n);
}
static void tq2_64_dot(int n, float *sum, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc) {
    (void)bs, (void)bx, (void)by, (void)nrc; /* one row at a time: nrows is 1 */
    dot(2, 64, n, sum, x, y);
}

/* In the order of st_tq_types[]. */
static const st_tq_ops entries[ST_TQ_TYPES] = {
    {{tq4_128_f32, tq4_128_i8, tq4_128_write}, tq4_128_dot},
    {{tq4_64_f32, tq4_64_i8, tq4_64_write}, tq4_64_dot},
    {{tq3_128_f32, tq3_128_i8, tq3_128_write}, tq3_128_dot},
    {{tq3_64_f32, tq3_64_i8, tq3_64_write}, tq3_64_dot},
    {{tq2_128_f32, tq2_128_i8, tq2_128_write}, tq2_128_dot},
    {{tq2_64_f32, tq2_64_i8, tq2_64_write}, tq2_64_dot},
};

#endif
