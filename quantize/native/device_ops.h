/* ggml's operations in the library's own terms. */
#ifndef STRETCH_DEVICE_OPS_H
#define STRETCH_DEVICE_OPS_H

#include "attention.h"
#include "ggml_backend_abi.h"
#include "places.h"
#include "tail.h"

/* A FLASH_ATTN_EXT node as a job; false if it is not one for this device. */
bool st_attention_of(const struct ggml_tensor *op, st_attn_job *job);

/* The layer whose cache a FLASH_ATTN_EXT node reads, -1 if it reads none. */
int32_t st_layer_of(const struct ggml_tensor *op);

/* Whether a SET_ROWS node writes f32 rows to a cache. */
bool st_writes_cache(const struct ggml_tensor *op);

/* Let the job read what `tail` has of its caches exactly. */
void st_show_tail(const struct ggml_tensor *op, st_attn_job *job, st_tail *tail);

/* Memory that is kept from one node to the next. */
typedef struct st_room {
    float *values;
    size_t n;
} st_room;

/* What of K the rows of a context lack, NULL: nothing; and where its cells stand. */
typedef struct st_centred {
    st_centring *centring;
    st_places *places;
    st_room room;
    _Atomic int lost; /* a cell whose position is not known was seen */
} st_centred;

/* The layer of `centred` that a FLASH_ATTN_EXT node reads, or a SET_ROWS node writes; NULL: none. */
const st_centre_layer *st_centre_read(const struct ggml_tensor *op, const st_centred *centred);
const st_centre_layer *st_centre_written(const struct ggml_tensor *op, const st_centred *centred);

/* Let the job put the constant back. False: the positions of the cells are not to be found. */
bool st_show_centre(const struct ggml_tensor *op, st_attn_job *job, st_centred *centred);

/* How the rows of a SET_ROWS node are stored. */
typedef struct st_writing {
    const st_centre_layer *centre; /* NULL: as they are */
    const int32_t *positions;
    float *centred; /* (rows, values): where they become what is stored */
} st_writing;

/* Before a node writes; then parts of the rows, by any threads; then the tail keeps them. False: the positions of the
 * rows are not to be found, or memory ran out; `writing` then stores them as they are. */
bool st_write_begin(const struct ggml_tensor *op, st_centred *centred, st_writing *writing);
void st_write_part(const struct ggml_tensor *op, const st_writing *writing, int thread, int n);
void st_keep_rows(const struct ggml_tensor *op, const st_writing *writing, st_tail *tail);

/* All of it: write the rows, without their constant where they lack one, and let `tail` (NULL: none) keep them. False: the
 * positions of the rows are not to be found, or memory ran out. */
bool st_write_cache(const struct ggml_tensor *op, int n_threads, st_tail *tail, st_centred *centred);


#endif
