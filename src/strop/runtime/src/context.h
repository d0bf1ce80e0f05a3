/* context.h - the insides of a context: memory, resolved operands, and who does which tasks. */
#ifndef STROP_CONTEXT_H
#define STROP_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

typedef struct context_step {
    strop_kernel kernel;
    const struct custom_callback *callback; /* in place of a kernel; see custom.h */
    void *const *operands;
    const int64_t *dims;
    int64_t n_tasks;
    bool barrier;  /* all threads meet behind this step */
    uint32_t finds; /* the stage of the plan that is known once it has run, or 0 */
    const strop_jump_record *jump; /* what may follow it in place of the next step, or NULL */
} context_step;

typedef struct context_range {
    int64_t begin, end;
} context_range;

struct strop_context {
    strop_engine *engine;
    int32_t threads;
    atomic_uint in_use; /* pool_generation() + 1 of the process that is using it, or 0 */
    uint32_t n_steps;
    context_step *steps;
    context_range *ranges; /* [n_steps][threads] */
    void **operands;       /* of all steps, numbered like the plan's args */
    const void **bound;    /* per tensor: where it is; inputs, then outputs */
    bool *is_bound;        /* likewise, whether it is anywhere */
    uint64_t *rooms;       /* likewise, its bytes at the current shape; at most, where steps find sizes */
    int64_t *symbols;      /* their values at the current shape */
    int64_t *dims;         /* of the plan, at the current shape; behind them room for three times as many */
    int64_t *step_dims;    /* of all steps, numbered like the plan's */
    uint8_t *arena;
    uint8_t *scratch; /* threads times scratch_stride */
    size_t arena_size, scratch_stride;
    bool is_lent; /* arena and scratch are the caller's, or NULL */
    struct custom_state *custom;
    bool decided[2]; /* what the bool of the last jump but one, and of the last one, was */
    int failed; /* of the current run: what became of a size that a step found */
    strop_error *error;
};

/* One thread at a time: fails with STROP_ERR_BUSY when another one is inside. */
int context_enter(strop_context *context, strop_error *error);
void context_leave(strop_context *context);

/* Takes over dims that are computed and checked: tasks, what kernels are handed, and operands in
 * arena and weights. */
void context_apply(strop_context *context);
/* The same for one operand that is in arena, weights or a bound tensor, and for one step's tasks. */
void context_resolve(strop_context *context, uint32_t arg);
void context_deal(strop_context *context, uint32_t step);
/* Takes over what the step before `stage` has found, and all that is known with it. */
int context_take_found(strop_context *context, uint32_t stage, strop_error *error);

/* Points every operand in tensor `tensor` (inputs, then outputs) at `data`. */
int context_bind(strop_context *context, uint32_t tensor, const void *data, strop_error *error);

#endif /* STROP_CONTEXT_H */
