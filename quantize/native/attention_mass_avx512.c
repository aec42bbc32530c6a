/* The attention that cells get, with AVX-512. */
#include "attention_avx512.h"
#include "attention_mass_rows.h"

const st_mass_kernel st_mass_avx512 = {mass_scratch_bytes, mass_item};
