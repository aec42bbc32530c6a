/* The probabilities of some queries, in the vector operations of the including file (attention_mass.h).
 *
 * An item is one KV head with some tokens. Tile after tile of K is read as f32 and multiplied with all
 * queries of the item; their scores of all cells are kept, then turned into probabilities and added up. */
#include "attention_mass.h"
#include "f16.h"

#include <math.h>
#include <string.h>

enum {
    MASS_TILE = 64,
    MASS_WIDTH = 2 * VL,
    MASS_STRIPS = MASS_TILE / MASS_WIDTH,
    MASS_ROWS = MAX_ROWS == 12 ? 8 : 4, /* queries that are multiplied at once */
};

static const float MASS_LOG2E = 1.4426950408889634f;

typedef struct mass_scratch {
    float *rows;        /* (MASS_TILE, dk) */
    float *strips;      /* (MASS_STRIPS, dk, MASS_WIDTH) */
    float *scores;      /* (queries, cells) */
    const float **q;    /* per query */
} mass_scratch;

static inline int32_t mass_cells(const st_mass_work *work) {
    return (work->job->n_cells + MASS_TILE - 1) / MASS_TILE * MASS_TILE;
}

static size_t mass_lay_out(const st_mass_work *work, mass_scratch *x, char *base) {
    const st_attn_job *job = work->job;
    const size_t n = (size_t)work->block_tokens * (size_t)(job->n_head / job->n_head_kv);
    const size_t dk = (size_t)job->dk;
    size_t at = 0;
    x->rows = (float *)(void *)(base + at);
    at += MASS_TILE * dk * sizeof(float);
    x->strips = (float *)(void *)(base + at);
    at += MASS_TILE * dk * sizeof(float);
    x->scores = (float *)(void *)(base + at);
    at += n * (size_t)mass_cells(work) * sizeof(float);
    x->q = (const float **)(void *)(base + at);
    at += n * sizeof(float *);
    return (at + 63) / 64 * 64;
}

static size_t mass_scratch_bytes(const st_mass_work *work) {
    mass_scratch x;
    char nothing;
    return mass_lay_out(work, &x, &nothing);
}

static const uint16_t *mass_mask(const st_attn_job *job, int32_t token, int32_t head, int32_t cell) {
    return (const uint16_t *)(const void *)(job->mask + (size_t)(head % job->mask_heads) * job->mask_head +
                                            (size_t)token * job->mask_token) +
           cell;
}

/* Whether any of these tokens sees any cell of the tile. */
static bool mass_sees(const st_attn_job *job, int32_t head, int32_t token0, int32_t n_tokens, int32_t cell, int32_t n) {
    for (int32_t t = token0; job->mask != NULL && t < token0 + n_tokens; t++) {
        const uint16_t *m = mass_mask(job, t, head, cell);
        for (int32_t c = 0; c < n; c++) {
            if (m[c] != 0xfc00) {
                return true;
            }
        }
    }
    return job->mask == NULL;
}

/* Cells `cell` to `cell + n` of the KV head as f32, transposed; what is missing in the tile is zero. */
static void mass_read_keys(const st_attn_job *job, int32_t head_kv, int32_t cell, int32_t n, mass_scratch *x) {
    const size_t dk = (size_t)job->dk;
    const char *k = job->k + (size_t)head_kv * job->k_head + (size_t)cell * job->k_cell;
    for (int32_t c = 0; c < n; c++) {
        job->type_k->to_f32(k + (size_t)c * job->k_cell, x->rows + (size_t)c * dk, job->dk);
    }
    memset(x->rows + (size_t)n * dk, 0, (size_t)(MASS_TILE - n) * dk * sizeof(float));
    for (int32_t s = 0; s < MASS_STRIPS; s++) {
        for (int32_t j = 0; j < MASS_WIDTH; j += VL) {
            pack_k_f32_vl(x->rows + (size_t)(s * MASS_WIDTH + j) * dk, job->dk,
                          x->strips + (size_t)s * dk * MASS_WIDTH, MASS_WIDTH, j);
        }
    }
}

static inline __attribute__((always_inline)) void mass_product(const int R, const float *const *q, const mass_scratch *x,
                                                               int32_t dk, float *scores, size_t stride) {
    for (int32_t s = 0; s < MASS_STRIPS; s++) {
        const float *b = x->strips + (size_t)s * (size_t)dk * MASS_WIDTH;
        vf acc[MASS_ROWS][2];
        for (int r = 0; r < R; r++) {
            acc[r][0] = vf_zero();
            acc[r][1] = vf_zero();
        }
        for (int32_t d = 0; d < dk; d++) {
            const vf b0 = vf_load(b + d * MASS_WIDTH);
            const vf b1 = vf_load(b + d * MASS_WIDTH + VL);
            for (int r = 0; r < R; r++) {
                const vf a = vf_set1(q[r][d]);
                acc[r][0] = vf_fma(a, b0, acc[r][0]);
                acc[r][1] = vf_fma(a, b1, acc[r][1]);
            }
        }
        for (int r = 0; r < R; r++) {
            vf_store(scores + (size_t)r * stride + s * MASS_WIDTH, acc[r][0]);
            vf_store(scores + (size_t)r * stride + s * MASS_WIDTH + VL, acc[r][1]);
        }
    }
}

