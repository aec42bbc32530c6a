/* The attention kernel with AVX2 and FMA. */
#include "attention_avx2.h"
#include "attention_tile.h"

const st_attn_kernel st_attn_avx2 = {true, 2 * MAX_ROWS, scratch_bytes, run_item};
