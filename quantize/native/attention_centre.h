/* The score of the constant that rows of K lack (centring.h): <q, R_p c> for the rows of an item and the cells of a
 * tile. It is added to the product with the rows before the softmax. */
/* ---------------------------------------------------------------- the query */

enum { NODE_VECS = (int)VL > (int)ST_CENTRE_NODES ? 1 : (int)ST_CENTRE_NODES / (int)VL };

/* The query of one row: as the rows of the cache are multiplied, and its values where the constant is. `plain` is what
 * the graph gives; the result is it or `room`. */
static const float *centred_query(const item *it, int32_t row, const float *plain, float factor, float *room) {
    const st_centre_layer *l = it->plan->job.centre;
    const st_centre_head *head = &l->heads[it->head_kv];
    const int32_t dim = it->plan->k.dim;
    float turned[ST_ATTN_MAX_DIM];
    memcpy(turned, plain, (size_t)dim * sizeof(float));
    if (l->hadamard > 0) {
        st_hadamard(turned, dim, l->hadamard);
    }
    float *out = it->x.q_centre + (size_t)row * (size_t)(2 * centre_pairs(it->plan));
    /* slow pairs: all a, then all b; the fast ones after them in the same way */
    for (int32_t part = 0, from = 0; part < 2; part++) {
        const int32_t n = part == 0 ? head->n_slow : head->n_fast;
        for (int32_t i = 0; i < n; i++) {
            out[2 * from + i] = turned[head->a[from + i]] * factor;
            out[2 * from + n + i] = turned[head->b[from + i]] * factor;
        }
        from += n;
    }
    if (l->scale == NULL) {
        return plain;
    }
    const float *scale = l->scale + (size_t)it->head_kv * (size_t)dim;
    for (int32_t d = 0; d < dim; d++) {
        room[d] = turned[d] * scale[d];
    }
    if (l->hadamard > 0) {
        st_hadamard(room, dim, l->hadamard);
    }
    return room;
}

/* ---------------------------------------------------------------- the tile */

/* R_p c of `n` pairs from pair `from` on, in every cell, when the positions follow each other from p on. */
static void turn_to_cells(const st_angles *angles, const st_centre_head *head, int32_t from, int32_t n, int32_t p,
                          float *out) {
    for (int32_t i = 0; i < n; i++) {
        const int32_t pair = head->pair[from + i];
        float c;
        float s;
        st_angle(angles, pair, p, &c, &s);
        const vf a = vf_set1(head->ca[from + i] * c - head->cb[from + i] * s);
        const vf b = vf_set1(head->ca[from + i] * s + head->cb[from + i] * c);
        const vf minus_b = vf_mul(b, vf_set1(-1.0f));
        for (int j = 0; j < VECS; j++) {
            const vf cosine = vf_load(angles->tile_cosine + pair * TILE + j * VL);
            const vf sine = vf_load(angles->tile_sine + pair * TILE + j * VL);
            vf_store(out + i * TILE + j * VL, vf_fma(a, cosine, vf_mul(minus_b, sine)));
            vf_store(out + (n + i) * TILE + j * VL, vf_fma(a, sine, vf_mul(b, cosine)));
        }
    }
}

/* The same at the nodes, of the slow pairs. */
static void turn_to_nodes(const st_angles *angles, const st_centre_head *head, int32_t p, float *out) {
    const int32_t n = head->n_slow;
    for (int32_t i = 0; i < n; i++) {
        const int32_t pair = head->pair[i];
        float c;
        float s;
        st_angle(angles, pair, p, &c, &s);
        const vf a = vf_set1(head->ca[i] * c - head->cb[i] * s);
        const vf b = vf_set1(head->ca[i] * s + head->cb[i] * c);
        const vf minus_b = vf_mul(b, vf_set1(-1.0f));
        for (int j = 0; j < NODE_VECS; j++) {
            const vf cosine = vf_load(angles->node_cosine + pair * ST_CENTRE_LANES + j * VL);
            const vf sine = vf_load(angles->node_sine + pair * ST_CENTRE_LANES + j * VL);
            vf_store(out + i * ST_CENTRE_LANES + j * VL, vf_fma(a, cosine, vf_mul(minus_b, sine)));
            vf_store(out + (n + i) * ST_CENTRE_LANES + j * VL, vf_fma(a, sine, vf_mul(b, cosine)));
        }
    }
}

/* Cell by cell, wherever they stand: all pairs, in the order of centred_query(). */
static void turn_one_by_one(const item *it, const tile *t, const st_centre_head *head, const int32_t *cells) {
    const st_angles *angles = it->plan->job.centre->angles;
    float *out = it->x.c_cells;
    for (int32_t c = 0; c < TILE; c++) {
        const bool hidden = t->hidden[c] != 0 || cells[c] < head->whole;
        const int32_t p = hidden ? 0 : cells[c];
        for (int32_t part = 0, from = 0; part < 2; part++) {
            const int32_t n = part == 0 ? head->n_slow : head->n_fast;
            for (int32_t i = 0; i < n; i++) {
                float cosine = 0.0f;
                float sine = 0.0f;
                if (!hidden) {
                    st_angle(angles, head->pair[from + i], p, &cosine, &sine);
                }
                const float a = head->ca[from + i];
                const float b = head->cb[from + i];
                out[(2 * from + i) * TILE + c] = a * cosine - b * sine;
                out[(2 * from + n + i) * TILE + c] = a * sine + b * cosine;
            }
            from += n;
        }
    }
}

