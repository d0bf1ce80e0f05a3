/* pool.c - worker threads, gates and the barrier. */
#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "platform.h"
#include "strop.h"

#define CACHE_LINE 128 /* two, for processors that fetch lines in pairs */

/* How long to spin before sleeping, in nanoseconds. With more threads than processors there is no
 * spinning between steps: whom one waits for may need the processor one would spin on. */
#define SPIN_NS 100000u
#define SPINS_PER_CLOCK_READ 64

/* A word that changes; those who wait for it to differ from a value they saw may sleep on it. */
typedef struct gate {
    _Alignas(CACHE_LINE) _Atomic(uint32_t) word;
    _Atomic(uint32_t) sleepers;
} gate;

typedef struct worker {
    gate gate; /* opened once per run */
    int32_t thread;
} worker;

static struct {
    _Atomic(uint32_t) generation;
    _Atomic(int32_t) n_workers;
    _Atomic(uint32_t) busy;
    pool_work work;
    const void *job;
    bool spins;
    _Alignas(CACHE_LINE) _Atomic(int32_t) arrived;
    gate barrier;
    worker workers[STROP_MAX_THREADS - 1];
} pool;

/* Held while workers are started, and across fork(). */
static pthread_mutex_t growth = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool watches_fork;
static int n_cpus;

/* ---- gate ---------------------------------------------------------------------------------- */

/* Opening adds to the word and then looks for sleepers; a sleeper counts itself and then looks at
 * the word (inside the kernel). With sequential consistency one of the two sees the other. */
static void gate_open(gate *g)
{
    atomic_fetch_add_explicit(&g->word, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&g->sleepers, memory_order_seq_cst) != 0)
        platform_wake(&g->word);
}

static bool gate_is_open(gate *g, uint32_t seen)
{
    return atomic_load_explicit(&g->word, memory_order_acquire) != seen;
}

static void gate_wait(gate *g, uint32_t seen, uint64_t spin_ns)
{
    uint64_t start = 0;

    for (;;) {
        uint64_t now;

        for (int i = 0; i < SPINS_PER_CLOCK_READ; i++) {
            if (gate_is_open(g, seen))
                return;
            cpu_relax();
        }
        now = platform_nanoseconds();
        if (start == 0)
            start = now;
        else if (now - start > spin_ns)
            break;
    }
    atomic_fetch_add_explicit(&g->sleepers, 1, memory_order_seq_cst);
    while (!gate_is_open(g, seen))
        platform_sleep(&g->word, seen);
    atomic_fetch_sub_explicit(&g->sleepers, 1, memory_order_relaxed);
}

/* ---- barrier ------------------------------------------------------------------------------- */

void pool_barrier(int32_t threads)
{
    /* Read before arriving, as long as the gate cannot open and no other run can begin. */
    const uint32_t seen = atomic_load_explicit(&pool.barrier.word, memory_order_relaxed);
    const uint64_t spin_ns = pool.spins ? SPIN_NS : 0;

    if (atomic_fetch_add_explicit(&pool.arrived, 1, memory_order_acq_rel) + 1 == threads) {
        atomic_store_explicit(&pool.arrived, 0, memory_order_relaxed);
        gate_open(&pool.barrier);
    } else {
        gate_wait(&pool.barrier, seen, spin_ns);
    }
}

/* ---- fork ---------------------------------------------------------------------------------- */

static void before_fork(void)
{
    pthread_mutex_lock(&growth);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&growth);
}

/* The child has only the thread that forked: no workers, and nobody in the middle of a run. */
static void after_fork_in_child(void)
{
    const uint32_t generation = atomic_load(&pool.generation);

    memset(&pool, 0, sizeof pool);
    atomic_store(&pool.generation, generation + 1);
    pthread_mutex_unlock(&growth);
}

uint32_t pool_generation(void)
{
    return atomic_load_explicit(&pool.generation, memory_order_relaxed);
}

/* ---- workers ------------------------------------------------------------------------------- */

static void *worker_main(void *argument)
{
    worker *self = argument;

    for (uint32_t seen = 0;; seen++) {
        gate_wait(&self->gate, seen, SPIN_NS);
        pool.work(pool.job, self->thread);
    }
    return NULL;
}

int32_t pool_size(void)
{
    return atomic_load_explicit(&pool.n_workers, memory_order_acquire);
}

int pool_reserve(int32_t workers)
{
    int code = 0;

    if (pool_size() >= workers && atomic_load_explicit(&watches_fork, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&growth);
    if (!atomic_load_explicit(&watches_fork, memory_order_relaxed)) {
        n_cpus = platform_cpu_count();
        code = platform_at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
        atomic_store_explicit(&watches_fork, code == 0, memory_order_release);
    }
    for (int32_t i = pool_size(); i < workers && code == 0; i++) {
        char name[24];

        snprintf(name, sizeof name, "strop-%d", (int)i + 1);
        pool.workers[i].thread = i + 1;
        code = platform_start_thread(worker_main, &pool.workers[i], name);
        if (code == 0)
            atomic_store_explicit(&pool.n_workers, i + 1, memory_order_release);
    }
    pthread_mutex_unlock(&growth);
    return code;
}

bool pool_run(int32_t threads, pool_work work, const void *job)
{
    if (pool_size() < threads - 1)
        return false;
    if (atomic_exchange_explicit(&pool.busy, 1, memory_order_acquire) != 0)
        return false;
    pool.work = work;
    pool.job = job;
    pool.spins = threads <= n_cpus;
    for (int32_t i = 0; i < threads - 1; i++)
        gate_open(&pool.workers[i].gate);
    work(job, 0);
    atomic_store_explicit(&pool.busy, 0, memory_order_release);
    return true;
}
