/* Products of matrices of f32 for the calculations around a cache (parking). The attention kernel has its own.
 *
 * c[i][j] = sum over l of a[l][i] * b[l][j]. Both factors have the summed index first, which is how a transform
 * of many tokens and its inverse come: no matrix is transposed, and every loop runs over contiguous memory.
 * Each sum is one chain in the order of l, fused multiply-adds where the machine has them: all instruction
 * sets but the portable one give the same bits. */
#ifndef STRETCH_PRODUCT_H
#define STRETCH_PRODUCT_H

#include "stretch.h"

/* Values of `room` beside those of a: k * (m + ST_PRODUCT_ROOM) in all. */
enum { ST_PRODUCT_ROOM = 64 };

/* a: [k][m], b: [k][n], c: [m][n]; room: see above. They do not overlap. */
ST_API void st_product(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, float *room);

typedef void (*st_product_fn)(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k,
                              float *room);

void st_product_avx2(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, float *room);
void st_product_avx512(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, float *room);
void st_product_neon(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, float *room);

#endif
