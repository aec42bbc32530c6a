#include "attention_mass.h"

#include "team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_LAYER = 1024,
    BLOCK_QUERIES = 64,          /* queries of an item, about */
    SCORE_FLOATS = 1 << 20,      /* of an item: 4 MB, what a core's cache holds */
};

/* What was seen of one layer. */
typedef struct layer {
    int32_t n_head_kv, n_head, dk; /* 0: nothing yet */
    int64_t n_tokens;
    float *most, *sum; /* (KV head, cell) */
    float *q;          /* (token, head, dk) */
    int32_t n_q;
} layer;

typedef struct watched {
    int64_t context;
    int32_t n_cells, n_queries;
    const char *problem;
    layer layers[MAX_LAYER];
    char *scratch;
    size_t scratch_size;
    struct watched *next;
} watched;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static watched *all;
static _Atomic int n_watched;

static const st_mass_kernel *kernel(void) {
    switch (st_isa_active()) {
#if defined(__x86_64__)
    case ST_ISA_AVX512:
        return &st_mass_avx512;
    case ST_ISA_AVX2:
        return &st_mass_avx2;
#elif defined(__aarch64__)
    case ST_ISA_NEON:
        return &st_mass_neon;
#endif
    default:
        return &st_mass_portable;
    }
}

/* The list is short; the caller holds the lock. */
static watched *find(int64_t context) {
    for (watched *w = all; w != NULL; w = w->next) {
        if (w->context == context) {
            return w;
        }
    }
    return NULL;
}

static void free_watched(watched *w) {
    for (int i = 0; i < MAX_LAYER; i++) {
        free(w->layers[i].most);
        free(w->layers[i].sum);
        free(w->layers[i].q);
    }
    free(w->scratch);
    free(w);
}

bool st_mass_any(void) {
    return atomic_load_explicit(&n_watched, memory_order_relaxed) > 0;
}

