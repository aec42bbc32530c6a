/* The attention of one item, in the vector operations of the including file (attention_<isa>.c).
 *
 * Integer form. A cached row is K_c = s_c k_c with int8 codes k_c and one scale s_c per group of 32 to
 * 128 values (plus an offset for q4_1 and q5_1). A query row becomes int16: Q = u q. Then
 *
 *     <Q, K_c> = u * sum_g s_cg <q, k_c>_g            (int16 x int8 products, exact in int32)
 *
 * P becomes int16 too. With 2^e_c >= max_g |s_cg| the size of V_c, a contribution is
 *
 *     exp2(x_c) V_c = exp2(x_c + e_c) (s_cg 2^-e_c) v_c
 *
 * so the maximum m is taken over x_c + e_c, and p_cg = round(32767 exp2(x_c + e_c - m) s_cg 2^-e_c) spends its
 * 16 bits on the cell that contributes most, not on the one with the highest score. The sum of the softmax
 * is that of exp2(x_c + e_c - m) 2^-e_c, in f32.
 *
 * Sums stay below 64 * 32767 * 128 < 2^28 (V) and 256 * 32767 * 128 < 2^30 (K): no overflow. Rounding Q
 * and P to 16 bits is finer than the f16 rows of a stock cache (11 bits).
 *
 * Formats without an integer form are multiplied as f32. K and V are independent of each other.
 *
 * Layouts. A tile of B is kept in strips of WIDTH = 2 vectors: K with cells, V with values as columns.
 * Pairs of int16 share a lane; K pairs values (4i, 4i + 2) and (4i + 1, 4i + 3), V pairs cells (2i, 2i + 1). */
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
    int8_t *codes; /* (TILE, dim) */
    float *rows;   /* (TILE, dim) */
    void *kt;      /* int32 (N_STRIP, dk / 2, WIDTH) or f32 (N_STRIP, dk, WIDTH) */
    float *ks, *ko;
    void *vt; /* int32 (strips, TILE / 2, WIDTH) or f32 (strips, TILE, WIDTH) */
    float *vs, *vo;
    float *lift, *unlift; /* e_c and 2^-e_c */
    void *q; /* int32 (rows, dk / 2) or f32 (rows, dk) */
    float *q_scale, *q_sum;
    float *o, *m, *l;
    float *s;     /* (MAX_ROWS, TILE): scores, then P */
    int16_t *p16; /* (n_group_v, MAX_ROWS, TILE) */
    float *f;     /* (MAX_ROWS, n_group_v): factor of this tile's sums */
    float *p_off; /* (MAX_ROWS, n_group_v): offsets of V, summed */
    float *alpha; /* (MAX_ROWS): factor of the sums so far */
} scratch;

/* What is known of one item while it runs. */
typedef struct item {
    const st_attn_plan *plan;
    int32_t stream, head_kv, token0, n_tokens, n_rows;
    int32_t cell1; /* one past the last cell */
    int32_t cell;  /* first cell of the tile at hand */
    scratch x;
} item;

/* What the mask says of one tile. */
enum { HIDDEN = 0, PLAIN = 1, MIXED = 2 };

typedef struct tile_mask {
    uint8_t of_token[ST_ATTN_ROWS];
    uint16_t hidden[TILE]; /* 0xffff where no token sees the cell */
    int32_t n;             /* cells of the tile */
    bool any;
} tile_mask;

static inline int32_t padded(int32_t n) {
    return (n + WIDTH - 1) / WIDTH * WIDTH;
}

/* ---------------------------------------------------------------- scratch */

