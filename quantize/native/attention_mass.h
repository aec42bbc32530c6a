/* How much attention every cell of a cache gets, which flash attention otherwise hides.
 *
 *   attention_mass.c        whose attention is watched, the threads, and what was seen
 *   attention_mass_rows.h   the work on some queries, compiled once per instruction set by
 *   attention_mass_<isa>.c
 *
 * While a context is watched, the softmax of every query is computed a second time after its attention,
 *
 *     p_qc = exp(scale * <Q_q, K_c> + mask_qc) / sum_c' exp(scale * <Q_q, K_c'> + mask_qc')
 *
 * (with the soft cap and the sink of the job), and per layer, KV head and cell the largest and the sum of
 * p_qc over all queries and over the query heads that share the KV head are kept. The probabilities need the
 * sum over all cells first, so they do not fall out of an online softmax; V takes no part. */
#ifndef STRETCH_ATTENTION_MASS_H
#define STRETCH_ATTENTION_MASS_H

#include "attention.h"

/* Look at one computed attention of the context with this number (device.h). Does nothing unless it is watched. */
ST_API void st_mass_see(int64_t context, int32_t layer, const st_attn_job *job, int n_threads);
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
/* The largest and the sum, (KV head, n_cells) each. False if nothing was seen of the layer. */
ST_API bool st_mass_read(int64_t context, int32_t layer, float *most, float *sum);
/* Rows of Q as the attention took them, (token, head, dk). How many tokens, at most `room`. */
ST_API int32_t st_mass_queries(int64_t context, int32_t layer, int32_t room, float *q);

/* ---------------------------------------------------------------- shared with the instruction sets */

/* Where one thread adds up: (KV head, n_track) each. */
typedef struct st_mass_sums {
    float *most, *sum;
} st_mass_sums;

typedef struct st_mass_work {
    const st_attn_job *job;
    int32_t n_track;      /* cells that are counted; all take part in the softmax */
    int32_t block_tokens; /* queries of an item: this many tokens times the heads of a KV head */
    int32_t n_block;
} st_mass_work;

typedef struct st_mass_kernel {
    size_t (*scratch_bytes)(const st_mass_work *work);
    void (*item)(const st_mass_work *work, int32_t item, void *scratch, const st_mass_sums *into);
} st_mass_kernel;

extern const st_mass_kernel st_mass_portable;
extern const st_mass_kernel st_mass_avx2;
extern const st_mass_kernel st_mass_avx512;
extern const st_mass_kernel st_mass_neon;

#endif
