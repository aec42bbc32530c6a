/* Threads to compute with.
 *
 * ggml's CPU backend on Linux computes in OpenMP regions of libgomp. Its threads wait for the next region
 * by spinning, so a second pool would have to share the cores with them. GOMP_parallel, called from the
 * same thread with the same number, opens a region in the very same team. The number must be ggml's even
 * where there is less to do: libgomp ends the threads that a smaller region leaves over and creates them
 * again for the next larger one, which costs up to a hundred times as much as the region.
 *
 * Without libgomp (ggml's own pool, which only spins while a graph is computed) there is a small pool of
 * our own: its threads spin for a moment, then sleep. */
#include "team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef void (*gomp_parallel_fn)(void (*fn)(void *), void *data, unsigned n_threads, unsigned flags);

static gomp_parallel_fn gomp_parallel;

void st_team_use(void *address) {
    gomp_parallel = (gomp_parallel_fn)address;
}

typedef struct call {
    st_team_fn fn;
    void *arg;
    int n;
    _Atomic int next;
} call;

/* Whoever comes takes the next number: correct with any number of threads that the runtime gives. */
static void take_part(void *data) {
    call *c = data;
    for (;;) {
        const int i = atomic_fetch_add(&c->next, 1);
        if (i >= c->n) {
            return;
        }
        c->fn(c->arg, i);
    }
}

/* ---------------------------------------------------------------- our own pool */

enum { MAX_WORKERS = 255, SPINS = 20000 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic unsigned generation; /* changes when there is work */
    _Atomic int working;         /* workers that have not finished it */
    int n_worker;
    int n_wanted; /* workers that take part */
    call *call;
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0, NULL};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

static void *worker(void *arg) {
    const int me = (int)(size_t)arg;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&pool.generation) == seen; i++) {
            relax();
        }
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.generation) == seen) {
            pthread_cond_wait(&pool.wake, &pool.lock);
        }
        seen = atomic_load(&pool.generation);
        call *c = me < pool.n_wanted ? pool.call : NULL;
        pthread_mutex_unlock(&pool.lock);
        if (c != NULL) {
            take_part(c);
            atomic_fetch_sub(&pool.working, 1);
        }
    }
    return NULL;
}

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void run_in_pool(call *c, int threads) {
    pthread_mutex_lock(&one_at_a_time); /* two contexts may compute at once */
    pthread_mutex_lock(&pool.lock);
    while (pool.n_worker < threads - 1 && pool.n_worker < MAX_WORKERS) {
        pthread_t id;
        if (pthread_create(&id, NULL, worker, (void *)(size_t)pool.n_worker) != 0) {
            break;
        }
        pthread_detach(id);
        pool.n_worker++;
    }
    pool.n_wanted = threads - 1 < pool.n_worker ? threads - 1 : pool.n_worker;
    pool.call = c;
    atomic_store(&pool.working, pool.n_wanted);
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    take_part(c);
    while (atomic_load(&pool.working) > 0) {
        relax();
    }
    pthread_mutex_unlock(&one_at_a_time);
}

void st_team_each(int n, int n_parts, st_team_fn fn, void *arg) {
    call c = {fn, arg, n_parts, 0};
    if (n <= 1 || n_parts <= 1) {
        take_part(&c);
    } else if (gomp_parallel != NULL) {
        gomp_parallel(take_part, &c, (unsigned)n, 0);
    } else {
        run_in_pool(&c, n < n_parts ? n : n_parts);
    }
}
