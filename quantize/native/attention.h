/* Attention over compressed rows, apart from ggml: what is computed, and how it is cut into pieces.
 *
 *   attention.h         the problem (st_attn_job) and its cutting into items (st_attn_plan)
 *   attention_plan.c    the cutting, and the merge of an item that was split over the cells
 *   attention_tile.h    the algorithm, compiled once per instruction set by attention_<isa>.c; of it
 *   attention_item.h    what a thread keeps; attention_query.h and attention_unpack.h: its operands;
 *                       attention_products.h many query rows, attention_few.h few; attention_softmax.h;
 *                       attention_kept.h: the probabilities, where someone asks for them
 *   attention_<isa>.h   the few vector operations that it is written in
 *
 * For every query row:  out = sum_c p_c V_c,  p = softmax_c(scale * <Q, K_c> + mask_c).
 *
 * Cells are taken in tiles of 64. A tile of K and V is unpacked once and multiplied with all rows of
 * an item: some tokens times the query heads that share the KV head. Between tiles only a maximum, a
 * sum and an unnormalised output are kept per row ("online softmax", Milakov and Gimelshein,
 * arXiv 1805.02867; in tiles: Dao et al., arXiv 2205.14135). */
#ifndef STRETCH_ATTENTION_H
#define STRETCH_ATTENTION_H

#include "centring.h"
#include "stretch.h"

#include <stdatomic.h>

enum {
    ST_ATTN_TILE = 64,     /* cells per tile */
    ST_ATTN_ROWS = 96,     /* query rows per item, about */
    ST_ATTN_MAX_DIM = 512, /* largest head */
    ST_ATTN_HEADS = 8,     /* KV heads per item where there are few rows */
};

/* A row of a cache whose exact values are at hand (tail.h). They count only while the bytes in the cache
 * are the ones that were made from them. */
typedef struct st_exact_row {
    int32_t cell;           /* of the stream */
    int32_t next;           /* next row of the same tile, -1: none */
    int32_t order;          /* index in this micro-batch; before it: -1, -2, ... */
    const uint16_t *values; /* f16, all heads */
    const char *packed;     /* the bytes in the cache, all heads */
} st_exact_row;

typedef struct st_exact {
    const int32_t *first; /* per tile the first of its rows, -1: none */
    const st_exact_row *rows;
} st_exact;

/* Where one thread adds up the probabilities that cells get: over all queries, and over the query heads that share
 * the KV head. Shape (KV head, st_attn_mass_cells()) each. */
typedef struct st_attn_mass {
    float *most; /* the largest */
    float *sum;
} st_attn_mass;

/* One attention. Strides are in bytes; a row of Q is contiguous f32. */
typedef struct st_attn_job {
    int32_t dk, dv; /* head sizes of Q and K, and of V */
    int32_t n_tokens, n_cells, n_head, n_head_kv, n_stream;
    const st_row_type *type_k, *type_v;
    const char *q, *k, *v;
    size_t q_token, q_head, q_stream;
    size_t k_cell, k_head, k_stream;
    size_t v_cell, v_head, v_stream;
    /* f16, 0 or -inf or a bias, shape (cells, tokens, mask_heads, mask_streams); NULL: none */
    const char *mask;
    size_t mask_token, mask_head, mask_stream;
    int32_t mask_heads, mask_streams;
    float scale;
    float softcap;      /* > 0: the score becomes softcap * tanh(score / softcap) */
    const float *sinks; /* per head one more score without a value; NULL: none */
    float *out;         /* (stream, token, head, dv), contiguous */
    /* Per stream; NULL: every row is read from the cache. Tokens from `t` on read rows of order t - window
     * and later exactly. */
    const st_exact *exact_k, *exact_v;
    int32_t exact_window;
    /* K without its constant (centring.h); NULL: rows are whole. Positions of the cells of stream 0, those of the next
     * stream `positions_stream` further on. A cell that is seen and whose position is not known sets `lost`. */
    const st_centre_layer *centre;
    const int32_t *positions;
    size_t positions_stream;
    _Atomic int *lost;
    /* Per thread; NULL: nobody asks. The cells below `mass_cells` are counted, all take part in the softmax. */
    const st_attn_mass *mass;
    int32_t mass_cells;
} st_attn_job;

static inline int32_t st_attn_whole_tiles(int32_t cells) {
    return (cells + ST_ATTN_TILE - 1) / ST_ATTN_TILE * ST_ATTN_TILE;
}

/* Cells that are counted, in whole tiles. */
static inline int32_t st_attn_mass_cells(const st_attn_job *job) {
    return job->mass != NULL ? st_attn_whole_tiles(job->mass_cells) : 0;
}

/* How K or V of a job is multiplied. */
typedef struct st_attn_side {
    const st_row_type *type;
    bool integers; /* int16 x int8 products, else f32 */
    int32_t dim;
    int32_t group; /* values under one scale */
    int32_t n_group;
} st_attn_side;

