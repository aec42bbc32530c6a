/* What one thread knows and keeps while it computes an item (see attention_tile.h). */
#include "attention.h"
#include "f16.h"

#include <math.h>
#include <string.h>

enum {
    TILE = ST_ATTN_TILE,
    WIDTH = 2 * VL,
    N_STRIP = TILE / WIDTH, /* strips of a K tile */
    VECS = TILE / VL,
    CHUNK = 16, /* values (f32) or pairs (int16) of a query row that lie together, see prepare_queries() */
};

static const float LOG2E = 1.4426950408889634f;

typedef struct scratch {
    int8_t *codes;           /* (TILE, dim) */
    float *rows, *v_rows;    /* (TILE, dim); the same memory unless plan->few */
    char *zeros;             /* a row of f32 or f16 */
    void *kt;      /* int32 (N_STRIP, dk / 2, WIDTH) or f32 (N_STRIP, dk, WIDTH) */
    float *ks, *ko;
    void *vt; /* int32 (strips, TILE / 2, WIDTH) or f32 (strips, TILE, WIDTH) */
    float *vs, *vo;
    float *lift, *unlift; /* e_c and 2^-e_c */
    float *s;     /* (MAX_ROWS, TILE): scores, then P */
    int16_t *p16; /* (n_group_v, MAX_ROWS, TILE) */
    float *f;     /* (MAX_ROWS, n_group_v): factor of this tile's sums */
    float *p_off; /* (MAX_ROWS, n_group_v): offsets of V, summed */
    float *alpha; /* (MAX_ROWS): factor of the sums so far */
    /* the constant of K (attention_centre.h) */
    float *c_nodes; /* (2 slow pairs, ST_CENTRE_LANES): R_p c at the nodes of the tile */
    float *c_cells; /* (2 pairs, TILE): R_p c in the cells */
    float *c_score; /* (MAX_ROWS, TILE): its scores */
    /* of one KV head */
    int32_t *q_i16; /* pairs of int16 (rows, dk / 2) */
    float *q_f32;   /* (rows, dk) */
    float *q_scale, *q_sum;
    float *o, *m, *l;
    float *q_centre; /* (rows, 2 pairs): the query where the constant is */
    /* Where probabilities are asked for: P of every counted tile, relative to the row's maximum in it. */
    float *kept;     /* (tiles, max_rows, TILE) */
    float *kept_top; /* (tiles, rows): that maximum, -inf where the row sees nothing */
    float *kept_f;   /* (2, rows): a row's maximum of all, and the factor that makes probabilities */
} scratch;

/* What is known of one item while it runs. */
typedef struct item {
    const st_attn_plan *plan;
    int32_t stream, token0, n_tokens, n_rows;
    int32_t head_kv; /* the one at hand */
    int32_t cell1;   /* one past the last cell */
    int32_t kept1;   /* one past the last cell whose probabilities are kept */
    scratch x;
    char *heads; /* what is kept of each KV head */
    size_t head_bytes;
    /* With few rows: where the rows of the tile are, and how far from there those of the next tile, f16 as well (0:
     * unknown). */
    const char *k_rows[TILE], *v_rows[TILE];
    size_t k_ahead, v_ahead;
    int32_t k_used, v_used; /* one past the last row that any token sees */
} item;

/* What the mask says of one token in one tile. */
enum { HIDDEN = 0, PLAIN = 1, MIXED = 2 };

/* How the rows of a tile are multiplied: as integers, as f32 out of x.rows, or as f16 where they lie. */
typedef enum form { INTEGERS, FLOATS, HALVES } form;

/* How the constant of K is put back in a tile. */
typedef struct constant {
    const st_centre_head *head; /* NULL: there is none */
    int32_t n_slow;             /* pairs that are interpolated between nodes */
    int32_t n_cells;            /* pairs that are computed cell by cell */
    int32_t n_whole;            /* of the first cells: their rows are whole */
} constant;

/* What is known of one tile. */
typedef struct tile {
    int32_t cell; /* its first */
    int32_t n;    /* cells in it */
    bool seen;    /* by any token */
    form k, v;
    uint8_t of_token[ST_ATTN_ROWS];
    uint16_t hidden[TILE]; /* 0xffff where no token sees the cell */
    constant constant;     /* of the head at hand */
} tile;

static inline int32_t padded(int32_t n) {
    return (n + WIDTH - 1) / WIDTH * WIDTH;
}

/* ---------------------------------------------------------------- scratch */

