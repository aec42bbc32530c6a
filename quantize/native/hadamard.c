/* The rotation: the plain version and the choice between the versions. */
#include "hadamard.h"

static void portable(float *values, int64_t n, int32_t size) {
    st_hadamard_body(values, n, size);
}

void st_hadamard(float *values, int64_t n, int32_t size) {
#if defined(__x86_64__)
    if (st_isa_active() >= ST_ISA_AVX2) {
        st_hadamard_avx2(values, n, size);
        return;
    }
#endif
    portable(values, n, size);
}
