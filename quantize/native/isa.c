/* Which instruction set is used. */
#include "stretch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"portable", "neon", "avx2", "avx512"};

const char *st_isa_name(st_isa isa) {
    return names[isa];
}

st_isa st_isa_detected(void) {
#if defined(__x86_64__)
    __builtin_cpu_init(); /* also asks the operating system whether it saves the wide registers */
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vbmi2")) {
        return ST_ISA_AVX512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
        return ST_ISA_AVX2;
    }
    return ST_ISA_PORTABLE;
#elif defined(__aarch64__)
    return ST_ISA_NEON; /* part of the base architecture */
#else
    return ST_ISA_PORTABLE;
#endif
}

static _Atomic int active = -1;

/* A set that the machine has and that is not above `wanted`. NEON and the x86 sets exclude each other. */
static st_isa at_most(st_isa wanted) {
    const st_isa have = st_isa_detected();
    if (wanted >= have) {
        return have;
    }
    return have == ST_ISA_AVX512 && wanted == ST_ISA_AVX2 ? ST_ISA_AVX2 : ST_ISA_PORTABLE;
}

st_isa st_isa_use(st_isa isa) {
    const st_isa chosen = at_most(isa);
    atomic_store(&active, (int)chosen);
    return chosen;
}

st_isa st_isa_active(void) {
    const int known = atomic_load_explicit(&active, memory_order_relaxed);
    if (known >= 0) {
        return (st_isa)known;
    }
    const char *name = getenv("STRETCH_ISA");
    for (int i = 0; name != NULL && i <= ST_ISA_AVX512; i++) {
        if (strcmp(name, names[i]) == 0) {
            return st_isa_use((st_isa)i);
        }
    }
    return st_isa_use(st_isa_detected());
}
