/* From rows of a cache to the numbers that are coded, and back, without the products between them.
 *
 *   rows x[token][value] <-> centred xt[value][token] <-> (a basis) <-> y[component][token] <-> numbers
 *
 * Whatever has a component or a value first is contiguous in the tokens. The loops are plain C that compilers
 * turn into vectors; each park_rows_*.c is compiled for another instruction set, and all give the same bits. */
#ifndef STRETCH_PARK_ROWS_H
#define STRETCH_PARK_ROWS_H

#include "stretch.h"

/* What is known of each token before its code is read: now[at[i]] + before[at_before[i]], rows of `width`
 * values. `before` may be NULL. */
typedef struct st_park_known {
    const float *now, *before;
    const int64_t *at, *at_before; /* [n] */
    int64_t width;
} st_park_known;

/* xt[j][i] = x[i][j] * weight - known[i][first + j]; x: [n][width], xt: [width][n]. */
ST_API void st_park_centre(const float *x, int64_t n, int64_t width, float weight, const st_park_known *known,
                           int64_t first, float *xt);

/* x[i][j] = (xt[j][i] + known[i][first + j]) / weight; x: [n][width], xt: [width][n]. */
ST_API void st_park_uncentre(const float *xt, int64_t n, int64_t width, float weight, const st_park_known *known,
                             int64_t first, float *x);

/* z = sign(y) * floor(|y| * inv_step + bias); magnitudes are limited to 2^30. y and z: [n_comp][n]. */
ST_API void st_park_quantize(const float *y, int64_t n, int64_t n_comp, float inv_step, float bias, int32_t *z);

/* squares[c]: the sum of the squares of z[c], 0 only if all are 0. */
ST_API void st_park_squares(const int32_t *z, int64_t n, int64_t n_comp, float *squares);

/* y = sign(z) * (|z| + delta) * step; delta1[c] for |z| = 1, delta2[c] for more; 0 stays 0. */
ST_API void st_park_dequantize(const int32_t *z, int64_t n, int64_t n_comp, float step, const float *delta1,
                               const float *delta2, float *y);

/* counts[c][s]: how often component c has symbol s - ST_PARK_MAX after its low shift[c] bits are cut off. */
ST_API void st_park_count(const int32_t *z, int64_t n, int64_t n_comp, const uint8_t *shift, uint32_t *counts);

typedef struct st_park_rows {
    void (*centre)(const float *x, int64_t n, int64_t width, float weight, const st_park_known *known,
                   int64_t first, float *xt);
    void (*uncentre)(const float *xt, int64_t n, int64_t width, float weight, const st_park_known *known,
                     int64_t first, float *x);
    void (*quantize)(const float *y, int64_t n, int64_t n_comp, float inv_step, float bias, int32_t *z);
    void (*squares)(const int32_t *z, int64_t n, int64_t n_comp, float *squares);
    void (*dequantize)(const int32_t *z, int64_t n, int64_t n_comp, float step, const float *delta1,
                       const float *delta2, float *y);
    void (*count)(const int32_t *z, int64_t n, int64_t n_comp, const uint8_t *shift, uint32_t *counts);
} st_park_rows;

extern const st_park_rows st_park_rows_avx2, st_park_rows_avx512;

#endif
