/* Vector operations of attention_tile.h with NEON (AArch64). */
#ifndef STRETCH_ATTENTION_NEON_H
#define STRETCH_ATTENTION_NEON_H

#include <arm_neon.h>
#include <stdint.h>

enum {
    VL = 4,        /* f32 lanes of a vector */
    MAX_ROWS = 12, /* rows of the micro-kernel: 12 x 2 accumulators of 32 registers */
};

typedef float32x4_t vf;
typedef int32x4_t vi;

static inline vf vf_zero(void) {
    return vdupq_n_f32(0.0f);
}
static inline vf vf_set1(float x) {
    return vdupq_n_f32(x);
}
static inline vf vf_load(const float *p) {
    return vld1q_f32(p);
}
static inline void vf_store(float *p, vf x) {
    vst1q_f32(p, x);
}
static inline vf vf_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return vdivq_f32(a, b);
}
/* a * b + c */
static inline vf vf_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
static inline vf vf_max(vf a, vf b) {
    return vmaxq_f32(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return vminq_f32(a, b);
}
static inline float vf_first(vf a) {
    return vgetq_lane_f32(a, 0);
}
static inline float vf_hmax(vf a) {
    return vmaxvq_f32(a);
}
static inline float vf_hsum(vf a) {
    return vaddvq_f32(a);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
/* -inf where m is -inf, else x + scale * m (an x that is not a number does not matter where m hides it) */
static inline vf vf_add_mask(vf x, vf m, vf scale) {
    const vf lowest = vdupq_n_f32(-__builtin_inff());
    return vbslq_f32(vceqq_f32(m, lowest), lowest, vfmaq_f32(x, m, scale));
}

/* 2^x, 0 below 2^-126. 2^x = 2^n 2^r, n the nearest integer: the polynomial of Cephes' exp2f, |r| <= 1/2. */
static inline vf vf_exp2(vf x) {
    const uint32x4_t normal = vcgtq_f32(x, vdupq_n_f32(-126.0f));
    x = vmaxq_f32(x, vdupq_n_f32(-126.0f));
    const vf n = vrndnq_f32(x);
    const vf r = vsubq_f32(x, n);
    vf p = vdupq_n_f32(1.535336188319500e-4f);
    p = vf_fma(p, r, vdupq_n_f32(1.339887440266574e-3f));
    p = vf_fma(p, r, vdupq_n_f32(9.618437357674640e-3f));
    p = vf_fma(p, r, vdupq_n_f32(5.550332471162809e-2f));
    p = vf_fma(p, r, vdupq_n_f32(2.402264791363012e-1f));
    p = vf_fma(p, r, vdupq_n_f32(6.931472028550421e-1f));
    p = vf_fma(p, r, vdupq_n_f32(1.0f));
    const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
    const vf y = vmulq_f32(p, vreinterpretq_f32_s32(exponent));
    return vreinterpretq_f32_u32(vandq_u32(normal, vreinterpretq_u32_f32(y)));
}

static inline vi vi_zero(void) {
    return vdupq_n_s32(0);
}
static inline vi vi_load(const int32_t *p) {
    return vld1q_s32(p);
}
static inline vi vi_set1(int32_t x) {
    return vdupq_n_s32(x);
}
static inline vf vi_to_vf(vi a) {
    return vcvtq_f32_s32(a);
}
/* acc + a.lo * b.lo + a.hi * b.hi, the halves of each lane as int16 */
static inline vi vi_dot2(vi acc, vi a, vi b) {
    const int16x8_t x = vreinterpretq_s16_s32(a);
    const int16x8_t y = vreinterpretq_s16_s32(b);
    const int32x4_t lo = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    const int32x4_t hi = vmull_high_s16(x, y);
    return vaddq_s32(acc, vpaddq_s32(lo, hi));
}
/* Round to int16. */
static inline void vf_store_i16(int16_t *p, vf x) {
    vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(x)));
}

/* Lanes of 32 bits: out[i].lane[j] = in[j].lane[i]. */
static inline void transpose4(uint32x4_t x[4]) {
    const uint32x4_t a = vtrn1q_u32(x[0], x[1]);
    const uint32x4_t b = vtrn2q_u32(x[0], x[1]);
    const uint32x4_t c = vtrn1q_u32(x[2], x[3]);
    const uint32x4_t d = vtrn2q_u32(x[2], x[3]);
    x[0] = vreinterpretq_u32_u64(vtrn1q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(c)));
    x[1] = vreinterpretq_u32_u64(vtrn1q_u64(vreinterpretq_u64_u32(b), vreinterpretq_u64_u32(d)));
    x[2] = vreinterpretq_u32_u64(vtrn2q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(c)));
    x[3] = vreinterpretq_u32_u64(vtrn2q_u64(vreinterpretq_u64_u32(b), vreinterpretq_u64_u32(d)));
}

/* VL rows of codes, `dim` each, into column `at` of a strip: pairs (4i, 4i + 2) and (4i + 1, 4i + 3). */
static inline void pack_k_codes_vl(const int8_t *codes, int dim, int32_t *strip, int width, int at) {
    for (int d = 0; d < dim; d += 16) {
        uint32x4_t x[4];
        for (int i = 0; i < 4; i++) {
            x[i] = vreinterpretq_u32_s8(vld1q_s8(codes + i * dim + d));
        }
        transpose4(x);
        int32_t *out = strip + (d / 2) * width + at;
        for (int i = 0; i < 4; i++) {
            const int16x8_t both = vreinterpretq_s16_u32(x[i]);
            vst1q_s32(out + 2 * i * width, vreinterpretq_s32_s16(vshrq_n_s16(vshlq_n_s16(both, 8), 8)));
            vst1q_s32(out + (2 * i + 1) * width, vreinterpretq_s32_s16(vshrq_n_s16(both, 8)));
        }
    }
}

/* out[i] = (a[i], b[i]) as int16, for 2 * VL values. */
static inline void pack_v_codes_pair(const int8_t *a, const int8_t *b, int32_t *out) {
    const int16x8_t x = vmovl_s8(vld1_s8(a));
    const int16x8_t y = vmovl_s8(vld1_s8(b));
    vst1q_s32(out, vreinterpretq_s32_s16(vzip1q_s16(x, y)));
    vst1q_s32(out + VL, vreinterpretq_s32_s16(vzip2q_s16(x, y)));
}

/* VL rows of f32 into column `at` of a strip: strip[d * width + at + i] = rows[i * dim + d]. */
static inline void pack_k_f32_vl(const float *rows, int dim, float *strip, int width, int at) {
    for (int d = 0; d < dim; d += 4) {
        uint32x4_t x[4];
        for (int i = 0; i < 4; i++) {
            x[i] = vreinterpretq_u32_f32(vld1q_f32(rows + i * dim + d));
        }
        transpose4(x);
        for (int i = 0; i < 4; i++) {
            vst1q_f32(strip + (d + i) * width + at, vreinterpretq_f32_u32(x[i]));
        }
    }
}

/* ---------------------------------------------------------------- few rows (attention_few.h) */

/* The sums of VL vectors that lie one after the other. */
static inline vf vf_sums(const float *x) {
    return vpaddq_f32(vpaddq_f32(vf_load(x), vf_load(x + VL)), vpaddq_f32(vf_load(x + 2 * VL), vf_load(x + 3 * VL)));
}

#endif
