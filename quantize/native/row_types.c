/* The table of row formats: what a reader needs to know of each, and the fastest functions that the
 * active instruction set has for it. */
#include "rows.h"
#include "tq.h"

/* Formats with readers of their own. The rest go through ggml's own to_float. */
static const st_row_type known[] = {
    {"f32", GGML_F32, 1, 4, 0, false, 0, NULL, NULL, NULL},
    {"f16", GGML_F16, 1, 2, 0, false, 0, NULL, NULL, NULL},
    {"bf16", GGML_BF16, 1, 2, 0, false, 0, NULL, NULL, NULL},
    {"q8_0", GGML_Q8_0, 32, 34, 32, false, 127, NULL, NULL, NULL},
    {"q5_1", GGML_Q5_1, 32, 24, 32, true, 31, NULL, NULL, NULL},
    {"q5_0", GGML_Q5_0, 32, 22, 32, false, 16, NULL, NULL, NULL},
    {"q4_1", GGML_Q4_1, 32, 20, 32, true, 15, NULL, NULL, NULL},
    {"q4_0", GGML_Q4_0, 32, 18, 32, false, 8, NULL, NULL, NULL},
    {"iq4_nl", GGML_IQ4_NL, 32, 18, 32, false, 127, NULL, NULL, NULL},
};

static const st_row_ops *stock_ops_of(st_isa isa) {
#if defined(__x86_64__)
    if (isa == ST_ISA_AVX512) {
        return st_rows_avx512;
    }
    if (isa == ST_ISA_AVX2) {
        return st_rows_avx2;
    }
#elif defined(__aarch64__)
    if (isa == ST_ISA_NEON) {
        return st_rows_neon;
    }
#endif
    (void)isa;
    return st_rows_portable;
}

const st_tq_ops *st_tq_ops_of(st_isa isa) {
#if defined(__x86_64__)
    if (isa == ST_ISA_AVX512) {
        return st_tq_avx512;
    }
    if (isa == ST_ISA_AVX2) {
        return st_tq_avx2;
    }
#elif defined(__aarch64__)
    if (isa == ST_ISA_NEON) {
        return st_tq_neon;
    }
#endif
    (void)isa;
    return st_tq_portable;
}

/* One table per instruction set, filled by st_init() and by the registration, then only read. */
static st_row_type table[ST_ISA_AVX512 + 1][GGML_TYPE_COUNT];

static st_row_type fill(int32_t type, st_isa isa) {
    st_row_type t = {NULL, type, 0, 0, 0, false, 0, NULL, NULL, NULL};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].type == type) {
            t = known[i];
        }
    }
    for (int i = 0; i < ST_TQ_TYPES && st_types_registered(); i++) {
        const st_tq_type *tq = &st_tq_types[i];
        if (tq->type == type) {
            const st_row_ops *ops = &st_tq_ops_of(isa)[i].row;
            return (st_row_type){tq->name, type,       tq->block,   st_tq_size(tq->bits, tq->block), tq->block, false,
                                 127,      ops->to_f32, ops->to_i8, ops->from_f32};
        }
    }
    const st_row_ops *stock = &stock_ops_of(isa)[type];
    t.to_f32 = stock->to_f32;
    t.to_i8 = stock->to_i8;
    t.from_f32 = stock->from_f32;
    const st_ggml *ggml = st_ggml_api();
    const struct ggml_type_traits *base = ggml->get_type_traits(type);
    if (t.name == NULL && base->blck_size > 0 && base->to_float != NULL) {
        t.name = base->type_name;
        t.block = (int32_t)base->blck_size;
        t.type_size = (int32_t)base->type_size;
        t.to_f32 = base->to_float;
    }
    t.from_f32 = t.from_f32 != NULL ? t.from_f32 : ggml->get_type_traits_cpu(type)->from_float;
    return t;
}

void st_row_types_fill(void) {
    const st_isa best = st_isa_detected();
    for (int32_t type = 0; type < GGML_TYPE_COUNT; type++) {
        table[ST_ISA_PORTABLE][type] = fill(type, ST_ISA_PORTABLE);
        table[best][type] = fill(type, best);
        if (best == ST_ISA_AVX512) {
            table[ST_ISA_AVX2][type] = fill(type, ST_ISA_AVX2);
        }
    }
}

const st_row_type *st_row_type_find(int32_t type) {
    if (type < 0 || type >= GGML_TYPE_COUNT) {
        return NULL;
    }
    const st_row_type *t = &table[st_isa_active()][type];
    return t->name != NULL && t->to_f32 != NULL ? t : NULL;
}
