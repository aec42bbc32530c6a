/* K without its constant: see centring.h. */
#include "centring.h"

#include "attention.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)ST_CENTRE_SPAN == (int)ST_ATTN_TILE, "the tables are made for a tile");

struct st_centring {
    _Atomic int holders;
    st_angles *angles;
    st_centre_layer *layers;
};

/* ---------------------------------------------------------------- interpolation */

static double node_at(int k) {
    const double half = (ST_CENTRE_SPAN - 1) / 2.0;
    return half + half * cos((2 * k + 1) * acos(-1.0) / (2 * ST_CENTRE_NODES));
}

static float weights[ST_CENTRE_NODES * ST_CENTRE_SPAN];
static pthread_once_t weights_made = PTHREAD_ONCE_INIT;

static void make_weights(void) {
    for (int k = 0; k < ST_CENTRE_NODES; k++) {
        for (int t = 0; t < ST_CENTRE_SPAN; t++) {
            double w = 1.0; /* Lagrange's polynomial of node k */
            for (int j = 0; j < ST_CENTRE_NODES; j++) {
                w *= j == k ? 1.0 : (t - node_at(j)) / (node_at(k) - node_at(j));
            }
            weights[k * ST_CENTRE_SPAN + t] = (float)w;
        }
    }
}

const float *st_centre_weights(void) {
    pthread_once(&weights_made, make_weights);
    return weights;
}

/* ---------------------------------------------------------------- angles */

static float *floats(size_t n) {
    return calloc(n > 0 ? n : 1, sizeof(float));
}

static void angles_free(st_angles *t) {
    for (int i = 0; i < ST_CENTRE_DIGITS; i++) {
        free(t->cosine[i]);
        free(t->sine[i]);
    }
    free(t->per_position);
    free(t->tile_cosine);
    free(t->tile_sine);
    free(t->node_cosine);
    free(t->node_sine);
    free(t);
}

static bool angles_fill(st_angles *t) {
    const size_t n = (size_t)t->n_pair;
    double step = 1.0;
    for (int i = 0; i < ST_CENTRE_DIGITS; i++, step *= 64.0) {
        t->cosine[i] = floats(64 * n);
        t->sine[i] = floats(64 * n);
        if (t->cosine[i] == NULL || t->sine[i] == NULL) {
            return false;
        }
        for (size_t digit = 0; digit < 64; digit++) {
            for (size_t j = 0; j < n; j++) {
                const double angle = (double)digit * step * t->per_position[j];
                t->cosine[i][digit * n + j] = (float)cos(angle);
                t->sine[i][digit * n + j] = (float)sin(angle);
            }
        }
    }
    t->tile_cosine = floats(n * ST_CENTRE_SPAN);
    t->tile_sine = floats(n * ST_CENTRE_SPAN);
    t->node_cosine = floats(n * ST_CENTRE_LANES);
    t->node_sine = floats(n * ST_CENTRE_LANES);
    if (t->tile_cosine == NULL || t->tile_sine == NULL || t->node_cosine == NULL || t->node_sine == NULL) {
        return false;
    }
    for (size_t j = 0; j < n; j++) {
        for (int i = 0; i < ST_CENTRE_SPAN; i++) {
            t->tile_cosine[j * ST_CENTRE_SPAN + (size_t)i] = (float)cos(i * t->per_position[j]);
            t->tile_sine[j * ST_CENTRE_SPAN + (size_t)i] = (float)sin(i * t->per_position[j]);
        }
        for (int k = 0; k < ST_CENTRE_NODES; k++) {
            t->node_cosine[j * ST_CENTRE_LANES + (size_t)k] = (float)cos(node_at(k) * t->per_position[j]);
            t->node_sine[j * ST_CENTRE_LANES + (size_t)k] = (float)sin(node_at(k) * t->per_position[j]);
        }
    }
    return true;
}

static const st_angles *angles_of(st_centring *c, int32_t n_pair, const double *per_position) {
    const size_t bytes = (size_t)n_pair * sizeof *per_position;
    for (const st_angles *t = c->angles; t != NULL; t = t->next) {
        if (t->n_pair == n_pair && memcmp(t->per_position, per_position, bytes) == 0) {
            return t;
        }
    }
    st_angles *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->n_pair = n_pair;
    t->per_position = malloc(bytes);
    if (t->per_position != NULL) {
        memcpy(t->per_position, per_position, bytes);
    }
    if (t->per_position == NULL || !angles_fill(t)) {
        angles_free(t);
        return NULL;
    }
    t->next = c->angles;
    c->angles = t;
    return t;
}

/* ---------------------------------------------------------------- layers */

