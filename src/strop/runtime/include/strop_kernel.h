/*
 * strop_kernel.h - what a generated kernel sees, and what the runtime calls.
 *
 * A kernels library is a shared object that exports
 *
 *     const strop_kernel strop_kernel_table[];   the kernels, numbered by the plan's steps
 *     const uint32_t     strop_kernel_count;     how many there are
 *     const uint32_t     strop_kernel_abi;       STROP_KERNEL_ABI
 *     const char         strop_kernel_isa[];     for people: "avx512", "avx2", "portable" ...
 *
 * It needs no library: it may call memcpy, memmove and memset, and nothing else from outside.
 */
#ifndef STROP_KERNEL_H
#define STROP_KERNEL_H

#include <stdint.h>

#define STROP_KERNEL_ABI 1u

#if defined(_WIN32)
#define STROP_KERNEL_EXPORT __declspec(dllexport)
#else
#define STROP_KERNEL_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Everything a kernel is handed besides its range of tasks. */
typedef struct strop_args {
    void *const *p;     /* operands, in the order of the step's args */
    const int64_t *sym; /* the sizes that its code does not know: the step's dims, in their order */
    void *scratch;      /* this thread's own, 64-byte aligned, scratch_bytes of the plan long */
    int32_t thread;     /* 0 <= thread < n_threads */
    int32_t n_threads;
} strop_args;

/* Does tasks [begin, end) of the step. Tasks of one step are independent: they may run in any
 * order and on any thread. Scratch holds nothing from one call to the next. */
typedef void (*strop_kernel)(const strop_args *a, int64_t begin, int64_t end);

#ifdef __cplusplus
}
#endif

#endif /* STROP_KERNEL_H */
