/* Rows of a parked cache: the portable version (on AArch64 that is NEON) and the choice between the versions. */
#include "park_rows_body.h"

static const st_park_rows portable = ST_PARK_ROWS;

static const st_park_rows *of_this_machine(void) {
#if defined(__x86_64__)
    const st_isa isa = st_isa_active();
    if (isa == ST_ISA_AVX512) {
        return &st_park_rows_avx512;
    }
    if (isa == ST_ISA_AVX2) {
        return &st_park_rows_avx2;
    }
#endif
    return &portable;
}

void st_park_centre(const float *x, int64_t n, int64_t width, float weight, const st_park_known *known,
                    int64_t first, float *xt) {
    of_this_machine()->centre(x, n, width, weight, known, first, xt);
}

void st_park_uncentre(const float *xt, int64_t n, int64_t width, float weight, const st_park_known *known,
                      int64_t first, float *x) {
    of_this_machine()->uncentre(xt, n, width, weight, known, first, x);
}

void st_park_quantize(const float *y, int64_t n, int64_t n_comp, float inv_step, float bias, int32_t *z) {
    of_this_machine()->quantize(y, n, n_comp, inv_step, bias, z);
}

void st_park_squares(const int32_t *z, int64_t n, int64_t n_comp, float *squares) {
    of_this_machine()->squares(z, n, n_comp, squares);
}

void st_park_dequantize(const int32_t *z, int64_t n, int64_t n_comp, float step, const float *delta1,
                        const float *delta2, float *y) {
    of_this_machine()->dequantize(z, n, n_comp, step, delta1, delta2, y);
}

void st_park_count(const int32_t *z, int64_t n, int64_t n_comp, const uint8_t *shift, uint32_t *counts) {
    of_this_machine()->count(z, n, n_comp, shift, counts);
}