static void layer_free(st_centre_layer *l) {
    for (int32_t h = 0; l->heads != NULL && h < l->n_head_kv; h++) {
        free(l->heads[h].pair);
        free(l->heads[h].a);
        free(l->heads[h].b);
        free(l->heads[h].ca);
        free(l->heads[h].cb);
    }
    free(l->heads);
    free(l->scale);
    free(l->inverse);
    free(l);
}

/* The pairs in which the constant is not zero: those that turn slowly, then the others. */
static bool head_fill(st_centre_head *h, const st_angles *angles, const int32_t *first, const int32_t *second,
                      const float *centre) {
    const size_t n = (size_t)angles->n_pair;
    h->pair = malloc((n + 1) * sizeof *h->pair);
    h->a = malloc((n + 1) * sizeof *h->a);
    h->b = malloc((n + 1) * sizeof *h->b);
    h->ca = floats(n);
    h->cb = floats(n);
    if (h->pair == NULL || h->a == NULL || h->b == NULL || h->ca == NULL || h->cb == NULL) {
        return false;
    }
    int32_t at = 0;
    for (int fast = 0; fast < 2; fast++) {
        for (int32_t j = 0; j < angles->n_pair; j++) {
            const float a = centre[first[j]];
            const float b = centre[second[j]];
            const bool slow = angles->per_position[j] * (ST_CENTRE_SPAN - 1) / 2.0 <= 1.0;
            if ((a == 0.0f && b == 0.0f) || slow == (fast == 1)) {
                continue;
            }
            h->pair[at] = j;
            h->a[at] = first[j];
            h->b[at] = second[j];
            h->ca[at] = a;
            h->cb[at] = b;
            at++;
        }
        *(fast ? &h->n_fast : &h->n_slow) = fast ? at - h->n_slow : at;
    }
    return true;
}

static bool sensible(int32_t n_head_kv, int32_t head_dim, int32_t hadamard, int32_t n_pair, const int32_t *first,
                     const int32_t *second, const double *per_position) {
    if (n_head_kv <= 0 || head_dim <= 0 || head_dim > ST_ATTN_MAX_DIM || 2 * n_pair != head_dim || hadamard < 0 ||
        (hadamard > 0 && (head_dim % hadamard != 0 || (hadamard & (hadamard - 1)) != 0))) {
        return false;
    }
    bool seen[ST_ATTN_MAX_DIM] = {false};
    for (int32_t j = 0; j < n_pair; j++) {
        if (first[j] < 0 || first[j] >= head_dim || second[j] < 0 || second[j] >= head_dim || first[j] == second[j] ||
            seen[first[j]] || seen[second[j]] || !(per_position[j] >= 0.0) || !(per_position[j] < 1e3)) {
            return false;
        }
        seen[first[j]] = seen[second[j]] = true;
    }
    return true;
}

static bool layer_fill(st_centring *c, st_centre_layer *l, int32_t n_pair, const int32_t *first, const int32_t *second,
                       const double *per_position, const float *centre, const float *scale) {
    const size_t n = (size_t)l->n_head_kv * (size_t)l->head_dim;
    for (size_t i = 0; i < n; i++) {
        if ((centre != NULL && !isfinite(centre[i])) ||
            (scale != NULL && !(scale[i] > 1e-20f && scale[i] < 1e20f))) {
            return false;
        }
    }
    l->angles = angles_of(c, n_pair, per_position);
    l->heads = calloc((size_t)l->n_head_kv, sizeof *l->heads);
    float *none = floats((size_t)l->head_dim);
    bool made = l->angles != NULL && l->heads != NULL && none != NULL;
    for (int32_t h = 0; made && h < l->n_head_kv; h++) {
        st_centre_head *head = &l->heads[h];
        made = head_fill(head, l->angles, first, second,
                         centre != NULL ? centre + (size_t)h * (size_t)l->head_dim : none);
        l->most_slow = head->n_slow > l->most_slow ? head->n_slow : l->most_slow;
        l->most_fast = head->n_fast > l->most_fast ? head->n_fast : l->most_fast;
    }
    free(none);
    if (made && scale != NULL) {
        l->scale = floats(n);
        l->inverse = floats(n);
        made = l->scale != NULL && l->inverse != NULL;
        for (size_t i = 0; made && i < n; i++) {
            l->scale[i] = scale[i];
            l->inverse[i] = 1.0f / scale[i];
        }
    }
    return made;
}

st_centring *st_centring_new(void) {
    st_centring *c = calloc(1, sizeof *c);
    if (c != NULL) {
        atomic_store(&c->holders, 1);
        st_centre_weights();
    }
    return c;
}

st_centring *st_centring_hold(st_centring *c) {
    if (c != NULL) {
        atomic_fetch_add(&c->holders, 1);
    }
    return c;
}

