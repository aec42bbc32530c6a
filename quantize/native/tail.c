#include "tail.h"

#include "tail_rows.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One cache tensor. Slots of a stream: `first` pinned ones, then a ring of `window`. Cells count from the
 * beginning of their stream. */
typedef struct side {
    st_cache cache; /* data is NULL until the tensor is seen */
    rows kept;
    int32_t *head; /* per stream: the slot of the ring that is overwritten next */
    struct side *next;
} side;

/* The micro-batch that was written last to one cache. Cells count through all streams. */
typedef struct staging {
    side *of; /* NULL: free */
    rows batch;
    uint64_t used; /* time of the last use */
} staging;

/* A second area keeps the rows of a cache that another layer shares (models that store K and V in few
 * layers) when one cache has been written in between. */
enum { N_STAGING = 2 };

typedef struct view {
    st_exact *streams;
    int32_t *first;
    st_exact_row *rows;
    int32_t room_streams, room_first, room_rows;
} view;

struct st_tail {
    int32_t window, first;
    side *sides;
    staging stagings[2][N_STAGING]; /* K, V */
    view views[2];
    uint64_t clock;
    _Atomic size_t bytes; /* as count() found them last */
};

bool st_cache_id_of(const char *name, st_cache_id *id) {
    if (strncmp(name, "cache_", 6) != 0) {
        return false;
    }
    const char *k = strstr(name + 6, "k_l");
    const char *v = strstr(name + 6, "v_l");
    const char *at = k != NULL ? k : v;
    int layer = -1;
    int end = 0;
    if (at == NULL || sscanf(at + 3, "%d%n", &layer, &end) != 1 || layer < 0) {
        return false;
    }
    id->layer = layer;
    id->value = k == NULL;
    return at[3 + end] == '\0' || at[3 + end] == ' '; /* " (view)" follows the name of a view */
}

/* ---------------------------------------------------------------- sides */

static int32_t slots(const st_tail *tail) {
    return tail->first + tail->window;
}

/* Called when memory was taken or given back. */
static void count(st_tail *tail) {
    size_t bytes = 0;
    for (const side *s = tail->sides; s != NULL; s = s->next) {
        bytes += rows_bytes(&s->kept);
    }
    for (int value = 0; value < 2; value++) {
        for (int i = 0; i < N_STAGING; i++) {
            bytes += rows_bytes(&tail->stagings[value][i].batch);
        }
    }
    atomic_store_explicit(&tail->bytes, bytes, memory_order_relaxed);
}

static void side_clear(side *s) {
    rows_free(&s->kept);
    free(s->head);
    s->head = NULL;
}

static bool side_make(const st_tail *tail, side *s) {
    side_clear(s);
    s->head = calloc((size_t)s->cache.n_stream, sizeof *s->head);
    if (s->head == NULL ||
        !rows_make(&s->kept, slots(tail) * s->cache.n_stream, s->cache.n_values, s->cache.row_bytes)) {
        side_clear(s);
        return false;
    }
    return true;
}

static side *side_find(const st_tail *tail, st_cache_id id) {
    for (side *s = tail->sides; s != NULL; s = s->next) {
        if (s->cache.id.layer == id.layer && s->cache.id.value == id.value) {
            return s;
        }
    }
    return NULL;
}

static void staging_drop(st_tail *tail, const side *s) {
    for (int i = 0; i < N_STAGING; i++) {
        staging *g = &tail->stagings[s->cache.id.value][i];
        if (g->of == s) {
            g->of = NULL;
        }
    }
}

/* The side of a cache, made or made anew where the cache is another than before. */
static side *side_of(st_tail *tail, const st_cache *cache) {
    side *s = side_find(tail, cache->id);
    if (s == NULL) {
        s = calloc(1, sizeof *s);
        if (s == NULL) {
            return NULL;
        }
        s->next = tail->sides;
        tail->sides = s;
    } else if (s->head != NULL && s->cache.n_values == cache->n_values && s->cache.row_bytes == cache->row_bytes &&
               s->cache.n_stream == cache->n_stream &&
               (s->cache.data == NULL || (s->cache.data == cache->data && s->cache.n_cells == cache->n_cells))) {
        s->cache = *cache;
        return s;
    }
    staging_drop(tail, s);
    s->cache = *cache;
    const bool made = side_make(tail, s);
    count(tail);
    return made ? s : NULL;
}

