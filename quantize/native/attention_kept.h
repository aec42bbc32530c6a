/* The probabilities that cells get, out of the softmax of the attention itself (see attention_tile.h).
 *
 * P of a tile is relative to the row's maximum in that tile. The sum over all cells is known when the item is done:
 * then one factor per row and tile makes probabilities of it, and they are added up cell by cell. */

static void begin_keeping(item *it) {
    it->kept1 = kept_cells(it->plan);
    for (int32_t i = 0; i < it->kept1 / TILE * kept_rows(it->plan); i++) {
        it->x.kept_top[i] = -INFINITY;
    }
}

/* P of one row of the item in one tile, as softmax_row() has it. */
static inline void keep_row(const item *it, const tile *t, int32_t row, float top, const vf *p) {
    const int32_t index = t->cell / TILE;
    float *at = it->x.kept + ((size_t)index * (size_t)it->plan->max_rows + (size_t)row) * TILE;
    it->x.kept_top[index * kept_rows(it->plan) + row] = top;
    for (int j = 0; j < VECS; j++) {
        vf_store(at + j * VL, t->v == INTEGERS ? vf_mul(p[j], vf_load(it->x.unlift + j * VL)) : p[j]);
    }
}

static void add_kept(const item *it, const st_attn_mass *into) {
    const st_attn_job *job = &it->plan->job;
    const int32_t per = it->plan->heads_per_kv;
    const int32_t rows = kept_rows(it->plan);
    float *m = it->x.kept_f;
    float *f = m + rows;
    memset(m, 0, 2 * (size_t)rows * sizeof(float));
    for (int32_t r = 0; r < it->n_rows; r++) {
        f[r] = st_attn_factor(job, it->head_kv * per + r % per, it->x.m[r], it->x.l[r]);
        m[r] = f[r] > 0.0f ? it->x.m[r] : 0.0f;
    }
    const size_t first = (size_t)it->head_kv * (size_t)st_attn_mass_cells(job);
    for (int32_t cell = 0; cell < it->kept1; cell += TILE) {
        float *factor = it->x.kept_top + cell / TILE * rows;
        for (int32_t r = 0; r < rows; r += VL) {
            const vf more = vf_exp2(vf_add(vf_load(factor + r), vf_mul(vf_load(m + r), vf_set1(-1.0f))));
            vf_store(factor + r, vf_mul(more, vf_load(f + r)));
        }
        const float *kept = it->x.kept + (size_t)(cell / TILE) * (size_t)it->plan->max_rows * TILE;
        for (int32_t c = 0; c < TILE; c += 4 * VL) { /* sums in registers */
            float *most = into->most + first + cell + c;
            float *sum = into->sum + first + cell + c;
            vf a[4];
            vf b[4];
            for (int j = 0; j < 4; j++) {
                a[j] = vf_load(most + j * VL);
                b[j] = vf_load(sum + j * VL);
            }
            for (int32_t r = 0; r < it->n_rows; r++) {
                if (factor[r] == 0.0f) { /* nothing was kept of this row */
                    continue;
                }
                const vf x = vf_set1(factor[r]);
                for (int j = 0; j < 4; j++) {
                    const vf p = vf_mul(vf_load(kept + r * TILE + c + j * VL), x);
                    a[j] = vf_max(a[j], p);
                    b[j] = vf_add(b[j], p);
                }
            }
            for (int j = 0; j < 4; j++) {
                vf_store(most + j * VL, a[j]);
                vf_store(sum + j * VL, b[j]);
            }
        }
    }
}
