#include "device_ops.h"

#include "rope_node.h"
#include "team.h"

#include <stdlib.h>
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

static bool room_for(st_room *room, size_t n) {
    if (room->n < n) {
        free(room->values);
        room->values = malloc(n * sizeof(float));
        room->n = room->values != NULL ? n : 0;
    }
    return room->n >= n;
}

/* The positions of the rows that a node writes. The first layer of a group is asked, the others use what it told
 * (places.h). */
static const int32_t *positions_of(const struct ggml_tensor *op, const st_centre_layer *l, st_centred *centred,
                                   const st_cache *cache) {
    const int64_t n = op->src[0]->ne[1];
    const int64_t *index = op->src[1]->data;
    const int32_t cells = cache->n_cells * cache->n_stream;
    if (l->leads) {
        st_rope_params rope;
        if (!st_rope_of_node(op, &rope) || rope.positions == NULL || rope.positions->ne[0] < n ||
            !st_places_find(centred->places, l->group, cache->data, cache->row_bytes, cache->n_cells, cache->n_stream) ||
            !st_places_write(centred->places, l->group, cells, index, rope.positions->data, (int32_t)n)) {
            return NULL;
        }
    }
    const int32_t *all = st_places_of(centred->places, l->group);
    if (all == NULL || !room_for(&centred->room, (size_t)n * (size_t)(op->src[0]->ne[0] + 1))) {
        return NULL;
    }
    int32_t *positions = (int32_t *)(void *)(centred->room.values + n * op->src[0]->ne[0]);
    for (int64_t i = 0; i < n; i++) {
        positions[i] = all[index[i]];
    }
    return positions;
}

bool st_write_begin(const struct ggml_tensor *op, st_centred *centred, st_writing *writing) {
    st_cache cache;
    memset(writing, 0, sizeof *writing);
    const st_centre_layer *l = st_centre_written(op, centred);
    if (l == NULL) {
        return true;
    }
    const int32_t *positions = cache_of(op->view_src, &cache) ? positions_of(op, l, centred, &cache) : NULL;
    if (positions == NULL) {
        return false;
    }
    writing->centre = l;
    writing->positions = positions;
    writing->centred = centred->room.values;
    return true;
}

void st_write_part(const struct ggml_tensor *op, const st_writing *writing, int thread, int n) {
    const struct ggml_tensor *rows = op->src[0];
    const st_row_type *type = st_row_type_find(op->type);
    const int64_t *index = op->src[1]->data;
    const int64_t each = (rows->ne[1] + n - 1) / n;
    const int64_t end = (thread + 1) * each < rows->ne[1] ? (thread + 1) * each : rows->ne[1];
    for (int64_t i = thread * each; i < end; i++) {
        const float *row = (const float *)(const void *)((const char *)rows->data + (size_t)i * rows->nb[1]);
        if (writing->centre != NULL) {
            float *centred = writing->centred + i * rows->ne[0];
            memcpy(centred, row, (size_t)rows->ne[0] * sizeof(float));
            st_centre_row(writing->centre, centred, writing->positions[i], false);
            row = centred;
        }
        type->from_f32(row, (char *)op->data + (size_t)index[i] * op->nb[1], rows->ne[0]);
    }
}

void st_keep_rows(const struct ggml_tensor *op, const st_writing *writing, st_tail *tail) {
    const struct ggml_tensor *rows = op->src[0];
    st_cache cache;
    if (cache_of(op->view_src, &cache)) {
        const bool centred = writing->centre != NULL;
        st_tail_write(tail, &cache, centred ? (const char *)writing->centred : rows->data,
                      centred ? (size_t)rows->ne[0] * sizeof(float) : rows->nb[1], op->src[1]->data,
                      (int32_t)rows->ne[1]);
    }
}

enum { ROWS_AT_ONCE = 16 };

typedef struct write_call {
    const struct ggml_tensor *op;
    st_writing writing;
    int n_parts;
} write_call;

static void write_some(void *arg, int part) {
    const write_call *c = arg;
    st_write_part(c->op, &c->writing, part, c->n_parts);
}

bool st_write_cache(const struct ggml_tensor *op, int n_threads, st_tail *tail, st_centred *centred) {
    write_call call = {op, {NULL, NULL, NULL}, (int)((op->src[0]->ne[1] + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE)};
    if (!st_write_begin(op, centred, &call.writing)) {
        return false;
    }
    st_team_each(n_threads, call.n_parts, write_some, &call);
    if (tail != NULL) {
        st_keep_rows(op, &call.writing, tail);
    }
    return true;
}

/* ---------------------------------------------------------------- the constant of K */

static const st_centre_layer *layer_of(const struct ggml_tensor *cache, const st_centred *centred) {
    st_cache_id id;
    return centred->centring != NULL && cache != NULL && st_cache_id_of(cache->name, &id) && !id.value
               ? st_centring_find(centred->centring, id.layer)
               : NULL;
}

const st_centre_layer *st_centre_written(const struct ggml_tensor *op, const st_centred *centred) {
    return layer_of(op->view_src, centred);
}

const st_centre_layer *st_centre_read(const struct ggml_tensor *op, const st_centred *centred) {
    return layer_of(op->src[1]->view_src, centred);
}

bool st_show_centre(const struct ggml_tensor *op, st_attn_job *job, st_centred *centred) {
    const st_centre_layer *l = st_centre_read(op, centred);
    if (l == NULL) {
        return true;
    }
    st_cache cache;
    if (!cache_of(op->src[1]->view_src, &cache) || l->n_head_kv != job->n_head_kv || l->head_dim != job->dk) {
        return false;
    }
    if (l->leads &&
        !st_places_find(centred->places, l->group, cache.data, cache.row_bytes, cache.n_cells, cache.n_stream)) {
        return false;
    }
    const int32_t *positions = st_places_of(centred->places, l->group);
    const size_t stream = (size_t)((const char *)op->src[1]->data - cache.data) / cache.row_bytes;
    if (positions == NULL) {
        return false;
    }
    job->positions = positions + stream;
    job->positions_stream = (size_t)cache.n_cells;
    job->centre = l;
    job->lost = &centred->lost;
    return true;
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
