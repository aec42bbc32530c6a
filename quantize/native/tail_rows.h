/* Rows of a tail (tail.c): their memory, and what they hold. */
#ifndef STRETCH_TAIL_ROWS_H
#define STRETCH_TAIL_ROWS_H

#include "f16.h"
#include "stretch.h"

#include <stdlib.h>
#include <string.h>

/* Rows side by side: exact values, the bytes made from them, and where they lie. */
typedef struct rows {
    int32_t n;
    int32_t n_values;
    size_t row_bytes;
    int32_t *cell; /* -1: empty */
    uint16_t *values;
    char *packed;
    size_t room_cell, room_values, room_packed; /* bytes */
} rows;

static inline void rows_free(rows *r) {
    free(r->cell);
    free(r->values);
    free(r->packed);
    memset(r, 0, sizeof *r);
}

/* More bytes at `at` if it has fewer than `n`; what was there is lost. */
static inline bool reserve(void **at, size_t *room, size_t n) {
    if (*at != NULL && n <= *room) {
        return true;
    }
    free(*at);
    *at = malloc(n > 0 ? n : 1);
    *room = *at != NULL ? n : 0;
    return *at != NULL;
}

/* Give `r` a shape; its rows are then empty. */
static inline bool rows_make(rows *r, int32_t n, int32_t n_values, size_t row_bytes) {
    const size_t count = (size_t)n;
    if (!reserve((void **)&r->cell, &r->room_cell, count * sizeof *r->cell) ||
        !reserve((void **)&r->values, &r->room_values, count * (size_t)n_values * sizeof *r->values) ||
        !reserve((void **)&r->packed, &r->room_packed, count * row_bytes)) {
        rows_free(r);
        return false;
    }
    r->n = n;
    r->n_values = n_values;
    r->row_bytes = row_bytes;
    for (int32_t i = 0; i < n; i++) {
        r->cell[i] = -1;
    }
    return true;
}

static inline size_t rows_bytes(const rows *r) {
    return r->room_cell + r->room_values + r->room_packed;
}

static inline void rows_copy(rows *to, int32_t i, const rows *from, int32_t j) {
    const size_t n = (size_t)to->n_values;
    memcpy(to->values + (size_t)i * n, from->values + (size_t)j * n, n * sizeof *to->values);
    memcpy(to->packed + (size_t)i * to->row_bytes, from->packed + (size_t)j * to->row_bytes, to->row_bytes);
}

static inline void rows_set(rows *to, int32_t i, int32_t cell, const float *values, const char *packed) {
    uint16_t *out = to->values + (size_t)i * (size_t)to->n_values;
    const st_row_type *f16 = st_row_type_find(GGML_F16);
    to->cell[i] = cell;
    if (f16 != NULL && f16->from_f32 != NULL) {
        f16->from_f32(values, out, to->n_values);
    } else {
        for (int32_t d = 0; d < to->n_values; d++) {
            out[d] = st_f32_to_f16(values[d]);
        }
    }
    memcpy(to->packed + (size_t)i * to->row_bytes, packed, to->row_bytes);
}

#endif
