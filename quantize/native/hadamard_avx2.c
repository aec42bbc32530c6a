/* The rotation with AVX2. */
#include "hadamard.h"

void st_hadamard_avx2(float *values, int64_t n, int32_t size) {
    st_hadamard_body(values, n, size);
}
