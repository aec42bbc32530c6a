/* Readers and writers of the formats, by instruction set. */
#ifndef STRETCH_ROWS_H
#define STRETCH_ROWS_H

#include "stretch.h"

typedef struct st_row_ops {
    st_to_f32_fn to_f32;
    st_to_i8_fn to_i8;
    ggml_from_float_fn from_f32;
} st_row_ops;

/* The stock formats, indexed by ggml type id; a writer that is NULL is ggml's own. */
extern const st_row_ops *const st_rows_portable;
extern const st_row_ops *const st_rows_avx2;
extern const st_row_ops *const st_rows_avx512;
extern const st_row_ops *const st_rows_neon;

/* TurboQuant's formats also need a product with a q8_0 row, for ggml's own attention. */
typedef struct st_tq_ops {
    st_row_ops row;
    ggml_vec_dot_fn dot;
} st_tq_ops;

typedef struct st_tq_type {
    const char *name;
    int32_t type; /* the id it is registered under */
    int32_t bits;
    int32_t block;
} st_tq_type;

enum { ST_TQ_TYPES = 6 };
extern const st_tq_type st_tq_types[ST_TQ_TYPES];

/* Arrays of ST_TQ_TYPES entries in the order of st_tq_types[]. */
extern const st_tq_ops *const st_tq_portable;
extern const st_tq_ops *const st_tq_avx2;
extern const st_tq_ops *const st_tq_avx512;
extern const st_tq_ops *const st_tq_neon;

/* Those of an instruction set. */
const st_tq_ops *st_tq_ops_of(st_isa isa);

/* Fill the table behind st_row_type_find(); ggml's functions must be known. */
void st_row_types_fill(void);

#endif
