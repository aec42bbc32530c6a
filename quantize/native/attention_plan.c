/* Cutting an attention into items, and joining what was cut. */
#include "attention.h"
#include "team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ITEMS_PER_THREAD = 4, /* so that a thread that was held up does not hold up the rest */
    MIN_CHUNK_TILES = 4, /* a chunk more is a result more to join */
    MASS_FLOATS = 1 << 21, /* probabilities that an item may keep: 8 MB */
    MASS_MIN_ROWS = 12,    /* that are multiplied at once */
};

static const st_attn_kernel *kernel(void) {
    switch (st_isa_active()) {
#if defined(__x86_64__)
    case ST_ISA_AVX512:
        return &st_attn_avx512;
    case ST_ISA_AVX2:
        return &st_attn_avx2;
#elif defined(__aarch64__)
    case ST_ISA_NEON:
        return &st_attn_neon;
#endif
    default:
        return &st_attn_portable;
    }
}

static st_attn_side side_of(const st_row_type *type, int32_t dim) {
    st_attn_side side = {type, false, dim, dim, 1};
    if (kernel()->integers && type->to_i8 != NULL && type->group % 32 == 0 && dim % type->group == 0) {
        side.integers = true;
        side.group = type->group;
        side.n_group = dim / type->group;
    }
    return side;
}

const char *st_attn_refuses(const st_attn_job *job) {
    if (job->type_k == NULL || job->type_v == NULL) {
        return "unknown row type";
    }
    if (job->dk % 16 != 0 || job->dv % 16 != 0 || job->dk <= 0 || job->dv <= 0 || job->dk > ST_ATTN_MAX_DIM ||
        job->dv > ST_ATTN_MAX_DIM) {
        return "head size";
    }
    if (job->dk % job->type_k->block != 0 || job->dv % job->type_v->block != 0) {
        return "head size is not a multiple of the block";
    }
    if (job->n_tokens <= 0 || job->n_cells <= 0 || job->n_head_kv <= 0 || job->n_stream <= 0 ||
        job->n_head % job->n_head_kv != 0) {
        return "shape";
    }
    return NULL;
}

/* The fewest tiles of a chunk: where there are few cells for many threads, so few that every thread has one. */
static int32_t chunk_least(int32_t n_tile, int n_threads) {
    const int32_t each = n_tile / n_threads;
    return each < 1 ? 1 : each < MIN_CHUNK_TILES ? each : MIN_CHUNK_TILES;
}

/* As many as leave work for all threads. */
static int32_t heads_of_item(const st_attn_plan *plan, int32_t n_tile, int n_threads) {
    const int32_t n_head_kv = plan->job.n_head_kv;
    const int32_t least = chunk_least(n_tile, n_threads);
    const int32_t chunks = (n_tile + least - 1) / least * plan->n_block * plan->job.n_stream;
    int32_t n = n_head_kv < ST_ATTN_HEADS ? n_head_kv : ST_ATTN_HEADS;
    while (n > 1 && (n_head_kv % n != 0 || n_head_kv / n * chunks < n_threads)) {
        n--;
    }
    return n;
}

/* Where probabilities are asked for, an item sees all cells, since they need the whole sum: instead of chunks of
 * cells, shorter blocks of tokens give every thread work. What an item keeps must stay near the core as well. */
static int32_t mass_block(const st_attn_job *job, int32_t block_tokens, int n_threads) {
    const int32_t per = job->n_head / job->n_head_kv;
    const int64_t cells = st_attn_mass_cells(job);
    while (block_tokens > 1 && block_tokens * per > MASS_MIN_ROWS &&
           (block_tokens * per * cells > MASS_FLOATS ||
            (job->n_tokens + block_tokens - 1) / block_tokens * job->n_head_kv < ITEMS_PER_THREAD * n_threads)) {
        block_tokens = (block_tokens + 1) / 2;
    }
    return block_tokens;
}

