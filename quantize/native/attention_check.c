/* Checks before the device is registered: that ggml's structs are laid out as ggml_backend_abi.h says, and
 * that this kernel and ggml's own agree on small attentions.
 *
 * Nothing is read through a struct before ggml's own functions have confirmed the part that leads there. */
#include "device.h"

#include "cpu_backend.h"
#include "f16.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static char sentence[256];

static const char *say(const char *what) {
    snprintf(sentence, sizeof sentence, "The attention kernel is off: %s.", what);
    return sentence;
}

/* ---------------------------------------------------------------- layout */

static const char *check_operations(const st_device_ggml *ggml) {
    static const struct {
        int32_t op;
        const char *name;
    } known[] = {
        {GGML_OP_NONE, "NONE"},           {GGML_OP_RESHAPE, "RESHAPE"},     {GGML_OP_VIEW, "VIEW"},
        {GGML_OP_PERMUTE, "PERMUTE"},     {GGML_OP_TRANSPOSE, "TRANSPOSE"}, {GGML_OP_SET_ROWS, "SET_ROWS"},
        {GGML_OP_FLASH_ATTN_EXT, "FLASH_ATTN_EXT"},
        {GGML_OP_ROPE, "ROPE"},           {GGML_OP_MUL_MAT, "MUL_MAT"},     {GGML_OP_MUL_MAT_ID, "MUL_MAT_ID"},
        {GGML_OP_RMS_NORM, "RMS_NORM"},   {GGML_OP_SCALE, "SCALE"},         {GGML_OP_CPY, "CPY"},
        {GGML_OP_CONT, "CONT"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(ggml->op_name(known[i].op), known[i].name) != 0) {
            return say("this build of ggml numbers its operations differently");
        }
    }
    return NULL;
}

static const char *check_device(const st_device_ggml *ggml) {
    const char *other = say("this build of ggml has another backend interface");
    const ggml_backend_dev_t cpu = ggml->dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (cpu == NULL || cpu->reg != ggml->dev_backend_reg(cpu) || cpu->reg->api_version != GGML_BACKEND_API_VERSION) {
        return other;
    }
    struct ggml_backend_dev_props props;
    memset(&props, 0xff, sizeof props);
    cpu->iface.get_props(cpu, &props);
    const bool fits = cpu->iface.get_name(cpu) == ggml->dev_name(cpu) &&
                      cpu->iface.get_type(cpu) == GGML_BACKEND_DEVICE_TYPE_CPU &&
                      cpu->iface.get_buffer_type(cpu) == ggml->cpu_buffer_type() &&
                      cpu->iface.supports_buft(cpu, ggml->cpu_buffer_type()) &&
                      cpu->reg->iface.get_device_count(cpu->reg) >= 1 && cpu->reg->iface.get_device(cpu->reg, 0) == cpu &&
                      props.type == GGML_BACKEND_DEVICE_TYPE_CPU && strcmp(props.name, ggml->dev_name(cpu)) == 0;
    return fits ? NULL : other;
}

/* ---------------------------------------------------------------- results */

typedef struct shape {
    int32_t type_k, type_v;
    int dim, n_head, n_head_kv, n_tokens, n_cells;
    float tolerance; /* of the root mean square, relative */
} shape;

/* Stock products with quantized rows round the query to 8 bits: .5%. */
static const shape shapes[] = {
    {GGML_F16, GGML_F16, 64, 4, 2, 3, 100, 2e-3f},
    {GGML_Q8_0, GGML_Q8_0, 64, 4, 1, 1, 300, 2e-2f},
    {GGML_Q8_0, GGML_Q4_0, 128, 4, 2, 37, 130, 2e-2f},
};

typedef struct attention {
    struct ggml_tensor *q, *k, *v, *mask, *out;
    struct ggml_cgraph *graph;
} attention;

enum { CTX_BYTES = 1 << 20 };

