/* context.c - creating contexts and binding their inputs and outputs. */
#include "context.h"

#include <inttypes.h>
#include <stdlib.h>

#include "custom.h"
#include "platform.h"
#include "pool.h"

#define PAGE 4096u
#define LENT_ALIGNMENT 64u

/* ---- one user at a time -------------------------------------------------------------------- */

int context_enter(strop_context *context, strop_error *error)
{
    const unsigned mine = pool_generation() + 1;
    unsigned user = atomic_load_explicit(&context->in_use, memory_order_relaxed);

    /* A mark of another generation was left by a thread that fork() did not take along. */
    if (user == mine || !atomic_compare_exchange_strong_explicit(
                            &context->in_use, &user, mine, memory_order_acquire,
                            memory_order_relaxed))
        return strop_fail(error, STROP_ERR_BUSY, "%s: the context is in use by another thread; "
                          "create one context per thread", context->engine->where);
    return STROP_OK;
}

void context_leave(strop_context *context)
{
    atomic_store_explicit(&context->in_use, 0, memory_order_release);
}

/* ---- life ---------------------------------------------------------------------------------- */

void strop_context_destroy(strop_context *context)
{
    if (!context)
        return;
    if (!context->is_lent) {
        platform_free(context->arena, context->arena_size);
        platform_free(context->scratch, context->scratch_stride * (size_t)context->threads);
    }
    free(context->steps);
    free(context->ranges);
    free(context->operands);
    free(context->is_bound);
    free(context->bound);
    free(context->rooms);
    free(context->symbols);
    free(context->dims);
    free(context->step_dims);
    custom_destroy(context);
    strop_engine_destroy(context->engine);
    free(context);
}

static bool allocate(strop_context *context)
{
    const strop_plan_header *h = context->engine->plan.header;
    const size_t threads = (size_t)context->threads;

    context->arena_size = h->arena_bytes;
    context->scratch_stride = (h->scratch_bytes + PAGE - 1) / PAGE * PAGE;
    if (!context->is_lent) {
        context->arena = platform_allocate(context->arena_size);
        context->scratch = platform_allocate(context->scratch_stride * threads);
    }
    context->steps = calloc((size_t)h->n_steps + 1, sizeof *context->steps);
    context->ranges = calloc((size_t)h->n_steps * threads + 1, sizeof *context->ranges);
    context->operands = calloc((size_t)h->n_args + 1, sizeof *context->operands);
    context->is_bound = calloc((size_t)h->n_inputs + h->n_outputs + 1, sizeof *context->is_bound);
    context->bound = calloc((size_t)h->n_inputs + h->n_outputs + 1, sizeof *context->bound);
    context->rooms = calloc((size_t)h->n_inputs + h->n_outputs + 1, sizeof *context->rooms);
    context->symbols = calloc((size_t)h->n_syms + 1, sizeof *context->symbols);
    context->dims = calloc(4 * (size_t)h->n_dims + 1, sizeof *context->dims);
    context->step_dims = calloc((size_t)h->n_step_dims + 1, sizeof *context->step_dims);
    return (context->is_lent || (context->arena && context->scratch)) && context->steps && context->ranges &&
           context->operands && context->is_bound && context->bound && context->rooms && context->symbols && context->dims &&
           context->step_dims;
}

/* Deals a step's tasks to the threads in equal runs of whole grains; thread 0 gets the first, and
 * all of a step that has only one grain. Returns whether a thread other than 0 has work. */
static bool deal_tasks(int64_t n_tasks, int64_t grain, int32_t threads, context_range *ranges)
{
    const int64_t grains = (n_tasks + grain - 1) / grain;

    for (int32_t t = 0; t < threads; t++) {
        const int64_t begin = (grains * t + threads - 1) / threads * grain;
        const int64_t end = (grains * (t + 1) + threads - 1) / threads * grain;

        ranges[t].begin = begin < n_tasks ? begin : n_tasks;
        ranges[t].end = end < n_tasks ? end : n_tasks;
    }
    return ranges[0].end < n_tasks;
}

void context_deal(strop_context *context, uint32_t step)
{
    const strop_step_record *record = &context->engine->plan.steps[step];

    context->steps[step].n_tasks = plan_number(record->n_tasks, context->dims);
    deal_tasks(context->steps[step].n_tasks, record->grain, context->threads,
               context->ranges + (size_t)step * (size_t)context->threads);
}

/* Whether the tasks of a step depend on what another one finds. */
static bool is_found(const engine_plan *plan, uint32_t step)
{
    const plan_order *order = &plan->orders[OF_STEPS];

    /* Those of stage 0, in ascending order, are the others. */
    for (uint32_t low = 0, high = plan->n_finders ? order->first[1] : 0; low < high;) {
        const uint32_t middle = low + (high - low) / 2;

        if (order->items[middle] == step)
            return false;
        if (order->items[middle] < step)
            low = middle + 1;
        else
            high = middle;
    }
    return plan->n_finders > 0;
}

