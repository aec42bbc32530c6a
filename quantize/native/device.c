/* The ggml backend device that takes attention over caches in host memory.
 *
 * llama.cpp adds the backend of every registered device of type ACCEL before the CPU backend, and ggml's
 * scheduler gives it each node that supports_op() accepts and whose buffers supports_buft() accepts. Both
 * backends use the same host buffers, so nothing is copied between them. Whatever is refused here runs as
 * if the device did not exist. */
#include "device.h"

#include "attention_mass.h"
#include "cpu_backend.h"
#include "device_ops.h"
#include "rope_node.h"
#include "team.h"

#include <pthread.h>
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

/* ---------------------------------------------------------------- a backend (one per context) */

typedef struct backend {
    struct ggml_backend base;
    int64_t number;
    int n_threads;
    st_attn_memory memory;
    st_tail *tail;
    st_centred centred;
    struct backend *next;
} backend;

/* All of them, so that a number can be looked up after its context has gone. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static backend *backends;
static int64_t n_created;
/* The context that computes in this thread. */
static _Thread_local int64_t now_number;

/* What contexts get that are created from now on. */
static _Atomic int32_t next_window, next_first;
static st_centring *next_centring; /* locked */
/* Once a tail or a centring has been asked for, the device writes the caches itself. */
static _Atomic bool writes;

/* A K cache whose rows lack their constant: only this device may read and write it, whatever is switched off. */
typedef struct centred_cache {
    const struct ggml_tensor *cache;
    int64_t number; /* of its backend */
    int32_t layer;
    bool read, written; /* a node that does so was accepted */
    struct centred_cache *next;
} centred_cache;

static centred_cache *centred_caches; /* locked */
/* There is or was one; never taken back, so that all threads of a node see the same. */
static _Atomic bool any_centred;

/* Contexts that keep exact rows now. */
static _Atomic int n_tails;

/* The caller holds the lock. */
static void count_tails(void) {
    int n = 0;
    for (const backend *b = backends; b != NULL; b = b->next) {
        n += st_tail_on(b->tail);
    }
    atomic_store(&n_tails, n);
}

static const char *get_name(ggml_backend_t b) {
    (void)b;
    return "STRETCH";
}

static void free_backend(ggml_backend_t b) {
    backend *self = b->context;
    pthread_mutex_lock(&lock);
    for (backend **at = &backends; *at != NULL; at = &(*at)->next) {
        if (*at == self) {
            *at = self->next;
            break;
        }
    }
    for (centred_cache **at = &centred_caches; *at != NULL;) {
        centred_cache *gone = *at;
        if (gone->number == self->number) {
            *at = gone->next;
            free(gone);
        } else {
            at = &gone->next;
        }
    }

    count_tails();
    pthread_mutex_unlock(&lock);
    st_tail_free(self->tail);
    st_centring_free(self->centred.centring);
    st_places_free(self->centred.places);
    free(self->centred.room.values);
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
            if (!st_attention_of(node, &job)) {
                return GGML_STATUS_FAILED;
            }
            if (!st_show_centre(node, &job, &self->centred)) {
                atomic_store(&self->centred.lost, 1);
                return GGML_STATUS_FAILED;
            }
            if (st_tail_on(self->tail)) {
                st_show_tail(node, &job, self->tail);
            }
            if (!(st_mass_any() ? st_mass_run(self->number, st_layer_of(node), &job, self->n_threads, &self->memory)
                                : st_attn_run(&job, self->n_threads, &self->memory))) {
                return GGML_STATUS_ALLOC_FAILED;
            }
            if (job.centre != NULL && atomic_load(&self->centred.lost) != 0) {
                return GGML_STATUS_FAILED;
            }
            atomic_fetch_add_explicit(&n_attention, 1, memory_order_relaxed);
            break;
        case GGML_OP_SET_ROWS:
            if (!st_write_cache(node, self->n_threads, st_tail_on(self->tail) ? self->tail : NULL, &self->centred)) {
                atomic_store(&self->centred.lost, 1);
                return GGML_STATUS_FAILED;
            }
            atomic_fetch_add_explicit(&n_set_rows, 1, memory_order_relaxed);
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
    now_number = self->number;
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
    st_tail *tail = st_tail_new();
    st_places *places = st_places_new();
    if (self == NULL || tail == NULL || places == NULL) {
        free(self);
        st_tail_free(tail);
        st_places_free(places);
        return NULL;
    }
    self->tail = tail;
    self->centred.places = places;
    st_tail_resize(tail, atomic_load(&next_window), atomic_load(&next_first));
    self->base.guid = guid;
    self->base.iface.get_name = get_name;
    self->base.iface.free = free_backend;
    self->base.iface.graph_compute = graph_compute;
    self->base.device = dev;
    self->base.context = self;
    self->n_threads = 1;
    pthread_mutex_lock(&lock);
    self->number = ++n_created;
    self->centred.centring = st_centring_hold(next_centring);
    self->next = backends;
    backends = self;
    count_tails();
    pthread_mutex_unlock(&lock);
    return &self->base;
}

static ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t dev) {
    (void)dev;
    return ggml.cpu_buffer_type();
}

/* Whether `op` reads or writes a K cache whose rows lack their constant. Those of the newest context are found while it
 * is made: llama.cpp asks about all its nodes then. */
static bool is_centred(const struct ggml_tensor *op, bool accepted) {
    if (!atomic_load_explicit(&any_centred, memory_order_relaxed)) {
        return false;
    }
    const bool reads = op->op == GGML_OP_FLASH_ATTN_EXT;
    const struct ggml_tensor *cache = reads ? op->src[1]->view_src : op->view_src;
    st_cache_id id;
    if (cache == NULL || !st_cache_id_of(cache->name, &id) || id.value) {
        return false;
    }
    pthread_mutex_lock(&lock);
    centred_cache *c = centred_caches;
    while (c != NULL && c->cache != cache) {
        c = c->next;
    }
    if (c == NULL && accepted && st_centring_find(next_centring, id.layer) != NULL &&
        (c = calloc(1, sizeof *c)) != NULL) {
        c->cache = cache;
        c->number = n_created;
        c->layer = id.layer;
        c->next = centred_caches;
        centred_caches = c;
    }
    if (c != NULL && accepted) {
        c->read |= reads;
        c->written |= !reads;
        st_rope_params rope;
        if (!reads && st_rope_of_node(op, &rope) && rope.positions != NULL) {
            /* an output is not overwritten: without that its memory is free behind the last ROPE node, and the write
             * that asks for it comes later */
            ((struct ggml_tensor *)(uintptr_t)rope.positions)->flags |= GGML_TENSOR_FLAG_OUTPUT;
        }
    }
    pthread_mutex_unlock(&lock);
    return c != NULL;
}

