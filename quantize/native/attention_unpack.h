/* K and V of a tile (see attention_tile.h). */
/* How the rows of a tile are found: in the cache, or among the exact ones. */
typedef struct source {
    const st_attn_side *side;
    const char *base; /* the first row of the tile */
    size_t stride;    /* of cells */
    size_t head_at;   /* bytes from a cell's first head to this one */
    const st_exact *exact; /* of the stream; NULL */
} source;

static inline source source_of(const item *it, const st_attn_side *side, const char *base, size_t stream,
                               size_t head, size_t stride, const st_exact *exact, const tile *t) {
    const source s = {side,
                      base + (size_t)it->stream * stream + (size_t)it->head_kv * head + (size_t)t->cell * stride, stride,
                      (size_t)it->head_kv * head, exact != NULL ? exact + it->stream : NULL};
    return s;
}

/* Bytes from a row to the one of the next tile of this item; 0: there is none. */
static inline size_t ahead_of(const item *it, const source *s, const tile *t) {
    return t->cell + TILE < it->cell1 ? (size_t)TILE * s->stride : 0;
}

/* The exact rows that this item reads in the tile, by cell. False if there are none. */
static bool find_exact(const item *it, const source *s, const tile *t, const st_exact_row *by_cell[TILE]) {
    if (s->exact == NULL) {
        return false;
    }
    bool any = false;
    for (int32_t i = s->exact->first[t->cell / TILE]; i >= 0; i = s->exact->rows[i].next) {
        const st_exact_row *row = &s->exact->rows[i];
        if (row->order >= it->token0 - it->plan->job.exact_window) {
            if (!any) {
                memset(by_cell, 0, TILE * sizeof by_cell[0]);
            }
            by_cell[row->cell % TILE] = row;
            any = true;
        }
    }
    return any;
}

/* Whether every cell that any row sees has an exact row that still counts. */
static bool all_exact(const source *s, const tile *t, const st_exact_row *const *by_cell) {
    const size_t bytes = st_row_size(s->side->type, s->side->dim);
    for (int32_t c = 0; c < TILE; c++) {
        if (!t->hidden[c] && (by_cell[c] == NULL || memcmp(by_cell[c]->packed + s->head_at,
                                                           s->base + (size_t)c * s->stride, bytes) != 0)) {
            return false;
        }
    }
    return true;
}

/* Codes of the tile, scales and offsets by (group, cell). Cells that no row sees are not read: they may hold
 * anything, and count as zero. */
static void read_codes(const item *it, const source *s, const tile *t, float *scales, float *offsets) {
    const st_attn_side *side = s->side;
    st_rows rows = {NULL, s->stride, ahead_of(it, s, t), 0, side->dim, TILE, NULL, NULL, NULL};
    for (int32_t c = 0; c < TILE; c += rows.n_row) {
        rows.n_row = 1;
        while (c + rows.n_row < TILE && t->hidden[c + rows.n_row] == t->hidden[c]) {
            rows.n_row++;
        }
        rows.src = s->base + (size_t)c * s->stride;
        rows.q = it->x.codes + (size_t)c * (size_t)side->dim;
        rows.scale = scales + c;
        rows.offset = offsets + c;
        if (!t->hidden[c]) {
            side->type->to_i8(&rows);
            continue;
        }
        memset(rows.q, 0, (size_t)(rows.n_row * side->dim));
        for (int32_t g = 0; g < side->n_group; g++) {
            memset(rows.scale + g * TILE, 0, (size_t)rows.n_row * sizeof(float));
            memset(rows.offset + g * TILE, 0, (size_t)rows.n_row * sizeof(float));
        }
    }
    if (side->type->has_offset) { /* codes from 0 up: centred, so that their rounding errors are small */
        const int8_t middle = (int8_t)((side->type->q_max + 1) / 2);
        for (int32_t d = 0; d < TILE * side->dim; d++) {
            it->x.codes[d] = (int8_t)(it->x.codes[d] - middle);
        }
        for (int32_t i = 0; i < TILE * side->n_group; i++) {
            offsets[i] += scales[i] * (float)middle;
        }
    }
}

/* The tile as f32. `by_cell` is NULL, or names exact rows: they are taken where the cache
 * still holds what was made from them. */
static void read_rows(const item *it, const source *s, const tile *t, float *into, int32_t ld,
                      const st_exact_row *const *by_cell) {
    const st_attn_side *side = s->side;
    const st_row_type *f16 = it->plan->f16;
    const size_t bytes = st_row_size(side->type, side->dim);
    const size_t ahead = ahead_of(it, s, t);
    for (int32_t c = 0; c < TILE; c++) {
        float *row = into + (size_t)c * (size_t)ld;
        const char *cached = s->base + (size_t)c * s->stride;
        if (ahead > 0) {
            st_prefetch(cached + ahead, bytes);
        }
        if (t->hidden[c]) {
            memset(row, 0, (size_t)ld * sizeof(float));
        } else if (by_cell != NULL && by_cell[c] != NULL &&
                   memcmp(by_cell[c]->packed + s->head_at, cached, bytes) == 0) {
            f16->to_f32(by_cell[c]->values + (size_t)it->head_kv * (size_t)side->dim, row, side->dim);
        } else {
            side->type->to_f32(cached, row, side->dim);
        }
    }
}

