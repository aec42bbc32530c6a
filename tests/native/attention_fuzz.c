/* Random attentions, tails and rows, compared with plain loops: a program for the sanitizers and for qemu.
 *
 *     attention_fuzz SEED ROUNDS THREADS
 *
 * Rows are random bytes with sane scales, shapes come from a small generator, and every instruction set of
 * the machine takes its turn. Ends with 1 if a result is too far from the plain loop's. */
#include "attention.h"
#include "f16.h"
#include "rows.h"
#include "tail.h"
#include "tq_plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static uint32_t rnd(void) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 33);
}

static int32_t upto(int32_t n) {
    return (int32_t)(rnd() % (uint32_t)n);
}

static float unit(void) {
    return (float)upto(2001) / 1000.0f - 1.0f;
}

/* Types that have a reader without ggml. */
static const int32_t types[] = {GGML_F16, GGML_Q8_0, GGML_Q4_0, GGML_Q4_1, GGML_Q5_0, GGML_Q5_1, GGML_IQ4_NL, GGML_BF16};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* Type `i` for the active instruction set; after the stock types come TurboQuant's, without registration. */
static const st_row_type *type_at(int32_t i) {
    static st_row_type tq[ST_ISA_AVX512 + 1][ST_TQ_TYPES];
    if (i < N_TYPES) {
        return st_row_type_find(types[i]);
    }
    const st_tq_type *t = &st_tq_types[i - N_TYPES];
    const st_row_ops *ops = &st_tq_ops_of(st_isa_active())[i - N_TYPES].row;
    st_row_type *made = &tq[st_isa_active()][i - N_TYPES];
    *made = (st_row_type){t->name, t->type,     t->block,   st_tq_size(t->bits, t->block), t->block, false,
                          127,     ops->to_f32, ops->to_i8, ops->from_f32};
    return made;
}

