/* run.c - walking the steps. */
#include <inttypes.h>
#include <string.h>

#include "context.h"
#include "cpu.h"
#include "custom.h"
#include "platform.h"
#include "pool.h"

typedef struct job {
    strop_context *context;
    int32_t threads;
    uint64_t *nanoseconds; /* per step, the least so far; NULL: do not measure */
    uint32_t first, end;   /* steps */
} job;

/* Looks at the bool that decides over a jump. Thread 0 does, which has written it: a step of one task is
 * all its own. */
static void decide(strop_context *context, const strop_jump_record *jump, int turn)
{
    const uint8_t *flag = context->operands[jump->arg];

    context->decided[turn] = (*flag != 0) == (jump->when != 0);
}

/* All that one thread does in a run. */
static void walk(const void *argument, int32_t thread)
{
    /* The job is gone once the last barrier is passed: keep what the loop reads. */
    const job work = *(const job *)argument;
    strop_context *const context = work.context;
    const context_step *const steps = context->steps;
    const int32_t threads = work.threads;
    const context_range *const ranges = context->ranges + thread;
    const bool measures = work.nanoseconds != NULL;
    strop_args args = {
        .p = NULL,
        .sym = NULL,
        .scratch = context->scratch + context->scratch_stride * (size_t)thread,
        .thread = thread,
        .n_threads = threads,
    };
    const uint64_t mode = cpu_enter_float_mode(
        (context->engine->plan.header->flags & STROP_PLAN_FLUSH_DENORMALS) != 0);
    uint64_t before = measures ? platform_nanoseconds() : 0;
    int turn = 0; /* the next jump's: a thread that is still reading the one before is not disturbed */

    for (uint32_t i = work.first; i < work.end;) {
        const context_step *step = &steps[i];
        const context_range *range = ranges + (size_t)i * (size_t)context->threads;
        const uint32_t finds = step->finds;
        const strop_jump_record *const jump = step->jump;
        uint32_t next = i + 1;
        /* Behind the last barrier the context may be gone, or in the middle of another run: what a thread looks
         * at behind a step's barrier is followed by one more. */
        const bool closes = next == work.end && !finds && !jump;

        args.p = step->operands;
        args.sym = step->dims;
        if (step->callback) {
            if (custom_walk(context, i, thread, threads, closes))
                break;
        } else if (threads == 1) {
            if (step->n_tasks > 0)
                step->kernel(&args, 0, step->n_tasks);
        } else {
            /* The last step of a part of the run is waited for, whatever comes after it in the whole. */
            const bool meets = step->barrier || measures || closes;

            if (range->begin < range->end)
                step->kernel(&args, range->begin, range->end);
            if (jump && thread == 0)
                decide(context, jump, turn);
            if (meets)
                pool_barrier(threads);
        }
        if (finds) {
            int failed;

            if (thread == 0)
                context->failed = context_take_found(context, finds, context->error);
            if (threads > 1)
                pool_barrier(threads);
            failed = context->failed;
            if (threads > 1 && (failed || (next == work.end && !jump)))
                pool_barrier(threads);
            if (failed)
                break;
        }
        if (measures && thread == 0) {
            const uint64_t now = platform_nanoseconds();

            if (now - before < work.nanoseconds[i])
                work.nanoseconds[i] = now - before;
            before = now;
        }
        if (jump) {
            if (threads == 1)
                decide(context, jump, turn);
            next = context->decided[turn] ? jump->target : next;
            turn ^= 1;
            if (threads > 1 && next >= work.end)
                pool_barrier(threads);
        }
        i = next;
    }
    cpu_leave_float_mode(mode);
}

/* What became of a run. */
static int ended(strop_context *context, strop_error *error)
{
    const int code = custom_end(context, error);

    return code ? code : context->failed;
}

static int run_some(strop_context *context, uint32_t first, uint32_t end, uint64_t *nanoseconds,
                    strop_error *error)
{
    const strop_engine *engine = context->engine;
    job work = {context, context->threads, nanoseconds, first, end};
    char buffer[128];

    context->failed = STROP_OK;
    context->error = error;
    if (first >= end)
        return STROP_OK;
    custom_begin(context);
    if (work.threads > 1) {
        /* Workers can be missing after fork(). */
        const int code = pool_reserve(work.threads - 1);

        if (code)
            return strop_fail(error, STROP_ERR_SYSTEM, "%s: cannot start %" PRId32 " threads: %s",
                              engine->where, work.threads - 1,
                              platform_error_text(code, buffer, sizeof buffer));
        if (pool_run(work.threads, walk, &work))
            return ended(context, error);
        work.threads = 1;
    }
    walk(&work, 0);
    return ended(context, error);
}

