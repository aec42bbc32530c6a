/* What Stretch needs to know of ggml's binary interface, declared anew (nothing is copied or linked).
 *
 * Valid for ggml 0.25.3, the one in llama-cpp-python 0.3.36: ggml/include/ggml.h (enum ggml_type, struct
 * ggml_type_traits) and ggml/include/ggml-cpu.h (struct ggml_type_traits_cpu). Every field that is relied
 * on is compared with known entries before anything is written; see register.c. */
#ifndef STRETCH_GGML_ABI_H
#define STRETCH_GGML_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Type ids (enum ggml_type). */
enum {
    GGML_F32 = 0,
    GGML_F16 = 1,
    GGML_Q4_0 = 2,
    GGML_Q4_1 = 3,
    GGML_Q5_0 = 6,
    GGML_Q5_1 = 7,
    GGML_Q8_0 = 8,
    GGML_Q8_1 = 9,
    GGML_IQ4_NL = 20,
    GGML_BF16 = 30,
    GGML_MXFP4 = 39,
    GGML_NVFP4 = 40,
    GGML_Q1_0 = 41,
    GGML_Q2_0 = 42,
    GGML_TYPE_COUNT = 43,
    /* Ids of removed formats, empty in the tables: the TurboQuant types go there. */
    ST_TQ4_128 = 31,
    ST_TQ3_128 = 32,
    ST_TQ2_128 = 33,
    ST_TQ4_64 = 36,
    ST_TQ3_64 = 37,
    ST_TQ2_64 = 38,
};

typedef void (*ggml_to_float_fn)(const void *src, float *dst, int64_t n);
typedef void (*ggml_from_float_fn)(const float *src, void *dst, int64_t n);
typedef void (*ggml_vec_dot_fn)(int n, float *sum, size_t bs, const void *x, size_t bx, const void *y, size_t by,
                                int nrc);

struct ggml_type_traits {
    const char *type_name;
    int64_t blck_size;
    int64_t blck_size_interleave;
    size_t type_size;
    bool is_quantized;
    ggml_to_float_fn to_float;
    ggml_from_float_fn from_float_ref;
};

struct ggml_type_traits_cpu {
    ggml_from_float_fn from_float;
    ggml_vec_dot_fn vec_dot;
    int32_t vec_dot_type;
    int64_t nrows;
};

typedef const struct ggml_type_traits *(*ggml_get_type_traits_fn)(int32_t type);
typedef const struct ggml_type_traits_cpu *(*ggml_get_type_traits_cpu_fn)(int32_t type);

#endif