/* Take row `i` of `from`, of cell `cell`, into the kept ones, in place of the oldest. */
static void keep(const st_tail *tail, side *s, int32_t stream, int32_t cell, const rows *from, int32_t i) {
    int32_t slot = stream * slots(tail) + cell;
    if (cell >= tail->first) {
        if (tail->window == 0) {
            return;
        }
        slot = stream * slots(tail) + tail->first + s->head[stream];
        s->head[stream] = (s->head[stream] + 1) % tail->window;
    }
    rows_copy(&s->kept, slot, from, i);
    s->kept.cell[slot] = cell;
}

/* A cell that is written again is not kept twice. */
static void forget(const st_tail *tail, side *s, int32_t stream, int32_t cell) {
    int32_t *at = s->kept.cell + stream * slots(tail);
    const int32_t n = slots(tail);
    for (int32_t i = 0; i < n; i++) {
        at[i] = at[i] == cell ? -1 : at[i];
    }
}

/* ---------------------------------------------------------------- the micro-batch */

/* Let the staged rows become kept ones. Only the last `window` of a stream can stay. */
static void commit(st_tail *tail, staging *g) {
    side *s = g->of;
    g->of = NULL;
    if (s == NULL || s->head == NULL) {
        return;
    }
    const rows *b = &g->batch;
    for (int32_t i = 0, end = 0; i < b->n; i++) {
        const int32_t stream = b->cell[i] / s->cache.n_cells;
        const int32_t cell = b->cell[i] % s->cache.n_cells;
        while (end <= i || (end < b->n && b->cell[end] / s->cache.n_cells == stream)) {
            end++; /* a run of one stream */
        }
        if (end - i <= tail->window || cell < tail->first) {
            keep(tail, s, stream, cell, b, i);
        }
    }
}

static void commit_side(st_tail *tail, const side *s) {
    for (int i = 0; i < N_STAGING; i++) {
        staging *g = &tail->stagings[s->cache.id.value][i];
        if (g->of == s) {
            commit(tail, g);
        }
    }
}

/* The area that `s` has, else the one that was not used for the longest time. */
static staging *staging_for(st_tail *tail, const side *s) {
    staging *all = tail->stagings[s->cache.id.value];
    staging *oldest = &all[0];
    for (int i = 0; i < N_STAGING; i++) {
        if (all[i].of == s) {
            return &all[i];
        }
        if (all[i].used < oldest->used) {
            oldest = &all[i];
        }
    }
    return oldest;
}

bool st_tail_write(st_tail *tail, const st_cache *cache, const char *values, size_t stride, const int64_t *index,
                   int32_t n) {
    side *s = side_of(tail, cache);
    if (s == NULL) {
        return false;
    }
    staging *g = staging_for(tail, s);
    commit(tail, g);
    const size_t before = rows_bytes(&g->batch);
    const bool made = rows_make(&g->batch, n, cache->n_values, cache->row_bytes);
    if (rows_bytes(&g->batch) != before) {
        count(tail);
    }
    if (!made) {
        return false;
    }
    for (int32_t i = 0; i < n; i++) {
        const int32_t stream = (int32_t)(index[i] / cache->n_cells);
        const int32_t cell = (int32_t)(index[i] % cache->n_cells);
        forget(tail, s, stream, cell);
        rows_set(&g->batch, i, (int32_t)index[i], (const float *)(const void *)(values + (size_t)i * stride),
                 cache->data + (size_t)index[i] * cache->row_bytes);
    }
    g->of = s;
    g->used = ++tail->clock;
    return true;
}

bool st_tail_reserve(st_tail *tail, st_cache_id id, int32_t n_values, size_t row_bytes, int32_t n_batch) {
    const st_cache unseen = {id, NULL, n_values, row_bytes, 0, 1};
    bool done = side_of(tail, &unseen) != NULL;
    for (int i = 0; i < N_STAGING; i++) {
        staging *g = &tail->stagings[id.value][i];
        done = done && g->of == NULL && rows_make(&g->batch, n_batch, n_values, row_bytes);
    }
    count(tail);
    return done;
}