/* A job cut into items: (stream, KV heads, block of tokens, chunk of cells). An item has one KV head, or, with
 * few query rows, several: then it reads the cache in the order in which it lies in memory. */
typedef struct st_attn_plan {
    st_attn_job job;
    st_attn_side k, v;
    const st_row_type *f16; /* reader of exact rows */
    int32_t heads_per_kv;
    bool few;             /* so few rows that K and V are multiplied as they lie (attention_few.h) */
    int32_t item_heads;   /* KV heads of an item */
    int32_t block_tokens; /* tokens of an item */
    int32_t n_block;
    int32_t n_chunk;      /* > 1: items leave partial results that st_attn_merge() joins */
    int32_t chunk_tiles;  /* tiles of an item */
    int32_t n_item;
    int32_t max_rows;      /* of one KV head of an item */
    size_t partial_floats; /* of one item; 0 if n_chunk == 1 */
} st_attn_plan;

/* Per row of a partial result: the maximum (in units of log2), the sum, then dv values. */
enum { ST_ATTN_PARTIAL_HEAD = 2 };

/* What an item or a set of chunks is about. */
typedef struct st_attn_whole {
    int32_t stream, head_kv0, token0, n_tokens; /* and plan->item_heads heads */
} st_attn_whole;

/* Later tokens see more cells: they come first, so that no thread starts a long item last. */
static inline st_attn_whole st_attn_whole_of(const st_attn_plan *plan, int32_t whole) {
    const int32_t per_stream = plan->job.n_head_kv / plan->item_heads;
    const int32_t per_block = per_stream * plan->job.n_stream;
    const int32_t block = plan->n_block - 1 - whole / per_block;
    st_attn_whole w;
    w.stream = whole % per_block / per_stream;
    w.head_kv0 = whole % per_stream * plan->item_heads;
    w.token0 = block * plan->block_tokens;
    w.n_tokens = plan->job.n_tokens - w.token0 < plan->block_tokens ? plan->job.n_tokens - w.token0
                                                                    : plan->block_tokens;
    return w;
}

/* One over the sum, with the sink of the head, for values relative to the maximum `m`. 0 if the row sees nothing. */
float st_attn_factor(const st_attn_job *job, int32_t head, float m, float l);
/* Divide by the sum and store. */
void st_attn_write_row(const st_attn_job *job, int32_t stream, int32_t token, int32_t head, float m, float l,
                       const float *o);

/* Why a job cannot be computed here; NULL if it can. */
ST_API const char *st_attn_refuses(const st_attn_job *job);
ST_API void st_attn_plan_make(st_attn_plan *plan, const st_attn_job *job, int n_threads);
/* Bytes of scratch that one thread needs, and floats that all items together leave. */
size_t st_attn_scratch_bytes(const st_attn_plan *plan);
size_t st_attn_partial_floats(const st_attn_plan *plan);
/* Compute item `item` in thread `thread`. `partials` holds st_attn_partial_floats(plan). */
void st_attn_item(const st_attn_plan *plan, int32_t item, int thread, void *scratch, float *partials);
/* Join the chunks of one (stream, KV head, block); n_item / n_chunk of them. */
void st_attn_merge(const st_attn_plan *plan, int32_t whole, const float *partials);

/* A job that threads compute which are there already: one of them begins, then each does its part. */
typedef struct st_attn_work {
    const st_attn_plan *plan;
    char *scratch;
    size_t scratch_bytes;
    float *partials;
    int workers;           /* threads that have scratch */
    _Atomic int32_t *done; /* finished chunks of each whole */
    char line[64];         /* `next` is written by all: it has a cache line of its own */
    _Atomic int32_t next;
} st_attn_work;

/* Bytes that it needs with so many threads. */
size_t st_attn_bytes(const st_attn_plan *plan, int n_threads);
void st_attn_begin(st_attn_work *work, const st_attn_plan *plan, int n_threads, void *memory);
/* The part of one thread; threads that find nothing left return at once. */
void st_attn_part(st_attn_work *work, int thread);

/* Memory that is kept from one attention to the next. */
typedef struct st_attn_memory {
    char *base;
    size_t size;
} st_attn_memory;

/* At least `need` bytes; what was there is lost. False if there are none. */
bool st_attn_room(st_attn_memory *memory, size_t need);

/* The whole job with `n_threads` threads (team.h). False if memory ran out. */
ST_API bool st_attn_run(const st_attn_job *job, int n_threads, st_attn_memory *memory);

/* One set of functions per instruction set (attention_tile.h). */
typedef struct st_attn_kernel {
    bool integers;    /* the integer form is the faster one */
    int32_t few_rows; /* most rows that attention_few.h is faster with */
    size_t (*scratch_bytes)(const st_attn_plan *plan);
    void (*item)(const st_attn_plan *plan, int32_t item, void *scratch, float *partial, const st_attn_mass *mass);
} st_attn_kernel;

extern const st_attn_kernel st_attn_portable;
extern const st_attn_kernel st_attn_avx2;
extern const st_attn_kernel st_attn_avx512;
extern const st_attn_kernel st_attn_neon;

#endif
