/* Where the cells of a context stand in the text: see places.h. */
#include "places.h"

#include <stdlib.h>
#include <string.h>

/* Rows of a saved state that were not found yet. */
typedef struct loaded {
    struct loaded *next;
    int32_t stream;
    int32_t n;
    int32_t *positions;
    char *rows;
    size_t row_bytes;
} loaded;

typedef struct group {
    struct group *next;
    int32_t number, cells; /* of all streams */
    int32_t per_stream;
    int32_t *position; /* (cells) */
    loaded *loaded;
} group;

struct st_places {
    group *groups;
};

st_places *st_places_new(void) {
    return calloc(1, sizeof(st_places));
}

static void loaded_free(loaded *l) {
    if (l != NULL) {
        free(l->positions);
        free(l->rows);
        free(l);
    }
}

static void forget_loaded(group *g, int32_t stream) {
    for (loaded **at = &g->loaded; *at != NULL;) {
        loaded *l = *at;
        if (stream < 0 || l->stream == stream) {
            *at = l->next;
            loaded_free(l);
        } else {
            at = &l->next;
        }
    }
}

void st_places_free(st_places *p) {
    if (p == NULL) {
        return;
    }
    while (p->groups != NULL) {
        group *g = p->groups;
        p->groups = g->next;
        free(g->position);
        forget_loaded(g, -1);
        free(g);
    }
    free(p);
}

static group *find(const st_places *p, int32_t number) {
    for (group *g = p->groups; g != NULL; g = g->next) {
        if (g->number == number) {
            return g;
        }
    }
    return NULL;
}

static group *find_or_make(st_places *p, int32_t number) {
    group *g = find(p, number);
    if (g == NULL && (g = calloc(1, sizeof *g)) != NULL) {
        g->number = number;
        g->next = p->groups;
        p->groups = g;
    }
    return g;
}

/* Room for so many cells; those that are new are unknown. */
static bool reach(group *g, int32_t cells) {
    if (g->cells >= cells) {
        return true;
    }
    int32_t *bigger = realloc(g->position, (size_t)cells * sizeof *bigger);
    if (bigger == NULL) {
        return false;
    }
    for (int32_t i = g->cells; i < cells; i++) {
        bigger[i] = ST_PLACE_UNKNOWN;
    }
    g->position = bigger;
    g->cells = cells;
    return true;
}

bool st_places_load(st_places *p, int32_t number, int32_t stream, int32_t n, const int32_t *positions, const char *rows,
                    size_t row_bytes) {
    group *g = find_or_make(p, number);
    if (g == NULL || n < 0 || stream < 0) {
        return false;
    }
    forget_loaded(g, stream);
    for (int32_t i = 0; i < g->per_stream && stream < g->cells / g->per_stream; i++) {
        g->position[stream * g->per_stream + i] = ST_PLACE_UNKNOWN;
    }
    if (n == 0) {
        return true;
    }
    loaded *l = calloc(1, sizeof *l);
    if (l == NULL || (l->positions = malloc((size_t)n * sizeof *positions)) == NULL ||
        (l->rows = malloc((size_t)n * row_bytes)) == NULL) {
        loaded_free(l);
        return false;
    }
    memcpy(l->positions, positions, (size_t)n * sizeof *positions);
    memcpy(l->rows, rows, (size_t)n * row_bytes);
    l->stream = stream;
    l->n = n;
    l->row_bytes = row_bytes;
    l->next = g->loaded;
    g->loaded = l;
    return true;
}

/* ---------------------------------------------------------------- looking for rows */

static uint64_t hash(const char *row, size_t n) {
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint8_t)row[i]) * 1099511628211u;
    }
    return h;
}

/* The cell of every row, -1 for none. Where rows lie in the order of the state from cell 0 on, which is what llama.cpp
 * does in an empty cache, one comparison each finds them. Rows of the same bytes are taken to lie in their order. */
