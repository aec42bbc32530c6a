/* The product of two matrices with AVX-512. */
#include <immintrin.h>

typedef __m512 vec;
enum { LANES = 16, VECS = 2, ROWS = 12 };

static inline vec vec_load(const float *x) {
    return _mm512_loadu_ps(x);
}

static inline void vec_store(float *x, vec v) {
    _mm512_storeu_ps(x, v);
}

static inline vec vec_all(float x) {
    return _mm512_set1_ps(x);
}

static inline vec vec_fma(vec sum, vec a, vec b) {
    return _mm512_fmadd_ps(a, b, sum);
}

#include "product_body.h"

void st_product_avx512(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, float *room) {
    product(a, b, c, m, n, k, room);
}
