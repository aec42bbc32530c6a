/* The product of two matrices with NEON. */
#include <arm_neon.h>

typedef float32x4_t vec;
enum { LANES = 4, VECS = 4, ROWS = 6 };

static inline vec vec_load(const float *x) {
    return vld1q_f32(x);
}

static inline void vec_store(float *x, vec v) {
    vst1q_f32(x, v);
}

static inline vec vec_all(float x) {
    return vdupq_n_f32(x);
}

static inline vec vec_fma(vec sum, vec a, vec b) {
    return vfmaq_f32(sum, a, b);
}

#include "product_body.h"

void st_product_neon(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, float *room) {
    product(a, b, c, m, n, k, room);
}
