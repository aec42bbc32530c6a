/* Half precision (IEEE 754 binary16) and bfloat16, in plain C so that every compiler agrees. */
#ifndef STRETCH_F16_H
#define STRETCH_F16_H

#include <stdint.h>
#include <string.h>

static inline float st_f32_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t st_f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline uint16_t st_load_u16(const void *p) {
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline uint32_t st_load_u32(const void *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* sign * 2^(e-15) * (1 + m/1024); e = 0: sign * m * 2^-24; e = 31: infinity or not a number. */
static inline float st_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t e = (h >> 10) & 31u;
    const uint32_t m = h & 1023u;
    if (e == 0) {
        const float x = (float)m * 0x1p-24f;
        return sign ? -x : x;
    }
    return st_f32_from_bits(sign | (e == 31 ? 0x7f800000u : (e + 112u) << 23) | m << 13);
}

/* Round to nearest, ties to even; too large becomes infinity. */
static inline uint16_t st_f32_to_f16(float x) {
    const uint32_t bits = st_f32_bits(x);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    const uint32_t a = bits & 0x7fffffffu;
    if (a > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u);
    }
    if (a >= 0x477ff000u) { /* rounds to 65520 or more */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (a < 0x38800000u) { /* below 2^-14: adding 1/2 leaves m * 2^-24 in the low bits, rounded to even */
        return (uint16_t)(sign | (uint16_t)(st_f32_bits(st_f32_from_bits(a) + 0.5f) & 0xffffu));
    }
    const uint32_t rounded = a + 0xfffu + (a >> 13 & 1u);
    return (uint16_t)(sign | (uint16_t)((rounded - 0x38000000u) >> 13));
}

static inline float st_bf16_to_f32(uint16_t h) {
    return st_f32_from_bits((uint32_t)h << 16);
}

static inline float st_load_f16(const void *p) {
    return st_f16_to_f32(st_load_u16(p));
}

#endif
