/* The library's start, and TurboQuant's types in the free slots of ggml's tables. */
#define _GNU_SOURCE /* dladdr */
#include "rows.h"
#include "tables.h"
#include "tq_plan.h"

#include <dlfcn.h>
#include <string.h>

const st_tq_type st_tq_types[ST_TQ_TYPES] = {
    {"tq4", ST_TQ4_128, 4, 128}, {"tq4_64", ST_TQ4_64, 4, 64}, {"tq3", ST_TQ3_128, 3, 128},
    {"tq3_64", ST_TQ3_64, 3, 64}, {"tq2", ST_TQ2_128, 2, 128}, {"tq2_64", ST_TQ2_64, 2, 64},
};

static st_ggml api;
static bool registered;

const char *const *st_ggml_symbols(void) {
    static const char *const symbols[] = {
        "ggml_get_type_traits",
        "ggml_get_type_traits_cpu",
        NULL,
    };
    return symbols;
}

const st_ggml *st_ggml_api(void) {
    return &api;
}

bool st_types_registered(void) {
    return registered;
}

const char *st_init(void *const *symbols) {
    memcpy(&api, symbols, sizeof api);
    st_tq_plans_fill();
    st_row_types_fill();
    return NULL;
}

/* Whether [start, start + size) and the function belong to one loaded library. */
static bool same_library(const void *start, size_t size, const void *function) {
    Dl_info first;
    Dl_info last;
    Dl_info code;
    return dladdr(start, &first) != 0 && dladdr((const char *)start + size - 1, &last) != 0 &&
           dladdr(function, &code) != 0 && first.dli_fbase == code.dli_fbase && last.dli_fbase == code.dli_fbase;
}

static const char *locate(struct ggml_type_traits **base, struct ggml_type_traits_cpu **cpu) {
    /* the functions return &table[type]; their result is constant to everyone else */
    *base = (struct ggml_type_traits *)(uintptr_t)api.get_type_traits(0);
    *cpu = (struct ggml_type_traits_cpu *)(uintptr_t)api.get_type_traits_cpu(0);
    for (int32_t type = 0; type < GGML_TYPE_COUNT; type++) {
        if (api.get_type_traits(type) != *base + type || api.get_type_traits_cpu(type) != *cpu + type) {
            return "This ggml's type tables do not have the verified layout.";
        }
    }
    /* a pointer to a function becomes a pointer to data only to ask which library it is in */
    const void *base_code;
    const void *cpu_code;
    memcpy(&base_code, &api.get_type_traits, sizeof base_code);
    memcpy(&cpu_code, &api.get_type_traits_cpu, sizeof cpu_code);
    if (!same_library(*base, GGML_TYPE_COUNT * sizeof **base, base_code) ||
        !same_library(*cpu, GGML_TYPE_COUNT * sizeof **cpu, cpu_code)) {
        return "ggml's type tables are not where they were expected.";
    }
    return st_tables_check(*base, *cpu);
}

const char *st_register_types(void) {
    struct ggml_type_traits *base;
    struct ggml_type_traits_cpu *cpu;
    const char *problem = locate(&base, &cpu);
    if (problem != NULL) {
        return problem;
    }
    if (!st_tables_are_ours(base, cpu)) {
        st_pages base_pages;
        st_pages cpu_pages;
        problem = st_pages_open(base, GGML_TYPE_COUNT * sizeof *base, &base_pages);
        if (problem != NULL) {
            return problem;
        }
        problem = st_pages_open(cpu, GGML_TYPE_COUNT * sizeof *cpu, &cpu_pages);
        if (problem != NULL) {
            st_pages_close(&base_pages);
            return problem;
        }
        const st_tq_ops *ops = st_tq_ops_of(st_isa_active());
        for (int i = 0; i < ST_TQ_TYPES; i++) {
            const st_tq_type *t = &st_tq_types[i];
            base[t->type] = (struct ggml_type_traits){
                .type_name = t->name,
                .blck_size = t->block,
                .blck_size_interleave = 0,
                .type_size = (size_t)st_tq_size(t->bits, t->block),
                .is_quantized = true,
                .to_float = ops[i].row.to_f32,
                .from_float_ref = ops[i].row.from_f32,
            };
            cpu[t->type] = (struct ggml_type_traits_cpu){
                .from_float = ops[i].row.from_f32,
                .vec_dot = ops[i].dot,
                .vec_dot_type = GGML_Q8_0,
                .nrows = 1,
            };
        }
        st_pages_close(&cpu_pages);
        st_pages_close(&base_pages);
    }
    registered = true;
    st_row_types_fill();
    return NULL;
}
