/* Readers of the stock formats, by instruction set. A NULL entry falls back to the next lower set. */
#ifndef STRETCH_ROWS_H
#define STRETCH_ROWS_H

#include "stretch.h"

typedef struct st_row_ops {
    st_to_f32_fn to_f32;
    st_to_i8_fn to_i8;
    ggml_from_float_fn from_f32;
} st_row_ops;

/* Indexed by ggml type id. */
extern const st_row_ops st_rows_portable[GGML_TYPE_COUNT];
extern const st_row_ops st_rows_avx2[GGML_TYPE_COUNT];
extern const st_row_ops st_rows_avx512[GGML_TYPE_COUNT];
extern const st_row_ops st_rows_neon[GGML_TYPE_COUNT];

/* Fill the table behind st_row_type_find(); ggml's functions must be known. */
void st_row_types_fill(void);

#endif
