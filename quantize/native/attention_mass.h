/* How much attention every cell of a cache gets, which flash attention otherwise hides.
 *
 * While a context is watched, its attention keeps the probabilities
 *
 *     p_qc = exp(scale * <Q_q, K_c> + mask_qc) / sum_c' exp(scale * <Q_q, K_c'> + mask_qc')
 *
 * (with the soft cap and the sink of the job) as it computes them anyway (attention_kept.h), and here per layer, KV
 * head and cell the largest and the sum of p_qc over all queries and over the query heads that share the KV head are
 * kept from one micro-batch to the next. */
#ifndef STRETCH_ATTENTION_MASS_H
#define STRETCH_ATTENTION_MASS_H

#include "attention.h"

/* st_attn_run() for a layer of the context with this number (device.h), which is looked at if it is watched. */
ST_API bool st_mass_run(int64_t context, int32_t layer, const st_attn_job *job, int n_threads, st_attn_memory *memory);
/* The same in pieces, for threads that are there already: what to add up to (job->mass is set), or NULL if the layer
 * is not watched; and, when all items are done, adding it up. */
struct watched *st_mass_begin(int64_t context, int32_t layer, st_attn_job *job, int n_threads);
void st_mass_end(struct watched *w, int32_t layer, const st_attn_job *job, int n_threads);
/* There was no memory for it: what was seen is worth nothing. */
void st_mass_fail(struct watched *w);
/* Whether any context is watched. */
bool st_mass_any(void);

/* Watch the cells below `n_cells` from now on (what was seen before is forgotten), and keep the rows of Q of the
 * first `n_queries` tokens of every layer. False if memory ran out. */
ST_API bool st_mass_start(int64_t context, int32_t n_cells, int32_t n_queries);
/* Stop and forget. */
ST_API void st_mass_stop(int64_t context);
/* Why what was seen is worth nothing (memory ran out, several sequences); NULL if it is good. */
ST_API const char *st_mass_problem(int64_t context);
/* Sizes of a layer: KV heads, query heads, head size of Q, tokens that were seen. False if nothing was seen of it. */
ST_API bool st_mass_shape(int64_t context, int32_t layer, int32_t *n_head_kv, int32_t *n_head, int32_t *dk,
                          int64_t *n_tokens);
/* What the attention of a layer multiplies <Q, K> by; 0 if nothing was seen of it. */
ST_API float st_mass_scale(int64_t context, int32_t layer);
/* The largest and the sum, (KV head, n_cells) each. False if nothing was seen of the layer. */
ST_API bool st_mass_read(int64_t context, int32_t layer, float *most, float *sum);
/* Rows of Q as the attention took them, (token, head, dk). How many tokens, at most `room`. */
ST_API int32_t st_mass_queries(int64_t context, int32_t layer, int32_t room, float *q);

#endif
