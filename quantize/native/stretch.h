/* Stretch's native library. Start reading here.
 *
 *   isa.c            which instruction set is used (run-time dispatch)
 *   row_types.c      the table of row formats: how to read a row of a cache of any type
 *   rows_*.c         reading rows, one file per instruction set
 *   tq.h             TurboQuant's formats; tq_*.c write and read them, one file per instruction set
 *   hadamard*.c      the rotation that llama.cpp applies before it writes a quantized cache
 *   rope.c           positions taken out of K and put back
 *   park_rows.h      parked caches: rows centred and quantized; product.h: what is between the two
 *   park.h           parked caches: entropy coding (rANS)
 *   register.c       TurboQuant's types written into the free slots of ggml's tables (tables.c checks them)
 *
 * Rules of the library: no global state that is written after st_init() except what is atomic or
 * locked; no allocation in a hot path; every function that has a SIMD version has a portable one with
 * the same result (bit for bit for integers and for values that are one product of an f16 scale).
 *
 * ggml is never linked and never opened again: Python looks its functions up in the library that
 * llama-cpp-python has loaded and hands the addresses to st_init(). */
#ifndef STRETCH_H
#define STRETCH_H

#include "ggml_abi.h"

#if defined(__GNUC__)
#define ST_API __attribute__((visibility("default")))
#else
#define ST_API
#endif

/* ---------------------------------------------------------------- instruction sets (isa.c) */

typedef enum st_isa {
    ST_ISA_PORTABLE = 0,
    ST_ISA_NEON = 1,   /* AArch64 */
    ST_ISA_AVX2 = 2,   /* AVX2, FMA and F16C */
    ST_ISA_AVX512 = 3, /* AVX-512 F, BW, VL, DQ, VNNI, VBMI and VBMI2 */
} st_isa;

/* The best set that this machine has. */
ST_API st_isa st_isa_detected(void);
/* The set in use: the detected one, or a lower one named by STRETCH_ISA=portable|neon|avx2|avx512
 * (read once), or the last st_isa_use(). */
ST_API st_isa st_isa_active(void);
/* Use at most `isa` from now on (tests and benchmarks). Returns what is then active. */
ST_API st_isa st_isa_use(st_isa isa);
ST_API const char *st_isa_name(st_isa isa);

/* ---------------------------------------------------------------- rows of a cache (row_types.c) */

/* x[i] as f32; n is a multiple of the block. */
typedef void (*st_to_f32_fn)(const void *src, float *dst, int64_t n);

/* Rows to be taken apart: value i of row r is scale[i / group][r] * q[r][i] + offset[i / group][r]. */
typedef struct st_rows {
    const char *src;
    size_t stride; /* bytes from a row to the next */
    size_t ahead;  /* bytes from a row to one that is worth fetching meanwhile; 0: none is */
    int32_t n_row;
    int32_t n;     /* values of a row, a multiple of the block */
    int32_t step;  /* from the scale of a group to that of the next one, at least n_row */
    int8_t *q;     /* (n_row, n) */
    float *scale;  /* (n / group, step) */
    float *offset; /* likewise; written only by types with has_offset, else it may be NULL */
} st_rows;

typedef void (*st_to_i8_fn)(const st_rows *rows);

/* Fetch bytes that are read soon: memory answers more slowly than what is at hand is computed with. */
static inline void st_prefetch(const char *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(at + i, 0, 2);
    }
}

/* How to read one row format with the active instruction set. */
typedef struct st_row_type {
    const char *name;
    int32_t type;      /* ggml type id */
    int32_t block;     /* values per block */
    int32_t type_size; /* bytes per block */
    int32_t group;     /* values under one scale in to_i8; 0: the format has no integer form (f32, f16, bf16, ...) */
    bool has_offset;   /* to_i8 gives offsets as well (q4_1, q5_1) */
    int8_t q_max;      /* largest |q| that to_i8 gives (127 for q8_0 and TurboQuant, 8 for q4_0, 31 for q5_1, ...) */
    st_to_f32_fn to_f32;            /* never NULL */
    st_to_i8_fn to_i8;              /* NULL if group == 0 */
    ggml_from_float_fn from_f32;    /* write a row */
} st_row_type;

/* The reader of ggml type `type` for the active instruction set; NULL if rows of it cannot be read.
 * Call st_init() first. The pointer stays valid; take it once per operation, not per row. */
ST_API const st_row_type *st_row_type_find(int32_t type);

/* Bytes of a row of n values. */
static inline size_t st_row_size(const st_row_type *t, int64_t n) {
    return (size_t)(n / t->block) * (size_t)t->type_size;
}

/* ---------------------------------------------------------------- rotation (hadamard.c) */

/* Turn `values` in place, every `size` of them (a power of two) as one vector; n is a multiple of size. */
ST_API void st_hadamard(float *values, int64_t n, int32_t size);

/* ---------------------------------------------------------------- start and registration (register.c) */

/* The functions of ggml that the library calls, looked up by name by the caller. */
typedef struct st_ggml {
    ggml_get_type_traits_fn get_type_traits;         /* ggml_get_type_traits */
    ggml_get_type_traits_cpu_fn get_type_traits_cpu; /* ggml_get_type_traits_cpu */
} st_ggml;

/* Names of the symbols in the order of the fields of st_ggml, ended by NULL. */
ST_API const char *const *st_ggml_symbols(void);
/* Hand over the addresses in that order. Returns NULL, or why the library cannot work with this ggml. */
ST_API const char *st_init(void *const *symbols);
/* Write tq4, tq3 and tq2 into free slots of ggml's type tables, after their layout was verified. After
 * st_init() and before the first context is created; again is harmless. Returns NULL, or why nothing was
 * written. */
ST_API const char *st_register_types(void);
ST_API bool st_types_registered(void);
/* What st_init() was given (all NULL before it). */
const st_ggml *st_ggml_api(void);

#endif
