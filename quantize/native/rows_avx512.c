/* Reading rows with avx512. */
#include "rows.h"

const st_row_ops st_rows_avx512[GGML_TYPE_COUNT] = {{NULL, NULL, NULL}};