static bool device_supports_op(ggml_backend_dev_t dev, const struct ggml_tensor *op) {
    (void)dev;
    st_attn_job job;
    if (op->op != GGML_OP_FLASH_ATTN_EXT && op->op != GGML_OP_SET_ROWS) {
        return false;
    }
    if (op->op == GGML_OP_SET_ROWS) {
        st_rope_show(op);
    }
    const bool possible = op->op == GGML_OP_FLASH_ATTN_EXT ? st_attention_of(op, &job) : st_writes_cache(op);
    const bool centred = is_centred(op, possible);
    if (st_cpu_joined()) { /* the CPU backend gets the node, and with it the kernel */
        return false;
    }
    return possible && (centred || (atomic_load_explicit(&active, memory_order_relaxed) &&
                                    (op->op == GGML_OP_FLASH_ATTN_EXT ||
                                     atomic_load_explicit(&writes, memory_order_relaxed))));
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

/* ---------------------------------------------------------------- in the CPU backend */

/* It stays while its context computes, which is now. */
static backend *find_backend(int64_t number) {
    pthread_mutex_lock(&lock);
    backend *b = backends;
    while (b != NULL && b->number != number) {
        b = b->next;
    }
    pthread_mutex_unlock(&lock);
    return b;
}

st_device_now st_device_begin(const struct ggml_tensor *op, st_attn_job *job, int n_threads) {
    st_device_now now = {0, NULL, -1};
    backend *self = find_backend(now_number);
    atomic_fetch_add_explicit(&n_attention, 1, memory_order_relaxed);
    if (self == NULL) {
        return now;
    }
    now.number = self->number;
    if (st_tail_on(self->tail)) {
        st_show_tail(op, job, self->tail);
    }
    if (!st_show_centre(op, job, &self->centred)) {
        atomic_store(&self->centred.lost, 1);
    }
    if (st_mass_any()) {
        now.layer = st_layer_of(op);
        now.mass = st_mass_begin(now.number, now.layer, job, n_threads);
    }
    return now;
}

st_device_now st_device_forget(const st_device_now *now, st_attn_job *job) {
    const st_device_now less = {now->number, NULL, now->layer};
    job->exact_k = job->exact_v = NULL;
    job->mass = NULL;
    backend *self = find_backend(now->number);
    if (job->centre != NULL && self != NULL) {
        job->centre = NULL;
        atomic_store(&self->centred.lost, 1);
    }
    if (now->mass != NULL) {
        st_mass_fail(now->mass);
    }
    return less;
}

void *st_device_memory(const st_device_now *now, size_t need) {
    backend *self = find_backend(now->number);
    return self != NULL && st_attn_room(&self->memory, need) ? self->memory.base : NULL;
}

void st_device_end(const st_device_now *now, const st_attn_job *job, int n_threads) {
    st_mass_end(now->mass, now->layer, job, n_threads);
}

bool st_device_writes(void) {
    return atomic_load_explicit(&n_tails, memory_order_relaxed) > 0;
}

bool st_device_centred(const struct ggml_tensor *op) {
    return is_centred(op, false);
}

bool st_device_any_centred(void) {
    return atomic_load_explicit(&any_centred, memory_order_relaxed);
}

void st_device_write_begin(const struct ggml_tensor *op, st_writing *writing) {
    backend *self = find_backend(now_number);
    memset(writing, 0, sizeof *writing);
    if (self != NULL && !st_write_begin(op, &self->centred, writing)) {
        atomic_store(&self->centred.lost, 1);
    }
}

void st_device_wrote(const struct ggml_tensor *op, const st_writing *writing) {
    backend *self = find_backend(now_number);
    if (self != NULL && st_tail_on(self->tail)) {
        st_keep_rows(op, writing, self->tail);
    }
    atomic_fetch_add_explicit(&n_set_rows, 1, memory_order_relaxed);
}

/* ---------------------------------------------------------------- age tiers */

void st_device_tail_next(int32_t window, int32_t first) {
    atomic_store(&next_window, window);
    atomic_store(&next_first, first);
    if (window > 0 || first > 0) {
        atomic_store(&writes, true);
    }
}

int64_t st_device_last(void) {
    pthread_mutex_lock(&lock);
    const int64_t number = n_created;
    pthread_mutex_unlock(&lock);
    return number;
}

/* The lock keeps the backend from going while its tail is used; a context is not computed with and
 * changed at once. */
static st_tail *lock_tail(int64_t number) {
    pthread_mutex_lock(&lock);
    for (backend *b = backends; b != NULL; b = b->next) {
        if (b->number == number) {
            return b->tail;
        }
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

bool st_device_tail_resize(int64_t number, int32_t window, int32_t first) {
    st_tail *tail = lock_tail(number);
    if (tail == NULL) {
        return false;
    }
    st_tail_resize(tail, window, first);
    count_tails();
    pthread_mutex_unlock(&lock);
    if (window > 0 || first > 0) {
        atomic_store(&writes, true);
    }
    return true;
}

bool st_device_tail_reserve(int64_t number, int32_t layer, bool value, int32_t n_values, size_t row_bytes,
                            int32_t n_batch) {
    st_tail *tail = lock_tail(number);
    if (tail == NULL) {
        return false;
    }
    const st_cache_id id = {layer, value};
    const bool done = st_tail_on(tail) && st_tail_reserve(tail, id, n_values, row_bytes, n_batch);
    pthread_mutex_unlock(&lock);
    return done;
}

bool st_device_tail_fill(int64_t number, int32_t layer, bool value, const int32_t *cells, int32_t n,
                         const float *values, int32_t n_values, const char *packed, size_t row_bytes) {
    st_tail *tail = lock_tail(number);
    if (tail == NULL) {
        return false;
    }
    const st_cache_id id = {layer, value};
    const bool done = st_tail_on(tail) && st_tail_fill(tail, id, cells, n, values, n_values, packed, row_bytes);
    pthread_mutex_unlock(&lock);
    return done;
}

int32_t st_device_tail_read(int64_t number, int32_t layer, bool value, int32_t room, int32_t n_values,
                            int32_t *cells, uint16_t *values, size_t row_bytes, char *packed) {
    st_tail *tail = lock_tail(number);
    if (tail == NULL) {
        return -1;
    }
    const st_cache_id id = {layer, value};
    const int32_t n = st_tail_read(tail, id, room, n_values, cells, values, row_bytes, packed);
    pthread_mutex_unlock(&lock);
    return n;
}

int64_t st_device_tail_bytes(int64_t number) {
    st_tail *tail = lock_tail(number);
    if (tail == NULL) {
        return -1;
    }
    const int64_t bytes = (int64_t)st_tail_bytes(tail);
    pthread_mutex_unlock(&lock);
    return bytes;
}

int32_t st_device_tail_rows(int64_t number, int32_t layer, bool value) {
    st_tail *tail = lock_tail(number);
    if (tail == NULL) {
        return -1;
    }
    const st_cache_id id = {layer, value};
    const int32_t n = st_tail_rows(tail, id);
    pthread_mutex_unlock(&lock);
    return n;
}

/* ---------------------------------------------------------------- K without its constant */

void st_device_centring_next(st_centring *centring) {
    pthread_mutex_lock(&lock);
    st_centring *before = next_centring;
    next_centring = st_centring_hold(centring);
    if (centring != NULL) {
        atomic_store(&any_centred, true);
    }
    pthread_mutex_unlock(&lock);
    st_centring_free(before);
    if (centring != NULL) {
        atomic_store(&writes, true);
    }
}

int32_t st_device_centred_layers(int64_t number) {
    int32_t n = 0;
    pthread_mutex_lock(&lock);
    for (const centred_cache *c = centred_caches; c != NULL; c = c->next) {
        n += c->number == number && c->read && c->written;
    }
    pthread_mutex_unlock(&lock);
    return n;
}

/* As lock_tail(). */
static st_places *lock_places(int64_t number) {
    pthread_mutex_lock(&lock);
    for (backend *b = backends; b != NULL; b = b->next) {
        if (b->number == number) {
            return b->centred.places;
        }
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

bool st_device_places_load(int64_t number, int32_t group, int32_t stream, int32_t n, const int32_t *positions,
                           const char *rows, size_t row_bytes) {
    st_places *places = lock_places(number);
    if (places == NULL) {
        return false;
    }
    const bool done = st_places_load(places, group, stream, n, positions, rows, row_bytes);
    pthread_mutex_unlock(&lock);
    return done;
}

int64_t st_device_places_bytes(int64_t number) {
    st_places *places = lock_places(number);
    if (places == NULL) {
        return -1;
    }
    const int64_t bytes = (int64_t)st_places_bytes(places);
    pthread_mutex_unlock(&lock);
    return bytes;
}

bool st_device_centre_lost(int64_t number) {
    bool lost = false;
    pthread_mutex_lock(&lock);
    for (backend *b = backends; b != NULL; b = b->next) {
        lost |= b->number == number && atomic_exchange(&b->centred.lost, 0) != 0;
    }
    pthread_mutex_unlock(&lock);
    return lost;
}
