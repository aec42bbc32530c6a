/* The ggml backend device that takes attention over caches in host memory.
 *
 * llama.cpp adds the backend of every registered device of type ACCEL before the CPU backend, and ggml's
 * scheduler gives it each node that supports_op() accepts and whose buffers supports_buft() accepts. Both
 * backends use the same host buffers, so nothing is copied between them. Whatever is refused here runs as
 * if the device did not exist. */
#include "device.h"

#include "attention.h"
#include "team.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static st_device_ggml ggml;
static _Atomic bool active;
static _Atomic int64_t n_attention, n_set_rows;

const char *const *st_device_symbols(void) {
    static const char *const symbols[] = {
        "ggml_backend_register",
        "ggml_backend_cpu_buffer_type",
        "ggml_backend_buft_is_host",
        "ggml_backend_dev_by_type",
        "ggml_backend_dev_name",
        "ggml_backend_dev_backend_reg",
        "ggml_backend_dev_init",
        "ggml_backend_graph_compute",
        "ggml_backend_free",
        "ggml_backend_alloc_ctx_tensors_from_buft",
        "ggml_backend_buffer_free",
        "ggml_init",
        "ggml_free",
        "ggml_new_tensor_4d",
        "ggml_permute",
        "ggml_flash_attn_ext",
        "ggml_set_rows",
        "ggml_new_graph",
        "ggml_build_forward_expand",
        "ggml_tensor_overhead",
        "ggml_op_name",
        NULL,
    };
    return symbols;
}

const st_device_ggml *st_device_ggml_api(void) {
    return &ggml;
}

/* ---------------------------------------------------------------- operations */

static float param(const struct ggml_tensor *op, int i) {
    float x;
    memcpy(&x, &op->op_params[i], sizeof x);
    return x;
}

static bool fits(int64_t n) {
    return n > 0 && n < INT32_MAX;
}

/* A FLASH_ATTN_EXT node as a job; false if it is not one for this device. */
static bool job_of(const struct ggml_tensor *op, st_attn_job *job) {
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

/* ---------------------------------------------------------------- a backend (one per context) */

typedef struct backend {
    struct ggml_backend base;
    int n_threads;
    st_attn_memory memory;
} backend;

static const char *get_name(ggml_backend_t b) {
    (void)b;
    return "STRETCH";
}

static void free_backend(ggml_backend_t b) {
    backend *self = b->context;
    free(self->memory.base);
    free(self);
}

static int graph_compute(ggml_backend_t b, struct ggml_cgraph *graph) {
    backend *self = b->context;
    for (int i = 0; i < graph->n_nodes; i++) {
        const struct ggml_tensor *node = graph->nodes[i];
        if ((node->flags & GGML_TENSOR_FLAG_COMPUTE) == 0) {
            continue;
        }
        st_attn_job job;
        switch (node->op) {
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
            break;
        case GGML_OP_FLASH_ATTN_EXT:
            if (!job_of(node, &job)) {
                return GGML_STATUS_FAILED;
            }
            if (!st_attn_run(&job, self->n_threads, &self->memory)) {
                return GGML_STATUS_ALLOC_FAILED;
            }
            atomic_fetch_add_explicit(&n_attention, 1, memory_order_relaxed);
            break;
        default:
            return GGML_STATUS_FAILED;
        }
    }
    return GGML_STATUS_SUCCESS;
}

static void set_n_threads(ggml_backend_t b, int n_threads) {
    backend *self = b->context;
    self->n_threads = n_threads > 0 ? n_threads : 1;
}

/* ---------------------------------------------------------------- the device */

static const char *device_name(ggml_backend_dev_t dev) {
    (void)dev;
    return "STRETCH";
}

static const char *device_description(ggml_backend_dev_t dev) {
    (void)dev;
    return "Stretch's attention over compressed caches";
}

static void device_memory(ggml_backend_dev_t dev, size_t *free_bytes, size_t *total) {
    (void)dev;
    *free_bytes = 0; /* it uses host memory, which the CPU device reports */
    *total = 0;
}

static int32_t device_type(ggml_backend_dev_t dev) {
    (void)dev;
    return GGML_BACKEND_DEVICE_TYPE_ACCEL;
}

static void device_props(ggml_backend_dev_t dev, struct ggml_backend_dev_props *props) {
    memset(props, 0, sizeof *props);
    props->name = device_name(dev);
    props->description = device_description(dev);
    props->type = GGML_BACKEND_DEVICE_TYPE_ACCEL;
}

static ggml_backend_t device_init(ggml_backend_dev_t dev, const char *params) {
    static uint8_t guid[16] = {0x53, 0x74, 0x72, 0x65, 0x74, 0x63, 0x68, 0x20,
                               0x61, 0x74, 0x74, 0x6e, 0x20, 0x64, 0x65, 0x76};
    (void)params;
    backend *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->base.guid = guid;
    self->base.iface.get_name = get_name;
    self->base.iface.free = free_backend;
    self->base.iface.graph_compute = graph_compute;
    self->base.device = dev;
    self->base.context = self;
    self->n_threads = 1;
    return &self->base;
}

static ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t dev) {
    (void)dev;
    return ggml.cpu_buffer_type();
}

