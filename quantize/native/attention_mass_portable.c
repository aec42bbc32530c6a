/* The attention that cells get, in plain C. */
#include "attention_portable.h"
#include "attention_mass_rows.h"

const st_mass_kernel st_mass_portable = {mass_scratch_bytes, mass_item};
