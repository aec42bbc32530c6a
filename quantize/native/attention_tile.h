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
 * so the maximum m is taken over x_c + e_c, and p_cg = round(2^15 exp2(x_c + e_c - m) s_cg 2^-e_c) spends its
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
#include "attention_item.h"
#include "attention_products.h"

#include "attention_centre.h"
#include "attention_query.h"
#include "attention_unpack.h"

#include "attention_few.h"
#include "attention_kept.h"
#include "attention_softmax.h"

/* ---------------------------------------------------------------- an item */

static inline __attribute__((always_inline)) void rows_of_tile(const int R, const item *it, const tile *t, int32_t row) {
    if (t->k == INTEGERS) {
        scores_i16(R, it, row);
    } else if (it->plan->few) {
        few_scores(R, t->k == HALVES, it, row);
    } else {
        scores_f32(R, it, row);
    }
    if (t->constant.head != NULL) {
        constant_scores(R, it, t, row);
    }
    for (int r = 0; r < R; r++) {
        softmax_row(it, t, row, r);
    }
    if (t->v == INTEGERS) {
        add_values_i16(R, it, row);
    } else if (it->plan->few) {
        few_values(R, t->v == HALVES, it, row);
    } else {
        add_values_f32(R, it, row);
    }
}

static void all_rows_of_tile(const item *it, const tile *t) {
    const int32_t per = it->plan->heads_per_kv;
    for (int32_t row = 0; row < it->n_rows;) {
        const int32_t left = it->n_rows - row;
        const int32_t n = group_of_rows(left);
        bool seen = false;
        for (int32_t i = row / per; i <= (row + n - 1) / per; i++) {
            seen |= t->of_token[i] != HIDDEN;
        }
        if (seen) {
            switch (n) {
            case 1:
                rows_of_tile(1, it, t, row);
                break;
            case 2:
                rows_of_tile(2, it, t, row);
                break;
            case 3:
                rows_of_tile(3, it, t, row);
                break;
            case 4:
                rows_of_tile(4, it, t, row);
                break;
            case 6:
                rows_of_tile(6, it, t, row);
                break;
            case 8:
                rows_of_tile(MAX_ROWS == 12 ? 8 : 1, it, t, row); /* 8 and 12 only come with MAX_ROWS 12 */
                break;
            default:
                rows_of_tile(MAX_ROWS == 12 ? 12 : 1, it, t, row);
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

static void run_item(const st_attn_plan *plan, int32_t index, void *memory, float *partial, const st_attn_mass *mass) {
    item it;
    const st_attn_whole whole = st_attn_whole_of(plan, index / plan->n_chunk);
    const int32_t cells = plan->chunk_tiles * TILE;
    const int32_t cell0 = index % plan->n_chunk * cells;
    it.plan = plan;
    it.stream = whole.stream;
    it.token0 = whole.token0;
    it.n_tokens = whole.n_tokens;
    it.n_rows = whole.n_tokens * plan->heads_per_kv;
    it.cell1 = plan->job.n_cells - cell0 < cells ? plan->job.n_cells : cell0 + cells;
    char *at = memory;
    at += lay_out_tile(plan, &it.x, at);
    at += lay_out_kept(plan, &it.x, at);
    it.heads = at;
    it.head_bytes = lay_out_head(plan, &it.x, it.heads);
    if (plan->few) {
        memset(it.x.zeros, 0, (size_t)(plan->k.dim > plan->v.dim ? plan->k.dim : plan->v.dim) * sizeof(float));
    }
    for (int32_t h = 0; h < plan->item_heads; h++) {
        use_head(&it, whole.head_kv0 + h, h);
        prepare_queries(&it);
    }
    begin_keeping(&it);
    tile t;
    for (t.cell = cell0; t.cell < it.cell1; t.cell += TILE) {
        read_mask(&it, &t);
        for (int32_t h = 0; t.seen && h < plan->item_heads; h++) {
            use_head(&it, whole.head_kv0 + h, h);
            place_constant(&it, &t);
            unpack_k(&it, &t);
            unpack_v(&it, &t);
            all_rows_of_tile(&it, &t);
        }
    }
    for (int32_t h = 0; h < plan->item_heads; h++) {
        use_head(&it, whole.head_kv0 + h, h);
        if (partial != NULL) {
            write_partial(&it, partial + (size_t)h * (plan->partial_floats / (size_t)plan->item_heads));
        } else {
            write_out(&it);
        }
        if (mass != NULL) {
            add_kept(&it, mass);
        }
    }
}
