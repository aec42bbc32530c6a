/* Counts the threads that a process creates: preloaded into one (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static _Atomic int n_created;

int threads_created(void) {
    return atomic_load(&n_created);
}

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int pthread_create(pthread_t *id, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg) {
    void *address = dlsym(RTLD_NEXT, "pthread_create");
    create_fn create;
    memcpy(&create, &address, sizeof create);
    atomic_fetch_add(&n_created, 1);
    return create(id, attributes, fn, arg);
}