void st_attn_plan_make(st_attn_plan *plan, const st_attn_job *job, int n_threads) {
    memset(plan, 0, sizeof *plan);
    plan->job = *job;
    plan->k = side_of(job->type_k, job->dk);
    plan->v = side_of(job->type_v, job->dv);
    plan->f16 = st_row_type_find(GGML_F16);
    plan->heads_per_kv = job->n_head / job->n_head_kv;
    plan->block_tokens = ST_ATTN_ROWS / plan->heads_per_kv;
    if (plan->block_tokens < 1) {
        plan->block_tokens = 1;
    }
    if (plan->block_tokens > job->n_tokens) {
        plan->block_tokens = job->n_tokens;
    }
    if (job->mass != NULL) {
        plan->block_tokens = mass_block(job, plan->block_tokens, n_threads);
    }
    plan->n_block = (job->n_tokens + plan->block_tokens - 1) / plan->block_tokens;
    plan->max_rows = plan->block_tokens * plan->heads_per_kv;
    plan->few = plan->max_rows <= kernel()->few_rows;
    const int32_t n_tile = (job->n_cells + ST_ATTN_TILE - 1) / ST_ATTN_TILE;
    plan->item_heads = plan->few && job->mass == NULL ? heads_of_item(plan, n_tile, n_threads) : 1;
    const int32_t n_whole = plan->n_block * (job->n_head_kv / plan->item_heads) * job->n_stream;
    plan->chunk_tiles = n_tile;
    if (n_threads > 1 && n_whole < ITEMS_PER_THREAD * n_threads && job->mass == NULL) {
        const int32_t chunks = (ITEMS_PER_THREAD * n_threads + n_whole - 1) / n_whole;
        const int32_t tiles = (n_tile + chunks - 1) / chunks;
        const int32_t least = chunk_least(n_tile, n_threads);
        plan->chunk_tiles = tiles > least ? tiles : least;
    }
    plan->n_chunk = (n_tile + plan->chunk_tiles - 1) / plan->chunk_tiles;
    plan->n_item = n_whole * plan->n_chunk;
    if (plan->n_chunk > 1) {
        plan->partial_floats =
            (size_t)(plan->item_heads * plan->max_rows) * (size_t)(ST_ATTN_PARTIAL_HEAD + job->dv);
    }
}

size_t st_attn_scratch_bytes(const st_attn_plan *plan) {
    return kernel()->scratch_bytes(plan);
}

size_t st_attn_partial_floats(const st_attn_plan *plan) {
    return plan->partial_floats * (size_t)plan->n_item;
}

void st_attn_item(const st_attn_plan *plan, int32_t item, int thread, void *scratch, float *partials) {
    kernel()->item(plan, item, scratch, plan->n_chunk > 1 ? partials + (size_t)item * plan->partial_floats : NULL,
                   plan->job.mass != NULL ? plan->job.mass + thread : NULL);
}

/* A sink is one more score without a value: it takes part in the maximum and in the sum. */
float st_attn_factor(const st_attn_job *job, int32_t head, float m, float l) {
    float factor = 1.0f;
    if (job->sinks != NULL) {
        const float sink = job->sinks[head] * 1.4426950408889634f;
        if (sink > m) {
            factor = exp2f(m - sink);
            l = l * factor + 1.0f;
        } else {
            l += exp2f(sink - m);
        }
    }
    return l > 0.0f ? factor / l : 0.0f; /* a row that sees nothing is zero, as in ggml */
}

void st_attn_write_row(const st_attn_job *job, int32_t stream, int32_t token, int32_t head, float m, float l,
                       const float *o) {
    const float factor = st_attn_factor(job, head, m, l);
    float *out = job->out + (((size_t)stream * (size_t)job->n_tokens + (size_t)token) * (size_t)job->n_head +
                             (size_t)head) *
                                (size_t)job->dv;
    for (int32_t d = 0; d < job->dv; d++) {
        out[d] = o[d] * factor;
    }
}

