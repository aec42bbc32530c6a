/* Every parallel region must ask for as many threads as ggml computes with, and where one token is written every thread
 * must find work, as far as there are tiles and heads: prints what is not so.
 *
 *     team_sizes */
#include "attention.h"
#include "team.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned asked;
static int n_regions;

/* In place of libgomp's: whatever the number of threads, all work is done. */
static void record(void (*fn)(void *), void *data, unsigned n_threads, unsigned flags) {
    (void)flags;
    asked = n_threads;
    n_regions++;
    for (unsigned i = 0; i < n_threads; i++) {
        fn(data);
    }
}

static const struct ggml_type_traits *no_traits(int32_t type) {
    static const struct ggml_type_traits none;
    (void)type;
    return &none;
}

static const struct ggml_type_traits_cpu *no_traits_cpu(int32_t type) {
    static const struct ggml_type_traits_cpu none;
    (void)type;
    return &none;
}

static void nothing(void *arg, int part) {
    (void)arg;
    (void)part;
}

enum { HEADS = 6, DIM = 64, MOST_CELLS = 3000, MOST_TOKENS = 40 };

int main(void) {
    const st_ggml ggml = {no_traits, no_traits_cpu};
    void *symbols[2];
    _Static_assert(sizeof symbols == sizeof ggml, "two functions");
    __builtin_memcpy(symbols, &ggml, sizeof ggml);
    const char *problem = st_init(symbols);
    if (problem != NULL) {
        fprintf(stderr, "%s\n", problem);
        return 2;
    }
    void (*fn)(void (*)(void *), void *, unsigned, unsigned) = record;
    void *address;
    __builtin_memcpy(&address, &fn, sizeof address);
    st_team_use(address);
    float *q = calloc(MOST_TOKENS * HEADS * DIM, sizeof *q);
    float *out = calloc(MOST_TOKENS * HEADS * DIM, sizeof *out);
    uint16_t *cache = calloc(MOST_CELLS * HEADS * DIM, sizeof *cache);
    st_attn_memory memory = {NULL, 0};
    int failures = 0;
    for (int n_threads = 2; n_threads <= 32; n_threads += n_threads < 8 ? 1 : 8) {
        for (int n_cells = 1; n_cells <= MOST_CELLS; n_cells = n_cells * 3 + 5) {
            for (int n_tokens = 1; n_tokens <= MOST_TOKENS; n_tokens += 13) {
                st_attn_job job = {.dk = DIM, .dv = DIM, .n_tokens = n_tokens, .n_cells = n_cells, .n_head = HEADS,
                                   .n_head_kv = HEADS, .n_stream = 1, .scale = 1.0f, .out = out};
                job.type_k = job.type_v = st_row_type_find(GGML_F16);
                job.q = (const char *)q;
                job.k = job.v = (const char *)cache;
                job.q_head = DIM * sizeof(float);
                job.q_token = job.q_head * HEADS;
                job.k_head = job.v_head = DIM * sizeof(uint16_t);
                job.k_cell = job.v_cell = job.k_head * HEADS;
                asked = (unsigned)n_threads;
                if (!st_attn_run(&job, n_threads, &memory)) {
                    return 2;
                }
                st_attn_plan plan;
                st_attn_plan_make(&plan, &job, n_threads);
                const int tiles = (n_cells + ST_ATTN_TILE - 1) / ST_ATTN_TILE * HEADS;
                if (n_tokens == 1 && plan.n_item < (tiles < n_threads ? tiles : n_threads)) {
                    printf("%d threads, %d cells: %d items\n", n_threads, n_cells, (int)plan.n_item);
                    failures++;
                }
                if (asked != (unsigned)n_threads) {
                    printf("%d threads, %d cells, %d tokens: %u\n", n_threads, n_cells, n_tokens, asked);
                    failures++;
                }
            }
        }
        for (int parts = 2; parts < 40; parts++) {
            st_team_each(n_threads, parts, nothing, NULL);
            if (asked != (unsigned)n_threads) {
                printf("%d threads, %d parts: %u\n", n_threads, parts, asked);
                failures++;
            }
        }
    }
    free(memory.base);
    free(cache);
    free(out);
    free(q);
    if (n_regions == 0) {
        fprintf(stderr, "no region was opened\n");
        return 2;
    }
    return failures > 0;
}
