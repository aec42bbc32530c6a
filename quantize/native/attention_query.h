/* What an item starts from: its query rows, and the mask of a tile (see attention_tile.h). */
/* ---------------------------------------------------------------- the query rows */

static inline const float *query(const item *it, int32_t row) {
    const st_attn_job *job = &it->plan->job;
    const int32_t per = it->plan->heads_per_kv;
    const int32_t token = it->token0 + row / per;
    const int32_t head = it->head_kv * per + row % per;
    return (const float *)(job->q + (size_t)it->stream * job->q_stream + (size_t)head * job->q_head +
                           (size_t)token * job->q_token);
}

static inline void query_f32(const item *it, const float *q, float factor, float *out) {
    for (int32_t d = 0; d < it->plan->k.dim; d += VL) {
        vf_store(out + d, vf_mul(vf_load(q + d), vf_set1(factor)));
    }
}

/* Q = u q with |q| <= 32767, in the order of pack_k_codes_vl(). */
static inline void query_i16(const item *it, int32_t row, const float *q, float factor, int16_t *out) {
    const st_attn_side *k = &it->plan->k;
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

/* Lanes of 32 bits of row `row + r`, as (group of n rows, chunk, row, CHUNK). */
static inline void place(const int32_t *line, int32_t lanes, void *q, int32_t row, int32_t r, int32_t n) {
    int32_t *out = (int32_t *)q + (size_t)row * (size_t)lanes + (size_t)r * CHUNK;
    for (int32_t i = 0; i < lanes; i += CHUNK, out += n * CHUNK) {
        memcpy(out, line + i, CHUNK * sizeof line[0]);
    }
}

static void prepare_queries(item *it) {
    const st_attn_side *k = &it->plan->k;
    const float to_log2 = it->plan->job.softcap > 0.0f ? it->plan->job.scale / it->plan->job.softcap
                                                       : it->plan->job.scale * LOG2E;
    for (int32_t row = 0, n = 0; row < it->n_rows; row += n) {
        n = group_of_rows(it->n_rows - row);
        for (int32_t r = 0; r < n; r++) {
            int32_t line[ST_ATTN_MAX_DIM];
            float room[ST_ATTN_MAX_DIM];
            const float *q = query(it, row + r);
            if (it->plan->job.centre != NULL) {
                q = centred_query(it, row + r, q, to_log2, room);
            }
            if (k->integers) {
                query_i16(it, row + r, q, to_log2, (int16_t *)line);
                place(line, k->dim / 2, it->x.q_i16, row, r, n);
            }
            if (rows_f32(k, it->plan->job.exact_k)) {
                query_f32(it, q, to_log2, (float *)line);
                if (it->plan->few) {
                    memcpy(it->x.q_f32 + (size_t)(row + r) * (size_t)k->dim, line, (size_t)k->dim * sizeof(float));
                } else {
                    place(line, k->dim, it->x.q_f32, row, r, n);
                }
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

static void read_mask(const item *it, tile *t) {
    const int32_t n = it->cell1 - t->cell < TILE ? it->cell1 - t->cell : TILE;
    const int32_t per = it->plan->heads_per_kv;
    t->n = n;
    t->seen = false;
    if (it->plan->job.mask == NULL || it->plan->job.mask_heads > 1) {
        /* no mask, or one for every head: nothing is left out, and each row reads its own if there is one */
        memset(t->hidden, 0, (size_t)n * sizeof t->hidden[0]);
        memset(t->hidden + n, 0xff, (size_t)(TILE - n) * sizeof t->hidden[0]);
        memset(t->of_token, it->plan->job.mask == NULL && n == TILE ? PLAIN : MIXED, (size_t)it->n_tokens);
        t->seen = true;
        return;
    }
    memset(t->hidden, 0xff, sizeof t->hidden);
    for (int32_t i = 0; i < it->n_tokens; i++) {
        const uint16_t *m = mask_row(it, i * per, t->cell);
        uint16_t some = 0;        /* any bit set: not all zero */
        uint16_t hidden = 0xffff; /* all are -inf */
        if (n == TILE) {
            for (int32_t c = 0; c < TILE; c++) {
                const uint16_t inf = (uint16_t)-(m[c] == 0xfc00);
                some |= m[c];
                hidden &= inf;
                t->hidden[c] &= inf;
            }
        } else {
            some = 0xffff;
            for (int32_t c = 0; c < n; c++) {
                const uint16_t inf = (uint16_t)-(m[c] == 0xfc00);
                hidden &= inf;
                t->hidden[c] &= inf;
            }
        }
        t->of_token[i] = hidden ? HIDDEN : some ? MIXED : PLAIN;
        t->seen |= !hidden;
    }
}
