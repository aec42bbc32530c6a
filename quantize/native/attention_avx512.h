/* Vector operations of attention_tile.h with AVX-512 (F, BW, VL, DQ, VNNI). */
#ifndef STRETCH_ATTENTION_AVX512_H
#define STRETCH_ATTENTION_AVX512_H

#include <immintrin.h>
#include <stdint.h>

enum {
    VL = 16,       /* f32 lanes of a vector */
    MAX_ROWS = 12, /* rows of the micro-kernel: 12 x 2 accumulators of 32 registers */
};

typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
/* a * b + c */
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
static inline float vf_first(vf a) {
    return _mm512_cvtss_f32(a);
}
static inline float vf_hmax(vf a) {
    return _mm512_reduce_max_ps(a);
}
static inline float vf_hsum(vf a) {
    return _mm512_reduce_add_ps(a);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
/* -inf where m is -inf, else x + scale * m (an x that is not a number does not matter where m hides it) */
static inline vf vf_add_mask(vf x, vf m, vf scale) {
    const vf lowest = _mm512_set1_ps(-__builtin_inff());
    const __mmask16 hidden = _mm512_cmp_ps_mask(m, lowest, _CMP_EQ_OQ);
    return _mm512_mask_mov_ps(_mm512_fmadd_ps(m, scale, x), hidden, lowest);
}

/* 2^x, 0 below 2^-126. 2^x = 2^n 2^r, n the nearest integer: the polynomial of Cephes' exp2f, |r| <= 1/2. */
static inline vf vf_exp2(vf x) {
    const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_GT_OQ);
    const vf n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vf r = _mm512_sub_ps(x, n);
    vf p = _mm512_set1_ps(1.535336188319500e-4f);
    p = vf_fma(p, r, _mm512_set1_ps(1.339887440266574e-3f));
    p = vf_fma(p, r, _mm512_set1_ps(9.618437357674640e-3f));
    p = vf_fma(p, r, _mm512_set1_ps(5.550332471162809e-2f));
    p = vf_fma(p, r, _mm512_set1_ps(2.402264791363012e-1f));
    p = vf_fma(p, r, _mm512_set1_ps(6.931472028550421e-1f));
    p = vf_fma(p, r, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(normal, p, n);
}


static inline vi vi_zero(void) {
    return _mm512_setzero_si512();
}
static inline vi vi_load(const int32_t *p) {
    return _mm512_loadu_si512(p);
}
static inline vi vi_set1(int32_t x) {
    return _mm512_set1_epi32(x);
}
static inline vf vi_to_vf(vi a) {
    return _mm512_cvtepi32_ps(a);
}
/* acc + a.lo * b.lo + a.hi * b.hi, the halves of each lane as int16 */
static inline vi vi_dot2(vi acc, vi a, vi b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}
/* Round to int16. */
static inline void vf_store_i16(int16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}

/* Lanes of 32 bits: out[i].lane[j] = in[j].lane[i]. */
static inline void transpose16(__m512i x[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        x[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        x[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* VL rows of codes from `codes` on, `dim` each, into column `at` of a strip (see pack_k_codes). */
static inline void pack_k_codes_vl(const int8_t *codes, int dim, int32_t *strip, int width, int at) {
    int d = 0;
    for (; d + 64 <= dim; d += 64) {
        __m512i x[16];
        for (int i = 0; i < 16; i++) {
            x[i] = _mm512_loadu_si512(codes + i * dim + d);
        }
        transpose16(x);
        int32_t *out = strip + (d / 2) * width + at;
        for (int i = 0; i < 16; i++) {
            _mm512_storeu_si512(out + 2 * i * width, _mm512_srai_epi16(_mm512_slli_epi16(x[i], 8), 8));
            _mm512_storeu_si512(out + (2 * i + 1) * width, _mm512_srai_epi16(x[i], 8));
        }
    }
    for (; d < dim; d += 32) {
        __m512i x[16];
        for (int i = 0; i < 16; i++) {
            x[i] = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(codes + i * dim + d)));
        }
        transpose16(x);
        int32_t *out = strip + (d / 2) * width + at;
        for (int i = 0; i < 8; i++) {
            _mm512_storeu_si512(out + 2 * i * width, _mm512_srai_epi16(_mm512_slli_epi16(x[i], 8), 8));
            _mm512_storeu_si512(out + (2 * i + 1) * width, _mm512_srai_epi16(x[i], 8));
        }
    }
}

/* out[i] = (a[i], b[i]) as int16, for 2 * VL values. */
static inline void pack_v_codes_pair(const int8_t *a, const int8_t *b, int32_t *out) {
    const __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)a));
    const __m512i y = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)b));
    const __m512i lo = _mm512_unpacklo_epi16(x, y); /* values 0-3, 8-11, 16-19, 24-27 */
    const __m512i hi = _mm512_unpackhi_epi16(x, y); /* values 4-7, 12-15, 20-23, 28-31 */
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64(lo, first, hi));
    _mm512_storeu_si512(out + VL, _mm512_permutex2var_epi64(lo, second, hi));
}

/* VL rows of f32 into column `at` of a strip: strip[d * width + at + i] = rows[i * dim + d]. */
static inline void pack_k_f32_vl(const float *rows, int dim, float *strip, int width, int at) {
    for (int d = 0; d < dim; d += 16) {
        __m512i x[16];
        for (int i = 0; i < 16; i++) {
            x[i] = _mm512_loadu_si512(rows + i * dim + d);
        }
        transpose16(x);
        for (int i = 0; i < 16; i++) {
            _mm512_storeu_si512(strip + (d + i) * width + at, x[i]);
        }
    }
}

/* ---------------------------------------------------------------- few rows (attention_few.h) */

/* The sums of VL vectors that lie one after the other. */
static inline vf vf_sums(const float *x) {
    vf t[8];
    for (int i = 0; i < 8; i++) {
        const vf a = vf_load(x + 2 * i * VL);
        const vf b = vf_load(x + (2 * i + 1) * VL);
        t[i] = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); /* a, b, a, b in each quarter */
    }
    vf u[4];
    for (int i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(t[2 * i]);
        const __m512d b = _mm512_castps_pd(t[2 * i + 1]);
        u[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    const vf v = _mm512_add_ps(_mm512_shuffle_f32x4(u[0], u[1], 0x88), _mm512_shuffle_f32x4(u[0], u[1], 0xdd));
    const vf w = _mm512_add_ps(_mm512_shuffle_f32x4(u[2], u[3], 0x88), _mm512_shuffle_f32x4(u[2], u[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(v, w, 0x88), _mm512_shuffle_f32x4(v, w, 0xdd));
}

#endif