static int run(strop_context *context, uint64_t *nanoseconds, strop_error *error)
{
    return run_some(context, 0, context->n_steps, nanoseconds, error);
}

static int no_memory(const strop_context *context, strop_error *error)
{
    return strop_fail(error, STROP_ERR_UNBOUND, "%s: the context was lent no memory",
                      context->engine->where);
}

static int check_bound(const strop_context *context, strop_error *error)
{
    const strop_engine *engine = context->engine;
    const uint32_t n = engine->plan.header->n_inputs + engine->plan.header->n_outputs;
    char buffer[256];

    if (!context->arena)
        return no_memory(context, error);
    for (uint32_t i = 0; i < n; i++)
        if (!context->is_bound[i])
            return strop_fail(error, STROP_ERR_UNBOUND, "%s: %s is not bound", engine->where,
                              engine_tensor_text(engine, i, buffer, sizeof buffer));
    return STROP_OK;
}

int strop_context_run(strop_context *context, strop_error *error)
{
    int code = context_enter(context, error);

    if (code)
        return code;
    code = check_bound(context, error);
    if (!code)
        code = run(context, NULL, error);
    context_leave(context);
    return code;
}

int strop_context_run_steps(strop_context *context, uint32_t first, uint32_t end,
                            strop_error *error)
{
    int code;

    if (first > end || end > context->n_steps)
        return strop_fail(error, STROP_ERR_ARGUMENT,
                          "%s: steps %" PRIu32 " to %" PRIu32 " of %" PRIu32,
                          context->engine->where, first, end, context->n_steps);
    if (context->engine->plan.header->n_jumps && end - first != context->n_steps)
        return strop_fail(error, STROP_ERR_ARGUMENT, "%s: an engine with loops runs whole or not at all",
                          context->engine->where);
    code = context_enter(context, error);
    if (code)
        return code;
    code = check_bound(context, error);
    if (!code)
        code = run_some(context, first, end, NULL, error);
    context_leave(context);
    return code;
}

int strop_context_operand(strop_context *context, uint32_t step, uint32_t operand,
                          const void **data, uint64_t *size, strop_error *error)
{
    const engine_plan *plan = &context->engine->plan;
    int code;

    if (!data || !size || step >= context->n_steps || operand >= plan->steps[step].n_args)
        return strop_fail(error, STROP_ERR_ARGUMENT,
                          "%s: operand %" PRIu32 " of step %" PRIu32 " is not there",
                          context->engine->where, operand, step);
    code = context_enter(context, error);
    if (code)
        return code;
    code = check_bound(context, error);
    if (!code) {
        const uint32_t arg = plan->steps[step].first_arg + operand;

        *data = context->operands[arg];
        *size = (uint64_t)plan_number(plan->args[arg].size, context->dims);
    }
    context_leave(context);
    return code;
}

int strop_context_call(strop_context *context, const void *const *inputs, void *const *outputs,
                       strop_error *error)
{
    const strop_plan_header *h = context->engine->plan.header;
    int code = context_enter(context, error);

    if (code)
        return code;
    if (!context->arena)
        code = no_memory(context, error);
    for (uint32_t i = 0; i < h->n_inputs && !code; i++)
        code = context_bind(context, i, inputs[i], error);
    for (uint32_t i = 0; i < h->n_outputs && !code; i++)
        code = context_bind(context, h->n_inputs + i, outputs[i], error);
    if (!code)
        code = run(context, NULL, error);
    context_leave(context);
    return code;
}

int strop_context_profile(strop_context *context, uint32_t runs, uint64_t *nanoseconds,
                          uint32_t n_steps, strop_error *error)
{
    int code;

    if (runs == 0 || !nanoseconds || n_steps != context->n_steps)
        return strop_fail(error, STROP_ERR_ARGUMENT,
                          "%s: profile of %" PRIu32 " steps in %" PRIu32
                          " runs; the engine has %" PRIu32 " steps",
                          context->engine->where, n_steps, runs, context->n_steps);
    code = context_enter(context, error);
    if (code)
        return code;
    code = check_bound(context, error);
    memset(nanoseconds, 0xff, n_steps * sizeof *nanoseconds);
    for (uint32_t i = 0; i < runs && !code; i++)
        code = run(context, nanoseconds, error);
    for (uint32_t i = 0; i < n_steps && code == STROP_OK; i++)
        if (nanoseconds[i] == UINT64_MAX) /* jumped over in every run */
            nanoseconds[i] = 0;
    context_leave(context);
    return code;
}
