/* The attention kernel in plain C. */
#include "attention_portable.h"
#include "attention_tile.h"

const st_attn_kernel st_attn_portable = {false, MAX_ROWS, scratch_bytes, run_item};
