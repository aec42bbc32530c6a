/* The Walsh-Hadamard transform that llama.cpp applies to K and V before it quantizes them.
 *
 * y = H x / sqrt(n), H_1 = 1, H_2n = [[H_n, H_n], [H_n, -H_n]]; its own inverse. The steps are ggml's
 * (ggml_compute_forward_fwht): the scale first, then butterflies of length 1, 2, 4, ... Each value is
 * rounded at the same places, so the results are equal bit for bit; that is why nothing here may be
 * contracted into a fused multiply-add.
 *
 * The loops are plain C that compilers turn into vectors; each file that includes this one is compiled
 * for another instruction set. */
#ifndef STRETCH_HADAMARD_H
#define STRETCH_HADAMARD_H

#include "stretch.h"

#include <math.h>

void st_hadamard_avx2(float *values, int64_t n, int32_t size);

enum { ST_LANE = 16 };

/* Butterflies of length 1 to 8 within 16 values, on 16 such groups at once: group i is x[16 i ...]. The
 * square is transposed so that the compiler sees whole vectors. */
static inline void st_hadamard_short_steps(float *x, float scale) {
    float t[ST_LANE][ST_LANE];
    for (int i = 0; i < ST_LANE; i++) {
        for (int j = 0; j < ST_LANE; j++) {
            t[j][i] = x[i * ST_LANE + j] * scale;
        }
    }
    for (int len = 1; len < ST_LANE; len *= 2) {
        for (int at = 0; at < ST_LANE; at += 2 * len) {
            for (int j = at; j < at + len; j++) {
                for (int i = 0; i < ST_LANE; i++) {
                    const float u = t[j][i];
                    const float v = t[j + len][i];
                    t[j][i] = u + v;
                    t[j + len][i] = u - v;
                }
            }
        }
    }
    for (int i = 0; i < ST_LANE; i++) {
        for (int j = 0; j < ST_LANE; j++) {
            x[i * ST_LANE + j] = t[j][i];
        }
    }
}

/* Butterflies of length `from` and more within every `size` values. */
static inline void st_hadamard_long_steps(float *values, int64_t n, int32_t size, int32_t from) {
    for (int64_t at = 0; at < n; at += size) {
        float *x = values + at;
        for (int32_t len = from; len < size; len *= 2) {
            for (int32_t i = 0; i < size; i += 2 * len) {
                for (int32_t j = i; j < i + len; j++) {
                    const float u = x[j];
                    const float v = x[j + len];
                    x[j] = u + v;
                    x[j + len] = u - v;
                }
            }
        }
    }
}

static inline void st_hadamard_body(float *values, int64_t n, int32_t size) {
    const float scale = 1.0f / sqrtf((float)size);
    const int64_t square = ST_LANE * ST_LANE;
    const int64_t common = size < square ? square : size; /* both are powers of two */
    const int64_t whole = size < ST_LANE ? 0 : n - n % common;
    for (int64_t at = 0; at < whole; at += square) {
        st_hadamard_short_steps(values + at, scale);
    }
    st_hadamard_long_steps(values, whole, size, ST_LANE);
    for (int64_t i = whole; i < n; i++) {
        values[i] *= scale;
    }
    st_hadamard_long_steps(values + whole, n - whole, size, 1);
}

#endif
