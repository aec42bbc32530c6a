#include "attention_mass.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LAYER = 1024 };

/* What was seen of one layer. */
typedef struct layer {
    int32_t n_head_kv, n_head, dk; /* 0: nothing yet */
    int64_t n_tokens;
    float scale;
    float *most, *sum; /* (KV head, cell) */
    float *q;          /* (token, head, dk) */
    int32_t n_q;
} layer;

typedef struct watched {
    int64_t context;
    int32_t n_cells, n_queries;
    const char *problem;
    layer layers[MAX_LAYER];
    st_attn_mass *mass; /* per thread */
    float *sums;        /* that it points to */
    size_t n_sums;
    int n_threads;
    struct watched *next;
} watched;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static watched *all;
static _Atomic int n_watched;

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
    free(w->mass);
    free(w->sums);
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
        l->scale = job->scale;
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

/* Room for every thread, all zero. */
static bool clear_sums(watched *w, size_t n, int n_threads) {
    if (n_threads > w->n_threads) {
        free(w->mass);
        w->mass = malloc((size_t)n_threads * sizeof *w->mass);
        w->n_threads = w->mass != NULL ? n_threads : 0;
    }
    const size_t need = 2 * n * (size_t)n_threads;
    if (need > w->n_sums) {
        free(w->sums);
        w->sums = malloc(need * sizeof(float));
        w->n_sums = w->sums != NULL ? need : 0;
    }
    if (w->mass == NULL || w->sums == NULL) {
        return false;
    }
    memset(w->sums, 0, need * sizeof(float));
    for (int t = 0; t < n_threads; t++) {
        w->mass[t].most = w->sums + 2 * n * (size_t)t;
        w->mass[t].sum = w->mass[t].most + n;
    }
    return true;
}

/* What the threads added up joins what was seen before. */
static void add_up(const watched *w, layer *l, const st_attn_job *job, int n_threads) {
    const size_t stride = (size_t)st_attn_mass_cells(job);
    for (int t = 0; t < n_threads; t++) {
        for (int32_t h = 0; h < job->n_head_kv; h++) {
            const float *most = w->mass[t].most + (size_t)h * stride;
            const float *sum = w->mass[t].sum + (size_t)h * stride;
            float *all_most = l->most + (size_t)h * (size_t)w->n_cells;
            float *all_sum = l->sum + (size_t)h * (size_t)w->n_cells;
            for (int32_t c = 0; c < w->n_cells; c++) {
                all_most[c] = most[c] > all_most[c] ? most[c] : all_most[c];
                all_sum[c] += sum[c];
            }
        }
    }
    l->n_tokens += job->n_tokens;
}

void st_mass_fail(struct watched *w) {
    w->problem = "there was no memory to add the attention up";
}

struct watched *st_mass_begin(int64_t context, int32_t layer_number, st_attn_job *job, int n_threads) {
    pthread_mutex_lock(&lock);
    watched *w = find(context);
    pthread_mutex_unlock(&lock);
    /* a context is not computed with and changed at once, so `w` stays */
    if (w == NULL || w->problem != NULL || layer_number < 0 || layer_number >= MAX_LAYER) {
        return NULL;
    }
    if (job->n_stream != 1) {
        w->problem = "several sequences are computed at once";
        return NULL;
    }
    const size_t n = (size_t)st_attn_whole_tiles(w->n_cells) * (size_t)job->n_head_kv;
    if (!begin(w, &w->layers[layer_number], job) || !clear_sums(w, n, n_threads)) {
        st_mass_fail(w);
        return NULL;
    }
    job->mass = w->mass;
    job->mass_cells = w->n_cells;
    return w;
}

void st_mass_end(struct watched *w, int32_t layer_number, const st_attn_job *job, int n_threads) {
    layer *l = &w->layers[layer_number];
    add_up(w, l, job, n_threads);
    keep_queries(w, l, job);
}

bool st_mass_run(int64_t context, int32_t layer, const st_attn_job *job, int n_threads, st_attn_memory *memory) {
    st_attn_job seen = *job;
    watched *w = st_mass_begin(context, layer, &seen, n_threads);
    if (!st_attn_run(&seen, n_threads, memory)) {
        return false;
    }
    if (w != NULL) {
        st_mass_end(w, layer, &seen, n_threads);
    }
    return true;
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

float st_mass_scale(int64_t context, int32_t number) {
    const layer *l = seen(context, number);
    return l != NULL ? l->scale : 0;
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