static bool device_supports_op(ggml_backend_dev_t dev, const struct ggml_tensor *op) {
    (void)dev;
    st_attn_job job;
    return op->op == GGML_OP_FLASH_ATTN_EXT && atomic_load_explicit(&active, memory_order_relaxed) &&
           job_of(op, &job);
}

static bool device_supports_buft(ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft) {
    (void)dev;
    return ggml.buft_is_host(buft);
}

/* ---------------------------------------------------------------- its registration */

static const char *reg_name(ggml_backend_reg_t reg) {
    (void)reg;
    return "STRETCH";
}

static size_t reg_device_count(ggml_backend_reg_t reg) {
    (void)reg;
    return 1;
}

static ggml_backend_dev_t reg_device(ggml_backend_reg_t reg, size_t index) {
    (void)reg;
    return index == 0 ? st_device_get() : NULL;
}

static void *reg_proc_address(ggml_backend_reg_t reg, const char *name) {
    (void)reg;
    if (strcmp(name, "ggml_backend_set_n_threads") == 0) {
        void (*fn)(ggml_backend_t, int) = set_n_threads;
        void *address;
        memcpy(&address, &fn, sizeof address);
        return address;
    }
    return NULL;
}

static struct ggml_backend_reg registration = {
    GGML_BACKEND_API_VERSION,
    {reg_name, reg_device_count, reg_device, reg_proc_address},
    NULL,
};

static struct ggml_backend_device device = {
    {
        .get_name = device_name,
        .get_description = device_description,
        .get_memory = device_memory,
        .get_type = device_type,
        .get_props = device_props,
        .init_backend = device_init,
        .get_buffer_type = device_buffer_type,
        .supports_op = device_supports_op,
        .supports_buft = device_supports_buft,
    },
    &registration,
    NULL,
};

ggml_backend_dev_t st_device_get(void) {
    return &device;
}

const char *st_device_enable(void *const *symbols, void *gomp_parallel) {
    static bool done;
    static const char *problem;
    if (done) {
        return problem;
    }
    done = true;
    memcpy(&ggml, symbols, sizeof ggml);
    st_team_use(gomp_parallel);
    atomic_store(&active, true);
    problem = st_device_check();
    atomic_store(&active, problem == NULL);
    if (problem == NULL) {
        ggml.backend_register(&registration);
    }
    return problem;
}

bool st_device_active(void) {
    return atomic_load(&active);
}

void st_device_switch(bool on) {
    atomic_store(&active, on);
}

void st_device_count(st_device_counters *counters) {
    counters->attention = atomic_load(&n_attention);
    counters->set_rows = atomic_load(&n_set_rows);
}
