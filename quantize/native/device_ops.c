#include "device_ops.h"

#include "team.h"

#include <string.h>

static float param(const struct ggml_tensor *op, int i) {
    float x;
    memcpy(&x, &op->op_params[i], sizeof x);
    return x;
}

static bool fits(int64_t n) {
    return n > 0 && n < INT32_MAX;
}

bool st_attention_of(const struct ggml_tensor *op, st_attn_job *job) {
    const struct ggml_tensor *q = op->src[0];
    const struct ggml_tensor *k = op->src[1];
    const struct ggml_tensor *v = op->src[2];
    const struct ggml_tensor *mask = op->src[3];
    const struct ggml_tensor *sinks = op->src[4];
    memset(job, 0, sizeof *job);
    job->type_k = st_row_type_find(k->type);
    job->type_v = st_row_type_find(v->type);
    for (int i = 0; i < 4; i++) {
        if (!fits(q->ne[i]) || !fits(k->ne[i]) || !fits(v->ne[i])) {
            return false;
        }
    }
    if (job->type_k == NULL || job->type_v == NULL || q->type != GGML_F32 || op->type != GGML_F32 ||
        q->nb[0] != sizeof(float) || k->nb[0] != (size_t)job->type_k->type_size ||
        v->nb[0] != (size_t)job->type_v->type_size || op->nb[0] != sizeof(float) || k->ne[0] != q->ne[0] ||
        k->ne[1] != v->ne[1] || k->ne[2] != v->ne[2] || k->ne[3] != q->ne[3] || v->ne[3] != q->ne[3]) {
        return false;
    }
    /* the result is contiguous, (value, head, token, stream) */
    if (op->ne[0] != v->ne[0] || op->ne[1] != q->ne[2] || op->ne[2] != q->ne[1] || op->ne[3] != q->ne[3] ||
        op->nb[1] != op->nb[0] * (size_t)op->ne[0] || op->nb[2] != op->nb[1] * (size_t)op->ne[1] ||
        op->nb[3] != op->nb[2] * (size_t)op->ne[2]) {
        return false;
    }
    if (param(op, 1) != 0.0f) { /* ALiBi */
        return false;
    }
    if (sinks != NULL && (sinks->type != GGML_F32 || sinks->ne[0] != q->ne[2] || sinks->nb[0] != sizeof(float))) {
        return false;
    }
    if (mask != NULL) {
        if (mask->type != GGML_F16 || mask->nb[0] != 2 || mask->ne[0] < k->ne[1] || mask->ne[1] < q->ne[1]) {
            return false;
        }
        job->mask = mask->data;
        job->mask_token = mask->nb[1];
        job->mask_head = mask->nb[2];
        job->mask_stream = mask->nb[3];
        job->mask_heads = (int32_t)mask->ne[2];
        job->mask_streams = (int32_t)mask->ne[3];
    }
    job->dk = (int32_t)q->ne[0];
    job->dv = (int32_t)v->ne[0];
    job->n_tokens = (int32_t)q->ne[1];
    job->n_cells = (int32_t)k->ne[1];
    job->n_head = (int32_t)q->ne[2];
    job->n_head_kv = (int32_t)k->ne[2];
    job->n_stream = (int32_t)q->ne[3];
    job->q = q->data;
    job->k = k->data;
    job->v = v->data;
    job->q_token = q->nb[1];
    job->q_head = q->nb[2];
    job->q_stream = q->nb[3];
    job->k_cell = k->nb[1];
    job->k_head = k->nb[2];
    job->k_stream = k->nb[3];
    job->v_cell = v->nb[1];
    job->v_head = v->nb[2];
    job->v_stream = v->nb[3];
    job->scale = param(op, 0);
    job->softcap = param(op, 2);
    job->sinks = sinks != NULL ? sinks->data : NULL;
    job->out = op->data;
    return st_attn_refuses(job) == NULL;
}

int32_t st_layer_of(const struct ggml_tensor *op) {
    st_cache_id id;
    const struct ggml_tensor *k = op->src[1]->view_src;
    return k != NULL && st_cache_id_of(k->name, &id) && !id.value ? id.layer : -1;
}

/* ---------------------------------------------------------------- writing the cache */

bool st_writes_cache(const struct ggml_tensor *op) {
    const struct ggml_tensor *rows = op->src[0];
    const struct ggml_tensor *index = op->src[1];
    st_cache_id id;
    const st_row_type *type = st_row_type_find(op->type);
    return op->op == GGML_OP_SET_ROWS && op->view_src != NULL && st_cache_id_of(op->view_src->name, &id) &&
           type != NULL && type->from_f32 != NULL && rows->type == GGML_F32 && rows->nb[0] == sizeof(float) &&
           index->type == GGML_I64 && index->nb[0] == sizeof(int64_t) && op->ne[0] > 1 && op->ne[0] == rows->ne[0] &&
           op->ne[0] % type->block == 0 && op->ne[2] == 1 && op->ne[3] == 1 && rows->ne[2] == 1 &&
           rows->ne[3] == 1 && index->ne[0] == rows->ne[1] && fits(rows->ne[0]) && fits(rows->ne[1]) &&
           op->nb[1] == st_row_size(type, op->ne[0]);
}

