/* The attention that cells get, with AVX2. */
#include "attention_avx2.h"
#include "attention_mass_rows.h"

const st_mass_kernel st_mass_avx2 = {mass_scratch_bytes, mass_item};