static void *take(char **at, size_t bytes) {
    char *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

static size_t lay_out(const st_attn_plan *plan, scratch *x, char *base) {
    const size_t rows = (size_t)plan->max_rows;
    const size_t dk = (size_t)plan->k.dim;
    const size_t dv = (size_t)padded(plan->v.dim);
    const size_t dim = dk > dv ? dk : dv;
    const size_t gk = (size_t)plan->k.n_group;
    const size_t gv = (size_t)plan->v.n_group;
    char *at = base;
    x->codes = take(&at, TILE * dim);
    x->rows = take(&at, TILE * dim * 4);
    x->kt = take(&at, TILE * dk * (plan->k.integers ? 2 : 4));
    x->ks = take(&at, gk * TILE * 4);
    x->ko = take(&at, gk * TILE * 4);
    x->vt = take(&at, TILE * dv * (plan->v.integers ? 2 : 4));
    x->vs = take(&at, gv * TILE * 4);
    x->vo = take(&at, gv * TILE * 4);
    x->lift = take(&at, TILE * 4);
    x->unlift = take(&at, TILE * 4);
    x->q = take(&at, rows * dk * (plan->k.integers ? 2 : 4));
    x->q_scale = take(&at, rows * 4);
    x->q_sum = take(&at, rows * gk * 4);
    x->o = take(&at, rows * dv * 4);
    x->m = take(&at, rows * 4);
    x->l = take(&at, rows * 4);
    x->s = take(&at, MAX_ROWS * TILE * 4);
    x->p16 = take(&at, MAX_ROWS * gv * TILE * 2);
    x->f = take(&at, MAX_ROWS * gv * 4);
    x->p_off = take(&at, MAX_ROWS * gv * 4);
    x->alpha = take(&at, MAX_ROWS * 4);
    return (size_t)(at - base);
}

static size_t scratch_bytes(const st_attn_plan *plan) {
    scratch x;
    return lay_out(plan, &x, NULL);
}

/* ---------------------------------------------------------------- the query rows */

static inline const float *query(const item *it, int32_t row) {
    const st_attn_job *job = &it->plan->job;
    const int32_t per = it->plan->heads_per_kv;
    const int32_t token = it->token0 + row / per;
    const int32_t head = it->head_kv * per + row % per;
    return (const float *)(job->q + (size_t)it->stream * job->q_stream + (size_t)head * job->q_head +
                           (size_t)token * job->q_token);
}

static inline void query_f32(const item *it, int32_t row, float factor, float *out) {
    const float *q = query(it, row);
    for (int32_t d = 0; d < it->plan->k.dim; d += VL) {
        vf_store(out + d, vf_mul(vf_load(q + d), vf_set1(factor)));
    }
}

/* Q = u q with |q| <= 32767, in the order of pack_k_codes_vl(). */
static inline void query_i16(const item *it, int32_t row, float factor, int16_t *out) {
    const st_attn_side *k = &it->plan->k;
    const float *q = query(it, row);
    vf top = vf_zero();
    for (int32_t d = 0; d < k->dim; d += VL) {
        const vf v = vf_load(q + d);
        top = vf_max(top, vf_max(v, vf_mul(v, vf_set1(-1.0f))));
    }
    const float largest = vf_hmax(top);
    const vf inverse = vf_set1(largest > 0.0f ? 32767.0f / largest : 0.0f);
    it->x.q_scale[row] = largest / 32767.0f * factor;
    int16_t plain[ST_ATTN_MAX_DIM];
    for (int32_t d = 0; d < k->dim; d += VL) {
        vf_store_i16(plain + d, vf_mul(vf_load(q + d), inverse));
    }
    for (int32_t g = 0; k->type->has_offset && g < k->n_group; g++) {
        int32_t sum = 0;
        for (int32_t d = g * k->group; d < (g + 1) * k->group; d++) {
            sum += plain[d];
        }
        it->x.q_sum[row * k->n_group + g] = (float)sum;
    }
    for (int32_t d = 0; d < k->dim; d += 4) {
        out[d] = plain[d];
        out[d + 1] = plain[d + 2];
        out[d + 2] = plain[d + 1];
        out[d + 3] = plain[d + 3];
    }
}

/* Rows are multiplied MAX_ROWS (12 or 6) at a time, what is left over in smaller groups. */
static inline int32_t group_of_rows(int32_t left) {
    if (MAX_ROWS == 12 && left >= 8) {
        return left >= 12 ? 12 : 8;
    }
    return left >= 6 ? 6 : left >= 4 ? 4 : left;
}

static void prepare_queries(item *it) {
    const st_attn_side *k = &it->plan->k;
    const float to_log2 = it->plan->job.softcap > 0.0f ? it->plan->job.scale / it->plan->job.softcap
                                                       : it->plan->job.scale * LOG2E;
    const int32_t lanes = k->integers ? k->dim / 2 : k->dim; /* of 32 bits, per row */
    for (int32_t row = 0, n = 0; row < it->n_rows; row += n) {
        n = group_of_rows(it->n_rows - row);
        for (int32_t r = 0; r < n; r++) {
            int32_t line[ST_ATTN_MAX_DIM];
            if (k->integers) {
                query_i16(it, row + r, to_log2, (int16_t *)line);
            } else {
                query_f32(it, row + r, to_log2, (float *)line);
            }
            /* (group of rows, chunk, row, CHUNK) */
            int32_t *out = (int32_t *)it->x.q + (size_t)row * (size_t)lanes + (size_t)r * CHUNK;
            for (int32_t i = 0; i < lanes; i += CHUNK, out += n * CHUNK) {
                memcpy(out, line + i, CHUNK * sizeof line[0]);
            }
        }
    }
    memset(it->x.o, 0, (size_t)it->n_rows * (size_t)padded(it->plan->v.dim) * sizeof(float));
    for (int32_t r = 0; r < it->n_rows; r++) {
        it->x.m[r] = -INFINITY;
        it->x.l[r] = 0.0f;
    }
}

/* ---------------------------------------------------------------- the mask of a tile */

static inline const uint16_t *mask_row(const item *it, int32_t row, int32_t cell) {
    const st_attn_job *job = &it->plan->job;
    const int32_t per = it->plan->heads_per_kv;
    const int32_t head = it->head_kv * per + row % per;
    return (const uint16_t *)(job->mask + (size_t)(it->stream % job->mask_streams) * job->mask_stream +
                              (size_t)(head % job->mask_heads) * job->mask_head +
                              (size_t)(it->token0 + row / per) * job->mask_token) +
           cell;
}

static void read_mask(const item *it, tile_mask *mask) {
    const int32_t cell = it->cell;
    const int32_t n = it->cell1 - cell < TILE ? it->cell1 - cell : TILE;
    const int32_t per = it->plan->heads_per_kv;
    mask->n = n;
    mask->any = false;
    if (it->plan->job.mask == NULL || it->plan->job.mask_heads > 1) {
        /* no mask, or one for every head: nothing is left out, and each row reads its own if there is one */
        memset(mask->hidden, 0, (size_t)n * sizeof mask->hidden[0]);
        memset(mask->hidden + n, 0xff, (size_t)(TILE - n) * sizeof mask->hidden[0]);
        memset(mask->of_token, it->plan->job.mask == NULL && n == TILE ? PLAIN : MIXED, (size_t)it->n_tokens);
        mask->any = true;
        return;
    }
    memset(mask->hidden, 0xff, sizeof mask->hidden);
    for (int32_t t = 0; t < it->n_tokens; t++) {
        const uint16_t *m = mask_row(it, t * per, cell);
        uint16_t some = 0;        /* any bit set: not all zero */
        uint16_t hidden = 0xffff; /* all are -inf */
        if (n == TILE) {
            for (int32_t c = 0; c < TILE; c++) {
                const uint16_t inf = (uint16_t)-(m[c] == 0xfc00);
                some |= m[c];
                hidden &= inf;
                mask->hidden[c] &= inf;
            }
        } else {
            some = 0xffff;
            for (int32_t c = 0; c < n; c++) {
                const uint16_t inf = (uint16_t)-(m[c] == 0xfc00);
                hidden &= inf;
                mask->hidden[c] &= inf;
            }
        }
        mask->of_token[t] = hidden ? HIDDEN : some ? MIXED : PLAIN;
        mask->any |= !hidden;
    }
}

/* ---------------------------------------------------------------- unpacking a tile */

/* The first row of the tile. */
static inline const char *tile_row(const char *base, size_t stream, size_t head, size_t cell, const item *it) {
    return base + (size_t)it->stream * stream + (size_t)it->head_kv * head + (size_t)it->cell * cell;
}

/* Codes of the tile into x.codes, scales and offsets by (group, cell). Cells that no row sees are not
 * read: they may hold anything, and count as zero. */
static void read_codes(const item *it, const st_attn_side *side, const char *base, size_t stride,
                       const tile_mask *mask, int32_t ld, float *scales, float *offsets) {
    float scale[ST_ATTN_MAX_DIM / 32];
    float offset[ST_ATTN_MAX_DIM / 32];
    const int32_t n_group = side->n_group;
    for (int32_t c = 0; c < TILE; c++) {
        int8_t *codes = it->x.codes + (size_t)c * (size_t)ld;
        if (mask->hidden[c]) {
            memset(codes, 0, (size_t)ld);
            for (int32_t g = 0; g < n_group; g++) {
                scales[g * TILE + c] = 0.0f;
                offsets[g * TILE + c] = 0.0f;
            }
            continue;
        }
        side->type->to_i8(base + (size_t)c * stride, codes, scale, offset, side->dim);
        for (int32_t g = 0; g < n_group; g++) {
            scales[g * TILE + c] = scale[g];
        }
        if (side->type->has_offset) { /* codes from 0 up: centred, so that their rounding errors are small */
            const int8_t middle = (int8_t)((side->type->q_max + 1) / 2);
            for (int32_t d = 0; d < side->dim; d++) {
                codes[d] = (int8_t)(codes[d] - middle);
            }
            for (int32_t g = 0; g < n_group; g++) {
                offsets[g * TILE + c] = offset[g] + scale[g] * (float)middle;
            }
        }
    }
}

static void read_rows(const item *it, const st_attn_side *side, const char *base, size_t stride,
                      const tile_mask *mask, int32_t ld) {
    for (int32_t c = 0; c < TILE; c++) {
        float *row = it->x.rows + (size_t)c * (size_t)ld;
        if (mask->hidden[c]) {
            memset(row, 0, (size_t)ld * sizeof(float));
        } else {
            side->type->to_f32(base + (size_t)c * stride, row, side->dim);
        }
    }
}

static void unpack_k(const item *it, const tile_mask *mask) {
    const st_attn_job *job = &it->plan->job;
    const st_attn_side *k = &it->plan->k;
    const char *base = tile_row(job->k, job->k_stream, job->k_head, job->k_cell, it);
    const int32_t dim = k->dim;
    if (k->integers) {
        read_codes(it, k, base, job->k_cell, mask, dim, it->x.ks, it->x.ko);
        for (int32_t c = 0; c < TILE; c += VL) {
            int32_t *strip = (int32_t *)it->x.kt + (size_t)(c / WIDTH) * (size_t)(dim / 2) * WIDTH;
            pack_k_codes_vl(it->x.codes + (size_t)c * (size_t)dim, dim, strip, WIDTH, c % WIDTH);
        }
    } else {
        read_rows(it, k, base, job->k_cell, mask, dim);
        for (int32_t c = 0; c < TILE; c += VL) {
            float *strip = (float *)it->x.kt + (size_t)(c / WIDTH) * (size_t)dim * WIDTH;
            pack_k_f32_vl(it->x.rows + (size_t)c * (size_t)dim, dim, strip, WIDTH, c % WIDTH);
        }
    }
}

/* e_c, and s_cg becomes 32767 s_cg 2^-e_c. Values that are 2^-40 of the largest of the tile or less count
 * as that small: they stay in the sum of the softmax and add nothing to the output. */
static void lift_values(const item *it) {
    const st_attn_side *v = &it->plan->v;
    float size[TILE];
    float largest = 0.0f;
    for (int32_t c = 0; c < TILE; c++) {
        size[c] = 0.0f;
    }
    for (int32_t g = 0; g < v->n_group; g++) {
        for (int32_t c = 0; c < TILE; c++) {
            const float s = fabsf(it->x.vs[g * TILE + c]);
            size[c] = s > size[c] ? s : size[c];
        }
    }
    for (int32_t c = 0; c < TILE; c++) {
        largest = size[c] > largest ? size[c] : largest;
    }
    const float least = largest > 0x1p-60f ? largest * 0x1p-40f : 0x1p-100f;
    for (int32_t c = 0; c < TILE; c++) {
        const float s = size[c] > least ? size[c] : least;
        const int32_t e = (int32_t)(st_f32_bits(s) >> 23) - 126; /* 2^(e-1) <= s < 2^e */
        it->x.lift[c] = (float)e;
        it->x.unlift[c] = st_f32_from_bits((uint32_t)(127 - e) << 23);
    }
    for (int32_t g = 0; g < v->n_group; g++) {
        for (int32_t c = 0; c < TILE; c++) {
            it->x.vs[g * TILE + c] *= 32767.0f * it->x.unlift[c];
        }
    }
    if (v->type->has_offset) {
        for (int32_t g = 0; g < v->n_group; g++) {
            for (int32_t c = 0; c < TILE; c++) {
                it->x.vo[g * TILE + c] *= it->x.unlift[c];
            }
        }
    }
}

static void unpack_v(const item *it, const tile_mask *mask) {
    const st_attn_job *job = &it->plan->job;
    const st_attn_side *v = &it->plan->v;
    const char *base = tile_row(job->v, job->v_stream, job->v_head, job->v_cell, it);
    const int32_t dim = padded(v->dim);
    if (v->integers) {
        read_codes(it, v, base, job->v_cell, mask, dim, it->x.vs, it->x.vo);
        for (int32_t d = 0; d < dim; d += WIDTH) {
            int32_t *strip = (int32_t *)it->x.vt + (size_t)(d / WIDTH) * (TILE / 2) * WIDTH;
            for (int32_t c = 0; c < TILE; c += 2) {
                const int8_t *a = it->x.codes + (size_t)c * (size_t)dim + d;
                pack_v_codes_pair(a, a + dim, strip + (c / 2) * WIDTH);
            }
        }
        lift_values(it);
    } else {
        read_rows(it, v, base, job->v_cell, mask, dim);
        for (int32_t d = 0; d < dim; d += WIDTH) {
            float *strip = (float *)it->x.vt + (size_t)(d / WIDTH) * TILE * WIDTH;
            for (int32_t c = 0; c < TILE; c++) {
                const float *row = it->x.rows + (size_t)c * (size_t)dim + d;
                vf_store(strip + c * WIDTH, vf_load(row));
                vf_store(strip + c * WIDTH + VL, vf_load(row + VL));
            }
        }
    }
}

/* ---------------------------------------------------------------- products
 * R rows of A times one strip of B; R is a constant wherever these are inlined. */

/* acc[r] += sum_k a[r * N + k] . b[k], N pairs of int16; N is the distance of two rows of A as well, so
 * that the addresses are constants. */
static inline __attribute__((always_inline)) void product_i16(const int R, const int N, vi acc[][2], const int32_t *a, const int32_t *b) {
#pragma GCC unroll 4
    for (int k = 0; k < N; k++) {
        const vi b0 = vi_load(b + k * WIDTH);
        const vi b1 = vi_load(b + k * WIDTH + VL);
        for (int r = 0; r < R; r++) {
            const vi x = vi_set1(a[r * N + k]);
            acc[r][0] = vi_dot2(acc[r][0], x, b0);
            acc[r][1] = vi_dot2(acc[r][1], x, b1);
        }
    }
}

static inline __attribute__((always_inline)) void product_f32(const int R, const int N, vf acc[][2], const float *a, const float *b) {
#pragma GCC unroll 4
    for (int k = 0; k < N; k++) {
        const vf b0 = vf_load(b + k * WIDTH);
        const vf b1 = vf_load(b + k * WIDTH + VL);
        for (int r = 0; r < R; r++) {
            const vf x = vf_set1(a[r * N + k]);
            acc[r][0] = vf_fma(x, b0, acc[r][0]);
            acc[r][1] = vf_fma(x, b1, acc[r][1]);
        }
    }
}

static inline __attribute__((always_inline)) void zero_i32(const int R, vi acc[][2]) {
    for (int r = 0; r < R; r++) {
        acc[r][0] = vi_zero();
        acc[r][1] = vi_zero();
    }
}

static inline __attribute__((always_inline)) void zero_f32(const int R, vf acc[][2]) {
    for (int r = 0; r < R; r++) {
        acc[r][0] = vf_zero();
        acc[r][1] = vf_zero();
    }
}

static inline __attribute__((always_inline)) void scores_i16(const int R, const item *it, int32_t row) {
    const st_attn_side *k = &it->plan->k;
    const int32_t half = k->dim / 2;
    const int32_t pairs = k->group / 2;
    for (int32_t strip = 0; strip < N_STRIP; strip++) {
        float *s = it->x.s + strip * WIDTH;
        for (int32_t g = 0; g < k->n_group; g++) {
            const int32_t *a = (const int32_t *)it->x.q + (size_t)row * (size_t)half + g * pairs * R;
            const int32_t *b = (const int32_t *)it->x.kt + (strip * half + g * pairs) * WIDTH;
            vi acc[MAX_ROWS][2];
            zero_i32(R, acc);
            for (int32_t k = 0; k < pairs; k += CHUNK) {
                product_i16(R, CHUNK, acc, a + k * R, b + k * WIDTH);
            }
            for (int j = 0; j < 2; j++) {
                const vf scale = vf_load(it->x.ks + g * TILE + strip * WIDTH + j * VL);
                for (int r = 0; r < R; r++) {
                    const vf part = vi_to_vf(acc[r][j]);
                    float *at = s + r * TILE + j * VL;
                    vf_store(at, g == 0 ? vf_mul(part, scale) : vf_fma(part, scale, vf_load(at)));
                }
                if (k->type->has_offset) {
                    const vf offset = vf_load(it->x.ko + g * TILE + strip * WIDTH + j * VL);
                    for (int r = 0; r < R; r++) {
                        float *at = s + r * TILE + j * VL;
                        const vf sum = vf_set1(it->x.q_sum[(row + r) * k->n_group + g]);
                        vf_store(at, vf_fma(sum, offset, vf_load(at)));
                    }
                }
            }
        }
    }
}

static inline __attribute__((always_inline)) void scores_f32(const int R, const item *it, int32_t row) {
    const int32_t dim = it->plan->k.dim;
    for (int32_t strip = 0; strip < N_STRIP; strip++) {
        const float *a = (const float *)it->x.q + (size_t)row * (size_t)dim;
        const float *b = (const float *)it->x.kt + strip * dim * WIDTH;
        vf acc[MAX_ROWS][2];
        zero_f32(R, acc);
        for (int32_t k = 0; k < dim; k += CHUNK) {
            product_f32(R, CHUNK, acc, a + k * R, b + k * WIDTH);
        }
        for (int r = 0; r < R; r++) {
            vf_store(it->x.s + r * TILE + strip * WIDTH, acc[r][0]);
            vf_store(it->x.s + r * TILE + strip * WIDTH + VL, acc[r][1]);
        }
    }
}

static inline __attribute__((always_inline)) void add_values_i16(const int R, const item *it, int32_t row) {
    const st_attn_side *v = &it->plan->v;
    const int32_t dim = padded(v->dim);
    const int32_t n_group = v->n_group;
    for (int32_t d = 0; d < dim; d += WIDTH) {
        const int32_t g = d / v->group;
        const int32_t *a = (const int32_t *)(it->x.p16 + g * MAX_ROWS * TILE);
        vi acc[MAX_ROWS][2];
        zero_i32(R, acc);
        product_i16(R, TILE / 2, acc, a, (const int32_t *)it->x.vt + d * (TILE / 2));
        for (int r = 0; r < R; r++) {
            float *o = it->x.o + (size_t)(row + r) * (size_t)dim + d;
            const vf alpha = vf_set1(it->x.alpha[r]);
            const vf f = vf_set1(it->x.f[r * n_group + g]);
            vf o0 = vf_fma(vi_to_vf(acc[r][0]), f, vf_mul(vf_load(o), alpha));
            vf o1 = vf_fma(vi_to_vf(acc[r][1]), f, vf_mul(vf_load(o + VL), alpha));
            if (v->type->has_offset) {
                const vf offset = vf_set1(it->x.p_off[r * n_group + g]);
                o0 = vf_add(o0, offset);
                o1 = vf_add(o1, offset);
            }
            vf_store(o, o0);
            vf_store(o + VL, o1);
        }
    }
}

static inline __attribute__((always_inline)) void add_values_f32(const int R, const item *it, int32_t row) {
    const int32_t dim = padded(it->plan->v.dim);
    for (int32_t d = 0; d < dim; d += WIDTH) {
        vf acc[MAX_ROWS][2];
        zero_f32(R, acc);
        product_f32(R, TILE, acc, it->x.s, (const float *)it->x.vt + d * TILE);
        for (int r = 0; r < R; r++) {
            float *o = it->x.o + (size_t)(row + r) * (size_t)dim + d;
            const vf alpha = vf_set1(it->x.alpha[r]);
            const vf f = vf_set1(it->x.f[r]);
            vf_store(o, vf_fma(acc[r][0], f, vf_mul(vf_load(o), alpha)));
            vf_store(o + VL, vf_fma(acc[r][1], f, vf_mul(vf_load(o + VL), alpha)));
        }
    }
}

/* ---------------------------------------------------------------- softmax */

/* tanh(x) = 1 - 2 / (1 + exp(2x)) */
static inline vf vf_tanh(vf x) {
    const vf e = vf_exp2(vf_min(vf_mul(x, vf_set1(2.885390081777927f)), vf_set1(60.0f)));
    return vf_fma(vf_set1(-2.0f), vf_div(vf_set1(1.0f), vf_add(e, vf_set1(1.0f))), vf_set1(1.0f));
}

/* Row `r` of the group that starts at `row`: scores to P, sums, factors. */
static inline void softmax_row(const item *it, int32_t row, int r, const tile_mask *mask) {
    const st_attn_job *job = &it->plan->job;
    const st_attn_side *v = &it->plan->v;
    const int32_t n_group = v->n_group;
    const uint8_t state = mask->of_token[(row + r) / it->plan->heads_per_kv];
    float *s = it->x.s + r * TILE;
    vf x[VECS];
    const vf u = vf_set1(it->plan->k.integers ? it->x.q_scale[row + r] : 1.0f);
    for (int j = 0; j < VECS; j++) {
        x[j] = vf_mul(vf_load(s + j * VL), u);
    }
    if (job->softcap > 0.0f) {
        for (int j = 0; j < VECS; j++) {
            x[j] = vf_mul(vf_tanh(x[j]), vf_set1(job->softcap * LOG2E));
        }
    }
    if (state != PLAIN) {
        const vf to_log2 = vf_set1(LOG2E);
        if (mask->n == TILE) {
            const uint16_t *m = mask_row(it, row + r, it->cell);
            for (int j = 0; j < VECS; j++) {
                x[j] = vf_add_mask(x[j], vf_load_f16(m + j * VL), to_log2);
            }
        } else {
            uint16_t edge[TILE];
            memset(edge, 0, sizeof edge);
            if (job->mask != NULL) {
                memcpy(edge, mask_row(it, row + r, it->cell), (size_t)mask->n * sizeof edge[0]);
            }
            for (int32_t c = mask->n; c < TILE; c++) {
                edge[c] = 0xfc00;
            }
            for (int j = 0; j < VECS; j++) {
                x[j] = vf_add_mask(x[j], vf_load_f16(edge + j * VL), to_log2);
            }
        }
    }
    if (v->integers) {
        for (int j = 0; j < VECS; j++) {
            x[j] = vf_add(x[j], vf_load(it->x.lift + j * VL));
        }
    }
    vf top = x[0];
    for (int j = 1; j < VECS; j++) {
        top = vf_max(top, x[j]);
    }
    const float m_tile = vf_hmax(top);
    const float m_old = it->x.m[row + r];
    if (m_tile == -INFINITY) { /* this row sees nothing here */
        memset(s, 0, TILE * sizeof(float));
        it->x.alpha[r] = 1.0f;
        for (int32_t g = 0; g < n_group; g++) {
            memset(it->x.p16 + (g * MAX_ROWS + r) * TILE, 0, TILE * sizeof(int16_t));
            it->x.f[r * n_group + g] = 0.0f;
            it->x.p_off[r * n_group + g] = 0.0f;
        }
        return;
    }
    const vf minus = vf_set1(-m_tile);
    vf sum = vf_zero();
    for (int j = 0; j < VECS; j++) {
        x[j] = vf_exp2(vf_add(x[j], minus));
        sum = v->integers ? vf_fma(x[j], vf_load(it->x.unlift + j * VL), sum) : vf_add(sum, x[j]);
    }
    const bool higher = m_tile > m_old;
    const float ratio = vf_first(vf_exp2(vf_set1(higher ? m_old - m_tile : m_tile - m_old)));
    const float alpha = higher ? ratio : 1.0f;
    const float f = higher ? 1.0f : ratio;
    it->x.m[row + r] = higher ? m_tile : m_old;
    it->x.l[row + r] = it->x.l[row + r] * alpha + vf_hsum(sum) * f;
    it->x.alpha[r] = alpha;
    if (!v->integers) {
        it->x.f[r] = f;
        for (int j = 0; j < VECS; j++) {
            vf_store(s + j * VL, x[j]);
        }
        return;
    }
    for (int32_t g = 0; g < n_group; g++) {
        int16_t *p = it->x.p16 + (g * MAX_ROWS + r) * TILE;
        for (int j = 0; j < VECS; j++) {
            vf_store_i16(p + j * VL, vf_mul(x[j], vf_load(it->x.vs + g * TILE + j * VL)));
        }
        it->x.f[r * n_group + g] = f * (1.0f / 32767.0f);
    }
    if (v->type->has_offset) {
        for (int32_t g = 0; g < n_group; g++) {
            vf total = vf_zero();
            for (int j = 0; j < VECS; j++) {
                total = vf_fma(x[j], vf_load(it->x.vo + g * TILE + j * VL), total);
            }
            it->x.p_off[r * n_group + g] = f * vf_hsum(total);
        }
    }
}

/* ---------------------------------------------------------------- an item */

static inline __attribute__((always_inline)) void rows_of_tile(const int R, const item *it, int32_t row, const tile_mask *mask) {
    if (it->plan->k.integers) {
        scores_i16(R, it, row);
    } else {
        scores_f32(R, it, row);
    }
    for (int r = 0; r < R; r++) {
        softmax_row(it, row, r, mask);
    }
    if (it->plan->v.integers) {
        add_values_i16(R, it, row);
    } else {
        add_values_f32(R, it, row);
    }
}

static void all_rows_of_tile(const item *it, const tile_mask *mask) {
    const int32_t per = it->plan->heads_per_kv;
    for (int32_t row = 0; row < it->n_rows;) {
        const int32_t left = it->n_rows - row;
        const int32_t n = group_of_rows(left);
        bool seen = false;
        for (int32_t t = row / per; t <= (row + n - 1) / per; t++) {
            seen |= mask->of_token[t] != HIDDEN;
        }
        if (seen) {
            switch (n) {
            case 1:
                rows_of_tile(1, it, row, mask);
                break;
            case 2:
                rows_of_tile(2, it, row, mask);
                break;
            case 3:
                rows_of_tile(3, it, row, mask);
                break;
            case 4:
                rows_of_tile(4, it, row, mask);
                break;
            case 6:
                rows_of_tile(6, it, row, mask);
                break;
            case 8:
                rows_of_tile(MAX_ROWS == 12 ? 8 : 1, it, row, mask); /* 8 and 12 only come with MAX_ROWS 12 */
                break;
            default:
                rows_of_tile(MAX_ROWS == 12 ? 12 : 1, it, row, mask);
            }
        }
        row += n;
    }
}

static void write_out(const item *it) {
    const st_attn_job *job = &it->plan->job;
    const int32_t per = it->plan->heads_per_kv;
    for (int32_t r = 0; r < it->n_rows; r++) {
        const int32_t token = it->token0 + r / per;
        const int32_t head = it->head_kv * per + r % per;
        const float *o = it->x.o + (size_t)r * (size_t)padded(job->dv);
        st_attn_write_row(job, it->stream, token, head, it->x.m[r], it->x.l[r], o);
    }
}

static void write_partial(const item *it, float *partial) {
    const int32_t dv = it->plan->v.dim;
    for (int32_t r = 0; r < it->n_rows; r++) {
        float *out = partial + (size_t)r * (size_t)(ST_ATTN_PARTIAL_HEAD + dv);
        out[0] = it->x.m[r];
        out[1] = it->x.l[r];
        memcpy(out + ST_ATTN_PARTIAL_HEAD, it->x.o + (size_t)r * (size_t)padded(dv), (size_t)dv * sizeof(float));
    }
}

static void run_item(const st_attn_plan *plan, int32_t index, void *memory, float *partial) {
    item it;
    const st_attn_whole whole = st_attn_whole_of(plan, index / plan->n_chunk);
    const int32_t cells = plan->chunk_tiles * TILE;
    const int32_t cell0 = index % plan->n_chunk * cells;
    it.plan = plan;
    it.stream = whole.stream;
    it.head_kv = whole.head_kv;
    it.token0 = whole.token0;
    it.n_tokens = whole.n_tokens;
    it.n_rows = whole.n_tokens * plan->heads_per_kv;
    it.cell1 = plan->job.n_cells - cell0 < cells ? plan->job.n_cells : cell0 + cells;
    lay_out(plan, &it.x, memory);
    prepare_queries(&it);
    for (it.cell = cell0; it.cell < it.cell1; it.cell += TILE) {
        tile_mask mask;
        read_mask(&it, &mask);
        if (mask.any) {
            unpack_k(&it, &mask);
            unpack_v(&it, &mask);
            all_rows_of_tile(&it, &mask);
        }
    }
    if (partial != NULL) {
        write_partial(&it, partial);
    } else {
        write_out(&it);
    }
}