/* The cache that `base` is; false if its rows are not what an attention over heads of `type` reads. */
static bool cache_of(const struct ggml_tensor *base, st_cache *cache) {
    const st_row_type *type = base != NULL ? st_row_type_find(base->type) : NULL;
    if (type == NULL || !st_cache_id_of(base->name, &cache->id) || !fits(base->ne[0]) || !fits(base->ne[1]) ||
        !fits(base->ne[2]) || !fits(base->ne[1] * base->ne[2]) || base->ne[3] != 1) {
        return false;
    }
    cache->data = base->data;
    cache->n_values = (int32_t)base->ne[0];
    cache->row_bytes = st_row_size(type, base->ne[0]);
    cache->n_cells = (int32_t)base->ne[1];
    cache->n_stream = (int32_t)base->ne[2];
    return base->nb[1] == cache->row_bytes && base->nb[2] == cache->row_bytes * (size_t)cache->n_cells;
}

enum { ROWS_AT_ONCE = 16 };

typedef struct writing {
    const struct ggml_tensor *op;
    const st_row_type *type;
} writing;

static void write_some(void *arg, int part) {
    const writing *w = arg;
    const struct ggml_tensor *rows = w->op->src[0];
    const int64_t *index = w->op->src[1]->data;
    const int64_t end = (part + 1) * ROWS_AT_ONCE < rows->ne[1] ? (part + 1) * ROWS_AT_ONCE : rows->ne[1];
    for (int64_t i = part * ROWS_AT_ONCE; i < end; i++) {
        w->type->from_f32((const float *)(const void *)((const char *)rows->data + (size_t)i * rows->nb[1]),
                          (char *)w->op->data + (size_t)index[i] * w->op->nb[1], rows->ne[0]);
    }
}

void st_write_cache(const struct ggml_tensor *op, int n_threads, st_tail *tail) {
    const struct ggml_tensor *rows = op->src[0];
    writing w = {op, st_row_type_find(op->type)};
    const int parts = (int)((rows->ne[1] + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE);
    st_team_each(n_threads, parts, write_some, &w);
    st_cache cache;
    if (tail != NULL && cache_of(op->view_src, &cache)) {
        st_tail_write(tail, &cache, rows->data, rows->nb[1], op->src[1]->data, (int32_t)rows->ne[1]);
    }
}

void st_write_part(const struct ggml_tensor *op, int thread, int n) {
    const struct ggml_tensor *rows = op->src[0];
    const st_row_type *type = st_row_type_find(op->type);
    const int64_t *index = op->src[1]->data;
    const int64_t each = (rows->ne[1] + n - 1) / n;
    const int64_t end = (thread + 1) * each < rows->ne[1] ? (thread + 1) * each : rows->ne[1];
    for (int64_t i = thread * each; i < end; i++) {
        type->from_f32((const float *)(const void *)((const char *)rows->data + (size_t)i * rows->nb[1]),
                       (char *)op->data + (size_t)index[i] * op->nb[1], rows->ne[0]);
    }
}

void st_keep_rows(const struct ggml_tensor *op, st_tail *tail) {
    const struct ggml_tensor *rows = op->src[0];
    st_cache cache;
    if (cache_of(op->view_src, &cache)) {
        st_tail_write(tail, &cache, rows->data, rows->nb[1], op->src[1]->data, (int32_t)rows->ne[1]);
    }
}

/* ---------------------------------------------------------------- reading it exactly */

/* The exact rows of one side of an attention. `tensor` is the view of the cache that it reads. */
static const st_exact *exact_of(st_tail *tail, const struct ggml_tensor *tensor, size_t head, const st_attn_job *job) {
    st_cache cache;
    const struct ggml_tensor *base = tensor->view_src;
    if (!cache_of(base, &cache)) {
        return NULL;
    }
    /* one head may read the beginning of a row only (V of models with latent attention is a part of K) */
    const bool heads = tensor->ne[2] == 1 ? head <= cache.row_bytes
                                          : tensor->nb[2] == head && head * (size_t)tensor->ne[2] == cache.row_bytes;
    if (base->type != tensor->type || tensor->nb[1] != cache.row_bytes || !heads ||
        (tensor->ne[3] > 1 && tensor->nb[3] != cache.row_bytes * (size_t)cache.n_cells)) {
        return NULL;
    }
    const size_t at = (size_t)((const char *)tensor->data - cache.data);
    const size_t stream_bytes = cache.row_bytes * (size_t)cache.n_cells;
    if (at % stream_bytes != 0 || tensor->ne[1] > cache.n_cells) {
        return NULL;
    }
    return st_tail_view(tail, &cache, (int32_t)(at / stream_bytes), job->n_stream, job->n_cells, job->n_tokens);
}

void st_show_tail(const struct ggml_tensor *op, st_attn_job *job, st_tail *tail) {
    job->exact_k = exact_of(tail, op->src[1], st_row_size(job->type_k, job->dk), job);
    job->exact_v = exact_of(tail, op->src[2], st_row_size(job->type_v, job->dv), job);
    job->exact_window = st_tail_window(tail);
}
