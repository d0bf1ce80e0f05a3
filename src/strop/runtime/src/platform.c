/* platform.c - Linux. */
#define _GNU_SOURCE
#include "platform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "error.h"

#define HUGE_PAGE ((size_t)2 << 20)

/* Newer than the oldest C library the runtime is built for. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1u
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

const char *platform_error_text(int code, char *buffer, size_t size)
{
    return strerror_r(code, buffer, size);
}

/* ---- memory -------------------------------------------------------------------------------- */

int platform_map_file(const char *path, const void **data, size_t *size)
{
    struct stat status;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    void *memory = NULL;
    int code = 0;

    if (file < 0)
        return errno;
    if (fstat(file, &status) != 0)
        code = errno;
    else if (S_ISDIR(status.st_mode))
        code = EISDIR;
    else if (!S_ISREG(status.st_mode))
        code = EINVAL;
    else if (status.st_size > 0) {
        memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        if (memory == MAP_FAILED)
            code = errno;
        else /* advice: an older kernel brings pages in at the first touch instead */
            (void)madvise(memory, (size_t)status.st_size, MADV_POPULATE_READ);
    }
    close(file);
    if (code == 0) {
        *data = memory;
        *size = (size_t)status.st_size;
    }
    return code;
}

void platform_unmap_file(const void *data, size_t size)
{
    if (size > 0)
        munmap((void *)(uintptr_t)data, size);
}

/* Memory starts at a huge page when it can hold one; a tail smaller than one stays in small pages
 * so that it costs what is touched. */
void *platform_allocate(size_t size)
{
    const size_t align = size >= HUGE_PAGE ? HUGE_PAGE : 0;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t need = size == 0 ? page : (size + page - 1) / page * page;
    uint8_t *start, *base;

    if (need > SIZE_MAX - align)
        return NULL;
    start = mmap(NULL, need + align, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    if (align == 0)
        return start;
    base = start + (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE;
    if (base > start)
        munmap(start, (size_t)(base - start));
    munmap(base + need, align - (size_t)(base - start));
    (void)madvise(base, need / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return base;
}

void platform_free(void *memory, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (memory)
        munmap(memory, size == 0 ? page : (size + page - 1) / page * page);
}

/* ---- code ---------------------------------------------------------------------------------- */

static int write_all(int file, const uint8_t *data, size_t size)
{
    while (size > 0) {
        const ssize_t n = write(file, data, size);

        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static int create_memory_file(const char *label)
{
#ifdef SYS_memfd_create
    long file = syscall(SYS_memfd_create, label, MFD_CLOEXEC | MFD_EXEC);

    if (file < 0 && errno == EINVAL) /* the kernel does not know MFD_EXEC */
        file = syscall(SYS_memfd_create, label, MFD_CLOEXEC);
    return (int)file;
#else
    (void)label;
    errno = ENOSYS;
    return -1;
#endif
}

/* The dynamic linker takes two libraries with one path for the same library, and descriptor
 * numbers are reused; so each load spells /proc/self/fd/N in its own way: one bit of `number` per
 * separator, "/" or "/./". */
static void spell_path(char *path, int file, uint32_t number)
{
    char *end = path + sprintf(path, "/proc/self/fd");

    for (int bit = 0; bit < 24; bit++)
        end += sprintf(end, number >> bit & 1 ? "/./" : "/");
    sprintf(end, "%d", file);
}

static void *load_from_memory_file(int file)
{
    static _Atomic(uint32_t) counter;
    char path[128];

    for (;;) {
        void *known;

        spell_path(path, file, atomic_fetch_add(&counter, 1));
        known = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
        if (!known)
            return dlopen(path, RTLD_NOW | RTLD_LOCAL);
        dlclose(known);
    }
}

/* For kernels of Linux without memfd, or where /proc is not mounted. */
static void *load_from_temporary_file(const void *data, size_t size, int *code)
{
    static const char *const folders[] = {"/dev/shm", "/tmp", "/var/tmp"};
    void *library = NULL;

    for (size_t i = 0; i < sizeof folders / sizeof *folders && !library; i++) {
        char path[64];
        int file;

        snprintf(path, sizeof path, "%s/strop-XXXXXX", folders[i]);
        file = mkostemp(path, O_CLOEXEC);
        if (file < 0) {
            *code = errno;
            continue;
        }
        *code = write_all(file, data, size);
        close(file);
        if (*code == 0)
            library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        unlink(path);
    }
    return library;
}

int platform_load_code(const void *data, size_t size, const char *label, void **library,
                       strop_error *error)
{
    const int file = create_memory_file(label);
    const char *reason = NULL;
    char buffer[128];
    int code = errno;

    *library = NULL;
    if (file >= 0) {
        code = write_all(file, data, size);
        if (code == 0) {
            *library = load_from_memory_file(file);
            if (!*library)
                reason = dlerror();
        }
        close(file);
    }
    if (!*library && (file < 0 || access("/proc/self/fd", X_OK) != 0)) {
        code = 0;
        *library = load_from_temporary_file(data, size, &code);
        if (!*library && code == 0)
            reason = dlerror();
    }
    if (*library)
        return STROP_OK;
    if (!reason)
        reason = platform_error_text(code, buffer, sizeof buffer);
    return strop_fail(error, STROP_ERR_CODE, "cannot load %s: %s", label, reason);
}

void *platform_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}

void platform_unload_code(void *library)
{
    if (library)
        dlclose(library);
}

/* ---- threads ------------------------------------------------------------------------------- */

int platform_start_thread(void *(*function)(void *), void *argument, const char *name)
{
    sigset_t all, before;
    pthread_t thread;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&thread, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0) {
        pthread_setname_np(thread, name);
        pthread_detach(thread);
    }
    return code;
}

int platform_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    return pthread_atfork(before, parent, child);
}

void platform_sleep(_Atomic(uint32_t) *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

void platform_wake(_Atomic(uint32_t) *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* ---- queries ------------------------------------------------------------------------------- */

uint64_t platform_nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int platform_cpu_count(void)
{
    cpu_set_t set;
    int count = 0;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

void platform_arm_features(uint64_t *hwcap, uint64_t *hwcap2)
{
    *hwcap = getauxval(AT_HWCAP);
    *hwcap2 = getauxval(26); /* AT_HWCAP2 */
}
