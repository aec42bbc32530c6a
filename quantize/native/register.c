/* The library's start. */
#include "rows.h"

#include <string.h>

static st_ggml api;

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

const char *st_init(void *const *symbols) {
    memcpy(&api, symbols, sizeof api);
    st_row_types_fill();
    return NULL;
}
