/* Vector operations of attention_tile.h for any processor: vectors of four as GCC and Clang know them. */
#ifndef STRETCH_ATTENTION_PORTABLE_H
#define STRETCH_ATTENTION_PORTABLE_H

#include "f16.h"

#include <stdint.h>
#include <string.h>

enum {
    VL = 4,
    MAX_ROWS = 6,
};

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

static inline vf vf_set1(float x) {
    return (vf){x, x, x, x};
}
static inline vf vf_zero(void) {
    return vf_set1(0.0f);
}
static inline vf vf_load(const float *p) {
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void vf_store(float *p, vf x) {
    memcpy(p, &x, sizeof x);
}
static inline vf vf_add(vf a, vf b) {
    return a + b;
}
static inline vf vf_mul(vf a, vf b) {
    return a * b;
}
static inline vf vf_div(vf a, vf b) {
    return a / b;
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return a * b + c;
}
/* a where the bits of mask are set, else b */
static inline vf vf_select(vi mask, vf a, vf b) {
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}
static inline vf vf_max(vf a, vf b) {
    return vf_select(a > b, a, b);
}
static inline vf vf_min(vf a, vf b) {
    return vf_select(a < b, a, b);
}
static inline float vf_first(vf a) {
    return a[0];
}
static inline float vf_hmax(vf a) {
    const float x = a[0] > a[1] ? a[0] : a[1];
    const float y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
}
static inline float vf_hsum(vf a) {
    return (a[0] + a[1]) + (a[2] + a[3]);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return (vf){st_f16_to_f32(p[0]), st_f16_to_f32(p[1]), st_f16_to_f32(p[2]), st_f16_to_f32(p[3])};
}
/* -inf where m is -inf, else x + scale * m */
static inline vf vf_add_mask(vf x, vf m, vf scale) {
    const vf lowest = vf_set1(-__builtin_inff());
    return vf_select(m == lowest, lowest, x + scale * m);
}

/* 2^x, 0 below 2^-126. 2^x = 2^n 2^r, n the nearest integer: the polynomial of Cephes' exp2f, |r| <= 1/2. */
static inline vf vf_exp2(vf x) {
    const vi normal = x > vf_set1(-126.0f);
    x = vf_max(x, vf_set1(-126.0f));
    const vf round = vf_set1(0x1.8p23f); /* adding it rounds to an integer, in the low bits */
    const vf shifted = x + round;
    const vf r = x - (shifted - round);
    vf p = vf_set1(1.535336188319500e-4f);
    p = p * r + vf_set1(1.339887440266574e-3f);
    p = p * r + vf_set1(9.618437357674640e-3f);
    p = p * r + vf_set1(5.550332471162809e-2f);
    p = p * r + vf_set1(2.402264791363012e-1f);
    p = p * r + vf_set1(6.931472028550421e-1f);
    p = p * r + vf_set1(1.0f);
    const vi exponent = (((vi)shifted - (vi)round) + 127) << 23;
    return (vf)((vi)(p * (vf)exponent) & normal);
}

/* The integer form: never chosen here (st_attn_portable.integers), plain C for completeness. */
static inline vi vi_zero(void) {
    return (vi){0, 0, 0, 0};
}
static inline vi vi_load(const int32_t *p) {
    vi x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline vi vi_set1(int32_t x) {
    return (vi){x, x, x, x};
}
static inline vf vi_to_vf(vi a) {
    return __builtin_convertvector(a, vf);
}
static inline vi vi_dot2(vi acc, vi a, vi b) {
    return acc + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
}
static inline void vf_store_i16(int16_t *p, vf x) {
    for (int i = 0; i < VL; i++) {
        p[i] = (int16_t)(x[i] + (x[i] < 0.0f ? -0.5f : 0.5f));
    }
}
static inline void pack_k_codes_vl(const int8_t *codes, int dim, int32_t *strip, int width, int at) {
    for (int i = 0; i < VL; i++) {
        for (int d = 0; d < dim; d += 4) {
            const int8_t *q = codes + i * dim + d;
            int16_t pairs[4] = {q[0], q[2], q[1], q[3]};
            memcpy(strip + (d / 2) * width + at + i, pairs, 4);
            memcpy(strip + (d / 2 + 1) * width + at + i, pairs + 2, 4);
        }
    }
}
static inline void pack_v_codes_pair(const int8_t *a, const int8_t *b, int32_t *out) {
    for (int i = 0; i < 2 * VL; i++) {
        const int16_t pair[2] = {a[i], b[i]};
        memcpy(out + i, pair, 4);
    }
}

/* VL rows of f32 into column `at` of a strip: strip[d * width + at + i] = rows[i * dim + d]. */
static inline void pack_k_f32_vl(const float *rows, int dim, float *strip, int width, int at) {
    for (int d = 0; d < dim; d++) {
        for (int i = 0; i < VL; i++) {
            strip[d * width + at + i] = rows[i * dim + d];
        }
    }
}

/* ---------------------------------------------------------------- few rows (attention_few.h) */

/* The sums of VL vectors that lie one after the other. */
static inline vf vf_sums(const float *x) {
    return (vf){vf_hsum(vf_load(x)), vf_hsum(vf_load(x + VL)), vf_hsum(vf_load(x + 2 * VL)), vf_hsum(vf_load(x + 3 * VL))};
}

#endif
