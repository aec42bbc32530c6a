/* The protection of memory pages. The tables are constants: the loader has made their pages read-only. */
#include "tables.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <mach/mach.h>
#include <mach/mach_vm.h>
#endif

static st_pages pages_around(const void *start, size_t size) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = (uintptr_t)start / page * page;
    const uintptr_t to = ((uintptr_t)start + size + page - 1) / page * page;
    return (st_pages){(void *)from, to - from, 0};
}

#if defined(__APPLE__)

/* Constants of a library lie in a segment that is shared: writing needs a private copy (VM_PROT_COPY). */
const char *st_pages_open(const void *start, size_t size, st_pages *pages) {
    *pages = (st_pages){NULL, 0, 0};
    st_pages wanted = pages_around(start, size);
    mach_vm_address_t address = (mach_vm_address_t)(uintptr_t)wanted.start;
    mach_vm_size_t length = 0;
    vm_region_basic_info_data_64_t info;
    mach_msg_type_number_t count = VM_REGION_BASIC_INFO_COUNT_64;
    mach_port_t object = MACH_PORT_NULL;
    if (mach_vm_region(mach_task_self(), &address, &length, VM_REGION_BASIC_INFO_64, (vm_region_info_t)&info, &count,
                       &object) != KERN_SUCCESS) {
        return "The protection of ggml's type tables could not be read.";
    }
    if (vm_protect(mach_task_self(), (vm_address_t)(uintptr_t)wanted.start, wanted.size, 0,
                   VM_PROT_READ | VM_PROT_WRITE | VM_PROT_COPY) != KERN_SUCCESS) {
        return "The system does not let ggml's type tables be changed.";
    }
    wanted.protection = info.protection;
    *pages = wanted;
    return NULL;
}

void st_pages_close(const st_pages *pages) {
    if (pages->size > 0) {
        (void)vm_protect(mach_task_self(), (vm_address_t)(uintptr_t)pages->start, pages->size, 0, pages->protection);
    }
}

#else

/* The flags of the mapping that holds `address`, from /proc/self/maps; -1 if they cannot be read. */
static int protection_of(const void *address) {
    FILE *maps = fopen("/proc/self/maps", "r");
    if (maps == NULL) {
        return -1;
    }
    int found = -1;
    char line[512];
    while (found < 0 && fgets(line, sizeof line, maps) != NULL) {
        unsigned long long from;
        unsigned long long to;
        char r;
        char w;
        char x;
        if (sscanf(line, "%llx-%llx %c%c%c", &from, &to, &r, &w, &x) == 5 && (uintptr_t)address >= from &&
            (uintptr_t)address < to) {
            found = (r == 'r' ? PROT_READ : 0) | (w == 'w' ? PROT_WRITE : 0) | (x == 'x' ? PROT_EXEC : 0);
        }
    }
    fclose(maps);
    return found;
}

const char *st_pages_open(const void *start, size_t size, st_pages *pages) {
    *pages = (st_pages){NULL, 0, 0};
    st_pages wanted = pages_around(start, size);
    const int first = protection_of(wanted.start);
    const int last = protection_of((const char *)wanted.start + wanted.size - 1);
    if (first < 0 || first != last || (first & PROT_EXEC) != 0) {
        return "The protection of ggml's type tables is not what was expected.";
    }
    if (mprotect(wanted.start, wanted.size, PROT_READ | PROT_WRITE) != 0) {
        return "The system does not let ggml's type tables be changed.";
    }
    wanted.protection = first;
    *pages = wanted;
    return NULL;
}

void st_pages_close(const st_pages *pages) {
    if (pages->size > 0) {
        (void)mprotect(pages->start, pages->size, pages->protection);
    }
}

#endif
