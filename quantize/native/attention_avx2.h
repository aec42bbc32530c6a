/* Vector operations of attention_tile.h with AVX2, FMA and F16C. */
#ifndef STRETCH_ATTENTION_AVX2_H
#define STRETCH_ATTENTION_AVX2_H

#include <immintrin.h>
#include <stdint.h>

enum {
    VL = 8,       /* f32 lanes of a vector */
    MAX_ROWS = 6, /* rows of the micro-kernel: 6 x 2 accumulators of 16 registers */
};

typedef __m256 vf;
typedef __m256i vi;

static inline vf vf_zero(void) {
    return _mm256_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x);
}
static inline vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
/* a * b + c */
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
static inline float vf_first(vf a) {
    return _mm256_cvtss_f32(a);
}
static inline float vf_hmax(vf a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
static inline float vf_hsum(vf a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
/* -inf where m is -inf, else x + scale * m (an x that is not a number does not matter where m hides it) */
static inline vf vf_add_mask(vf x, vf m, vf scale) {
    const vf lowest = _mm256_set1_ps(-__builtin_inff());
    const vf hidden = _mm256_cmp_ps(m, lowest, _CMP_EQ_OQ);
    return _mm256_blendv_ps(_mm256_fmadd_ps(m, scale, x), lowest, hidden);
}

/* 2^x, 0 below 2^-126. 2^x = 2^n 2^r, n the nearest integer: the polynomial of Cephes' exp2f, |r| <= 1/2. */
static inline vf vf_exp2(vf x) {
    const vf normal = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_GT_OQ);
    x = _mm256_max_ps(x, _mm256_set1_ps(-126.0f));
    const vf n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vf r = _mm256_sub_ps(x, n);
    vf p = _mm256_set1_ps(1.535336188319500e-4f);
    p = vf_fma(p, r, _mm256_set1_ps(1.339887440266574e-3f));
    p = vf_fma(p, r, _mm256_set1_ps(9.618437357674640e-3f));
    p = vf_fma(p, r, _mm256_set1_ps(5.550332471162809e-2f));
    p = vf_fma(p, r, _mm256_set1_ps(2.402264791363012e-1f));
    p = vf_fma(p, r, _mm256_set1_ps(6.931472028550421e-1f));
    p = vf_fma(p, r, _mm256_set1_ps(1.0f));
    const vi exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(normal, _mm256_mul_ps(p, _mm256_castsi256_ps(exponent)));
}

static inline vi vi_zero(void) {
    return _mm256_setzero_si256();
}
static inline vi vi_load(const int32_t *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline vi vi_set1(int32_t x) {
    return _mm256_set1_epi32(x);
}
static inline vf vi_to_vf(vi a) {
    return _mm256_cvtepi32_ps(a);
}
/* acc + a.lo * b.lo + a.hi * b.hi, the halves of each lane as int16 */
static inline vi vi_dot2(vi acc, vi a, vi b) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}
/* Round to int16. */
static inline void vf_store_i16(int16_t *p, vf x) {
    const vi wide = _mm256_cvtps_epi32(x);
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storeu_si128((__m128i *)p, narrow);
}

/* Lanes of 32 bits: out[i].lane[j] = in[j].lane[i]. */
static inline void transpose8(__m256i x[8]) {
    __m256i t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        x[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        x[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        x[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        x[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x20);
        t[i + 4] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x31);
    }
    for (int i = 0; i < 8; i++) {
        x[i] = t[i];
    }
}

/* VL rows of codes, `dim` each, into column `at` of a strip: pairs (4i, 4i + 2) and (4i + 1, 4i + 3). */
static inline void pack_k_codes_vl(const int8_t *codes, int dim, int32_t *strip, int width, int at) {
    for (int d = 0; d < dim; d += 32) {
        __m256i x[8];
        for (int i = 0; i < 8; i++) {
            x[i] = _mm256_loadu_si256((const __m256i *)(codes + i * dim + d));
        }
        transpose8(x);
        int32_t *out = strip + (d / 2) * width + at;
        for (int i = 0; i < 8; i++) {
            const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x[i], 8), 8);
            _mm256_storeu_si256((__m256i *)(out + 2 * i * width), even);
            _mm256_storeu_si256((__m256i *)(out + (2 * i + 1) * width), _mm256_srai_epi16(x[i], 8));
        }
    }
}

/* out[i] = (a[i], b[i]) as int16, for 2 * VL values. */
static inline void pack_v_codes_pair(const int8_t *a, const int8_t *b, int32_t *out) {
    const __m128i x = _mm_loadu_si128((const __m128i *)a);
    const __m128i y = _mm_loadu_si128((const __m128i *)b);
    _mm256_storeu_si256((__m256i *)out, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, y)));
    _mm256_storeu_si256((__m256i *)(out + VL), _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(x, y)));
}

/* VL rows of f32 into column `at` of a strip: strip[d * width + at + i] = rows[i * dim + d]. */
static inline void pack_k_f32_vl(const float *rows, int dim, float *strip, int width, int at) {
    for (int d = 0; d < dim; d += 8) {
        __m256i x[8];
        for (int i = 0; i < 8; i++) {
            x[i] = _mm256_loadu_si256((const __m256i *)(rows + i * dim + d));
        }
        transpose8(x);
        for (int i = 0; i < 8; i++) {
            _mm256_storeu_si256((__m256i *)(strip + (d + i) * width + at), x[i]);
        }
    }
}

/* ---------------------------------------------------------------- few rows (attention_few.h) */

/* The sums of VL vectors that lie one after the other. */
static inline vf vf_sums(const float *x) {
    const vf a = _mm256_hadd_ps(vf_load(x), vf_load(x + VL));
    const vf b = _mm256_hadd_ps(vf_load(x + 2 * VL), vf_load(x + 3 * VL));
    const vf c = _mm256_hadd_ps(vf_load(x + 4 * VL), vf_load(x + 5 * VL));
    const vf d = _mm256_hadd_ps(vf_load(x + 6 * VL), vf_load(x + 7 * VL));
    const vf low = _mm256_hadd_ps(a, b); /* the first four, half of the lanes of each in either half */
    const vf high = _mm256_hadd_ps(c, d);
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

#endif
