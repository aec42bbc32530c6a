#include "cpu_backend.h"

#include "attention_mass.h"
#include "device.h"
#include "device_ops.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- what is called in ggml */

/* The members of a std::vector of pointers, in libstdc++, libc++ and Microsoft's. */
typedef struct vector {
    ggml_backend_buffer_type_t *begin, *end, *room_end;
} vector;

typedef struct functions {
    vector *(*extra_buffer_types)(void); /* returns a reference */
    void *(*new_bytes)(size_t bytes);    /* operator new */
    void (*barrier)(void *threadpool);
} functions;

static functions ggml;
static _Atomic bool joined;

const char *const *st_cpu_symbols(void) {
    static const char *const symbols[] = {
        "_Z39ggml_backend_cpu_get_extra_buffer_typesv",
        "_Znwm",
        "ggml_barrier",
        NULL,
    };
    return symbols;
}

bool st_cpu_joined(void) {
    return atomic_load_explicit(&joined, memory_order_relaxed);
}

/* ---------------------------------------------------------------- computing */

/* What the threads of one node share, at the beginning of ggml's work buffer. */
typedef struct shared {
    st_attn_job job;
    st_attn_plan plan;
    st_attn_work work;
    st_device_now now;
    st_writing writing;
} shared;

/* Behind it. */
enum { ALIGN = 64, SHARED_BYTES = (sizeof(shared) + ALIGN - 1) / ALIGN * ALIGN };

static shared *shared_of(const struct ggml_compute_params *params) {
    return (shared *)(((uintptr_t)params->wdata + ALIGN - 1) / ALIGN * ALIGN);
}

static size_t bytes_behind(const struct ggml_compute_params *params) {
    const size_t used = (size_t)((const char *)shared_of(params) - (const char *)params->wdata) + SHARED_BYTES;
    return params->wsize > used ? params->wsize - used : 0;
}

bool st_cpu_takes(const struct ggml_tensor *op) {
    st_attn_job job;
    if (!st_cpu_joined()) {
        return false;
    }
    const bool reads = op->op == GGML_OP_FLASH_ATTN_EXT;
    const bool wanted = st_device_active() && (reads || st_device_writes());
    if (!wanted && !st_device_centred(op)) {
        return false;
    }
    return reads ? st_attention_of(op, &job) : op->op == GGML_OP_SET_ROWS && st_writes_cache(op);
}

/* With exact rows, or watched, it may need more than ggml was asked for; then the context has the memory. */
static size_t bytes_for(const st_attn_job *job, int n_threads) {
    st_attn_plan plan;
    st_attn_plan_make(&plan, job, n_threads);
    return st_attn_bytes(&plan, n_threads);
}

static bool work_size(void *self, int n_threads, const struct ggml_tensor *op, size_t *size) {
    st_attn_job job;
    size_t need = 0;
    (void)self;
    if (op->op == GGML_OP_FLASH_ATTN_EXT && st_attention_of(op, &job)) {
        const size_t alone = bytes_for(&job, 1); /* enough whatever number of threads the runtime gives */
        need = bytes_for(&job, n_threads);
        need = need > alone ? need : alone;
    }
    *size = ALIGN + SHARED_BYTES + need;
    return true;
}

/* By the first thread, which is the caller of llama_decode(). */
static void begin_attention(const struct ggml_compute_params *params, const struct ggml_tensor *op) {
    shared *s = shared_of(params);
    st_attention_of(op, &s->job);
    s->now = st_device_begin(op, &s->job, params->nth);
    void *memory = (char *)s + SHARED_BYTES;
    int n_threads = params->nth;
    st_attn_plan_make(&s->plan, &s->job, n_threads);
    const size_t need = st_attn_bytes(&s->plan, n_threads);
    if (need > bytes_behind(params)) {
        memory = st_device_memory(&s->now, need);
        if (memory == NULL) { /* as ggml knows the node: for that it has been asked for memory */
            s->now = st_device_forget(&s->now, &s->job);
            memory = (char *)s + SHARED_BYTES;
            n_threads = 1;
            st_attn_plan_make(&s->plan, &s->job, n_threads);
        }
    }
    st_attn_begin(&s->work, &s->plan, n_threads, memory);
}

static void compute_attention(const struct ggml_compute_params *params, const struct ggml_tensor *op) {
    shared *s = shared_of(params);
    if (params->ith == 0) {
        begin_attention(params, op);
    }
    ggml.barrier(params->threadpool);
    st_attn_part(&s->work, params->ith);
    if (s->now.mass != NULL) {
        ggml.barrier(params->threadpool);
        if (params->ith == 0) {
            st_device_end(&s->now, &s->job, params->nth);
        }
    }
}

static void write_rows(const struct ggml_compute_params *params, const struct ggml_tensor *op) {
    static const st_writing whole;
    const st_writing *writing = &whole;
    if (st_device_any_centred()) {
        shared *s = shared_of(params);
        if (params->ith == 0) {
            st_device_write_begin(op, &s->writing);
        }
        ggml.barrier(params->threadpool);
        writing = &s->writing;
    }
    st_write_part(op, writing, params->ith, params->nth);
    ggml.barrier(params->threadpool);
    if (params->ith == 0) {
        st_device_wrote(op, writing);
    }
}