/* Fetch the exact rows of the next tile: they lie anywhere. */
static void fetch_exact(const item *it, const source *s, const tile *t) {
    if (s->exact == NULL || t->cell + TILE >= it->cell1) {
        return;
    }
    const size_t packed = st_row_size(s->side->type, s->side->dim);
    const size_t values = (size_t)s->side->dim * sizeof(uint16_t);
    for (int32_t i = s->exact->first[t->cell / TILE + 1]; i >= 0; i = s->exact->rows[i].next) {
        const st_exact_row *row = &s->exact->rows[i];
        st_prefetch(row->packed + s->head_at, packed);
        st_prefetch((const char *)row->values + (size_t)it->head_kv * values, values);
    }
}

/* With few rows: where they are, as f16 or f32, and how many. False if they are integers. */
static bool find_rows(const item *it, const source *s, const tile *t, float *rows, int32_t ld, form *found,
                      const char *at[TILE], size_t *ahead, int32_t *used) {
    const st_attn_side *side = s->side;
    const bool half = side->type == it->plan->f16;
    const st_exact_row *exact[TILE];
    const bool any = !half && find_exact(it, s, t, exact);
    fetch_exact(it, s, t);
    if (side->integers && !any) {
        return false;
    }
    const bool as_they_lie = half || (any && all_exact(s, t, exact));
    *found = as_they_lie ? HALVES : FLOATS;
    *ahead = half ? ahead_of(it, s, t) : 0;
    if (!as_they_lie) {
        read_rows(it, s, t, rows, ld, any ? exact : NULL);
    }
    *used = 0;
    for (int32_t c = 0; c < TILE; c++) {
        *used = t->hidden[c] ? *used : c + 1;
        if (!as_they_lie) {
            at[c] = (const char *)(rows + (size_t)c * (size_t)ld);
        } else if (t->hidden[c]) {
            at[c] = it->x.zeros;
        } else {
            at[c] = half ? s->base + (size_t)c * s->stride
                         : (const char *)(exact[c]->values + (size_t)it->head_kv * (size_t)side->dim);
        }
    }
    return true;
}

static void unpack_k(item *it, tile *t) {
    const st_attn_job *job = &it->plan->job;
    const st_attn_side *k = &it->plan->k;
    const source s = source_of(it, k, job->k, job->k_stream, job->k_head, job->k_cell, job->exact_k, t);
    const int32_t dim = k->dim;
    if (it->plan->few && find_rows(it, &s, t, it->x.rows, dim, &t->k, it->k_rows, &it->k_ahead, &it->k_used)) {
        return;
    }
    const st_exact_row *exact[TILE];
    const bool any = !it->plan->few && find_exact(it, &s, t, exact);
    t->k = k->integers && !any ? INTEGERS : FLOATS;
    if (t->k == INTEGERS) {
        read_codes(it, &s, t, it->x.ks, it->x.ko);
        for (int32_t c = 0; c < TILE; c += VL) {
            int32_t *strip = (int32_t *)it->x.kt + (size_t)(c / WIDTH) * (size_t)(dim / 2) * WIDTH;
            pack_k_codes_vl(it->x.codes + (size_t)c * (size_t)dim, dim, strip, WIDTH, c % WIDTH);
        }
    } else {
        read_rows(it, &s, t, it->x.rows, dim, any ? exact : NULL);
        for (int32_t c = 0; c < TILE; c += VL) {
            float *strip = (float *)it->x.kt + (size_t)(c / WIDTH) * (size_t)dim * WIDTH;
            pack_k_f32_vl(it->x.rows + (size_t)c * (size_t)dim, dim, strip, WIDTH, c % WIDTH);
        }
    }
}

/* e_c, and s_cg becomes 2^15 s_cg 2^-e_c: below 2^15, and exact. Values that are 2^-40 of the largest of the tile or less count
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
            it->x.vs[g * TILE + c] *= 0x1p15f * it->x.unlift[c];
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

static void unpack_v(item *it, tile *t) {
    const st_attn_job *job = &it->plan->job;
    const st_attn_side *v = &it->plan->v;
    const source s = source_of(it, v, job->v, job->v_stream, job->v_head, job->v_cell, job->exact_v, t);
    const int32_t dim = padded(v->dim);
    if (it->plan->few && find_rows(it, &s, t, it->x.v_rows, dim, &t->v, it->v_rows, &it->v_ahead, &it->v_used)) {
        return;
    }
    const st_exact_row *exact[TILE];
    const bool any = !it->plan->few && find_exact(it, &s, t, exact);
    t->v = v->integers && !any ? INTEGERS : FLOATS;
    if (t->v == INTEGERS) {
        read_codes(it, &s, t, it->x.vs, it->x.vo);
        for (int32_t d = 0; d < dim; d += WIDTH) {
            int32_t *strip = (int32_t *)it->x.vt + (size_t)(d / WIDTH) * (TILE / 2) * WIDTH;
            for (int32_t c = 0; c < TILE; c += 2) {
                const int8_t *a = it->x.codes + (size_t)c * (size_t)dim + d;
                pack_v_codes_pair(a, a + dim, strip + (c / 2) * WIDTH);
            }
        }
        lift_values(it);
    } else {
        read_rows(it, &s, t, it->x.rows, dim, any ? exact : NULL);
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
