/* Rotary positions as the engine's graph has them: see rope_node.h. */
#include "rope_node.h"

#include "tail.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* Nodes between a ROPE node and the cache; there are five where llama.cpp rotates a quantized cache. */
enum { MOST_STEPS = 16, MOST_VISITS = 64 };

/* ---------------------------------------------------------------- the way back */

static int64_t n_values(const struct ggml_tensor *t) {
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

/* The matrix of a Hadamard rotation is an input that llama.cpp fills; any other matrix here is a weight. */
static bool is_hadamard(const struct ggml_tensor *mul_mat) {
    const struct ggml_tensor *m = mul_mat->src[0];
    return m != NULL && m->op == GGML_OP_NONE && (m->flags & GGML_TENSOR_FLAG_INPUT) != 0 && m->type == GGML_F32 &&
           m->ne[0] == m->ne[1] && m->ne[2] == 1 && m->ne[3] == 1 && (m->ne[0] & (m->ne[0] - 1)) == 0;
}

/* Whether K comes out of a ROPE node at all. A projection is where K begins: nothing behind it matters. */
static bool turns_somewhere(const struct ggml_tensor *t, int *visits) {
    if (t == NULL || --*visits < 0 || t->op == GGML_OP_NONE || t->op == GGML_OP_MUL_MAT_ID ||
        (t->op == GGML_OP_MUL_MAT && !is_hadamard(t))) {
        return false;
    }
    if (t->op == GGML_OP_ROPE) {
        return true;
    }
    for (size_t i = 0; i < sizeof t->src / sizeof t->src[0]; i++) {
        if (turns_somewhere(t->src[i], visits)) {
            return true;
        }
    }
    return false;
}

static float param(const struct ggml_tensor *op, int i) {
    float x;
    memcpy(&x, &op->op_params[i], sizeof x);
    return x;
}

/* The order of the numbers is that of ggml_rope_impl() in ggml.c. */
static bool read_rope(const struct ggml_tensor *rope, st_rope_params *out) {
    const struct ggml_tensor *positions = rope->src[1];
    const struct ggml_tensor *factors = rope->src[2];
    if (positions == NULL || positions->type != GGML_I32) {
        return false;
    }
    out->n_dims = rope->op_params[1];
    out->mode = rope->op_params[2];
    out->n_ctx_orig = rope->op_params[4];
    out->freq_base = param(rope, 5);
    out->freq_scale = param(rope, 6);
    out->ext_factor = param(rope, 7);
    out->attn_factor = param(rope, 8);
    out->beta_fast = param(rope, 9);
    out->beta_slow = param(rope, 10);
    memcpy(out->sections, &rope->op_params[11], sizeof out->sections);
    out->offset = rope->op_params[15];
    out->head_dim = (int32_t)rope->ne[0];
    out->positions = positions;
    if (factors != NULL) {
        /* weights only: what the graph computes cannot be read between two computations */
        if (factors->type != GGML_F32 || factors->op != GGML_OP_NONE || factors->nb[0] != sizeof(float) ||
            factors->ne[0] < out->n_dims / 2) {
            return false;
        }
        out->factors = factors;
        out->n_factors = out->n_dims / 2;
    }
    return out->n_dims > 0 && out->n_dims % 2 == 0 && out->offset >= 0 && out->offset % 2 == 0 &&
           out->offset + out->n_dims <= out->head_dim;
}

static void find(const struct ggml_tensor *from, st_rope_params *out) {
    const struct ggml_tensor *t = from;
    int64_t normed = 0; /* values of the rows that a norm on the way took, 0 for none */
    for (int step = 0; t != NULL && step < MOST_STEPS; step++) {
        switch (t->op) {
        case GGML_OP_ROPE:
            if (read_rope(t, out) && (normed == 0 || normed == out->head_dim)) {
                out->kind = ST_ROPE_KNOWN;
                return;
            }
            memset(out, 0, sizeof *out);
            out->kind = ST_ROPE_UNKNOWN;
            return;
        case GGML_OP_VIEW: /* of everything: a part may begin anywhere in a head */
        case GGML_OP_RESHAPE:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
        case GGML_OP_CONT:
        case GGML_OP_CPY:
            if (t->src[0] == NULL || n_values(t->src[0]) != n_values(t)) {
                goto stopped;
            }
            break;
        case GGML_OP_SCALE: /* of all values alike; what is added would not turn */
            if (param(t, 1) != 0.0f) {
                goto stopped;
            }
            break;
        case GGML_OP_RMS_NORM: /* one factor per head: Llama 4 norms K after it was turned */
            normed = t->ne[0];
            break;
        case GGML_OP_MUL_MAT:
            if (!is_hadamard(t) || out->hadamard != 0) {
                goto stopped;
            }
            out->hadamard = (int32_t)t->src[0]->ne[0];
            t = t->src[1];
            continue;
        default:
            goto stopped;
        }
        t = t->src[0];
    }
stopped:
    memset(out, 0, sizeof *out);
    int visits = MOST_VISITS;
    out->kind = turns_somewhere(t, &visits) || visits < 0 ? ST_ROPE_UNKNOWN : ST_ROPE_NONE;
}

static bool layer_of(const struct ggml_tensor *set_rows, int32_t *layer) {
    st_cache_id id;
    if (set_rows->op != GGML_OP_SET_ROWS || set_rows->view_src == NULL ||
        !st_cache_id_of(set_rows->view_src->name, &id) || id.value) {
        return false;
    }
    *layer = id.layer;
    return true;
}

bool st_rope_of_node(const struct ggml_tensor *set_rows, st_rope_params *out) {
    int32_t layer;
    memset(out, 0, sizeof *out);
    if (!layer_of(set_rows, &layer)) {
        return false;
    }
    find(set_rows->src[0], out);
    return true;
}

/* ---------------------------------------------------------------- what contexts showed */

enum { MOST_LAYERS = 1024 }; /* LLAMA_MAX_LAYERS is 512 */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool recording;
static struct {
    bool there;
    st_rope_params params;
} records[MOST_LAYERS];

void st_rope_show(const struct ggml_tensor *set_rows) {
    int32_t layer;
    st_rope_params params;
    if (!atomic_load_explicit(&recording, memory_order_relaxed) || !layer_of(set_rows, &layer) || layer < 0 ||
        layer >= MOST_LAYERS || !st_rope_of_node(set_rows, &params)) {
        return;
    }
    params.positions = NULL; /* it goes with its graph; the factors are a weight */
    pthread_mutex_lock(&lock);
    records[layer].there = true;
    records[layer].params = params;
    pthread_mutex_unlock(&lock);
}

void st_rope_record(void) {
    pthread_mutex_lock(&lock);
    memset(records, 0, sizeof records);
    pthread_mutex_unlock(&lock);
    atomic_store(&recording, true);
}

void st_rope_stop(void) {
    atomic_store(&recording, false);
}

bool st_rope_recorded(int32_t layer, st_rope_params *out) {
    if (layer < 0 || layer >= MOST_LAYERS) {
        return false;
    }
    pthread_mutex_lock(&lock);
    const bool there = records[layer].there;
    *out = records[layer].params;
    pthread_mutex_unlock(&lock);
    return there;
}