static bool compute_forward(void *self, struct ggml_compute_params *params, struct ggml_tensor *op) {
    (void)self;
    if (op->op == GGML_OP_FLASH_ATTN_EXT) {
        compute_attention(params, op);
    } else {
        write_rows(params, op);
    }
    return true;
}

/* ---------------------------------------------------------------- what ggml calls */

/* Objects of the C++ classes of ggml-cpu/traits.h: a pointer to the virtual functions, in the order of the Itanium C++
 * ABI (two destructors, then as declared), in front of which an offset and the type's description stand. */
static void destroy(void *self) {
    (void)self; /* ggml keeps them as long as the process lives */
}

typedef struct methods {
    ptrdiff_t offset;
    const void *type;
    void (*destroy)(void *self);
    void (*destroy_and_free)(void *self);
    union {
        bool (*work_size)(void *self, int n_threads, const struct ggml_tensor *op, size_t *size);
        bool (*supports_op)(void *self, ggml_backend_dev_t dev, const struct ggml_tensor *op);
    } first;
    union {
        bool (*compute_forward)(void *self, struct ggml_compute_params *params, struct ggml_tensor *op);
        void *(*get_tensor_traits)(void *self, const struct ggml_tensor *op);
    } second;
} methods;

typedef struct object {
    const void *methods;
} object;

static const methods traits_methods = {
    0, NULL, destroy, destroy, {.work_size = work_size}, {.compute_forward = compute_forward}};
static object traits = {&traits_methods.destroy};

/* Asked only about nodes with weights in a buffer of this type: there are none. */
static bool supports_op(void *self, ggml_backend_dev_t dev, const struct ggml_tensor *op) {
    (void)self;
    (void)dev;
    (void)op;
    return false;
}

static void *get_tensor_traits(void *self, const struct ggml_tensor *op) {
    (void)self;
    return (op->op == GGML_OP_FLASH_ATTN_EXT || op->op == GGML_OP_SET_ROWS) && st_cpu_takes(op) ? &traits : NULL;
}

static const methods type_methods = {
    0, NULL, destroy, destroy, {.supports_op = supports_op}, {.get_tensor_traits = get_tensor_traits}};
static object type_object = {&type_methods.destroy};

static const char *type_name(ggml_backend_buffer_type_t type) {
    (void)type;
    return "STRETCH";
}

static struct ggml_backend_buffer_type buffer_type = {.get_name = type_name, .context = &type_object};

/* ---------------------------------------------------------------- joining */

typedef ggml_backend_buffer_type_t *(*extra_buffers_fn)(ggml_backend_dev_t dev);

/* ggml's own copy of the list, which it offers for weights. It is made when it is first asked for: before the kernel
 * joins, so that no weights are ever put into a buffer of the kernel. */
static const ggml_backend_buffer_type_t *copy_of_list(void) {
    const st_device_ggml *api = st_device_ggml_api();
    const ggml_backend_dev_t cpu = api->dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    void *address = cpu != NULL ? cpu->reg->iface.get_proc_address(cpu->reg, "ggml_backend_dev_get_extra_bufts") : NULL;
    extra_buffers_fn fn;
    if (address == NULL) {
        return NULL;
    }
    memcpy(&fn, &address, sizeof fn);
    return fn(cpu);
}

static bool push_back(vector *list, ggml_backend_buffer_type_t entry) {
    const size_t n = (size_t)(list->end - list->begin);
    if (list->end == list->room_end) {
        ggml_backend_buffer_type_t *bigger = ggml.new_bytes((n + 1) * sizeof *bigger);
        if (bigger == NULL) {
            return false;
        }
        memcpy(bigger, list->begin, n * sizeof *bigger);
        list->begin = bigger; /* what it had is not freed: another thread may be reading it */
        list->end = list->room_end = bigger + n;
        list->room_end++;
    }
    *list->end = entry;
    list->end++;
    return true;
}

static const char *join(void) {
    const ggml_backend_buffer_type_t *copy = copy_of_list();
    vector *list = ggml.extra_buffer_types();
    if (copy == NULL || list == NULL || list->begin > list->end || list->end > list->room_end) {
        return "this build of ggml has no list of extra buffer types";
    }
    const size_t n = (size_t)(list->end - list->begin);
    for (size_t i = 0; i < n; i++) {
        if (copy[i] == NULL || copy[i] != list->begin[i]) {
            return "this build of ggml keeps its list of extra buffer types differently";
        }
    }
    if (copy[n] != NULL || !push_back(list, &buffer_type)) {
        return "this build of ggml keeps its list of extra buffer types differently";
    }
    return NULL;
}

const char *st_cpu_enable(void *const *symbols) {
    static bool done;
    static const char *problem;
    if (done) {
        return problem;
    }
    done = true;
    for (int i = 0; st_cpu_symbols()[i] != NULL; i++) {
        if (symbols[i] == NULL) {
            return problem = "this build of ggml does not show its list of extra buffer types";
        }
    }
    memcpy(&ggml, symbols, sizeof ggml);
    problem = st_device_active() ? join() : "the attention kernel is off";
    if (problem == NULL) {
        atomic_store(&joined, true);
        problem = st_cpu_check();
        atomic_store(&joined, problem == NULL);
    }
    return problem;
}
