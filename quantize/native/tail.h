/* Age tiers: the newest rows of a cache kept exactly, beside their compressed form.
 *
 * The device writes the rows of the cache itself (SET_ROWS), so it holds every row's exact values for a
 * moment. A tail keeps, per cache tensor and stream, those of the last `window` rows and of the cells below
 * `first` as f16, and the rows of the micro-batch at hand in a staging area that the layers share. The
 * attention of a token then reads the rows from `window` before it on exactly and the older ones
 * compressed, in one softmax.
 *
 * Beside the values a tail keeps the bytes that were made from them. A row is used only while the cache
 * still holds these bytes, so a restored, shifted, trimmed or edited cache never meets a stale row. */
#ifndef STRETCH_TAIL_H
#define STRETCH_TAIL_H

#include "attention.h"

typedef struct st_tail st_tail;

/* Which cache a tensor is. */
typedef struct st_cache_id {
    int32_t layer;
    bool value; /* V, else K */
} st_cache_id;

/* "cache_k_l3" -> {3, false}. False if it is no name of a cache. */
bool st_cache_id_of(const char *name, st_cache_id *id);

/* A cache tensor as the tail sees it. */
typedef struct st_cache {
    st_cache_id id;
    const char *data; /* of stream 0, cell 0 */
    int32_t n_values; /* per row */
    size_t row_bytes;
    int32_t n_cells; /* per stream */
    int32_t n_stream;
} st_cache;

st_tail *st_tail_new(void);
void st_tail_free(st_tail *tail);

/* Keep `window` rows per stream and the cells below `first`; what is there already stays as far as it
 * fits. 0, 0: keep nothing. */
void st_tail_resize(st_tail *tail, int32_t window, int32_t first);
bool st_tail_on(const st_tail *tail);

/* Take the memory that a cache with these rows and micro-batches of `n_batch` rows will need, so that it is
 * known from the beginning. Before anything is computed. False if there is none. */
bool st_tail_reserve(st_tail *tail, st_cache_id id, int32_t n_values, size_t row_bytes, int32_t n_batch);

/* Rows that were written: exact values (f32, `stride` bytes apart) of the rows `index` (stream * n_cells +
 * cell). Called after the cache has them. False if memory ran out: the tail then forgets this cache. */
bool st_tail_write(st_tail *tail, const st_cache *cache, const char *values, size_t stride, const int64_t *index,
                   int32_t n);

/* Rows of stream 0 whose exact values come from somewhere else (a switch of types): `packed` is what the
 * cache holds or will hold. The newest comes last. False if memory ran out. */
bool st_tail_fill(st_tail *tail, st_cache_id id, const int32_t *cells, int32_t n, const float *values,
                  int32_t n_values, const char *packed, size_t row_bytes);

/* The exact rows for an attention over `n_cells` cells of `n_stream` streams from stream `stream0` on, with
 * `n_tokens` tokens per stream. NULL if there are none. Valid until the next call for the same side. */
const st_exact *st_tail_view(st_tail *tail, const st_cache *cache, int32_t stream0, int32_t n_stream,
                             int32_t n_cells, int32_t n_tokens);

/* The kept rows of stream 0, the oldest first: cells, exact values (f16, n_values per row) and, unless
 * `packed` is NULL, the bytes that the cache made of them. How many there are, at most `room`; 0 if the rows
 * have another size. The last micro-batch is among them. */
int32_t st_tail_read(st_tail *tail, st_cache_id id, int32_t room, int32_t n_values, int32_t *cells,
                     uint16_t *values, size_t row_bytes, char *packed);

int32_t st_tail_window(const st_tail *tail);
/* Bytes that it holds now; any thread may ask. */
size_t st_tail_bytes(const st_tail *tail);
/* Rows that it keeps of one cache (all streams, without the staging area). */
int32_t st_tail_rows(const st_tail *tail, st_cache_id id);

#endif