void st_mass_stop(int64_t context) {
    pthread_mutex_lock(&lock);
    for (watched **at = &all; *at != NULL; at = &(*at)->next) {
        if ((*at)->context == context) {
            watched *gone = *at;
            *at = gone->next;
            free_watched(gone);
            atomic_fetch_sub(&n_watched, 1);
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

bool st_mass_start(int64_t context, int32_t n_cells, int32_t n_queries) {
    st_mass_stop(context);
    watched *w = calloc(1, sizeof *w);
    if (w == NULL || n_cells <= 0 || n_queries < 0) {
        free(w);
        return false;
    }
    w->context = context;
    w->n_cells = n_cells;
    w->n_queries = n_queries;
    pthread_mutex_lock(&lock);
    w->next = all;
    all = w;
    atomic_fetch_add(&n_watched, 1);
    pthread_mutex_unlock(&lock);
    return true;
}

/* ---------------------------------------------------------------- seeing */

static bool begin(watched *w, layer *l, const st_attn_job *job) {
    const size_t n = (size_t)job->n_head_kv * (size_t)w->n_cells;
    const size_t n_q = (size_t)w->n_queries * (size_t)job->n_head * (size_t)job->dk;
    if (l->n_head_kv == 0) {
        l->most = calloc(n, sizeof(float));
        l->sum = calloc(n, sizeof(float));
        l->q = n_q > 0 ? malloc(n_q * sizeof(float)) : NULL;
        if (l->most == NULL || l->sum == NULL || (n_q > 0 && l->q == NULL)) {
            return false;
        }
        l->n_head_kv = job->n_head_kv;
        l->n_head = job->n_head;
        l->dk = job->dk;
    }
    return l->n_head_kv == job->n_head_kv && l->n_head == job->n_head && l->dk == job->dk;
}

static void keep_queries(const watched *w, layer *l, const st_attn_job *job) {
    for (int32_t t = 0; t < job->n_tokens && l->n_q < w->n_queries; t++, l->n_q++) {
        for (int32_t h = 0; h < job->n_head; h++) {
            memcpy(l->q + ((size_t)l->n_q * (size_t)job->n_head + (size_t)h) * (size_t)job->dk,
                   job->q + (size_t)t * job->q_token + (size_t)h * job->q_head, (size_t)job->dk * sizeof(float));
        }
    }
}

typedef struct run {
    const st_mass_work *work;
    char *scratch;
    size_t scratch_bytes;
    float *sums; /* per thread: most, then sum */
    size_t n_sums;
    _Atomic int32_t next;
} run;

static void work_on(void *arg, int thread) {
    run *r = arg;
    float *mine = r->sums + 2 * (size_t)thread * r->n_sums;
    const st_mass_sums into = {mine, mine + r->n_sums};
    const int32_t n_item = r->work->n_block * r->work->job->n_head_kv;
    memset(mine, 0, 2 * r->n_sums * sizeof(float));
    for (;;) {
        const int32_t item = atomic_fetch_add(&r->next, 1);
        if (item >= n_item) {
            return;
        }
        kernel()->item(r->work, item, r->scratch + (size_t)thread * r->scratch_bytes, &into);
    }
}

static bool add_up(watched *w, layer *l, const st_attn_job *job, int n_threads) {
    const int32_t per = job->n_head / job->n_head_kv;
    int32_t queries = SCORE_FLOATS / job->n_cells;
    queries = queries > BLOCK_QUERIES ? BLOCK_QUERIES : queries;
    st_mass_work work = {job, w->n_cells, queries / per > 1 ? queries / per : 1, 0};
    work.block_tokens = work.block_tokens < job->n_tokens ? work.block_tokens : job->n_tokens;
    work.n_block = (job->n_tokens + work.block_tokens - 1) / work.block_tokens;
    const int32_t n_item = work.n_block * job->n_head_kv;
    n_threads = n_threads < n_item ? n_threads : n_item;
    const size_t n = (size_t)job->n_head_kv * (size_t)w->n_cells;
    const size_t scratch = kernel()->scratch_bytes(&work);
    const size_t need = (size_t)n_threads * (scratch + 2 * n * sizeof(float));
    if (need > w->scratch_size) {
        free(w->scratch);
        w->scratch = aligned_alloc(64, (need + 63) / 64 * 64);
        w->scratch_size = w->scratch != NULL ? need : 0;
        if (w->scratch == NULL) {
            return false;
        }
    }
    run r = {&work, w->scratch, scratch, (float *)(void *)(w->scratch + (size_t)n_threads * scratch), n, 0};
    st_team_run(n_threads, work_on, &r);
    for (int t = 0; t < n_threads; t++) {
        const float *most = r.sums + 2 * (size_t)t * n;
        for (size_t i = 0; i < n; i++) {
            l->most[i] = most[i] > l->most[i] ? most[i] : l->most[i];
            l->sum[i] += most[n + i];
        }
    }
    l->n_tokens += job->n_tokens;
    return true;
}

void st_mass_see(int64_t context, int32_t layer_number, const st_attn_job *job, int n_threads) {
    pthread_mutex_lock(&lock);
    watched *w = find(context);
    pthread_mutex_unlock(&lock);
    /* a context is not computed with and changed at once, so `w` stays */
    if (w == NULL || w->problem != NULL || layer_number < 0 || layer_number >= MAX_LAYER) {
        return;
    }
    layer *l = &w->layers[layer_number];
    if (job->n_stream != 1) {
        w->problem = "several sequences are computed at once";
    } else if (!begin(w, l, job) || !add_up(w, l, job, n_threads)) {
        w->problem = "there was no memory to add the attention up";
    } else {
        keep_queries(w, l, job);
    }
}

/* ---------------------------------------------------------------- what was seen */

static layer *seen(int64_t context, int32_t number) {
    pthread_mutex_lock(&lock);
    watched *w = find(context);
    pthread_mutex_unlock(&lock);
    if (w == NULL || number < 0 || number >= MAX_LAYER || w->layers[number].n_head_kv == 0) {
        return NULL;
    }
    return &w->layers[number];
}

const char *st_mass_problem(int64_t context) {
    pthread_mutex_lock(&lock);
    watched *w = find(context);
    pthread_mutex_unlock(&lock);
    return w != NULL ? w->problem : "this context is not watched";
}

bool st_mass_shape(int64_t context, int32_t number, int32_t *n_head_kv, int32_t *n_head, int32_t *dk,
                   int64_t *n_tokens) {
    const layer *l = seen(context, number);
    if (l == NULL) {
        return false;
    }
    *n_head_kv = l->n_head_kv;
    *n_head = l->n_head;
    *dk = l->dk;
    *n_tokens = l->n_tokens;
    return true;
}

bool st_mass_read(int64_t context, int32_t number, float *most, float *sum) {
    const layer *l = seen(context, number);
    if (l == NULL) {
        return false;
    }
    pthread_mutex_lock(&lock);
    const size_t n = (size_t)l->n_head_kv * (size_t)find(context)->n_cells;
    pthread_mutex_unlock(&lock);
    memcpy(most, l->most, n * sizeof(float));
    memcpy(sum, l->sum, n * sizeof(float));
    return true;
}

int32_t st_mass_queries(int64_t context, int32_t number, int32_t room, float *q) {
    const layer *l = seen(context, number);
    if (l == NULL || l->q == NULL) {
        return 0;
    }
    const int32_t n = l->n_q < room ? l->n_q : room;
    memcpy(q, l->q, (size_t)n * (size_t)l->n_head * (size_t)l->dk * sizeof(float));
    return n;
}