void st_attn_merge(const st_attn_plan *plan, int32_t whole, const float *partials) {
    const st_attn_job *job = &plan->job;
    const st_attn_whole w = st_attn_whole_of(plan, whole);
    const int32_t per = plan->heads_per_kv;
    const int32_t rows = w.n_tokens * per;
    for (int32_t i = 0; i < plan->item_heads * rows; i++) {
        const int32_t head_kv = w.head_kv0 + i / rows;
        const int32_t r = i % rows;
        float o[ST_ATTN_MAX_DIM];
        float m = -INFINITY;
        float l = 0.0f;
        memset(o, 0, (size_t)job->dv * sizeof(float));
        for (int32_t c = 0; c < plan->n_chunk; c++) {
            const float *p = partials + ((size_t)whole * (size_t)plan->n_chunk + (size_t)c) * plan->partial_floats +
                             (size_t)(i / rows * plan->max_rows + r) * (size_t)(ST_ATTN_PARTIAL_HEAD + job->dv);
            if (p[0] == -INFINITY) {
                continue;
            }
            const bool higher = p[0] > m;
            const float ratio = exp2f(higher ? m - p[0] : p[0] - m);
            const float alpha = higher ? ratio : 1.0f;
            const float f = higher ? 1.0f : ratio;
            m = higher ? p[0] : m;
            l = l * alpha + p[1] * f;
            for (int32_t d = 0; d < job->dv; d++) {
                o[d] = o[d] * alpha + p[ST_ATTN_PARTIAL_HEAD + d] * f;
            }
        }
        st_attn_write_row(job, w.stream, w.token0 + r / per, head_kv * per + r % per, m, l, o);
    }
}

/* ---------------------------------------------------------------- with threads */

static int workers_of(const st_attn_plan *plan, int n_threads) {
    return n_threads < plan->n_item ? n_threads : plan->n_item;
}

static size_t whole_pages(size_t bytes) {
    return (bytes + 4095) / 4096 * 4096;
}

static size_t partial_bytes(const st_attn_plan *plan) {
    return (st_attn_partial_floats(plan) * sizeof(float) + 63) / 64 * 64;
}

static size_t done_bytes(const st_attn_plan *plan) {
    return plan->n_chunk > 1 ? (size_t)(plan->n_item / plan->n_chunk) * sizeof(int32_t) : 0;
}

size_t st_attn_bytes(const st_attn_plan *plan, int n_threads) {
    return whole_pages(st_attn_scratch_bytes(plan)) * (size_t)workers_of(plan, n_threads) + partial_bytes(plan) +
           done_bytes(plan);
}

void st_attn_begin(st_attn_work *work, const st_attn_plan *plan, int n_threads, void *memory) {
    work->plan = plan;
    work->workers = workers_of(plan, n_threads);
    work->scratch = memory;
    work->scratch_bytes = whole_pages(st_attn_scratch_bytes(plan));
    char *behind = work->scratch + work->scratch_bytes * (size_t)work->workers;
    work->partials = (float *)(void *)behind;
    work->done = (_Atomic int32_t *)(void *)(behind + partial_bytes(plan));
    memset((void *)work->done, 0, done_bytes(plan));
    atomic_store_explicit(&work->next, 0, memory_order_relaxed); /* the threads are waited for before they begin */
}

void st_attn_part(st_attn_work *work, int thread) {
    const st_attn_plan *plan = work->plan;
    if (thread >= work->workers) {
        return;
    }
    void *scratch = work->scratch + (size_t)thread * work->scratch_bytes;
    for (;;) {
        const int32_t item = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed);
        if (item >= plan->n_item) {
            return;
        }
        st_attn_item(plan, item, thread, scratch, work->partials);
        if (plan->n_chunk > 1 && atomic_fetch_add(&work->done[item / plan->n_chunk], 1) + 1 == plan->n_chunk) {
            st_attn_merge(plan, item / plan->n_chunk, work->partials);
        }
    }
}

static void part(void *work, int thread) {
    st_attn_part(work, thread);
}

bool st_attn_run(const st_attn_job *job, int n_threads, st_attn_memory *memory) {
    st_attn_plan plan;
    st_attn_plan_make(&plan, job, n_threads);
    if (!st_attn_room(memory, st_attn_bytes(&plan, n_threads))) {
        return false;
    }
    st_attn_work work;
    st_attn_begin(&work, &plan, n_threads, memory->base);
    st_team_each(n_threads, work.workers, part, &work);
    return true;
}

bool st_attn_room(st_attn_memory *memory, size_t need) {
    if (need > memory->size) {
        free(memory->base);
        memory->base = aligned_alloc(4096, whole_pages(need));
        memory->size = memory->base != NULL ? need : 0;
    }
    return need <= memory->size;
}
