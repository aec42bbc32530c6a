/* The ggml backend device that takes attention, and what it says of itself.
 *
 *   device.c            the device: which operations it takes, and its registration
 *   device_ops.c        ggml's operations translated to st_attn_job and to the tail
 *   cpu_backend.h       the same nodes inside ggml's CPU backend, where that is possible
 *   rope_node.c         the ROPE node behind a write to a K cache
 *   attention_check.c   the checks before it is registered: layout of ggml's structs, results
 *   ggml_backend_abi.h  ggml's structs */
#ifndef STRETCH_DEVICE_H
#define STRETCH_DEVICE_H

#include "attention.h"
#include "centring.h"
#include "device_ops.h"
#include "ggml_backend_abi.h"
#include "stretch.h"

/* The functions of ggml that the device and its checks call. */
typedef struct st_device_ggml {
    void (*backend_register)(ggml_backend_reg_t reg);
    ggml_backend_buffer_type_t (*cpu_buffer_type)(void);
    bool (*buft_is_host)(ggml_backend_buffer_type_t buft);
    ggml_backend_dev_t (*dev_by_type)(int32_t type);
    const char *(*dev_name)(ggml_backend_dev_t dev);
    ggml_backend_reg_t (*dev_backend_reg)(ggml_backend_dev_t dev);
    ggml_backend_t (*dev_init)(ggml_backend_dev_t dev, const char *params);
    int (*graph_compute)(ggml_backend_t backend, struct ggml_cgraph *graph);
    void (*backend_free)(ggml_backend_t backend);
    void *(*alloc_ctx_tensors)(void *ctx, ggml_backend_buffer_type_t buft);
    void (*buffer_free)(void *buffer);
    void *(*init)(struct ggml_init_params params);
    void (*free)(void *ctx);
    struct ggml_tensor *(*new_tensor_4d)(void *ctx, int32_t type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3);
    struct ggml_tensor *(*permute)(void *ctx, struct ggml_tensor *a, int x, int y, int z, int w);
    struct ggml_tensor *(*flash_attn_ext)(void *ctx, struct ggml_tensor *q, struct ggml_tensor *k,
                                          struct ggml_tensor *v, struct ggml_tensor *mask, float scale,
                                          float max_bias, float softcap);
    struct ggml_tensor *(*set_rows)(void *ctx, struct ggml_tensor *a, struct ggml_tensor *b, struct ggml_tensor *c);
    struct ggml_cgraph *(*new_graph)(void *ctx);
    void (*build_forward_expand)(struct ggml_cgraph *graph, struct ggml_tensor *tensor);
    size_t (*tensor_overhead)(void);
    const char *(*op_name)(int32_t op);
} st_device_ggml;

/* Names of the symbols in the order of the fields of st_device_ggml, ended by NULL. */
ST_API const char *const *st_device_symbols(void);

/* Check ggml's layout and the kernel's results, then register the device. After st_init() and before the
 * first context is created; again is harmless. `gomp_parallel`: see team.h. Returns NULL, or why the
 * device is not used. */
ST_API const char *st_device_enable(void *const *symbols, void *gomp_parallel);

/* Whether the device takes anything (it is registered, and not switched off). */
ST_API bool st_device_active(void);
/* Refuse everything from now on, or take it again. Contexts keep the graphs that they have built. */
ST_API void st_device_switch(bool on);

/* What the device has computed since the library was loaded. */
typedef struct st_device_counters {
    int64_t attention; /* FLASH_ATTN_EXT nodes */
    int64_t set_rows;  /* SET_ROWS nodes */
} st_device_counters;

ST_API void st_device_count(st_device_counters *counters);

/* ---------------------------------------------------------------- age tiers (tail.h), by context
 * A context's backend is known by the number that st_device_last() gives right after the context was
 * created; of one that is gone the functions say so (false, -1). */

/* Contexts that are created from now on keep `window` rows and the cells below `first` exactly. */
ST_API void st_device_tail_next(int32_t window, int32_t first);
ST_API int64_t st_device_last(void);
ST_API bool st_device_tail_resize(int64_t backend, int32_t window, int32_t first);
ST_API bool st_device_tail_reserve(int64_t backend, int32_t layer, bool value, int32_t n_values, size_t row_bytes,
                                   int32_t n_batch);
ST_API bool st_device_tail_fill(int64_t backend, int32_t layer, bool value, const int32_t *cells, int32_t n,
                                const float *values, int32_t n_values, const char *packed, size_t row_bytes);
/* The rows of stream 0 that are kept, see st_tail_read(). */
ST_API int32_t st_device_tail_read(int64_t backend, int32_t layer, bool value, int32_t room, int32_t n_values,
                                   int32_t *cells, uint16_t *values, size_t row_bytes, char *packed);
ST_API int64_t st_device_tail_bytes(int64_t backend);
ST_API int32_t st_device_tail_rows(int64_t backend, int32_t layer, bool value);

/* ---------------------------------------------------------------- K without its constant (centring.h, places.h) */

/* Contexts that are created from now on store K so (it is held until they are gone); NULL: as it is. */
ST_API void st_device_centring_next(st_centring *centring);
/* Layers of a context whose K this device both writes and reads: fewer than the centring has means that some rows would
 * be whole, and that the context must not be used with it. Known once the context is created. */
ST_API int32_t st_device_centred_layers(int64_t backend);
/* See st_places_load(). */
ST_API bool st_device_places_load(int64_t backend, int32_t group, int32_t stream, int32_t n,
                                  const int32_t *positions, const char *rows, size_t row_bytes);
ST_API int64_t st_device_places_bytes(int64_t backend);
/* Whether the constant of some row could not be put back since this was asked last: what was computed is worth
 * nothing. */
ST_API bool st_device_centre_lost(int64_t backend);

/* ---------------------------------------------------------------- shared by device*.c, cpu_backend.c and the checks */
const st_device_ggml *st_device_ggml_api(void);
ggml_backend_dev_t st_device_get(void);
const char *st_device_check(void);
const char *st_cpu_check(void);

/* What a node in the CPU backend needs of the context that computes: that which was last told its number of threads by
 * the calling thread, as llama.cpp does right before it computes. */
typedef struct st_device_now {
    int64_t number;       /* of its backend; 0: none */
    struct watched *mass; /* NULL: it is not watched */
    int32_t layer;
} st_device_now;

/* Let the job of a FLASH_ATTN_EXT node read exact rows and keep probabilities where the context wants it. */
st_device_now st_device_begin(const struct ggml_tensor *op, st_attn_job *job, int n_threads);
/* Take that back: there was no memory for it. */
st_device_now st_device_forget(const st_device_now *now, st_attn_job *job);
/* Memory of the context; NULL if there is none. */
void *st_device_memory(const st_device_now *now, size_t need);
void st_device_end(const st_device_now *now, const st_attn_job *job, int n_threads);
/* Whether any SET_ROWS node is computed with the kernel. */
bool st_device_writes(void);
/* Whether a node writes or reads a K cache that only the kernel may touch. */
bool st_device_centred(const struct ggml_tensor *op);
/* Whether there is any: then a node that writes begins with st_device_write_begin(). */
bool st_device_any_centred(void);
void st_device_write_begin(const struct ggml_tensor *op, st_writing *writing);
/* What follows when the rows of a node are written. */
void st_device_wrote(const struct ggml_tensor *op, const st_writing *writing);

#endif
