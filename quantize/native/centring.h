/* K without its constant, and with channel pairs of equal spread.
 *
 * Before its position is put in, K of one KV head is a constant plus what the token says. In many models the
 * constant is the larger part by far (the bias of Qwen2's K, the norm weights of Gemma 3 and Qwen3), it carries no
 * information, and quantization noise grows with it. So rows are stored as
 *
 *     y = H (D^-1 (k - R_p c))
 *
 * k: the row as the graph makes it, position p in it; R_p: RoPE; c: the constant, per KV head; D: one positive factor
 * per channel pair, which commutes with R_p; H: the Hadamard rotation of llama.cpp. The score is put back exactly:
 *
 *     <q, k> = <H D q, y> + <q, R_p c>
 *
 * The second term depends on the query and the position alone. For a pair (a, b) that turns by t per position it is a
 * cosine of t p. In a tile of 64 cells at successive positions the slow pairs (31.5 t <= 1) together make a smooth
 * function: it is computed at ST_CENTRE_NODES positions and interpolated (Chebyshev nodes; the error is below
 * 2 (1/2)^8 / 8! = 2e-7 of the constant's score). Fast pairs, and tiles whose positions do not follow each other, are
 * computed cell by cell. */
#ifndef STRETCH_CENTRING_H
#define STRETCH_CENTRING_H

#include "stretch.h"

#include <stdatomic.h>

enum {
    ST_CENTRE_NODES = 8,
    ST_CENTRE_LANES = 16, /* of a row of nodes: those beyond ST_CENTRE_NODES are zero */
    ST_CENTRE_SPAN = 64,  /* positions that the tables of nodes and of one tile are about: ST_ATTN_TILE */
    ST_CENTRE_DIGITS = 4, /* a position is written with so many digits of base 64 */
};

/* Cosines and sines of the angles of some pairs. Layers that turn alike share one. */
typedef struct st_angles {
    struct st_angles *next;
    int32_t n_pair;
    double *per_position;              /* (pair): radians per position */
    float *cosine[ST_CENTRE_DIGITS];   /* (digit 64, pair) of digit * 64^i positions */
    float *sine[ST_CENTRE_DIGITS];
    float *tile_cosine, *tile_sine;    /* (pair, 64): of 0 to 63 positions */
    float *node_cosine, *node_sine;    /* (pair, ST_CENTRE_LANES): of the nodes' positions in a tile */
} st_angles;

/* The constant of one KV head, over the pairs in which there is one, the slow ones first. */
typedef struct st_centre_head {
    int32_t n_slow, n_fast; /* pairs */
    int32_t whole;          /* rows of positions below this keep the constant: they are unlike all others (sinks) */
    int32_t *pair;          /* index into the angles */
    int32_t *a, *b;         /* which values of the head the pair is */
    float *ca, *cb;         /* the constant there */
} st_centre_head;

typedef struct st_centre_layer {
    struct st_centre_layer *next;
    int32_t layer;    /* its number in the model */
    int32_t group;    /* which cache it lies in */
    bool leads;       /* the first of its group: it tells where the cells stand */
    int32_t n_head_kv, head_dim;
    int32_t hadamard; /* size of the rotation, 0: none */
    int32_t most_slow, most_fast; /* of any head */
    const st_angles *angles;
    st_centre_head *heads;
    float *scale, *inverse; /* (KV head, head_dim): D and 1 / D; NULL: all 1 */
} st_centre_layer;

typedef struct st_centring st_centring;

ST_API st_centring *st_centring_new(void);
/* One more layer. `first` and `second`, (n_pair): the values of a head that make up a pair; each value is in one.
 * `per_position`, (n_pair): radians. `centre` and `scale`, (n_head_kv, head_dim): c before RoPE, and D, whose two
 * values of a pair are equal; NULL: none. `whole`, (n_head_kv): see st_centre_head; NULL: 0. False if memory ran out or the numbers make no sense. */
ST_API bool st_centring_layer(st_centring *c, int32_t layer, int32_t group, int32_t n_head_kv, int32_t head_dim,
                              int32_t hadamard, int32_t n_pair, const int32_t *first, const int32_t *second,
                              const double *per_position, const float *centre, const float *scale,
                              const int32_t *whole);
/* Another holder; each gives it back with st_centring_free(). */
st_centring *st_centring_hold(st_centring *c);
ST_API void st_centring_free(st_centring *c);

/* NULL: the rows of this layer are stored as they are. */
ST_API const st_centre_layer *st_centring_find(const st_centring *c, int32_t layer);

/* cos and sin of a pair's angle at a position. */
static inline void st_angle(const st_angles *t, int32_t pair, int32_t position, float *cosine, float *sine) {
    uint32_t p = (uint32_t)position;
    size_t at = (size_t)(p % 64) * (size_t)t->n_pair + (size_t)pair;
    float c = t->cosine[0][at];
    float s = t->sine[0][at];
    for (int i = 1; (p /= 64) != 0 && i < ST_CENTRE_DIGITS; i++) {
        at = (size_t)(p % 64) * (size_t)t->n_pair + (size_t)pair;
        const float x = t->cosine[i][at];
        const float y = t->sine[i][at];
        const float turned = c * x - s * y;
        s = c * y + s * x;
        c = turned;
    }
    *cosine = c;
    *sine = s;
}

/* A row of K as the graph makes it (all heads, rotated by H if `hadamard`) becomes y, or comes back from it, in place. */
void st_centre_row(const st_centre_layer *l, float *row, int32_t position, bool back);

/* The same for n rows one after the other. `rotated`: the plain side has H in it, as in a quantized cache; else
 * it is as before H. False if there is no such layer. */
ST_API bool st_centring_rows(const st_centring *c, int32_t layer, float *rows, int64_t n, const int32_t *positions,
                             bool rotated, bool back);

/* (node, 64 cells): what each node counts for a cell. */
const float *st_centre_weights(void);

#endif
