/*
 * pool.h - the worker threads of the process, shared by all engines.
 *
 * A run wakes the workers once; all threads then walk the same list of steps and meet in a
 * barrier where the work needs it. Whoever waits spins for a moment and then sleeps.
 */
#ifndef STROP_POOL_H
#define STROP_POOL_H

#include <stdbool.h>
#include <stdint.h>

/* What each of the threads 0 .. threads - 1 does. It must pass the barrier last of all, and touch
 * nothing of `job` after that. */
typedef void (*pool_work)(const void *job, int32_t thread);

/* Makes sure that `workers` worker threads exist, and that fork() is noticed. Returns 0 or an
 * errno value. */
int pool_reserve(int32_t workers);

/* Runs work(job, t) on `threads` threads, the caller being thread 0, and returns when all are
 * done. False, and nothing was run, when another run has the pool or a worker is missing. */
bool pool_run(int32_t threads, pool_work work, const void *job);

/* Waits until all `threads` threads of the current run have come here. */
void pool_barrier(int32_t threads);

/* How many workers there are. */
int32_t pool_size(void);

/* How many times this process was forked off: a mark that a run left in another process. */
uint32_t pool_generation(void);

#endif /* STROP_POOL_H */
