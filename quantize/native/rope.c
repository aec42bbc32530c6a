/* Rotary positions: see rope.py. */
#include "stretch.h"

/* Turn pairs of values by angles, in place: cosine and sine have n_pairs values for each of the n rows. A row
 * has n_head heads of head_dim values, of which the first 2 * n_pairs turn. Pair j is (j, j + n_pairs) if
 * `halves`, else (2 j, 2 j + 1). `back` turns the other way. */
ST_API void st_rope(float *x, const float *cosine, const float *sine, int64_t n, int64_t n_head,
                    int64_t head_dim, int64_t n_pairs, bool halves, bool back);

void st_rope(float *x, const float *cosine, const float *sine, int64_t n, int64_t n_head, int64_t head_dim,
             int64_t n_pairs, bool halves, bool back) {
    const float sign = back ? -1.0f : 1.0f;
    for (int64_t i = 0; i < n; i++) {
        const float *c = cosine + i * n_pairs;
        const float *s = sine + i * n_pairs;
        for (int64_t h = 0; h < n_head; h++) {
            float *head = x + (i * n_head + h) * head_dim;
            if (halves) {
                float *other = head + n_pairs;
                for (int64_t j = 0; j < n_pairs; j++) {
                    const float a = head[j], b = other[j], t = s[j] * sign;
                    head[j] = a * c[j] - b * t;
                    other[j] = a * t + b * c[j];
                }
            } else {
                for (int64_t j = 0; j < n_pairs; j++) {
                    const float a = head[2 * j], b = head[2 * j + 1], t = s[j] * sign;
                    head[2 * j] = a * c[j] - b * t;
                    head[2 * j + 1] = a * t + b * c[j];
                }
            }
        }
    }
}
