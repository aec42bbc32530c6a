/* Products of rows that are no integers with few query rows: a token that is being written (see
 * attention_tile.h).
 *
 * With many rows it pays to turn a tile of K around and to lay out V in strips. With few it does not: each
 * row is read once, and meets all query rows of its group in registers. Sums over the values of a row stay
 * in the lanes until VL cells are done, then they are added across at once.
 *
 * The rows are f32 in x.rows, or f16 where they lie: in an f16 cache, or among the exact rows of a window. */

/* Accumulators that fit into the registers beside the operands. */
enum { FEW_SUMS = MAX_ROWS == 12 ? 24 : 10 };

/* Cells (scores) or vectors of the output (values) that R rows can take at once. */
static inline __attribute__((always_inline)) int at_once(const int R, const int most) {
    return most * R <= FEW_SUMS ? most : most / 2 * R <= FEW_SUMS ? most / 2 : most / 4 * R <= FEW_SUMS ? most / 4 : 1;
}

/* ---------------------------------------------------------------- scores */

static inline __attribute__((always_inline)) vf load_row(const bool half, const char *row, int32_t d) {
    return half ? vf_load_f16((const uint16_t *)(const void *)row + d) : vf_load((const float *)(const void *)row + d);
}

/* Scores of rows that are f16 or f32. */
static inline __attribute__((always_inline)) void few_scores(const int R, const bool half, const item *it, int32_t row) {
    const int C = at_once(R, 4);
    const int32_t dim = it->plan->k.dim;
    const float *q = it->x.q_f32 + (size_t)row * (size_t)dim;
    for (int32_t c0 = 0; c0 < it->k_used; c0 += VL) { /* the mask hides what is left out */
        float sums[MAX_ROWS][VL * VL];
        for (int c = 0; c < VL; c += C) {
            const char *const *at = it->k_rows + c0 + c;
            vf acc[4][MAX_ROWS];
            for (int i = 0; i < C; i++) {
                if (it->k_ahead > 0) {
                    st_prefetch(at[i] + it->k_ahead, (size_t)dim * sizeof(uint16_t));
                }
                for (int r = 0; r < R; r++) {
                    acc[i][r] = vf_zero();
                }
            }
            for (int32_t d = 0; d < dim; d += VL) {
                for (int i = 0; i < C; i++) {
                    const vf k = load_row(half, at[i], d);
                    for (int r = 0; r < R; r++) {
                        acc[i][r] = vf_fma(vf_load(q + r * dim + d), k, acc[i][r]);
                    }
                }
            }
            for (int i = 0; i < C; i++) {
                for (int r = 0; r < R; r++) {
                    vf_store(sums[r] + (c + i) * VL, acc[i][r]);
                }
            }
        }
        for (int r = 0; r < R; r++) {
            vf_store(it->x.s + r * TILE + c0, vf_sums(sums[r]));
        }
    }
}

/* ---------------------------------------------------------------- values */

/* `N` vectors of the output of R rows, from value `d` on. */
static inline __attribute__((always_inline)) void few_values_part(const int R, const bool half, const int N, const item *it,
                                                                  int32_t row, int32_t d) {
    vf acc[MAX_ROWS][8];
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < N; j++) {
            acc[r][j] = vf_zero();
        }
    }
    const float *p = it->x.s;
    for (int32_t c = 0; c < it->v_used; c++) { /* P of the others is 0 */
        const char *at = it->v_rows[c];
        if (it->v_ahead > 0) {
            st_prefetch(at + it->v_ahead + (size_t)d * sizeof(uint16_t), (size_t)(N * VL) * sizeof(uint16_t));
        }
        vf v[8];
        for (int j = 0; j < N; j++) {
            v[j] = load_row(half, at, d + j * VL);
        }
        for (int r = 0; r < R; r++) {
            const vf x = vf_set1(p[r * TILE + c]);
            for (int j = 0; j < N; j++) {
                acc[r][j] = vf_fma(x, v[j], acc[r][j]);
            }
        }
    }
    for (int r = 0; r < R; r++) {
        float *o = it->x.o + (size_t)(row + r) * (size_t)padded(it->plan->v.dim) + d;
        const vf alpha = vf_set1(it->x.alpha[r]);
        const vf f = vf_set1(it->x.f[r]);
        for (int j = 0; j < N; j++) {
            vf_store(o + j * VL, vf_fma(acc[r][j], f, vf_mul(vf_load(o + j * VL), alpha)));
        }
    }
}

static inline __attribute__((always_inline)) void few_values(const int R, const bool half, const item *it, int32_t row) {
    const int N = at_once(R, 8);
    const int32_t dim = it->plan->v.dim;
    int32_t d = 0;
    for (; d + N * VL <= dim; d += N * VL) {
        few_values_part(R, half, N, it, row, d);
    }
    for (; d < dim; d += VL) {
        few_values_part(R, half, 1, it, row, d);
    }
}