bool st_tail_fill(st_tail *tail, st_cache_id id, const int32_t *cells, int32_t n, const float *values,
                  int32_t n_values, const char *packed, size_t row_bytes) {
    side *s = side_find(tail, id);
    if (s == NULL || s->head == NULL || s->cache.n_values != n_values || s->cache.row_bytes != row_bytes) {
        const st_cache unseen = {id, NULL, n_values, row_bytes, 0, 1};
        s = side_of(tail, &unseen);
        if (s == NULL) {
            return false;
        }
    }
    commit_side(tail, s);
    rows one;
    memset(&one, 0, sizeof one);
    if (!rows_make(&one, 1, n_values, row_bytes)) {
        return false;
    }
    for (int32_t i = 0; i < n; i++) {
        forget(tail, s, 0, cells[i]);
        rows_set(&one, 0, cells[i], values + (size_t)i * (size_t)n_values, packed + (size_t)i * row_bytes);
        keep(tail, s, 0, cells[i], &one, 0);
    }
    rows_free(&one);
    return true;
}

/* ---------------------------------------------------------------- views */

static bool grow(void **at, int32_t *room, int32_t n, size_t size) {
    if (n <= *room) {
        return true;
    }
    void *bigger = realloc(*at, (size_t)n * size);
    if (bigger == NULL) {
        return false;
    }
    *at = bigger;
    *room = n;
    return true;
}

static void show(view *v, int32_t *n, int32_t *first, int32_t cell, const rows *r, int32_t i, int32_t order,
                 int32_t n_cells) {
    if (cell < 0 || cell >= n_cells) {
        return;
    }
    const st_exact_row row = {cell, first[cell / ST_ATTN_TILE], order, r->values + (size_t)i * (size_t)r->n_values,
                              r->packed + (size_t)i * r->row_bytes};
    first[cell / ST_ATTN_TILE] = *n;
    v->rows[(*n)++] = row;
}

const st_exact *st_tail_view(st_tail *tail, const st_cache *cache, int32_t stream0, int32_t n_stream,
                             int32_t n_cells, int32_t n_tokens) {
    side *s = side_find(tail, cache->id);
    if (s == NULL || (s = side_of(tail, cache)) == NULL || stream0 < 0 || stream0 + n_stream > cache->n_stream) {
        return NULL;
    }
    staging *g = NULL;
    for (int i = 0; i < N_STAGING; i++) {
        if (tail->stagings[cache->id.value][i].of == s) {
            g = &tail->stagings[cache->id.value][i];
            g->used = ++tail->clock;
        }
    }
    if (g != NULL && g->batch.n != n_tokens * n_stream) { /* not the tokens of this attention: older than all of them */
        commit(tail, g);
        g = NULL;
    }
    view *v = &tail->views[cache->id.value];
    const int32_t n_tile = (n_cells + ST_ATTN_TILE - 1) / ST_ATTN_TILE;
    const int32_t n_rows = n_stream * slots(tail) + (g != NULL ? g->batch.n : 0);
    if (!grow((void **)&v->streams, &v->room_streams, n_stream, sizeof *v->streams) ||
        !grow((void **)&v->first, &v->room_first, n_stream * n_tile, sizeof *v->first) ||
        !grow((void **)&v->rows, &v->room_rows, n_rows, sizeof *v->rows)) {
        return NULL;
    }
    int32_t n = 0;
    for (int32_t stream = stream0; stream < stream0 + n_stream; stream++) {
        int32_t *first = v->first + (stream - stream0) * n_tile;
        memset(first, 0xff, (size_t)n_tile * sizeof *first); /* -1 */
        const int32_t base = stream * slots(tail);
        for (int32_t i = 0; i < tail->first; i++) {
            show(v, &n, first, s->kept.cell[base + i], &s->kept, base + i, INT32_MAX, n_cells);
        }
        for (int32_t age = tail->window; age >= 1; age--) {
            const int32_t slot = base + tail->first + (s->head[stream] + tail->window - age) % tail->window;
            show(v, &n, first, s->kept.cell[slot], &s->kept, slot, -age, n_cells);
        }
        for (int32_t i = 0, order = 0; g != NULL && i < g->batch.n; i++) {
            if (g->batch.cell[i] / cache->n_cells == stream) {
                const int32_t cell = g->batch.cell[i] % cache->n_cells;
                show(v, &n, first, cell, &g->batch, i, cell < tail->first ? INT32_MAX : order, n_cells);
                order++;
            }
        }
        v->streams[stream - stream0].first = first;
    }
    for (int32_t i = 0; i < n_stream; i++) {
        v->streams[i].rows = v->rows;
    }
    return n > 0 ? v->streams : NULL;
}

