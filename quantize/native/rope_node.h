/* The ROPE node behind a write to a K cache: how a layer of the running model turns K by position.
 *
 * llama.cpp puts everything into that node that a model's metadata, its architecture and the context's
 * parameters say: base, scaling, YaRN, frequency factors, which values turn. So nothing of it has to be worked
 * out a second time. */
#ifndef STRETCH_ROPE_NODE_H
#define STRETCH_ROPE_NODE_H

#include "ggml_backend_abi.h"
#include "stretch.h"

enum {
    ST_ROPE_NONE = 0,    /* the layer knows no positions */
    ST_ROPE_KNOWN = 1,   /* K is what the ROPE node made, but for a Hadamard rotation and factors per head */
    ST_ROPE_UNKNOWN = 2, /* K comes from a ROPE node, and something else has changed it since */
};

/* Read by Python too, see rope_node.py. The numbers are those of ggml_rope_ext() and ggml_rope_multi(). */
typedef struct st_rope_params {
    int32_t kind; /* ST_ROPE_...; with NONE and UNKNOWN the rest is 0 */
    int32_t n_dims;
    int32_t mode; /* enum GGML_ROPE_TYPE: 0 pairs of neighbours, 2 halves, 8 and 40 M-RoPE */
    int32_t n_ctx_orig;
    int32_t offset;   /* first value of a head that turns */
    int32_t head_dim; /* values of a head */
    int32_t hadamard; /* size of the Hadamard rotation between ROPE and the cache, 0 for none */
    int32_t n_factors;
    float freq_base;
    float freq_scale;
    float ext_factor;
    float attn_factor;
    float beta_fast;
    float beta_slow;
    int32_t sections[4];
    const struct ggml_tensor *factors;   /* f32, each divides the frequency of a pair; NULL for none */
    const struct ggml_tensor *positions; /* i32; its values are there while the graph is computed */
} st_rope_params;

/* What the SET_ROWS node that writes to the K cache of a layer got its rows from. Goes back from there through
 * what only moves values, and through what commutes with turning a head. False if it writes to no K cache. */
ST_API bool st_rope_of_node(const struct ggml_tensor *set_rows, st_rope_params *out);

/* The device shows every SET_ROWS node that it is asked about. Nothing happens unless somebody records. */
void st_rope_show(const struct ggml_tensor *set_rows);

/* Forget what was recorded, and record what contexts show that are created from now on. */
ST_API void st_rope_record(void);
/* Record no more. What was recorded stays. */
ST_API void st_rope_stop(void);
/* What was recorded of a layer (its number in the model), false for nothing. Its `positions` are NULL. */
ST_API bool st_rope_recorded(int32_t layer, st_rope_params *out);

#endif