/* Numbers in (-1, 1) that do not repeat soon (a linear congruential generator; Numerical Recipes). */
static float next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state * 0x1p-31f;
}

static void fill_rows(struct ggml_tensor *t, uint32_t *state) {
    const st_row_type *type = st_row_type_find(t->type);
    float row[256];
    for (int64_t i = 0; i < t->ne[1] * t->ne[2]; i++) {
        for (int64_t d = 0; d < t->ne[0]; d++) {
            row[d] = next(state);
        }
        type->from_f32(row, (char *)t->data + (size_t)i * t->nb[1], t->ne[0]);
    }
}

/* Q, K and V as llama.cpp has them: (value, head, token) permuted to (value, token, head). */
static attention build(const st_device_ggml *ggml, void *ctx, const shape *s) {
    attention a;
    struct ggml_tensor *q = ggml->new_tensor_4d(ctx, GGML_F32, s->dim, s->n_head, s->n_tokens, 1);
    struct ggml_tensor *k = ggml->new_tensor_4d(ctx, s->type_k, s->dim, s->n_head_kv, s->n_cells, 1);
    struct ggml_tensor *v = ggml->new_tensor_4d(ctx, s->type_v, s->dim, s->n_head_kv, s->n_cells, 1);
    a.q = q;
    a.k = k;
    a.v = v;
    a.mask = ggml->new_tensor_4d(ctx, GGML_F16, s->n_cells, s->n_tokens, 1, 1);
    a.out = ggml->flash_attn_ext(ctx, ggml->permute(ctx, q, 0, 2, 1, 3), ggml->permute(ctx, k, 0, 2, 1, 3),
                                 ggml->permute(ctx, v, 0, 2, 1, 3), a.mask, 1.0f / sqrtf((float)s->dim), 0.0f, 0.0f);
    a.graph = ggml->new_graph(ctx);
    ggml->build_forward_expand(a.graph, a.out);
    return a;
}

static bool laid_out_as_declared(const attention *a, const shape *s) {
    const struct ggml_tensor *out = a->out;
    const float scale = 1.0f / sqrtf((float)s->dim);
    const struct ggml_tensor *k = out->src[1];
    const size_t cell = st_row_size(st_row_type_find(s->type_k), (int64_t)s->dim * s->n_head_kv);
    return out->op == GGML_OP_FLASH_ATTN_EXT && out->type == GGML_F32 && out->ne[0] == s->dim &&
           out->ne[1] == s->n_head && out->ne[2] == s->n_tokens && out->ne[3] == 1 && out->nb[0] == sizeof(float) &&
           memcmp(&out->op_params[0], &scale, sizeof scale) == 0 && k != NULL && k->op == GGML_OP_PERMUTE &&
           k->src[0] == a->k && k->view_src == a->k && k->type == s->type_k && k->ne[1] == s->n_cells &&
           k->nb[1] == cell && out->src[3] == a->mask && out->src[4] == NULL &&
           (out->flags & GGML_TENSOR_FLAG_COMPUTE) != 0 && a->graph->n_nodes == 4 && a->graph->nodes[3] == out;
}

