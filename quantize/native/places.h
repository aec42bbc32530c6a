/* Where the cells of a context stand in the text: what the constant of centred rows (centring.h) is put back with.
 *
 * llama.cpp tells nobody the position of a cell. Rows that are written come with theirs (the ROPE node behind
 * SET_ROWS names the tensor that has them). Rows that are loaded from a saved state are found by their bytes when the
 * first node of the next graph is computed. */
#ifndef STRETCH_PLACES_H
#define STRETCH_PLACES_H

#include "stretch.h"

typedef struct st_places st_places;

enum { ST_PLACE_UNKNOWN = -1 };

st_places *st_places_new(void);
void st_places_free(st_places *p);

/* Rows that were loaded into the caches of `group`, to be looked for: positions and the bytes of the rows in the K
 * cache of the group's first layer. They are all that their stream holds: no other cell's position there counts any
 * more. False if memory ran out. */
bool st_places_load(st_places *p, int32_t group, int32_t stream, int32_t n, const int32_t *positions, const char *rows,
                    size_t row_bytes);
/* The first layer's cache is about to be written or read: look for loaded rows. One that is not there has gone since
 * (the context was emptied); cells whose position is unknown are an error when they are seen. False if memory ran out.
 * `cells` are those of one stream. */
bool st_places_find(st_places *p, int32_t group, const char *cache, size_t row_bytes, int32_t cells, int32_t n_stream);

/* Rows that are written: cells and their positions. */
bool st_places_write(st_places *p, int32_t group, int32_t cells, const int64_t *index, const int32_t *positions,
                     int32_t n);
/* Per cell of all streams, NULL if nothing is known of the group. */
const int32_t *st_places_of(const st_places *p, int32_t group);
/* Bytes held. */
size_t st_places_bytes(const st_places *p);

#endif