/* One that heads of this size can have. */
static const st_row_type *type_for(int32_t dim) {
    const st_row_type *t = type_at(upto(N_TYPES + ST_TQ_TYPES));
    return dim % t->block == 0 ? t : st_row_type_find(GGML_Q8_0);
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

static void *zeros(size_t n) {
    void *p = calloc(n > 0 ? n : 1, 1);
    if (p == NULL) {
        abort();
    }
    return p;
}

/* Random rows: bytes for the integers, small numbers where a block has f16 or bf16 scales. */
static char *rows_of(const st_row_type *t, size_t bytes) {
    char *rows = zeros(bytes);
    for (size_t i = 0; i < bytes; i++) {
        rows[i] = (char)rnd();
    }
    for (size_t i = 0; i + (size_t)t->type_size <= bytes; i += (size_t)t->type_size) {
        const float x = t->block == 1 ? unit() : unit() * 0.02f;
        const uint16_t h = t->type == GGML_BF16 ? (uint16_t)(st_f32_bits(x) >> 16) : st_f32_to_f16(x);
        memcpy(rows + i, &h, 2);
        if (t->has_offset) {
            const uint16_t m = st_f32_to_f16(unit() * 0.2f);
            memcpy(rows + i + 2, &m, 2);
        }
    }
    return rows;
}

typedef struct setting {
    st_attn_job job;
    char *q, *k, *v, *mask, *out;
    float *sinks;
} setting;

static setting make(void) {
    static const int32_t dims[] = {32, 64, 128, 96, 256};
    setting s;
    memset(&s, 0, sizeof s);
    st_attn_job *j = &s.job;
    j->dk = dims[upto(5)];
    j->dv = upto(4) ? j->dk : dims[upto(5)];
    j->n_head_kv = 1 + upto(3);
    j->n_head = j->n_head_kv * (1 + upto(9));
    j->n_stream = upto(4) ? 1 : 2;
    j->n_tokens = upto(2) ? 1 : 1 + upto(50);
    j->n_cells = j->n_tokens + upto(400);
    j->type_k = type_for(j->dk);
    j->type_v = type_for(j->dv);
    j->scale = 1.0f / sqrtf((float)j->dk);
    j->softcap = upto(5) ? 0.0f : 20.0f;
    j->q_head = (size_t)j->dk * sizeof(float);
    j->q_token = j->q_head * (size_t)j->n_head;
    j->q_stream = j->q_token * (size_t)j->n_tokens;
    j->k_head = st_row_size(j->type_k, j->dk);
    j->k_cell = j->k_head * (size_t)j->n_head_kv;
    j->k_stream = j->k_cell * (size_t)j->n_cells;
    j->v_head = st_row_size(j->type_v, j->dv);
    j->v_cell = j->v_head * (size_t)j->n_head_kv;
    j->v_stream = j->v_cell * (size_t)j->n_cells;
    const size_t n_stream = (size_t)j->n_stream;
    s.q = zeros(j->q_stream * n_stream);
    for (size_t i = 0; i < j->q_stream * n_stream / sizeof(float); i++) {
        ((float *)(void *)s.q)[i] = 2.0f * unit();
    }
    s.k = rows_of(j->type_k, j->k_stream * n_stream);
    s.v = rows_of(j->type_v, j->v_stream * n_stream);
    s.out = zeros((size_t)j->n_tokens * (size_t)j->n_head * (size_t)j->dv * n_stream * sizeof(float));
    if (upto(4)) {
        j->mask_token = (size_t)j->n_cells * sizeof(uint16_t);
        j->mask_stream = j->mask_token * (size_t)j->n_tokens;
        j->mask_heads = 1;
        j->mask_streams = j->n_stream;
        s.mask = zeros(j->mask_stream * n_stream);
        const int32_t kind = upto(3);
        for (int32_t i = 0; i < j->n_stream * j->n_tokens; i++) {
            for (int32_t c = 0; c < j->n_cells; c++) {
                const bool later = c > j->n_cells - j->n_tokens + i % j->n_tokens;
                const bool hidden = kind == 0 ? later : kind == 1 ? upto(2) : upto(50) || later;
                const uint16_t m = hidden ? 0xfc00 : upto(9) ? 0 : st_f32_to_f16(unit());
                ((uint16_t *)(void *)s.mask)[(size_t)i * (size_t)j->n_cells + (size_t)c] = m;
            }
        }
    }
    if (upto(4) == 0) {
        s.sinks = zeros((size_t)j->n_head * sizeof(float));
        for (int32_t h = 0; h < j->n_head; h++) {
            s.sinks[h] = unit();
        }
    }
    j->q = s.q;
    j->k = s.k;
    j->v = s.v;
    j->mask = s.mask;
    j->sinks = s.sinks;
    j->out = (float *)(void *)s.out;
    return s;
}

static void drop(setting *s) {
    free(s->q);
    free(s->k);
    free(s->v);
    free(s->mask);
    free(s->sinks);
    free(s->out);
}

/* One query row in double precision. */
static void plain(const st_attn_job *j, int32_t stream, int32_t token, int32_t head, double *out) {
    const int32_t kv = head / (j->n_head / j->n_head_kv);
    const float *q = (const float *)(const void *)(j->q + (size_t)stream * j->q_stream + (size_t)token * j->q_token +
                                                   (size_t)head * j->q_head);
    double *score = zeros((size_t)j->n_cells * sizeof(double));
    double top = j->sinks != NULL ? (double)j->sinks[head] : -INFINITY;
    float row[ST_ATTN_MAX_DIM];
    for (int32_t c = 0; c < j->n_cells; c++) {
        float m = 0.0f;
        if (j->mask != NULL) {
            m = st_load_f16(j->mask + (size_t)stream * j->mask_stream + (size_t)token * j->mask_token + 2 * (size_t)c);
        }
        score[c] = -INFINITY;
        if (m != -INFINITY) {
            double dot = 0.0;
            j->type_k->to_f32(j->k + (size_t)stream * j->k_stream + (size_t)c * j->k_cell + (size_t)kv * j->k_head, row,
                              j->dk);
            for (int32_t d = 0; d < j->dk; d++) {
                dot += (double)row[d] * (double)q[d];
            }
            dot *= (double)j->scale;
            score[c] = (j->softcap > 0.0f ? (double)j->softcap * tanh(dot / (double)j->softcap) : dot) + (double)m;
            top = score[c] > top ? score[c] : top;
        }
    }
    double total = j->sinks != NULL ? exp((double)j->sinks[head] - top) : 0.0;
    memset(out, 0, (size_t)j->dv * sizeof(double));
    for (int32_t c = 0; c < j->n_cells; c++) {
        if (score[c] != -INFINITY) {
            const double p = exp(score[c] - top);
            total += p;
            j->type_v->to_f32(j->v + (size_t)stream * j->v_stream + (size_t)c * j->v_cell + (size_t)kv * j->v_head, row,
                              j->dv);
            for (int32_t d = 0; d < j->dv; d++) {
                out[d] += p * (double)row[d];
            }
        }
    }
    for (int32_t d = 0; d < j->dv && total > 0.0; d++) {
        out[d] /= total;
    }
    free(score);
}

static bool agrees(const st_attn_job *j) {
    double error = 0.0;
    double size = 0.0;
    for (int32_t i = 0; i < 6; i++) { /* a few rows are enough */
        double want[ST_ATTN_MAX_DIM];
        const int32_t stream = upto(j->n_stream);
        const int32_t token = i == 0 ? j->n_tokens - 1 : upto(j->n_tokens);
        const int32_t head = upto(j->n_head);
        plain(j, stream, token, head, want);
        const float *got = j->out + (((size_t)stream * (size_t)j->n_tokens + (size_t)token) * (size_t)j->n_head +
                                     (size_t)head) *
                                        (size_t)j->dv;
        for (int32_t d = 0; d < j->dv; d++) {
            error += ((double)got[d] - want[d]) * ((double)got[d] - want[d]);
            size += want[d] * want[d];
        }
    }
    return error <= 1e-4 * size + 1e-9;
}

/* Heads that see anything, of one KV head and all tokens. */
static int32_t rows_that_see(const st_attn_job *j) {
    int32_t n = 0;
    for (int32_t i = 0; i < j->n_stream * j->n_tokens; i++) {
        bool sees = j->mask == NULL;
        for (int32_t c = 0; c < j->n_cells && !sees; c++) {
            sees = st_load_f16(j->mask + ((size_t)i * (size_t)j->n_cells + (size_t)c) * 2) != -INFINITY;
        }
        n += sees ? j->n_head / j->n_head_kv : 0;
    }
    return n;
}

/* The job, with the probabilities added up: all of a row's make one, with a sink less. */
static bool adds_up(const st_attn_job *job, int threads, st_attn_memory *memory) {
    st_attn_job j = *job;
    st_attn_mass *mass = zeros((size_t)threads * sizeof *mass);
    j.mass = mass;
    j.mass_cells = upto(2) ? j.n_cells : 1 + upto(2 * j.n_cells);
    const size_t stride = (size_t)st_attn_mass_cells(&j);
    const size_t n = stride * (size_t)j.n_head_kv;
    for (int t = 0; t < threads; t++) {
        mass[t].most = zeros(n * sizeof(float));
        mass[t].sum = zeros(n * sizeof(float));
    }
    bool fine = st_attn_run(&j, threads, memory);
    const double rows = rows_that_see(&j);
    for (int32_t h = 0; h < j.n_head_kv; h++) {
        double total = 0.0;
        for (size_t c = (size_t)h * stride; c < (size_t)(h + 1) * stride; c++) {
            double most = 0.0;
            double sum = 0.0;
            for (int t = 0; t < threads; t++) {
                most = mass[t].most[c] > (float)most ? (double)mass[t].most[c] : most;
                sum += (double)mass[t].sum[c];
            }
            fine &= most <= 1.00001 && most <= sum * 1.00001 && sum <= most * rows * 1.0001;
            total += sum;
        }
        const bool whole = j.sinks == NULL && j.mass_cells >= j.n_cells;
        fine &= total <= rows * 1.0001 && (!whole || total >= rows * 0.9999);
    }
    for (int t = 0; t < threads; t++) {
        free(mass[t].most);
        free(mass[t].sum);
    }
    free(mass);
    return fine;
}

/* Take rows out of a tail and give them back, as a switch of types or a regeneration does. */
static void take_and_give(st_tail *tail, st_cache_id id, int32_t n_values, size_t row) {
    enum { ROOM = 100 };
    int32_t cells[ROOM];
    uint16_t *exact = zeros(ROOM * (size_t)n_values * sizeof *exact);
    float *values = zeros(ROOM * (size_t)n_values * sizeof *values);
    char *packed = zeros(ROOM * row);
    const int32_t room = upto(ROOM);
    const int32_t n = st_tail_read(tail, id, room, n_values, cells, exact, row, upto(4) == 0 ? NULL : packed);
    for (int32_t i = 0; i < n * n_values; i++) {
        values[i] = st_f16_to_f32(exact[i]);
    }
    st_tail_fill(tail, id, cells, n, values, n_values, packed, row); /* packed may be zeros: not read then */
    free(exact);
    free(values);
    free(packed);
}

/* A cache of two streams that is written, trimmed and read with a tail on. Its rows are q8_0, so that what
 * is read exactly and what is not differ little. */
static bool tails(int threads) {
    enum { CELLS = 300, HEADS = 2, DIM = 64, VALUES = HEADS * DIM };
    const st_row_type *t = st_row_type_find(GGML_Q8_0);
    const size_t row = st_row_size(t, VALUES);
    const int32_t n_stream = 1 + upto(2);
    char *k = rows_of(t, row * CELLS * (size_t)n_stream);
    char *v = rows_of(t, row * CELLS * (size_t)n_stream);
    st_tail *tail = st_tail_new();
    st_attn_memory memory = {NULL, 0};
    bool fine = tail != NULL;
    for (int step = 0; step < 12 && fine; step++) {
        st_tail_resize(tail, upto(90), upto(6));
        const int32_t n = 1 + upto(40);
        int64_t index[40 * 2];
        float *values = zeros((size_t)(n * n_stream) * VALUES * sizeof(float));
        for (int side = 0; side < 2; side++) {
            char *data = side == 0 ? k : v;
            const st_cache cache = {{upto(3), side == 1}, data, VALUES, row, CELLS, n_stream};
            for (int32_t i = 0; i < n * n_stream; i++) {
                index[i] = i / n * CELLS + (step * 37 + i % n) % CELLS;
                t->to_f32(data + (size_t)index[i] * row, values + (size_t)i * VALUES, VALUES); /* as it is */
            }
            if (upto(4) == 0) {
                st_tail_reserve(tail, cache.id, VALUES, row, 1 + upto(80));
            }
            st_tail_write(tail, &cache, (const char *)values, VALUES * sizeof(float), index, n * n_stream);
            if (upto(3) == 0) {
                take_and_give(tail, cache.id, VALUES, row);
            }
        }
        if (upto(3) == 0) { /* rows that the tail does not hear of */
            memset(k + row * (size_t)upto(CELLS - 20), 1, row * 20);
        }
        st_attn_job j;
        memset(&j, 0, sizeof j);
        j.dk = j.dv = DIM;
        j.n_tokens = n;
        j.n_cells = 1 + upto(CELLS);
        j.n_head = HEADS * 3;
        j.n_head_kv = HEADS;
        j.n_stream = n_stream;
        j.type_k = j.type_v = t;
        j.k_head = j.v_head = st_row_size(t, DIM);
        j.k_cell = j.v_cell = row;
        j.k_stream = j.v_stream = row * CELLS;
        j.q_head = DIM * sizeof(float);
        j.q_token = j.q_head * (size_t)j.n_head;
        j.q_stream = j.q_token * (size_t)n;
        j.scale = 0.125f;
        float *q = zeros(j.q_stream * (size_t)n_stream);
        for (size_t i = 0; i < j.q_stream * (size_t)n_stream / sizeof(float); i++) {
            q[i] = unit();
        }
        j.q = (const char *)q;
        j.k = k;
        j.v = v;
        j.out = zeros((size_t)n * (size_t)j.n_head * DIM * (size_t)n_stream * sizeof(float));
        const st_cache ck = {{upto(3), false}, k, VALUES, row, CELLS, n_stream};
        const st_cache cv = {{upto(3), true}, v, VALUES, row, CELLS, n_stream};
        j.exact_k = st_tail_view(tail, &ck, 0, n_stream, j.n_cells, n);
        j.exact_v = st_tail_view(tail, &cv, 0, n_stream, j.n_cells, n);
        j.exact_window = st_tail_window(tail);
        const bool asked = upto(2);
        fine = (asked ? adds_up(&j, threads, &memory) : st_attn_run(&j, threads, &memory)) && agrees(&j);
        free(j.out);
        free(q);
        free(values);
    }
    st_tail_free(tail);
    free(memory.base);
    free(k);
    free(v);
    return fine;
}

/* Every reader, and TurboQuant's writers, give what plain C gives, to the last bit. */
static bool rows_agree(void) {
    enum { ROWS = 5, N = 256 };
    const st_isa best = st_isa_active();
    bool fine = true;
    for (int32_t i = 0; i < N_TYPES + ST_TQ_TYPES && fine; i++) {
        const st_row_type *t = type_at(i);
        st_isa_use(ST_ISA_PORTABLE);
        const st_row_type *plain_c = type_at(i);
        st_isa_use(best);
        const size_t bytes = st_row_size(t, N);
        char *data = rows_of(t, bytes * ROWS);
        float want[N];
        float got[N];
        for (int r = 0; r < ROWS; r++) {
            plain_c->to_f32(data + (size_t)r * bytes, want, N);
            t->to_f32(data + (size_t)r * bytes, got, N);
            fine &= memcmp(want, got, sizeof got) == 0;
        }
        if (t->to_i8 != NULL) {
            int8_t q[2][ROWS * N];
            float parts[2][2][N / 32 * ROWS];
            memset(parts, 0, sizeof parts);
            for (int side = 0; side < 2; side++) {
                const st_rows rows = {data, bytes, side == 0 ? 0 : bytes, ROWS, N, ROWS, q[side], parts[side][0], parts[side][1]};
                (side == 0 ? plain_c : t)->to_i8(&rows);
            }
            fine &= memcmp(q[0], q[1], sizeof q[0]) == 0 && memcmp(parts[0], parts[1], sizeof parts[0]) == 0;
        }
        if (i >= N_TYPES) {
            char *written = zeros(2 * bytes);
            for (int d = 0; d < N; d++) {
                got[d] = unit() * unit();
            }
            plain_c->from_f32(got, written, N);
            t->from_f32(got, written + bytes, N);
            fine &= memcmp(written, written + bytes, bytes) == 0;
            free(written);
        }
        free(data);
        if (!fine) {
            fprintf(stderr, "%s rows differ in %s\n", t->name, st_isa_name(best));
        }
    }
    return fine;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: attention_fuzz SEED ROUNDS THREADS\n");
        return 2;
    }
    ggml_get_type_traits_fn base = no_traits;
    ggml_get_type_traits_cpu_fn cpu = no_traits_cpu;
    void *symbols[2];
    memcpy(&symbols[0], &base, sizeof base);
    memcpy(&symbols[1], &cpu, sizeof cpu);
    st_init(symbols);
    st_tq_plans_fill();
    const st_isa best = st_isa_detected();
    const int rounds = atoi(argv[2]);
    const int threads = atoi(argv[3]);
    st_attn_memory memory = {NULL, 0};
    for (int i = 0; i < rounds; i++) {
        state = (uint64_t)strtoull(argv[1], NULL, 10) * 1000003u + (uint64_t)i;
        st_isa_use(i % 3 == 0 ? ST_ISA_PORTABLE : i % 3 == 1 && best == ST_ISA_AVX512 ? ST_ISA_AVX2 : best);
        setting s = make();
        if (st_attn_refuses(&s.job) != NULL) {
            fprintf(stderr, "round %d: refused\n", i);
            return 1;
        }
        const int n = 1 + upto(threads);
        const bool asked = upto(2);
        if (!(asked ? adds_up(&s.job, n, &memory) : st_attn_run(&s.job, n, &memory)) || !agrees(&s.job)) {
            fprintf(stderr, "round %d: wrong with %s, K %s, V %s, heads of %d and %d\n", i,
                    st_isa_name(st_isa_active()), s.job.type_k->name, s.job.type_v->name, s.job.dk, s.job.dv);
            return 1;
        }
        drop(&s);
        if (i % 5 == 0 && !rows_agree()) {
            return 1;
        }
        if (!tails(1 + upto(threads))) {
            fprintf(stderr, "round %d: wrong with a tail\n", i);
            return 1;
        }
    }
    free(memory.base);
    puts("fine");
    return 0;
}
