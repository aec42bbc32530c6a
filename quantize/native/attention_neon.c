/* The attention kernel with NEON. Pairs of int16 are multiplied no faster than f32 there. */
#include "attention_neon.h"
#include "attention_tile.h"

const st_attn_kernel st_attn_neon = {false, MAX_ROWS, scratch_bytes, run_item};
