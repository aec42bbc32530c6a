/* Threads to compute with: the ones that ggml computes with, where possible. */
#ifndef STRETCH_TEAM_H
#define STRETCH_TEAM_H

typedef void (*st_team_fn)(void *arg, int thread);

/* fn(arg, i) for i = 0 .. n_parts-1, each exactly once and in any order, with ggml's threads: `n` is the number
 * that ggml computes with, also where there are fewer parts (the other threads return at once). */
void st_team_each(int n, int n_parts, st_team_fn fn, void *arg);

/* The address of GOMP_parallel in the OpenMP runtime that ggml uses, or NULL for a pool of our own. */
void st_team_use(void *gomp_parallel);

#endif
