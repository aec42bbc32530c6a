/* The product of two matrices: the portable version and the choice between the versions. */
typedef float vec __attribute__((vector_size(16)));
enum { LANES = 4, VECS = 2, ROWS = 4 };

#include <string.h>

static inline vec vec_load(const float *x) {
    vec v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline void vec_store(float *x, vec v) {
    memcpy(x, &v, sizeof v);
}

static inline vec vec_all(float x) {
    return (vec){x, x, x, x};
}

static inline vec vec_fma(vec sum, vec a, vec b) {
    return sum + a * b;
}

#include "product_body.h"

static st_product_fn of_this_machine(void) {
    switch (st_isa_active()) {
#if defined(__x86_64__)
    case ST_ISA_AVX512:
        return st_product_avx512;
    case ST_ISA_AVX2:
        return st_product_avx2;
#elif defined(__aarch64__)
    case ST_ISA_NEON:
        return st_product_neon;
#endif
    default:
        return product;
    }
}

void st_product(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, float *room) {
    of_this_machine()(a, b, c, m, n, k, room);
}
