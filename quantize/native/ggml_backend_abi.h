/* ggml's tensors, graphs and backend interface, declared anew as far as the attention device needs them.
 *
 * Valid for ggml 0.25.3: ggml/include/ggml.h (enum ggml_op, struct ggml_tensor), ggml/src/ggml-impl.h
 * (struct ggml_cgraph) and ggml/src/ggml-backend-impl.h (interface version 2). What is relied on is compared
 * at run time with tensors and devices that ggml itself made; see attention_check.c. */
#ifndef STRETCH_GGML_BACKEND_ABI_H
#define STRETCH_GGML_BACKEND_ABI_H

#include "ggml_abi.h"

enum { GGML_BACKEND_API_VERSION = 2 };

/* enum ggml_op */
enum {
    GGML_OP_NONE = 0,
    GGML_OP_RMS_NORM = 25,
    GGML_OP_MUL_MAT = 29,
    GGML_OP_MUL_MAT_ID = 30,
    GGML_OP_SCALE = 32,
    GGML_OP_CPY = 34,
    GGML_OP_CONT = 35,
    GGML_OP_RESHAPE = 36,
    GGML_OP_VIEW = 37,
    GGML_OP_PERMUTE = 38,
    GGML_OP_TRANSPOSE = 39,
    GGML_OP_SET_ROWS = 42,
    GGML_OP_ROPE = 48,
    GGML_OP_FLASH_ATTN_EXT = 74,
};

enum { GGML_I32 = 26, GGML_I64 = 27 }; /* of enum ggml_type */
enum { GGML_TENSOR_FLAG_INPUT = 1, GGML_TENSOR_FLAG_OUTPUT = 2, GGML_TENSOR_FLAG_COMPUTE = 16 };
enum { GGML_BACKEND_DEVICE_TYPE_CPU = 0, GGML_BACKEND_DEVICE_TYPE_ACCEL = 3 };
enum { GGML_STATUS_ALLOC_FAILED = -2, GGML_STATUS_FAILED = -1, GGML_STATUS_SUCCESS = 0 };

struct ggml_tensor {
    int32_t type;
    void *buffer;
    int64_t ne[4]; /* values per dimension */
    size_t nb[4];  /* stride in bytes per dimension */
    int32_t op;
    int32_t op_params[16];
    int32_t flags;
    struct ggml_tensor *src[10];
    struct ggml_tensor *view_src;
    size_t view_offs;
    void *data;
    char name[64];
    void *extra;
    char padding[8];
};

/* The beginning of it. */
struct ggml_cgraph {
    int size;
    int n_nodes;
    int n_leafs;
    struct ggml_tensor **nodes;
};

typedef struct ggml_backend_reg *ggml_backend_reg_t;
typedef struct ggml_backend_device *ggml_backend_dev_t;
typedef struct ggml_backend *ggml_backend_t;
typedef struct ggml_backend_buffer_type *ggml_backend_buffer_type_t;
typedef void *ggml_backend_buffer_t;

struct ggml_backend_i {
    const char *(*get_name)(ggml_backend_t backend);
    void (*free)(ggml_backend_t backend);
    void *set_tensor_async, *get_tensor_async, *set_tensor_2d_async, *get_tensor_2d_async, *cpy_tensor_async;
    void (*synchronize)(ggml_backend_t backend);
    void *graph_plan_create, *graph_plan_free, *graph_plan_update, *graph_plan_compute;
    int (*graph_compute)(ggml_backend_t backend, struct ggml_cgraph *graph);
    void *event_record, *event_wait;
    void *graph_optimize;
};

struct ggml_backend {
    uint8_t *guid; /* of 16 bytes */
    struct ggml_backend_i iface;
    ggml_backend_dev_t device;
    void *context;
};

struct ggml_backend_dev_props {
    const char *name;
    const char *description;
    size_t memory_free;
    size_t memory_total;
    int32_t type;
    const char *device_id;
    struct {
        bool async, host_buffer, buffer_from_host_ptr, events, mmap_support;
    } caps;
};

struct ggml_backend_device_i {
    const char *(*get_name)(ggml_backend_dev_t dev);
    const char *(*get_description)(ggml_backend_dev_t dev);
    void (*get_memory)(ggml_backend_dev_t dev, size_t *free, size_t *total);
    int32_t (*get_type)(ggml_backend_dev_t dev);
    void (*get_props)(ggml_backend_dev_t dev, struct ggml_backend_dev_props *props);
    ggml_backend_t (*init_backend)(ggml_backend_dev_t dev, const char *params);
    ggml_backend_buffer_type_t (*get_buffer_type)(ggml_backend_dev_t dev);
    ggml_backend_buffer_type_t (*get_host_buffer_type)(ggml_backend_dev_t dev);
    void *buffer_from_host_ptr;
    bool (*supports_op)(ggml_backend_dev_t dev, const struct ggml_tensor *op);
    bool (*supports_buft)(ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft);
    bool (*offload_op)(ggml_backend_dev_t dev, const struct ggml_tensor *op);
    void *event_new, *event_free, *event_synchronize;
};

struct ggml_backend_device {
    struct ggml_backend_device_i iface;
    ggml_backend_reg_t reg;
    void *context;
};

struct ggml_backend_reg_i {
    const char *(*get_name)(ggml_backend_reg_t reg);
    size_t (*get_device_count)(ggml_backend_reg_t reg);
    ggml_backend_dev_t (*get_device)(ggml_backend_reg_t reg, size_t index);
    void *(*get_proc_address)(ggml_backend_reg_t reg, const char *name);
};

struct ggml_backend_reg {
    int api_version;
    struct ggml_backend_reg_i iface;
    void *context;
};

struct ggml_backend_buffer_type {
    const char *(*get_name)(ggml_backend_buffer_type_t buft);
    void *alloc_buffer, *get_alignment, *get_max_size, *get_alloc_size, *is_host;
    ggml_backend_dev_t device;
    void *context;
};

/* ggml-cpu/ggml-cpu-impl.h: what a thread of the CPU backend computes a node with. */
struct ggml_compute_params {
    int ith, nth;
    size_t wsize; /* of wdata, which all threads share */
    void *wdata;
    void *threadpool;
    bool use_ref;
};

struct ggml_init_params {
    size_t mem_size;
    void *mem_buffer;
    bool no_alloc;
};

#endif