static void prepare_steps(strop_context *context)
{
    const engine_plan *plan = &context->engine->plan;
    bool shared_before = false;

    for (uint32_t i = 0; i < context->n_steps; i++) {
        const strop_step_record *record = &plan->steps[i];
        context_step *step = &context->steps[i];
        const int64_t n_tasks = plan_number(record->n_tasks, context->dims);
        bool shared = deal_tasks(n_tasks, record->grain, context->threads,
                                 context->ranges + (size_t)i * (size_t)context->threads);

        shared |= is_found(plan, i);
        if (record->kernel != STROP_KERNEL_BY_NAME)
            step->kernel = context->engine->code.kernels[record->kernel];
        step->operands = context->operands + record->first_arg;
        step->dims = context->step_dims + record->first_dim;
        step->n_tasks = n_tasks;
        /* Two steps that thread 0 does alone follow each other without meeting the others. */
        if (i > 0)
            context->steps[i - 1].barrier = shared || shared_before;
        shared_before = shared;
        step->barrier = true;
    }
    for (uint32_t k = 0; k < plan->header->n_jumps; k++) {
        context->steps[plan->jumps[k].step].jump = &plan->jumps[k];
        context->steps[plan->jumps[k].step].barrier = true;
    }
    for (uint32_t k = 0; k < plan->n_finders; k++) {
        context->steps[plan->finders[k]].finds = k + 1;
        context->steps[plan->finders[k]].barrier = true;
    }
}

void context_resolve(strop_context *context, uint32_t arg)
{
    const engine_plan *plan = &context->engine->plan;
    const strop_arg_record *record = &plan->args[arg];
    const int64_t offset = plan_number(record->offset, context->dims);

    switch (record->space) {
    case STROP_SPACE_ARENA:
        context->operands[arg] = context->arena + offset;
        break;
    case STROP_SPACE_WEIGHTS: /* kernels only read them */
        context->operands[arg] = (void *)(uintptr_t)(context->engine->weights + offset);
        break;
    default: {
        const uint32_t first = record->space == STROP_SPACE_INPUT ? 0 : plan->header->n_inputs;

        context->operands[arg] = (uint8_t *)(uintptr_t)context->bound[first + record->index] + offset;
    }
    }
}

static void resolve_operands(strop_context *context)
{
    const engine_plan *plan = &context->engine->plan;

    for (uint32_t i = 0; i < plan->header->n_args; i++)
        if ((plan->args[i].space == STROP_SPACE_ARENA && context->arena) ||
            plan->args[i].space == STROP_SPACE_WEIGHTS)
            context_resolve(context, i);
}

void context_apply(strop_context *context)
{
    const engine_plan *plan = &context->engine->plan;

    for (uint32_t i = 0; i < plan->header->n_step_dims; i++)
        context->step_dims[i] = context->dims[plan->step_dims[i]];
    prepare_steps(context);
    custom_apply(context);
    resolve_operands(context);
}

static int create(strop_engine *engine, int32_t threads, bool is_lent, strop_context **result,
                  strop_error *error)
{
    strop_context *context;
    char buffer[128];
    int code;

    if (!engine || !result)
        return strop_fail(error, STROP_ERR_ARGUMENT, "strop_context_create: NULL argument");
    *result = NULL;
    if (threads < 0 || threads > STROP_MAX_THREADS)
        return strop_fail(error, STROP_ERR_ARGUMENT,
                          "%s: %" PRId32 " threads; 0 (all) to %d can be had", engine->where,
                          threads, STROP_MAX_THREADS);
    if (threads == 0)
        threads = platform_cpu_count();
    if (threads > STROP_MAX_THREADS)
        threads = STROP_MAX_THREADS;
    code = pool_reserve(threads - 1);
    if (code)
        return strop_fail(error, STROP_ERR_SYSTEM, "%s: cannot start %" PRId32 " threads: %s",
                          engine->where, threads - 1,
                          platform_error_text(code, buffer, sizeof buffer));
    context = calloc(1, sizeof *context);
    if (!context)
        return strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", engine->where);
    engine_retain(engine);
    context->engine = engine;
    context->is_lent = is_lent;
    context->threads = threads;
    context->n_steps = engine->plan.header->n_steps;
    if (!allocate(context)) {
        strop_context_destroy(context);
        return strop_fail(error, STROP_ERR_SYSTEM,
                          "%s: out of memory for an arena of %" PRIu64 " bytes and %" PRId32
                          " times %" PRIu64 " bytes of scratch",
                          engine->where, engine->plan.header->arena_bytes, threads,
                          engine->plan.header->scratch_bytes);
    }
    code = custom_create(context, error);
    if (code) {
        strop_context_destroy(context);
        return code;
    }
    for (uint32_t s = 0; s < engine->plan.header->n_syms; s++)
        context->symbols[s] = engine->plan.syms[s].opt;
    for (uint32_t d = 0; d < engine->plan.header->n_dims; d++)
        context->dims[d] = engine->plan.numbers[AT_OPT][d];
    code = plan_rooms(&engine->file, &engine->plan, context->symbols,
                      context->dims + 2 * (size_t)engine->plan.header->n_dims, context->rooms, error);
    if (code) {
        strop_context_destroy(context);
        return code;
    }
    context_apply(context);
    *result = context;
    return STROP_OK;
}

