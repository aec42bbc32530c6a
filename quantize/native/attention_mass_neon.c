/* The attention that cells get, with NEON. */
#include "attention_neon.h"
#include "attention_mass_rows.h"

const st_mass_kernel st_mass_neon = {mass_scratch_bytes, mass_item};