/* `takes`: whether the kernel takes the node that `own` computes. */
static const char *compare(const st_device_ggml *ggml, ggml_backend_t stock, ggml_backend_t own, const shape *s,
                           bool (*takes)(const struct ggml_tensor *op)) {
    const struct ggml_init_params params = {CTX_BYTES, NULL, true};
    void *ctx = ggml->init(params);
    if (ctx == NULL) {
        return say("there was no memory for its self-test");
    }
    const char *problem = NULL;
    void *buffer = NULL;
    attention a = build(ggml, ctx, s);
    if (!laid_out_as_declared(&a, s)) {
        problem = say("this build of ggml lays out its tensors differently");
    } else if ((buffer = ggml->alloc_ctx_tensors(ctx, ggml->cpu_buffer_type())) == NULL) {
        problem = say("there was no memory for its self-test");
    } else if (!takes(a.out)) {
        problem = say("it refuses its own self-test");
    } else {
        uint32_t state = 1;
        fill_rows(a.q, &state);
        fill_rows(a.k, &state);
        fill_rows(a.v, &state);
        uint16_t *mask = a.mask->data;
        for (int t = 0; t < s->n_tokens; t++) {
            for (int c = 0; c < s->n_cells; c++) {
                mask[t * s->n_cells + c] = c <= s->n_cells - s->n_tokens + t && c % 7 != 3 ? 0 : 0xfc00;
            }
        }
        enum { MOST = 128 * 4 * 37 };
        static float expected[MOST];
        const size_t n = (size_t)(s->dim * s->n_head * s->n_tokens);
        double error = 0.0;
        double size = 0.0;
        st_device_switch(false);
        bool computed = ggml->graph_compute(stock, a.graph) == GGML_STATUS_SUCCESS;
        st_device_switch(true);
        memcpy(expected, a.out->data, n * sizeof(float));
        memset(a.out->data, 0xff, n * sizeof(float));
        computed = computed && ggml->graph_compute(own, a.graph) == GGML_STATUS_SUCCESS;
        for (size_t i = 0; i < n; i++) {
            const float got = ((const float *)a.out->data)[i];
            error += (double)(got - expected[i]) * (double)(got - expected[i]);
            size += (double)expected[i] * (double)expected[i];
        }
        if (!computed || !(error <= (double)(s->tolerance * s->tolerance) * size)) {
            problem = say("its results differ from llama.cpp's on this machine");
        }
    }
    if (buffer != NULL) {
        ggml->buffer_free(buffer);
    }
    ggml->free(ctx);
    return problem;
}

static bool device_takes(const struct ggml_tensor *op) {
    return st_device_get()->iface.supports_op(st_device_get(), op);
}

const char *st_device_check(void) {
    const st_device_ggml *ggml = st_device_ggml_api();
    const char *problem = check_operations(ggml);
    problem = problem != NULL ? problem : check_device(ggml);
    if (problem != NULL) {
        return problem;
    }
    const ggml_backend_dev_t device = st_device_get();
    ggml_backend_t stock = ggml->dev_init(ggml->dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), NULL);
    ggml_backend_t own = device->iface.init_backend(device, NULL);
    if (stock == NULL || own == NULL) {
        return say("there was no memory for its self-test");
    }
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0] && problem == NULL; i++) {
        problem = compare(ggml, stock, own, &shapes[i], device_takes);
    }
    ggml->backend_free(stock);
    ggml->backend_free(own);
    return problem;
}

/* With as many threads: more than there are parts of the smallest one. */
static const int n_threads_of[] = {1, 2, 5};

const char *st_cpu_check(void) {
    const st_device_ggml *ggml = st_device_ggml_api();
    const ggml_backend_dev_t device = ggml->dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    void (*set_n_threads)(ggml_backend_t, int);
    void *address = device->reg->iface.get_proc_address(device->reg, "ggml_backend_set_n_threads");
    ggml_backend_t cpu = ggml->dev_init(device, NULL);
    const char *problem = address != NULL && cpu != NULL ? NULL : "there was no memory for its self-test";
    memcpy(&set_n_threads, &address, sizeof set_n_threads);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0] && problem == NULL; i++) {
        for (size_t j = 0; j < sizeof n_threads_of / sizeof n_threads_of[0] && problem == NULL; j++) {
            set_n_threads(cpu, n_threads_of[j]);
            st_device_counters before;
            st_device_counters after;
            st_device_count(&before);
            problem = compare(ggml, cpu, cpu, &shapes[i], st_cpu_takes);
            st_device_count(&after);
            if (problem == NULL && after.attention != before.attention + 1) {
                problem = "this build of ggml does not ask its extra buffer types about attention";
            }
        }
    }
    if (cpu != NULL) {
        ggml->backend_free(cpu);
    }
    return problem;
}