void st_centring_free(st_centring *c) {
    if (c == NULL || atomic_fetch_sub(&c->holders, 1) != 1) {
        return;
    }
    while (c->layers != NULL) {
        st_centre_layer *l = c->layers;
        c->layers = l->next;
        layer_free(l);
    }
    while (c->angles != NULL) {
        st_angles *t = c->angles;
        c->angles = t->next;
        angles_free(t);
    }
    free(c);
}

bool st_centring_layer(st_centring *c, int32_t layer, int32_t group, int32_t n_head_kv, int32_t head_dim,
                       int32_t hadamard, int32_t n_pair, const int32_t *first, const int32_t *second,
                       const double *per_position, const float *centre, const float *scale,
                       const int32_t *whole) {
    if (!sensible(n_head_kv, head_dim, hadamard, n_pair, first, second, per_position) || group < 0 ||
        st_centring_find(c, layer) != NULL) {
        return false;
    }
    st_centre_layer *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return false;
    }
    l->layer = layer;
    l->group = group;
    l->n_head_kv = n_head_kv;
    l->head_dim = head_dim;
    l->hadamard = hadamard;
    if (!layer_fill(c, l, n_pair, first, second, per_position, centre, scale)) {
        layer_free(l);
        return false;
    }
    for (int32_t h = 0; whole != NULL && h < n_head_kv; h++) {
        l->heads[h].whole = whole[h] > 0 ? whole[h] : 0;
    }
    l->leads = true;
    for (st_centre_layer *other = c->layers; other != NULL; other = other->next) {
        if (other->group == group) {
            l->leads = l->leads && layer < other->layer;
            other->leads = other->leads && other->layer < layer;
        }
    }
    l->next = c->layers;
    c->layers = l;
    return true;
}

const st_centre_layer *st_centring_find(const st_centring *c, int32_t layer) {
    for (const st_centre_layer *l = c != NULL ? c->layers : NULL; l != NULL; l = l->next) {
        if (l->layer == layer) {
            return l;
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- rows */

/* R_p c of one head. */
static void constant_at(const st_centre_layer *l, const st_centre_head *head, int32_t position, float *out) {
    memset(out, 0, (size_t)l->head_dim * sizeof *out);
    for (int32_t i = 0; i < head->n_slow + head->n_fast; i++) {
        float c;
        float s;
        st_angle(l->angles, head->pair[i], position, &c, &s);
        out[head->a[i]] = head->ca[i] * c - head->cb[i] * s;
        out[head->b[i]] = head->ca[i] * s + head->cb[i] * c;
    }
}

/* `before`, `after`: sizes of the rotation that the row has, and that it will have; 0 for none. */
static void turn_row(const st_centre_layer *l, float *row, int32_t position, int32_t before, int32_t after,
                     bool back) {
    const size_t dim = (size_t)l->head_dim;
    const int64_t n = (int64_t)l->n_head_kv * l->head_dim;
    if (before > 0) {
        st_hadamard(row, n, before);
    }
    for (int32_t h = 0; h < l->n_head_kv; h++) {
        float *x = row + (size_t)h * dim;
        float constant[ST_ATTN_MAX_DIM];
        const st_centre_head *head = &l->heads[h];
        const bool any = head->n_slow + head->n_fast > 0 && position >= head->whole;
        if (any) {
            constant_at(l, head, position, constant);
        }
        const float *factor = l->scale == NULL ? NULL : (back ? l->scale : l->inverse) + (size_t)h * dim;
        for (size_t d = 0; any && !back && d < dim; d++) {
            x[d] -= constant[d];
        }
        for (size_t d = 0; factor != NULL && d < dim; d++) {
            x[d] *= factor[d];
        }
        for (size_t d = 0; any && back && d < dim; d++) {
            x[d] += constant[d];
        }
    }
    if (after > 0) {
        st_hadamard(row, n, after);
    }
}

void st_centre_row(const st_centre_layer *l, float *row, int32_t position, bool back) {
    turn_row(l, row, position, l->hadamard, l->hadamard, back);
}

bool st_centring_rows(const st_centring *c, int32_t layer, float *rows, int64_t n, const int32_t *positions,
                      bool rotated, bool back) {
    const st_centre_layer *l = st_centring_find(c, layer);
    if (l == NULL) {
        return false;
    }
    const int32_t plain = rotated ? l->hadamard : 0;
    for (int64_t i = 0; i < n; i++) {
        turn_row(l, rows + i * l->n_head_kv * l->head_dim, positions[i],
                 back ? l->hadamard : plain, back ? plain : l->hadamard, back);
    }
    return true;
}
