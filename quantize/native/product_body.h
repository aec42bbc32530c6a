/* The product of two matrices for one instruction set. The file that includes this one defines
 *
 *   vec, LANES          a vector of f32 and its values
 *   vec_load, vec_store, vec_all(x), vec_fma(sum, a, b)
 *   ROWS, VECS          rows and vectors of the result that stay in registers; ROWS + LANES * VECS is at most
 *                       ST_PRODUCT_ROOM */
#include "product.h"

#include <string.h>

enum { COLUMNS = LANES * VECS };
_Static_assert(ROWS + COLUMNS <= ST_PRODUCT_ROOM, "the room is too small");

/* ROWS x COLUMNS of the result from a[k][ROWS] and b[k][COLUMNS]. */
static inline void tile(const float *a, const float *b, int64_t k, float *c, int64_t stride) {
    vec sum[ROWS][VECS];
    for (int r = 0; r < ROWS; r++) {
        for (int v = 0; v < VECS; v++) {
            sum[r][v] = vec_all(0.0f);
        }
    }
    for (int64_t l = 0; l < k; l++, a += ROWS, b += COLUMNS) {
        vec right[VECS];
        for (int v = 0; v < VECS; v++) {
            right[v] = vec_load(b + v * LANES);
        }
        for (int r = 0; r < ROWS; r++) {
            const vec left = vec_all(a[r]);
            for (int v = 0; v < VECS; v++) {
                sum[r][v] = vec_fma(sum[r][v], left, right[v]);
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        for (int v = 0; v < VECS; v++) {
            vec_store(c + r * stride + v * LANES, sum[r][v]);
        }
    }
}

/* Columns `at` to at + width of x[k][n], at most `count` of them, one behind the other; what is missing is 0. */
static inline void pack(const float *x, int64_t n, int64_t k, int64_t at, int64_t count, int64_t width,
                        float *out) {
    const int64_t there = n - at < count ? n - at : count;
    for (int64_t l = 0; l < k; l++, out += width) {
        memcpy(out, x + l * n + at, (size_t)there * sizeof *out);
        memset(out + there, 0, (size_t)(width - there) * sizeof *out);
    }
}

static void product(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, float *room) {
    float *const right = room, *const left = room + k * COLUMNS;
    for (int64_t i = 0; i < m; i += ROWS) {
        pack(a, m, k, i, ROWS, ROWS, left + i * k);
    }
    for (int64_t j = 0; j < n; j += COLUMNS) {
        pack(b, n, k, j, COLUMNS, COLUMNS, right);
        const int64_t columns = n - j < COLUMNS ? n - j : COLUMNS;
        for (int64_t i = 0; i < m; i += ROWS) {
            const int64_t rows = m - i < ROWS ? m - i : ROWS;
            if (rows == ROWS && columns == COLUMNS) {
                tile(left + i * k, right, k, c + i * n + j, n);
                continue;
            }
            float edge[ROWS * COLUMNS];
            tile(left + i * k, right, k, edge, COLUMNS);
            for (int64_t r = 0; r < rows; r++) {
                memcpy(c + (i + r) * n + j, edge + r * COLUMNS, (size_t)columns * sizeof *c);
            }
        }
    }
}