static void place_constant(const item *it, tile *t) {
    const st_attn_job *job = &it->plan->job;
    const st_centre_head *head = job->centre != NULL ? &job->centre->heads[it->head_kv] : NULL;
    t->constant.head = NULL;
    if (head == NULL || head->n_slow + head->n_fast == 0) {
        return;
    }
    const int32_t *cells = job->positions + (size_t)it->stream * job->positions_stream + t->cell;
    bool any = false;
    bool in_order = true;
    int32_t start = 0;
    for (int32_t c = 0; c < t->n; c++) {
        if (t->hidden[c]) {
            continue;
        }
        const int32_t p = cells[c];
        if (p < 0) {
            atomic_store_explicit(job->lost, 1, memory_order_relaxed);
        }
        start = any ? start : p - c;
        any = true;
        in_order = in_order && p - c == start;
    }
    if (!any) {
        return;
    }
    t->constant.head = head;
    t->constant.n_whole = in_order && start < head->whole ? head->whole - start : 0;
    if (in_order && start >= 0) {
        t->constant.n_slow = head->n_slow;
        t->constant.n_cells = head->n_fast;
        turn_to_nodes(job->centre->angles, head, start, it->x.c_nodes);
        turn_to_cells(job->centre->angles, head, head->n_slow, head->n_fast, start, it->x.c_cells);
    } else {
        t->constant.n_slow = 0;
        t->constant.n_cells = head->n_slow + head->n_fast;
        turn_one_by_one(it, t, head, cells);
    }
}

/* ---------------------------------------------------------------- scores */

/* Scores of R rows from `row` on into x.c_score. */
static inline __attribute__((always_inline)) void constant_scores(const int R, const item *it, const tile *t, int32_t row) {
    const int32_t stride = 2 * centre_pairs(it->plan);
    const float *q = it->x.q_centre + (size_t)row * (size_t)stride;
    const int32_t n_slow = 2 * t->constant.n_slow;
    float nodes[MAX_ROWS * ST_CENTRE_NODES];
    if (n_slow > 0) {
        vf acc[MAX_ROWS][NODE_VECS];
        for (int r = 0; r < R; r++) {
            for (int j = 0; j < NODE_VECS; j++) {
                acc[r][j] = vf_zero();
            }
        }
        for (int32_t d = 0; d < n_slow; d++) {
            for (int j = 0; j < NODE_VECS; j++) {
                const vf b = vf_load(it->x.c_nodes + d * ST_CENTRE_LANES + j * VL);
                for (int r = 0; r < R; r++) {
                    acc[r][j] = vf_fma(vf_set1(q[r * stride + d]), b, acc[r][j]);
                }
            }
        }
        for (int r = 0; r < R; r++) {
            float lanes[NODE_VECS * VL];
            for (int j = 0; j < NODE_VECS; j++) {
                vf_store(lanes + j * VL, acc[r][j]);
            }
            memcpy(nodes + r * ST_CENTRE_NODES, lanes, ST_CENTRE_NODES * sizeof(float));
        }
    }
    const float *weights = st_centre_weights();
    const int32_t n_cells = 2 * t->constant.n_cells;
    for (int32_t strip = 0; strip < TILE; strip += WIDTH) {
        vf acc[MAX_ROWS][2];
        zero_f32(R, acc);
        for (int k = 0; n_slow > 0 && k < ST_CENTRE_NODES; k++) {
            const vf b0 = vf_load(weights + k * TILE + strip);
            const vf b1 = vf_load(weights + k * TILE + strip + VL);
            for (int r = 0; r < R; r++) {
                const vf x = vf_set1(nodes[r * ST_CENTRE_NODES + k]);
                acc[r][0] = vf_fma(x, b0, acc[r][0]);
                acc[r][1] = vf_fma(x, b1, acc[r][1]);
            }
        }
        for (int32_t d = 0; d < n_cells; d++) {
            const vf b0 = vf_load(it->x.c_cells + d * TILE + strip);
            const vf b1 = vf_load(it->x.c_cells + d * TILE + strip + VL);
            for (int r = 0; r < R; r++) {
                const vf x = vf_set1(q[r * stride + n_slow + d]);
                acc[r][0] = vf_fma(x, b0, acc[r][0]);
                acc[r][1] = vf_fma(x, b1, acc[r][1]);
            }
        }
        for (int r = 0; r < R; r++) {
            vf_store(it->x.c_score + r * TILE + strip, acc[r][0]);
            vf_store(it->x.c_score + r * TILE + strip + VL, acc[r][1]);
        }
    }
    for (int r = 0; r < R; r++) {
        for (int32_t c = 0; c < t->constant.n_whole && c < TILE; c++) {
            it->x.c_score[r * TILE + c] = 0.0f;
        }
    }
}
