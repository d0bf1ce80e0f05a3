/* Compiled into every library of candidates: runs some tasks of one kernel and says how long they
   took. */
#include <stdint.h>
#if defined(_WIN32)
#include <windows.h>
#else
#include <time.h>
#endif
#include "strop_kernel.h"

extern const strop_kernel strop_kernel_table[];

static volatile uint64_t sink;

static int64_t now(void) {
#if defined(_WIN32)
    LARGE_INTEGER ticks, rate;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&rate);
    return (int64_t)((double)ticks.QuadPart * 1e9 / (double)rate.QuadPart);
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
#endif
}

/* Processor time of this thread, which does not pass while others have the core; a constant where
   there is no such clock. */
static int64_t own_time(void) {
#if defined(_WIN32)
    return 0;
#else
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
#endif
}

/*
 * Does tasks [begin, end) of kernel number `kernel` and returns nanoseconds.
 *
 * Before that it reads `count` memory ranges in order, one byte per cache line: first a large one
 * that pushes everything out of the caches, then what the step before would have left in them.
 */
STROP_KERNEL_EXPORT int64_t strop_tune_run(
    uint32_t kernel, const strop_args *a, int64_t begin, int64_t end,
    const uint8_t *const *ranges, const int64_t *sizes, int64_t count) {
    uint64_t sum = 0;
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < sizes[r]; i += 64) sum += ranges[r][i];
    sink = sum;
    const int64_t own = own_time(), start = now();
    strop_kernel_table[kernel](a, begin, end);
    const int64_t passed = now() - start, used = own_time() - own;
    return used > 0 && used < passed ? used : passed;
}
