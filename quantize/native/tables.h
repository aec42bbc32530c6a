/* ggml's type tables: checked, and made writable for a moment. */
#ifndef STRETCH_TABLES_H
#define STRETCH_TABLES_H

#include "stretch.h"

/* Compare two arrays of GGML_TYPE_COUNT entries with what is known of ggml 0.25.3. Returns NULL, or what does
 * not match. Reads nothing outside the arrays, follows only the pointers to names, and calls nothing. */
ST_API const char *st_tables_check(const struct ggml_type_traits *base, const struct ggml_type_traits_cpu *cpu);

/* Whether every entry's slot for TurboQuant holds this library's types already. */
bool st_tables_are_ours(const struct ggml_type_traits *base, const struct ggml_type_traits_cpu *cpu);

/* Memory pages whose protection was changed. */
typedef struct st_pages {
    void *start;
    size_t size;
    int protection; /* what it was, in the system's flags */
} st_pages;

/* Allow writing to [start, start + size). Returns NULL, or why not; `pages` is then empty. */
const char *st_pages_open(const void *start, size_t size, st_pages *pages);
/* Put the protection back. */
void st_pages_close(const st_pages *pages);

#endif