/* tanh(x) = 1 - 2 / (1 + exp(2x)) */
static inline vf mass_tanh(vf x) {
    const vf e = vf_exp2(vf_min(vf_mul(x, vf_set1(2.885390081777927f)), vf_set1(60.0f)));
    return vf_fma(vf_set1(-2.0f), vf_div(vf_set1(1.0f), vf_add(e, vf_set1(1.0f))), vf_set1(1.0f));
}

/* The scores of one query become probabilities, which are added up. */
static void mass_add(const st_mass_work *work, float *s, int32_t n, int32_t token, int32_t head, float *most,
                     float *sum) {
    const st_attn_job *job = work->job;
    const int32_t whole = n / VL * VL; /* the mask may end with the last cell */
    vf top = vf_set1(-INFINITY);
    const vf log2e = vf_set1(MASS_LOG2E);
    for (int32_t c = 0; c < n; c += VL) {
        vf x = vf_mul(vf_load(s + c), vf_set1(job->softcap > 0.0f ? job->scale / job->softcap : job->scale * MASS_LOG2E));
        if (job->softcap > 0.0f) {
            x = vf_mul(mass_tanh(x), vf_set1(job->softcap * MASS_LOG2E));
        }
        if (c < whole && job->mask != NULL) {
            x = vf_add_mask(x, vf_load_f16(mass_mask(job, token, head, c)), log2e);
        } else if (c >= whole) {
            uint16_t edge[VL];
            for (int32_t i = 0; i < VL; i++) {
                edge[i] = c + i >= n ? 0xfc00 : job->mask != NULL ? *mass_mask(job, token, head, c + i) : 0;
            }
            x = vf_add_mask(x, vf_load_f16(edge), log2e);
        }
        vf_store(s + c, x);
        top = vf_max(top, x);
    }
    float m = vf_hmax(top);
    const float sink = job->sinks != NULL ? job->sinks[head] * MASS_LOG2E : -INFINITY;
    m = sink > m ? sink : m;
    if (m == -INFINITY) { /* it sees nothing */
        return;
    }
    vf total = vf_zero();
    for (int32_t c = 0; c < n; c += VL) {
        const vf p = vf_exp2(vf_add(vf_load(s + c), vf_set1(-m)));
        vf_store(s + c, p);
        total = vf_add(total, p);
    }
    const float l = vf_hsum(total) + (job->sinks != NULL ? exp2f(sink - m) : 0.0f);
    const vf f = vf_set1(1.0f / l);
    const int32_t n_track = work->n_track < n ? work->n_track : n;
    int32_t c = 0;
    for (; c + VL <= n_track; c += VL) {
        const vf p = vf_mul(vf_load(s + c), f);
        vf_store(most + c, vf_max(vf_load(most + c), p));
        vf_store(sum + c, vf_add(vf_load(sum + c), p));
    }
    for (; c < n_track; c++) {
        const float p = s[c] / l;
        most[c] = p > most[c] ? p : most[c];
        sum[c] += p;
    }
}

static void mass_item(const st_mass_work *work, int32_t item, void *memory, const st_mass_sums *into) {
    const st_attn_job *job = work->job;
    const int32_t head_kv = item % job->n_head_kv;
    const int32_t per = job->n_head / job->n_head_kv;
    const int32_t token0 = (work->n_block - 1 - item / job->n_head_kv) * work->block_tokens;
    const int32_t n_tokens = job->n_tokens - token0 < work->block_tokens ? job->n_tokens - token0 : work->block_tokens;
    const int32_t n_query = n_tokens * per;
    const size_t stride = (size_t)mass_cells(work);
    mass_scratch x;
    mass_lay_out(work, &x, memory);
    for (int32_t i = 0; i < n_query; i++) {
        x.q[i] = (const float *)(const void *)(job->q + (size_t)(token0 + i / per) * job->q_token +
                                               (size_t)(head_kv * per + i % per) * job->q_head);
    }
    int32_t last = 0; /* one past the last tile that anyone sees */
    for (int32_t cell = 0; cell < job->n_cells; cell += MASS_TILE) {
        const int32_t n = job->n_cells - cell < MASS_TILE ? job->n_cells - cell : MASS_TILE;
        float *scores = x.scores + cell;
        if (!mass_sees(job, head_kv * per, token0, n_tokens, cell, n)) {
            for (int32_t i = 0; i < n_query; i++) { /* the mask hides them; they only must be numbers */
                memset(scores + (size_t)i * stride, 0, MASS_TILE * sizeof(float));
            }
            continue;
        }
        last = cell + n;
        mass_read_keys(job, head_kv, cell, n, &x);
        int32_t i = 0;
        for (; i + MASS_ROWS <= n_query; i += MASS_ROWS) {
            mass_product(MASS_ROWS, x.q + i, &x, job->dk, scores + (size_t)i * stride, stride);
        }
        for (; i < n_query; i++) {
            mass_product(1, x.q + i, &x, job->dk, scores + (size_t)i * stride, stride);
        }
    }
    float *most = into->most + (size_t)head_kv * (size_t)work->n_track;
    float *sum = into->sum + (size_t)head_kv * (size_t)work->n_track;
    for (int32_t i = 0; i < n_query; i++) {
        mass_add(work, x.scores + (size_t)i * stride, last, token0 + i / per, head_kv * per + i % per, most, sum);
    }
}
