/* Threads to compute with: the ones that ggml computes with, where possible. */
#ifndef STRETCH_TEAM_H
#define STRETCH_TEAM_H

typedef void (*st_team_fn)(void *arg, int thread);

/* fn(arg, i) for i = 0 .. n-1, each in a thread of its own (at most n run; each i runs exactly once). */
void st_team_run(int n, st_team_fn fn, void *arg);

/* fn(arg, i) for i = 0 .. n_parts-1 with at most n threads, in any order. */
void st_team_each(int n, int n_parts, st_team_fn fn, void *arg);

/* The address of GOMP_parallel in the OpenMP runtime that ggml uses, or NULL for a pool of our own. */
void st_team_use(void *gomp_parallel);

#endif