/* ---------------------------------------------------------------- the whole */

st_tail *st_tail_new(void) {
    return calloc(1, sizeof(st_tail));
}

void st_tail_resize(st_tail *tail, int32_t window, int32_t first) {
    for (int value = 0; value < 2; value++) {
        for (int i = 0; i < N_STAGING; i++) {
            commit(tail, &tail->stagings[value][i]);
        }
    }
    const st_tail old = *tail;
    tail->window = window > 0 ? window : 0;
    tail->first = first > 0 ? first : 0;
    for (side *s = tail->sides; s != NULL; s = s->next) {
        side before = *s;
        s->head = NULL;
        memset(&s->kept, 0, sizeof s->kept);
        if (before.head != NULL && side_make(tail, s)) {
            for (int32_t stream = 0; stream < s->cache.n_stream; stream++) {
                const int32_t base = stream * slots(&old);
                for (int32_t i = 0; i < slots(&old); i++) { /* pinned ones, then the ring from the oldest on */
                    const int32_t slot = i < old.first
                                             ? i
                                             : old.first + (before.head[stream] + i - old.first) % old.window;
                    if (before.kept.cell[base + slot] >= 0) {
                        keep(tail, s, stream, before.kept.cell[base + slot], &before.kept, base + slot);
                    }
                }
            }
        }
        side_clear(&before);
    }
    count(tail);
}

void st_tail_free(st_tail *tail) {
    if (tail == NULL) {
        return;
    }
    while (tail->sides != NULL) {
        side *s = tail->sides;
        tail->sides = s->next;
        side_clear(s);
        free(s);
    }
    for (int value = 0; value < 2; value++) {
        for (int i = 0; i < N_STAGING; i++) {
            rows_free(&tail->stagings[value][i].batch);
        }
        free(tail->views[value].streams);
        free(tail->views[value].first);
        free(tail->views[value].rows);
    }
    free(tail);
}

bool st_tail_on(const st_tail *tail) {
    return slots(tail) > 0;
}

int32_t st_tail_window(const st_tail *tail) {
    return tail->window;
}

size_t st_tail_bytes(const st_tail *tail) {
    return atomic_load_explicit(&tail->bytes, memory_order_relaxed);
}

int32_t st_tail_read(st_tail *tail, st_cache_id id, int32_t room, int32_t n_values, int32_t *cells,
                     uint16_t *values, size_t row_bytes, char *packed) {
    const side *s = side_find(tail, id);
    if (s == NULL || s->head == NULL || s->cache.n_values != n_values ||
        (packed != NULL && s->cache.row_bytes != row_bytes)) {
        return 0;
    }
    commit_side(tail, s);
    int32_t n = 0;
    const size_t size = (size_t)n_values;
    for (int32_t i = 0; i < slots(tail) && n < room; i++) { /* pinned ones, then the ring from the oldest on */
        const int32_t slot =
            i < tail->first ? i : tail->first + (s->head[0] + i - tail->first) % tail->window;
        if (s->kept.cell[slot] >= 0) {
            cells[n] = s->kept.cell[slot];
            if (packed != NULL) {
                memcpy(packed + (size_t)n * row_bytes, s->kept.packed + (size_t)slot * row_bytes, row_bytes);
            }
            memcpy(values + (size_t)n * size, s->kept.values + (size_t)slot * size, size * sizeof *values);
            n++;
        }
    }
    return n;
}

int32_t st_tail_rows(const st_tail *tail, st_cache_id id) {
    const side *s = side_find(tail, id);
    int32_t n = 0;
    for (int32_t i = 0; s != NULL && s->head != NULL && i < s->kept.n; i++) {
        n += s->kept.cell[i] >= 0;
    }
    return n;
}