int strop_context_create(strop_engine *engine, int32_t threads, strop_context **context,
                         strop_error *error)
{
    return create(engine, threads, false, context, error);
}

int strop_context_create_lean(strop_engine *engine, int32_t threads, strop_context **context,
                              strop_error *error)
{
    return create(engine, threads, true, context, error);
}

/* ---- lent memory --------------------------------------------------------------------------- */

static size_t lent_arena(const strop_context *context)
{
    return (context->arena_size + PAGE - 1) / PAGE * PAGE;
}

static int lend(strop_context *context, uint8_t *memory, uint64_t size, strop_error *error)
{
    const uint64_t need = strop_context_room(context);

    if (!context->is_lent)
        return strop_fail(error, STROP_ERR_ARGUMENT, "%s: the context has memory of its own",
                          context->engine->where);
    if (memory && (size < need || (uintptr_t)memory % LENT_ALIGNMENT != 0))
        return strop_fail(error, STROP_ERR_ARGUMENT,
                          "%s: %" PRIu64 " bytes at %p are lent; %" PRIu64 " are needed, aligned to %u",
                          context->engine->where, size, (void *)memory, need, LENT_ALIGNMENT);
    if (memory != context->arena) {
        context->arena = memory;
        context->scratch = memory ? memory + lent_arena(context) : NULL;
        resolve_operands(context);
    }
    return STROP_OK;
}

int strop_context_lend(strop_context *context, void *memory, uint64_t size, strop_error *error)
{
    int code = context_enter(context, error);

    if (code)
        return code;
    code = lend(context, memory, size, error);
    context_leave(context);
    return code;
}

uint64_t strop_context_room(const strop_context *context)
{
    return lent_arena(context) + (uint64_t)context->scratch_stride * (uint64_t)context->threads;
}

/* ---- questions ----------------------------------------------------------------------------- */

int32_t strop_context_threads(const strop_context *context)
{
    return context->threads;
}

void strop_context_memory(const strop_context *context, strop_memory_info *info)
{
    info->weights = context->engine->weights_size;
    info->arena = context->arena_size;
    info->scratch = context->scratch_stride * (uint64_t)context->threads;
}

/* ---- binding ------------------------------------------------------------------------------- */

int context_bind(strop_context *context, uint32_t tensor, const void *data, strop_error *error)
{
    const strop_engine *engine = context->engine;
    const strop_tensor_record *record = &engine->plan.tensors[tensor];
    char buffer[256];

    if (!data && context->rooms[tensor] > 0)
        return strop_fail(error, STROP_ERR_ARGUMENT, "%s: %s is bound to NULL", engine->where,
                          engine_tensor_text(engine, tensor, buffer, sizeof buffer));
    if ((uintptr_t)data % dtype_size(record->dtype) != 0)
        return strop_fail(error, STROP_ERR_ARGUMENT, "%s: %s is not aligned to its %" PRIu64
                          "-byte elements", engine->where,
                          engine_tensor_text(engine, tensor, buffer, sizeof buffer),
                          dtype_size(record->dtype));
    for (uint32_t u = engine->first_use[tensor]; u < engine->first_use[tensor + 1]; u++)
        context->operands[engine->uses[u].arg] =
            (uint8_t *)(uintptr_t)data + plan_number(engine->uses[u].offset, context->dims);
    context->bound[tensor] = data;
    context->is_bound[tensor] = true;
    return STROP_OK;
}

static int bind_checked(strop_context *context, const char *role, uint32_t index, uint32_t first,
                        uint32_t count, const void *data, uint64_t size, strop_error *error)
{
    const strop_engine *engine = context->engine;
    char buffer[256];
    uint64_t bytes;
    int code;

    if (index >= count)
        return strop_fail(error, STROP_ERR_ARGUMENT, "%s: %s %" PRIu32 " of %" PRIu32,
                          engine->where, role, index, count);
    code = context_enter(context, error);
    if (code)
        return code;
    bytes = context->rooms[first + index];
    if (bytes != size)
        code = strop_fail(error, STROP_ERR_ARGUMENT, "%s: %s has %" PRIu64 " bytes, not %" PRIu64,
                          engine->where,
                          engine_tensor_text(engine, first + index, buffer, sizeof buffer), bytes,
                          size);
    else
        code = context_bind(context, first + index, data, error);
    context_leave(context);
    return code;
}

int strop_context_bind_input(strop_context *context, uint32_t index, const void *data,
                             uint64_t size, strop_error *error)
{
    const strop_plan_header *h = context->engine->plan.header;

    return bind_checked(context, "input", index, 0, h->n_inputs, data, size, error);
}

int strop_context_bind_output(strop_context *context, uint32_t index, void *data, uint64_t size,
                              strop_error *error)
{
    const strop_plan_header *h = context->engine->plan.header;

    return bind_checked(context, "output", index, h->n_inputs, h->n_outputs, data, size, error);
}
