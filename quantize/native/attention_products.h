/* The products of an item: scores, and values into the output (see attention_tile.h). */
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
            const int32_t *a = it->x.q_i16 + (size_t)row * (size_t)half + g * pairs * R;
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
        const float *a = it->x.q_f32 + (size_t)row * (size_t)dim;
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

