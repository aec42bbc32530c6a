/* Rows of a parked cache with AVX2. */
#include "park_rows_body.h"

const st_park_rows st_park_rows_avx2 = ST_PARK_ROWS;
