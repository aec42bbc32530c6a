/* Random rows through the loops of a parked cache, compared with plain ones: a program for the sanitizers and
 * for qemu.
 *
 *     park_fuzz SEED ROUNDS
 *
 * Every instruction set of the machine takes its turn. All must give the same bits, but for the products of
 * the portable one. Ends with 1 if something is wrong. */
#include "park.h"
#include "park_rows.h"
#include "product.h"

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

static int64_t upto(int64_t n) {
    return (int64_t)(rnd() % (uint64_t)n);
}

static float unit(void) {
    return (float)upto(2001) / 1000.0f - 1.0f;
}

static void *room(int64_t bytes) {
    void *p = malloc((size_t)(bytes > 0 ? bytes : 1));
    if (p == NULL) {
        exit(2);
    }
    return p;
}

static float *floats(int64_t n) {
    float *x = room(n * 4);
    for (int64_t i = 0; i < n; i++) {
        x[i] = unit();
    }
    return x;
}

static void fail(const char *what) {
    fprintf(stderr, "wrong: %s with %s\n", what, st_isa_name(st_isa_active()));
    exit(1);
}

static void products(void) {
    const int64_t m = 1 + upto(40), n = 1 + upto(70), k = upto(30);
    float *a = floats(k * m), *b = floats(k * n), *c = room(4 * m * n), *space = room(4 * k * (m + ST_PRODUCT_ROOM));
    st_product(a, b, c, m, n, k, space);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++) {
                sum += (double)a[l * m + i] * b[l * n + j];
            }
            if (fabs(sum - c[i * n + j]) > 1e-4) {
                fail("a product");
            }
        }
    }
    free(a), free(b), free(c), free(space);
}

static void rows(void) {
    const int64_t n = upto(50), first = upto(90), width = 1 + upto(150), all = first + width + upto(5), n_known = 3;
    const float weight = 0.5f + (float)upto(100) / 50;
    float *x = floats(n * width), *now = floats(n_known * all), *before = floats(n_known * all);
    float *xt = room(4 * n * width), *back = room(4 * n * width), *yt = floats(n * width);
    int64_t *at = room(8 * n), *at_before = room(8 * n);
    for (int64_t i = 0; i < n; i++) {
        at[i] = upto(n_known);
        at_before[i] = upto(n_known);
    }
    const bool both = upto(2) != 0;
    const st_park_known known = {now, both ? before : NULL, at, both ? at_before : NULL, all};
    st_park_centre(x, n, width, weight, &known, first, xt);
    st_park_uncentre(yt, n, width, weight, &known, first, back);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < width; j++) {
            float k = now[at[i] * all + first + j];
            k = both ? k + before[at_before[i] * all + first + j] : k;
            const float there = x[i * width + j] * weight;
            if (xt[j * n + i] != there - k || back[i * width + j] != (yt[j * n + i] + k) / weight) {
                fail("a centred row");
            }
        }
    }
    free(x), free(now), free(before), free(xt), free(back), free(yt), free(at), free(at_before);
}

/* Two distributions: one that is even, one in which nearly everything is 0. */
static uint16_t freq[2][ST_PARK_SYMBOLS], cum[2][ST_PARK_SYMBOLS];
static uint8_t slot[2][ST_PARK_PROB_SUM];

static void make_tables(void) {
    for (int t = 0; t < 2; t++) {
        int at = 0;
        for (int s = 0; s < ST_PARK_SYMBOLS; s++) {
            const int even = ST_PARK_PROB_SUM / ST_PARK_SYMBOLS;
            const int rest = ST_PARK_PROB_SUM - (ST_PARK_SYMBOLS - 1) * (t == 0 ? even : 1);
            freq[t][s] = (uint16_t)(s == ST_PARK_MAX ? rest : t == 0 ? even : 1);
            cum[t][s] = (uint16_t)at;
            memset(slot[t] + at, s, freq[t][s]);
            at += freq[t][s];
        }
    }
}

static void code(void) {
    const int64_t n = 1 + upto(300), c = 1 + upto(6);
    const st_park_tables tables = {freq[0], cum[0], slot[0], 2};
    float *y = floats(n * c), *squares = room(4 * c);
    int32_t *z = room(4 * n * c), *again = room(4 * n * c);
    uint8_t table[6], shift[6];
    uint32_t *counts = room(4 * c * ST_PARK_SYMBOLS);
    for (int64_t i = 0; i < c; i++) {
        table[i] = (uint8_t)upto(2);
        shift[i] = (uint8_t)(upto(3) == 0 ? upto(5) : 0);
    }
    y[upto(n * c)] = upto(2) != 0 ? NAN : -INFINITY;
    const float inv_step = (float)(1 << upto(12));
    st_park_quantize(y, n, c, inv_step, 0.35f, z);
    st_park_squares(z, n, c, squares);
    st_park_count(z, n, c, shift, counts);
    for (int64_t i = 0; i < c; i++) {
        uint32_t all = 0, found = 0, wanted = 0;
        bool any = false;
        const int s = (int)upto(ST_PARK_SYMBOLS);
        for (int64_t j = 0; j < n; j++) {
            const float a = fabsf(y[i * n + j] * inv_step) + 0.35f;
            const int32_t m = a < 0x1p30f ? (int32_t)a : 1 << 30;
            if (z[i * n + j] != (y[i * n + j] < 0 ? -m : m)) {
                fail("a number");
            }
            any |= z[i * n + j] != 0;
            wanted += st_park_symbol(z[i * n + j], shift[i]) == s;
        }
        for (int j = 0; j < ST_PARK_SYMBOLS; j++) {
            all += counts[i * ST_PARK_SYMBOLS + j];
        }
        found = counts[i * ST_PARK_SYMBOLS + s];
        if (all != n || found != wanted || any != (squares[i] > 0)) {
            fail("a count");
        }
    }
    const int64_t bound = st_park_bound(n, c, shift);
    uint8_t *out = room(bound);
    const int64_t size = st_park_encode(z, n, c, table, shift, &tables, out);
    uint8_t *exact = room(size); /* so that a step beyond the end is seen */
    memcpy(exact, out, (size_t)size);
    if (size > bound || !st_park_decode(exact, size, n, c, table, shift, &tables, again) ||
        memcmp(z, again, (size_t)(4 * n * c)) != 0) {
        fail("a code");
    }
    for (int i = 0; i < 20; i++) {
        uint8_t *changed = room(size);
        memcpy(changed, exact, (size_t)size);
        changed[upto(size)] ^= (uint8_t)(1 << upto(8));
        const int64_t cut = upto(2) != 0 ? size : upto(size + 1);
        st_park_decode(changed, cut, n, c, table, shift, &tables, again);
        free(changed);
    }
    float delta[6] = {0.1f, -0.2f, 0, 0, 0, 0};
    st_park_dequantize(again, n, c, 0.5f, delta, delta, y);
    free(y), free(squares), free(z), free(again), free(counts), free(out), free(exact);
}

int main(int argc, char **argv) {
    state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    const int rounds = argc > 2 ? atoi(argv[2]) : 100;
    make_tables();
    for (int i = 0; i < rounds; i++) {
        st_isa_use((st_isa)(i % 4));
        products();
        rows();
        code();
    }
    puts("fine");
    return 0;
}
