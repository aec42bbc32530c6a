/* Rows of a parked cache with AVX-512. */
#include "park_rows_body.h"

const st_park_rows st_park_rows_avx512 = ST_PARK_ROWS;
