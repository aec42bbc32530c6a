/* The softmax of one row over one tile (see attention_tile.h). */
/* ---------------------------------------------------------------- softmax */

/* tanh(x) = 1 - 2 / (1 + exp(2x)) */
static inline vf vf_tanh(vf x) {
    const vf e = vf_exp2(vf_min(vf_mul(x, vf_set1(2.885390081777927f)), vf_set1(60.0f)));
    return vf_fma(vf_set1(-2.0f), vf_div(vf_set1(1.0f), vf_add(e, vf_set1(1.0f))), vf_set1(1.0f));
}

/* Row `r` of the group that starts at `row`: scores to P, sums, factors. */
static inline void softmax_row(const item *it, const tile *t, int32_t row, int r) {
    const st_attn_job *job = &it->plan->job;
    const st_attn_side *v = &it->plan->v;
    const int32_t n_group = v->n_group;
    const uint8_t state = t->of_token[(row + r) / it->plan->heads_per_kv];
    float *s = it->x.s + r * TILE;
    vf x[VECS];
    const bool v_integers = t->v == INTEGERS;
    const vf u = vf_set1(t->k == INTEGERS ? it->x.q_scale[row + r] : 1.0f);
    for (int j = 0; j < VECS; j++) {
        x[j] = vf_mul(vf_load(s + j * VL), u);
    }
    if (t->constant.head != NULL) {
        for (int j = 0; j < VECS; j++) {
            x[j] = vf_add(x[j], vf_load(it->x.c_score + r * TILE + j * VL));
        }
    }
    if (job->softcap > 0.0f) {
        for (int j = 0; j < VECS; j++) {
            x[j] = vf_mul(vf_tanh(x[j]), vf_set1(job->softcap * LOG2E));
        }
    }
    if (state != PLAIN) {
        const vf to_log2 = vf_set1(LOG2E);
        if (t->n == TILE) {
            const uint16_t *m = mask_row(it, row + r, t->cell);
            for (int j = 0; j < VECS; j++) {
                x[j] = vf_add_mask(x[j], vf_load_f16(m + j * VL), to_log2);
            }
        } else {
            uint16_t edge[TILE];
            memset(edge, 0, sizeof edge);
            if (job->mask != NULL) {
                memcpy(edge, mask_row(it, row + r, t->cell), (size_t)t->n * sizeof edge[0]);
            }
            for (int32_t c = t->n; c < TILE; c++) {
                edge[c] = 0xfc00;
            }
            for (int j = 0; j < VECS; j++) {
                x[j] = vf_add_mask(x[j], vf_load_f16(edge + j * VL), to_log2);
            }
        }
    }
    if (v_integers) {
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
        it->x.alpha[r] = 1.0f;
        if (!v_integers) {
            memset(s, 0, TILE * sizeof(float));
            it->x.f[r] = 0.0f;
            return;
        }
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
        sum = v_integers ? vf_fma(x[j], vf_load(it->x.unlift + j * VL), sum) : vf_add(sum, x[j]);
    }
    const bool higher = m_tile > m_old;
    const float ratio = vf_first(vf_exp2(vf_set1(higher ? m_old - m_tile : m_tile - m_old)));
    const float alpha = higher ? ratio : 1.0f;
    const float f = higher ? 1.0f : ratio;
    it->x.m[row + r] = higher ? m_tile : m_old;
    it->x.l[row + r] = it->x.l[row + r] * alpha + vf_hsum(sum) * f;
    it->x.alpha[r] = alpha;
    if (t->cell < it->kept1) {
        keep_row(it, t, row + r, m_tile, x);
    }
    if (!v_integers) {
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
        it->x.f[r * n_group + g] = f * 0x1p-15f;
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

