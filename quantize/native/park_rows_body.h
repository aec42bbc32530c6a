/* The loops of park_rows.h, compiled once for each instruction set. */
#include "park.h"
#include "park_rows.h"

#include <math.h>
#include <string.h>

enum {
    TOKENS = 16, /* of a tile that is transposed at once */
    VALUES = 64,
    LANES = 16, /* sums that run side by side, whatever the length of a vector, so that all give the same */
    TABLES = 4, /* histograms: one count is not waited for by the next */
};

/* known[i][first + j] for `width` values of one token. */
static inline const float *known_row(const st_park_known *known, int64_t i, int64_t first, int64_t width,
                                     float *out) {
    const float *now = known->now + known->at[i] * known->width + first;
    if (known->before == NULL) {
        return now;
    }
    const float *before = known->before + known->at_before[i] * known->width + first;
    for (int64_t j = 0; j < width; j++) {
        out[j] = now[j] + before[j];
    }
    return out;
}

static void centre(const float *x, int64_t n, int64_t width, float weight, const st_park_known *known,
                   int64_t first, float *xt) {
    float tile[TOKENS][VALUES], sum[VALUES];
    for (int64_t i0 = 0; i0 < n; i0 += TOKENS) {
        const int64_t tokens = n - i0 < TOKENS ? n - i0 : TOKENS;
        for (int64_t j0 = 0; j0 < width; j0 += VALUES) {
            const int64_t values = width - j0 < VALUES ? width - j0 : VALUES;
            for (int64_t i = 0; i < tokens; i++) {
                const float *row = x + (i0 + i) * width + j0;
                const float *k = known_row(known, i0 + i, first + j0, values, sum);
                for (int64_t j = 0; j < values; j++) {
                    tile[i][j] = row[j] * weight - k[j];
                }
            }
            for (int64_t j = 0; j < values; j++) {
                float *out = xt + (j0 + j) * n + i0;
                for (int64_t i = 0; i < tokens; i++) {
                    out[i] = tile[i][j];
                }
            }
        }
    }
}

static void uncentre(const float *xt, int64_t n, int64_t width, float weight, const st_park_known *known,
                     int64_t first, float *x) {
    float tile[TOKENS][VALUES], sum[VALUES];
    for (int64_t i0 = 0; i0 < n; i0 += TOKENS) {
        const int64_t tokens = n - i0 < TOKENS ? n - i0 : TOKENS;
        for (int64_t j0 = 0; j0 < width; j0 += VALUES) {
            const int64_t values = width - j0 < VALUES ? width - j0 : VALUES;
            for (int64_t j = 0; j < values; j++) {
                const float *from = xt + (j0 + j) * n + i0;
                for (int64_t i = 0; i < tokens; i++) {
                    tile[i][j] = from[i];
                }
            }
            for (int64_t i = 0; i < tokens; i++) {
                const float *k = known_row(known, i0 + i, first + j0, values, sum);
                float *row = x + (i0 + i) * width + j0;
                for (int64_t j = 0; j < values; j++) {
                    row[j] = (tile[i][j] + k[j]) / weight;
                }
            }
        }
    }
}

static inline int32_t number(float y, float inv_step, float bias) {
    const float v = y * inv_step;
    const float a = fabsf(v) + bias;
    const int32_t m = (int32_t)(a < 0x1p30f ? a : 0x1p30f); /* NaN takes the largest, too */
    return v < 0 ? -m : m;
}

static void quantize(const float *y, int64_t n, int64_t n_comp, float inv_step, float bias, int32_t *z) {
    for (int64_t i = 0; i < n * n_comp; i++) {
        z[i] = number(y[i], inv_step, bias);
    }
}

static void squares_of(const int32_t *z, int64_t n, int64_t n_comp, float *squares) {
    for (int64_t c = 0; c < n_comp; c++) {
        const int32_t *row = z + c * n;
        float sum[LANES] = {0};
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            for (int l = 0; l < LANES; l++) {
                sum[l] += (float)row[i + l] * (float)row[i + l];
            }
        }
        for (; i < n; i++) {
            sum[0] += (float)row[i] * (float)row[i];
        }
        squares[c] = 0;
        for (int l = 0; l < LANES; l++) {
            squares[c] += sum[l];
        }
    }
}

static void dequantize(const int32_t *z, int64_t n, int64_t n_comp, float step, const float *delta1,
                       const float *delta2, float *y) {
    for (int64_t c = 0; c < n_comp; c++) {
        const float one = (1.0f + delta1[c]) * step;
        const float more = delta2[c] * step;
        for (int64_t i = 0; i < n; i++) {
            const int32_t v = z[c * n + i]; /* at most 2^30 */
            const int32_t m = v < 0 ? -v : v;
            const float far = (float)m * step + more, near = (float)m * one; /* both: no branch, so vectors */
            const float a = m > 1 ? far : near;
            y[c * n + i] = v < 0 ? -a : a;
        }
    }
}

static void count(const int32_t *z, int64_t n, int64_t n_comp, const uint8_t *shift, uint32_t *counts) {
    uint32_t found[TABLES][ST_PARK_SYMBOLS];
    uint8_t symbols[256];
    for (int64_t c = 0; c < n_comp; c++) {
        memset(found, 0, sizeof found);
        for (int64_t at = 0; at < n; at += 256) {
            const int64_t there = n - at < 256 ? n - at : 256;
            const int32_t *from = z + c * n + at;
            for (int64_t i = 0; i < there; i++) {
                symbols[i] = (uint8_t)st_park_symbol(from[i], shift[c]);
            }
            for (int64_t i = 0; i < there; i++) {
                found[i % TABLES][symbols[i]]++;
            }
        }
        for (int s = 0; s < ST_PARK_SYMBOLS; s++) {
            counts[c * ST_PARK_SYMBOLS + s] = found[0][s] + found[1][s] + found[2][s] + found[3][s];
        }
    }
}

#define ST_PARK_ROWS {centre, uncentre, quantize, squares_of, dequantize, count}
