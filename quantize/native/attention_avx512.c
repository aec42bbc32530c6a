/* The attention kernel with AVX-512 and VNNI. */
#include "attention_avx512.h"
#include "attention_tile.h"

const st_attn_kernel st_attn_avx512 = {true, MAX_ROWS, scratch_bytes, run_item};
