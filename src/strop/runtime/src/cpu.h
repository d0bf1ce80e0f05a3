/* cpu.h - what the processor can execute, and how it treats floating point. */
#ifndef STROP_CPU_H
#define STROP_CPU_H

#include <stdint.h>

/*
 * A target is a base and optional extras: "x86_64-v4", "x86_64-v3+avxvnni", "aarch64+dotprod".
 * Returns -1 when this processor cannot execute code for it (or when the target is unknown), else
 * a number that is larger the more of the processor the code uses.
 */
int cpu_rank(const char *target);

/* Sets the thread's floating-point mode for a run: round to nearest, no traps, denormals flushed
 * to zero or not. Returns what cpu_leave_float_mode takes to restore the caller's mode. */
uint64_t cpu_enter_float_mode(int flush_denormals);
void cpu_leave_float_mode(uint64_t previous);

/* Tells the processor that the thread is spinning. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif /* STROP_CPU_H */