static bool look(const loaded *l, const char *cache, int32_t cells, int32_t *cell_of) {
    int32_t in_order = 0;
    while (in_order < l->n && in_order < cells &&
           memcmp(cache + (size_t)in_order * l->row_bytes, l->rows + (size_t)in_order * l->row_bytes, l->row_bytes) == 0) {
        cell_of[in_order] = in_order;
        in_order++;
    }
    if (in_order == l->n) {
        return true;
    }
    size_t room = 16;
    while (room < 2 * (size_t)cells) {
        room *= 2;
    }
    int32_t *table = malloc(room * sizeof *table); /* cells by the hash of their rows */
    bool *taken = calloc((size_t)cells + 1, sizeof *taken);
    if (table == NULL || taken == NULL) {
        free(table);
        free(taken);
        return false;
    }
    memset(table, 0xff, room * sizeof *table);
    for (int32_t c = 0; c < cells; c++) {
        size_t at = hash(cache + (size_t)c * l->row_bytes, l->row_bytes) & (room - 1);
        while (table[at] >= 0) {
            at = (at + 1) & (room - 1);
        }
        table[at] = c;
    }
    for (int32_t i = 0; i < l->n; i++) {
        const char *row = l->rows + (size_t)i * l->row_bytes;
        cell_of[i] = -1;
        for (size_t at = hash(row, l->row_bytes) & (room - 1); cell_of[i] < 0 && table[at] >= 0;
             at = (at + 1) & (room - 1)) {
            const int32_t c = table[at];
            if (!taken[c] && memcmp(cache + (size_t)c * l->row_bytes, row, l->row_bytes) == 0) {
                taken[c] = true;
                cell_of[i] = c;
            }
        }
    }
    free(table);
    free(taken);
    return true;
}

bool st_places_find(st_places *p, int32_t number, const char *cache, size_t row_bytes, int32_t cells,
                    int32_t n_stream) {
    group *g = find_or_make(p, number);
    if (g == NULL || !reach(g, cells * n_stream)) {
        return false;
    }
    g->per_stream = cells;
    while (g->loaded != NULL) {
        loaded *l = g->loaded;
        int32_t *cell_of = malloc((size_t)l->n * sizeof *cell_of);
        const size_t from = (size_t)l->stream * (size_t)cells;
        const bool there = l->row_bytes == row_bytes && l->stream < n_stream;
        if (cell_of == NULL || (there && !look(l, cache + from * row_bytes, cells, cell_of))) {
            free(cell_of);
            return false;
        }
        for (int32_t i = 0; there && i < l->n; i++) {
            if (cell_of[i] >= 0) {
                g->position[from + (size_t)cell_of[i]] = l->positions[i];
            }
        }
        free(cell_of);
        g->loaded = l->next;
        loaded_free(l);
    }
    return true;
}

/* ---------------------------------------------------------------- what is written, what is known */

bool st_places_write(st_places *p, int32_t number, int32_t cells, const int64_t *index, const int32_t *positions,
                     int32_t n) {
    group *g = find_or_make(p, number);
    if (g == NULL || !reach(g, cells)) {
        return false;
    }
    for (int32_t i = 0; i < n; i++) {
        if (index[i] < 0 || index[i] >= cells || positions[i] < 0) {
            return false;
        }
        g->position[index[i]] = positions[i];
    }
    return true;
}

const int32_t *st_places_of(const st_places *p, int32_t number) {
    const group *g = find(p, number);
    return g != NULL ? g->position : NULL;
}

size_t st_places_bytes(const st_places *p) {
    size_t bytes = 0;
    for (const group *g = p->groups; g != NULL; g = g->next) {
        bytes += (size_t)g->cells * sizeof *g->position;
        for (const loaded *l = g->loaded; l != NULL; l = l->next) {
            bytes += (size_t)l->n * (sizeof(int32_t) + l->row_bytes);
        }
    }
    return bytes;
}
