/* Reading rows of the stock formats with NEON (base AArch64, which converts f16). */
#include "rows_layout.h"

#include <arm_neon.h>

static inline float half(const uint8_t *p) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(st_load_u16(p)))), 0);
}

/* Bits 0 .. 15 of `bits` as 16 in each byte. */
static inline uint8x16_t spread_fifth(uint32_t bits) {
    static const uint8_t masks[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bytes = vcombine_u8(vdup_n_u8((uint8_t)(bits & 255u)), vdup_n_u8((uint8_t)(bits >> 8 & 255u)));
    return vandq_u8(vtstq_u8(bytes, vld1q_u8(masks)), vdupq_n_u8(16));
}

static inline int8x16x2_t block_i8(int type, const uint8_t *block) {
    const uint8_t *packed = block + st_row_head(type);
    if (type == GGML_Q8_0) {
        return (int8x16x2_t){{vld1q_s8((const int8_t *)packed), vld1q_s8((const int8_t *)packed + 16)}};
    }
    const uint8x16_t bytes = vld1q_u8(packed);
    uint8x16_t low = vandq_u8(bytes, vdupq_n_u8(15));
    uint8x16_t high = vshrq_n_u8(bytes, 4);
    if (type == GGML_IQ4_NL) {
        const int8x16_t levels = vld1q_s8(ST_IQ4_NL_LEVELS);
        return (int8x16x2_t){{vqtbl1q_s8(levels, low), vqtbl1q_s8(levels, high)}};
    }
    if (st_row_has_fifth_bit(type)) {
        const uint32_t fifth = st_row_fifth_bits(type, block);
        low = vorrq_u8(low, spread_fifth(fifth));
        high = vorrq_u8(high, spread_fifth(fifth >> 16));
    }
    const int8x16_t bias = vdupq_n_s8((int8_t)st_row_bias(type));
    return (int8x16x2_t){{vsubq_s8(vreinterpretq_s8_u8(low), bias), vsubq_s8(vreinterpretq_s8_u8(high), bias)}};
}

static inline void row_i8(int type, const void *src, int8_t *q, float *scale, float *offset, int32_t step,
                          int64_t n) {
    const uint8_t *block = src;
    for (int64_t i = 0; i < n / ST_ROW_BLOCK; i++, block += st_row_bytes(type), q += ST_ROW_BLOCK) {
        scale[i * step] = half(block);
        if (st_row_has_offset(type)) {
            offset[i * step] = half(block + 2);
        }
        const int8x16x2_t values = block_i8(type, block);
        vst1q_s8(q, values.val[0]);
        vst1q_s8(q + 16, values.val[1]);
    }
}

static inline void row_f32(int type, const void *src, float *dst, int64_t n) {
    const uint8_t *block = src;
    for (int64_t i = 0; i < n / ST_ROW_BLOCK; i++, block += st_row_bytes(type)) {
        const float scale = half(block);
        const float32x4_t offset = vdupq_n_f32(st_row_has_offset(type) ? half(block + 2) : 0.0f);
        const int8x16x2_t q = block_i8(type, block);
        for (int h = 0; h < 2; h++) {
            const int16x8_t eight[2] = {vmovl_s8(vget_low_s8(q.val[h])), vmovl_s8(vget_high_s8(q.val[h]))};
            for (int k = 0; k < 2; k++, dst += 8) {
                const float32x4_t a = vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(eight[k]))), scale);
                const float32x4_t b = vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(eight[k]))), scale);
                vst1q_f32(dst, st_row_has_offset(type) ? vaddq_f32(a, offset) : a);
                vst1q_f32(dst + 4, st_row_has_offset(type) ? vaddq_f32(b, offset) : b);
            }
        }
    }
}

static void row_f16(const void *src, float *dst, int64_t n) {
    const uint16_t *p = src;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        vst1q_f32(dst + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + i))));
    }
    for (; i < n; i++) {
        dst[i] = st_load_f16(p + i);
    }
}

static void row_bf16(const void *src, float *dst, int64_t n) {
    const uint16_t *p = src;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        vst1q_f32(dst + i, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + i), 16)));
    }
    for (; i < n; i++) {
        dst[i] = st_bf16_to_f32(st_load_u16(p + i));
    }
}

#include "rows_entries.h"

const st_row_ops *const st_rows_neon = row_entries;