static void *take(char **at, size_t bytes) {
    char *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

/* Whether any tile is multiplied as f32. */
static inline bool rows_f32(const st_attn_side *side, const st_exact *exact) {
    return !side->integers || exact != NULL;
}

/* Most pairs of a head that have a constant. */
static inline int32_t centre_pairs(const st_attn_plan *plan) {
    const st_centre_layer *l = plan->job.centre;
    return l != NULL ? l->most_slow + l->most_fast : 0;
}

/* What is kept of one KV head from tile to tile. */
static size_t lay_out_head(const st_attn_plan *plan, scratch *x, char *base) {
    const size_t rows = (size_t)plan->max_rows;
    const size_t dk = (size_t)plan->k.dim;
    char *at = base;
    x->q_i16 = take(&at, plan->k.integers ? rows * dk * 2 : 0);
    x->q_f32 = take(&at, rows_f32(&plan->k, plan->job.exact_k) ? rows * dk * 4 : 0);
    x->q_scale = take(&at, rows * 4);
    x->q_sum = take(&at, rows * (size_t)plan->k.n_group * 4);
    x->q_centre = take(&at, rows * (size_t)(2 * centre_pairs(plan)) * 4);
    x->o = take(&at, rows * (size_t)padded(plan->v.dim) * 4);
    x->m = take(&at, rows * 4);
    x->l = take(&at, rows * 4);
    return (size_t)(at - base);
}

/* What a tile needs. */
static size_t lay_out_tile(const st_attn_plan *plan, scratch *x, char *base) {
    const size_t dk = (size_t)plan->k.dim;
    const size_t dv = (size_t)padded(plan->v.dim);
    const size_t dim = dk > dv ? dk : dv;
    const size_t gk = (size_t)plan->k.n_group;
    const size_t gv = (size_t)plan->v.n_group;
    char *at = base;
    x->codes = take(&at, TILE * dim);
    x->rows = take(&at, TILE * dim * 4);
    x->v_rows = plan->few ? take(&at, TILE * dim * 4) : x->rows;
    x->zeros = take(&at, plan->few ? dim * 4 : 0);
    x->kt = take(&at, TILE * dk * (rows_f32(&plan->k, plan->job.exact_k) ? 4 : 2));
    x->ks = take(&at, gk * TILE * 4);
    x->ko = take(&at, gk * TILE * 4);
    x->vt = take(&at, TILE * dv * (rows_f32(&plan->v, plan->job.exact_v) ? 4 : 2));
    x->vs = take(&at, gv * TILE * 4);
    x->vo = take(&at, gv * TILE * 4);
    x->lift = take(&at, TILE * 4);
    x->unlift = take(&at, TILE * 4);
    x->s = take(&at, MAX_ROWS * TILE * 4);
    x->p16 = take(&at, MAX_ROWS * gv * TILE * 2);
    x->f = take(&at, MAX_ROWS * gv * 4);
    x->p_off = take(&at, MAX_ROWS * gv * 4);
    x->alpha = take(&at, MAX_ROWS * 4);
    const size_t pairs = (size_t)centre_pairs(plan);
    x->c_nodes = take(&at, 2 * pairs * ST_CENTRE_LANES * 4);
    x->c_cells = take(&at, 2 * pairs * TILE * 4);
    x->c_score = take(&at, pairs > 0 ? MAX_ROWS * TILE * 4 : 0);
    return (size_t)(at - base);
}

/* Rows, so that vectors of them can be read. */
static inline int32_t kept_rows(const st_attn_plan *plan) {
    return (plan->max_rows + VL - 1) / VL * VL;
}

/* Cells of the item whose probabilities are kept, in whole tiles. */
static inline int32_t kept_cells(const st_attn_plan *plan) {
    const int32_t counted = st_attn_mass_cells(&plan->job);
    const int32_t all = st_attn_whole_tiles(plan->job.n_cells);
    return counted < all ? counted : all;
}

/* What the probabilities need. */
static size_t lay_out_kept(const st_attn_plan *plan, scratch *x, char *base) {
    const size_t cells = (size_t)kept_cells(plan);
    char *at = base;
    x->kept = take(&at, cells * (size_t)plan->max_rows * 4);
    x->kept_top = take(&at, cells / TILE * (size_t)kept_rows(plan) * 4);
    x->kept_f = take(&at, cells > 0 ? 2 * (size_t)kept_rows(plan) * 4 : 0);
    return (size_t)(at - base);
}

static size_t scratch_bytes(const st_attn_plan *plan) {
    scratch x;
    return lay_out_tile(plan, &x, NULL) + lay_out_kept(plan, &x, NULL) +
           (size_t)plan->item_heads * lay_out_head(plan, &x, NULL);
}

/* Go on with head `i` of the item. */
static inline void use_head(item *it, int32_t head_kv, int32_t i) {
    it->head_kv = head_kv;
    lay_out_head(it->plan, &it->x, it->heads + (size_t)i * it->head_bytes);
}
