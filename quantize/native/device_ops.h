/* ggml's operations in the library's own terms. */
#ifndef STRETCH_DEVICE_OPS_H
#define STRETCH_DEVICE_OPS_H

#include "attention.h"
#include "ggml_backend_abi.h"
#include "tail.h"

/* A FLASH_ATTN_EXT node as a job; false if it is not one for this device. */
bool st_attention_of(const struct ggml_tensor *op, st_attn_job *job);

/* The layer whose cache a FLASH_ATTN_EXT node reads, -1 if it reads none. */
int32_t st_layer_of(const struct ggml_tensor *op);

/* Whether a SET_ROWS node writes f32 rows to a cache. */
bool st_writes_cache(const struct ggml_tensor *op);

/* Let the job read what `tail` has of its caches exactly. */
void st_show_tail(const struct ggml_tensor *op, st_attn_job *job, st_tail *tail);

/* Write the rows, and let `tail` (NULL: none) keep them. */
void st_write_cache(const struct ggml_tensor *op, int n_threads, st_tail *tail);

/* The same in pieces, for threads that are there already: the share of one of `n` threads, and what the tail keeps when
 * all are done. */
void st_write_part(const struct ggml_tensor *op, int thread, int n);
void st_keep_rows(const struct ggml_tensor *op, st_tail *tail);

#endif
