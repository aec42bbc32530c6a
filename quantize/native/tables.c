/* Is this the ggml that the library was written for? */
#include "tables.h"
#include "rows.h"

#include <stdio.h>
#include <string.h>

typedef struct known_type {
    int32_t type;
    const char *name;
    int64_t block;
    size_t size;
    bool quantized;
    int32_t vec_dot_type; /* -1: not compared */
} known_type;

/* ggml/src/ggml.c and ggml/src/ggml-cpu/ggml-cpu.c, from both ends and the middle of the tables. */
static const known_type known[] = {
    {0, "f32", 1, 4, false, 0},       {1, "f16", 1, 2, false, 1},       {2, "q4_0", 32, 18, true, 8},
    {3, "q4_1", 32, 20, true, 9},     {6, "q5_0", 32, 22, true, 8},     {7, "q5_1", 32, 24, true, 9},
    {8, "q8_0", 32, 34, true, 8},     {9, "q8_1", 32, 36, true, -1},    {10, "q2_K", 256, 84, true, 15},
    {14, "q6_K", 256, 210, true, 15}, {20, "iq4_nl", 32, 18, true, 8},  {24, "i8", 1, 1, false, -1},
    {26, "i32", 1, 4, false, -1},     {28, "f64", 1, 8, false, -1},     {30, "bf16", 1, 2, false, 30},
    {34, "tq1_0", 256, 54, true, 15}, {35, "tq2_0", 256, 66, true, 15}, {39, "mxfp4", 32, 17, true, 8},
    {40, "nvfp4", 64, 36, true, 8},   {41, "q1_0", 128, 18, true, 8},   {42, "q2_0", 64, 18, true, 8},
};

static char reason[200];

static const char *mismatch(const char *what, int32_t type) {
    snprintf(reason, sizeof reason, "This ggml's type tables are not the verified ones (%s, type %d).", what,
             (int)type);
    return reason;
}

static bool is_empty(const struct ggml_type_traits *base, const struct ggml_type_traits_cpu *cpu) {
    return base->blck_size == 0 && base->blck_size_interleave == 0 && base->type_size == 0 && !base->is_quantized &&
           base->to_float == NULL && base->from_float_ref == NULL && cpu->from_float == NULL && cpu->vec_dot == NULL &&
           cpu->vec_dot_type == 0 && cpu->nrows == 0;
}

static bool is_ours(const st_tq_type *t, const struct ggml_type_traits *base, const struct ggml_type_traits_cpu *cpu) {
    return base->type_name != NULL && base->blck_size == t->block && strcmp(base->type_name, t->name) == 0 &&
           base->is_quantized && base->to_float != NULL && cpu->from_float != NULL && cpu->vec_dot != NULL;
}

bool st_tables_are_ours(const struct ggml_type_traits *base, const struct ggml_type_traits_cpu *cpu) {
    for (int i = 0; i < ST_TQ_TYPES; i++) {
        const st_tq_type *t = &st_tq_types[i];
        if (!is_ours(t, &base[t->type], &cpu[t->type])) {
            return false;
        }
    }
    return true;
}

const char *st_tables_check(const struct ggml_type_traits *base, const struct ggml_type_traits_cpu *cpu) {
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const known_type *k = &known[i];
        const struct ggml_type_traits *t = &base[k->type];
        /* sizes first: a name is only followed where everything else looks right */
        if (t->blck_size != k->block || t->type_size != k->size || t->is_quantized != k->quantized) {
            return mismatch("block or size", k->type);
        }
        if (t->type_name == NULL || strcmp(t->type_name, k->name) != 0) {
            return mismatch("name", k->type);
        }
        const bool converts = k->type != GGML_F32 && (k->vec_dot_type >= 0);
        if (converts && (t->to_float == NULL || t->from_float_ref == NULL)) {
            return mismatch("no conversion", k->type);
        }
        const struct ggml_type_traits_cpu *c = &cpu[k->type];
        if (k->vec_dot_type >= 0 && (c->vec_dot_type != k->vec_dot_type || c->from_float == NULL ||
                                     c->vec_dot == NULL || c->nrows < 1 || c->nrows > 4)) {
            return mismatch("product", k->type);
        }
    }
    for (int i = 0; i < ST_TQ_TYPES; i++) {
        const st_tq_type *t = &st_tq_types[i];
        if (!is_empty(&base[t->type], &cpu[t->type]) && !is_ours(t, &base[t->type], &cpu[t->type])) {
            return mismatch("a slot is in use", t->type);
        }
    }
    return NULL;
}
