/* resize.c - a context at another shape. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "custom.h"

/* Which dim told what a symbol is. */
typedef struct telling {
    uint32_t input, axis;
    int64_t value; /* 0: not told yet */
} telling;

static const char *symbol_name(const strop_engine *engine, uint32_t symbol)
{
    return engine->plan.strings + engine->plan.syms[symbol].name;
}

/* Notes what one free dim says about its symbol. */
static int take_dim(const strop_engine *engine, uint32_t input, uint32_t axis, int64_t dim,
                    telling *told, strop_error *error)
{
    const engine_plan *plan = &engine->plan;
    char name[256], other[256], steps[64] = "";
    uint32_t symbol;
    int64_t factor;

    engine_tensor_text(engine, input, name, sizeof name);
    plan_input_dim(plan, plan->tensors[input].dims[axis], &symbol, &factor);
    if (factor > 1)
        snprintf(steps, sizeof steps, " in steps of %" PRId64, factor);
    if (dim < plan->syms[symbol].min * factor || dim > plan->syms[symbol].max * factor ||
        dim % factor != 0)
        return strop_fail(error, STROP_ERR_SHAPE, "%s: axis %" PRIu32 " of %s is %" PRId64
                          "; '%.100s' takes %" PRId64 " to %" PRId64 "%s", engine->where, axis,
                          name, dim, symbol_name(engine, symbol),
                          plan->syms[symbol].min * factor, plan->syms[symbol].max * factor, steps);
    if (told[symbol].value == 0) {
        told[symbol] = (telling){input, axis, dim / factor};
        return STROP_OK;
    }
    if (told[symbol].value == dim / factor)
        return STROP_OK;
    engine_tensor_text(engine, told[symbol].input, other, sizeof other);
    return strop_fail(error, STROP_ERR_SHAPE, "%s: axis %" PRIu32 " of %s is %" PRId64
                      ", which makes '%.100s' %" PRId64 "; axis %" PRIu32 " of %s makes it %" PRId64,
                      engine->where, axis, name, dim, symbol_name(engine, symbol), dim / factor,
                      told[symbol].axis, other, told[symbol].value);
}

static int take_shapes(const strop_engine *engine, const int64_t *const *dims, telling *told,
                       strop_error *error)
{
    const engine_plan *plan = &engine->plan;
    char name[256];

    for (uint32_t i = 0; i < plan->header->n_inputs; i++) {
        const strop_tensor_record *t = &plan->tensors[i];

        for (uint32_t d = 0; d < t->rank; d++) {
            const int64_t dim = dims[i][d];
            int code = STROP_OK;

            if (t->dims[d] < 0)
                code = take_dim(engine, i, d, dim, told, error);
            else if (t->dims[d] != dim)
                code = strop_fail(error, STROP_ERR_SHAPE,
                                  "%s: axis %" PRIu32 " of %s is %" PRId64 "; it must be %" PRId64,
                                  engine->where, d,
                                  engine_tensor_text(engine, i, name, sizeof name), dim,
                                  t->dims[d]);
            if (code)
                return code;
        }
    }
    return STROP_OK;
}

/* Marks the tensors whose shape is free as not bound. */
static void unbind(strop_context *context)
{
    const engine_plan *plan = &context->engine->plan;

    for (uint32_t i = 0; i < plan->header->n_inputs + plan->header->n_outputs; i++)
        for (uint32_t d = 0; d < plan->tensors[i].rank; d++)
            if (plan->tensors[i].dims[d] < 0)
                context->is_bound[i] = false;
}

static int resize(strop_context *context, const int64_t *const *dims, strop_error *error)
{
    const strop_engine *engine = context->engine;
    const engine_plan *plan = &engine->plan;
    const uint32_t n_syms = plan->header->n_syms, n_dims = plan->header->n_dims;
    telling told[STROP_MAX_SYMS] = {{0}};
    int64_t symbols[STROP_MAX_SYMS];
    int64_t *next = context->dims + n_dims, *ends = next + n_dims;
    uint64_t *rooms;
    bool same = true;
    int code = take_shapes(engine, dims, told, error);

    for (uint32_t s = 0; s < n_syms; s++) {
        const bool is_found = plan->syms[s].set_by != 0;

        symbols[s] = is_found ? plan->syms[s].min : told[s].value;
        same &= is_found || symbols[s] == context->symbols[s];
    }
    if (code || same)
        return code;
    rooms = calloc((size_t)plan->header->n_inputs + plan->header->n_outputs + 1, sizeof *rooms);
    if (!rooms)
        return strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", engine->where);
    code = plan_compute(&engine->file, plan, symbols, next, error);
    if (!code)
        code = plan_rooms(&engine->file, plan, symbols, ends, rooms, error);
    if (!code)
        code = plan_check_numbers(&engine->file, plan, next, rooms, error);
    if (!code)
        code = custom_check_numbers(&engine->file, plan, &engine->custom, next, error);
    if (code) {
        free(rooms);
        return code;
    }
    free(context->rooms);
    context->rooms = rooms;
    memcpy(context->symbols, symbols, n_syms * sizeof *symbols);
    memcpy(context->dims, next, n_dims * sizeof *next);
    context_apply(context);
    unbind(context);
    return STROP_OK;
}

int strop_context_resize(strop_context *context, const int64_t *const *dims, strop_error *error)
{
    int code = context_enter(context, error);

    if (code)
        return code;
    code = resize(context, dims, error);
    context_leave(context);
    return code;
}

static int info(strop_context *context, const char *role, uint32_t index, uint32_t first,
                uint32_t count, strop_tensor_info *result, strop_error *error)
{
    int code;

    if (index >= count)
        return strop_fail(error, STROP_ERR_ARGUMENT, "%s: %s %" PRIu32 " of %" PRIu32,
                          context->engine->where, role, index, count);
    code = context_enter(context, error);
    if (code)
        return code;
    engine_tensor_info(context->engine, first + index, context->dims, result);
    result->bytes = context->rooms[first + index];
    context_leave(context);
    return STROP_OK;
}

int strop_context_input_info(strop_context *context, uint32_t index, strop_tensor_info *result,
                             strop_error *error)
{
    return info(context, "input", index, 0, context->engine->plan.header->n_inputs, result, error);
}

int strop_context_output_info(strop_context *context, uint32_t index, strop_tensor_info *result,
                              strop_error *error)
{
    const strop_plan_header *h = context->engine->plan.header;

    return info(context, "output", index, h->n_inputs, h->n_outputs, result, error);
}
