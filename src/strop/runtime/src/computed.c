/* computed.c - sizes that steps find: what is known when, and taking over what a step has found. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"

/* ---- at load: stages ----------------------------------------------------------------------- */

void plan_free_stages(engine_plan *plan)
{
    free(plan->finders);
    for (int k = 0; k < N_ORDERS; k++) {
        free(plan->orders[k].first);
        free(plan->orders[k].items);
    }
}

/* Sorts items 0 .. count - 1 by their stages; false when memory is out. */
static bool sort_by_stage(plan_order *order, const uint32_t *stage, uint32_t count, uint32_t stages)
{
    order->first = calloc((size_t)stages + 2, sizeof *order->first);
    order->items = calloc((size_t)count + 1, sizeof *order->items);
    if (!order->first || !order->items)
        return false;
    /* Counts are kept two places up, so that the running sum at first[s + 1] is where the next item of
     * stage s goes and in the end where stage s + 1 begins. */
    for (uint32_t i = 0; i < count; i++)
        order->first[stage[i] + 2]++;
    for (uint32_t s = 0; s < stages; s++)
        order->first[s + 2] += order->first[s + 1];
    for (uint32_t i = 0; i < count; i++)
        order->items[order->first[stage[i] + 1]++] = i;
    return true;
}

static uint32_t number_stage(const uint32_t *dim_stage, int64_t number)
{
    return number < 0 ? dim_stage[-1 - number] : 0;
}

static uint32_t later(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* The step that an arg belongs to, or n_steps. */
static uint32_t step_of(const engine_plan *plan, uint32_t arg)
{
    const uint32_t n = plan->header->n_steps;

    for (uint32_t i = 0; i < n; i++)
        if (arg >= plan->steps[i].first_arg && arg - plan->steps[i].first_arg < plan->steps[i].n_args)
            return i;
    return n;
}

/* The stage in which each item is known: 1 + the place of the step among the finders, or 0. */
static void find_items(const engine_plan *plan, int kind, const uint32_t *sym_stage,
                       const uint32_t *dim_stage, uint32_t *stage)
{
    const strop_plan_header *h = plan->header;

    switch (kind) {
    case OF_SYMS:
        memcpy(stage, sym_stage, h->n_syms * sizeof *stage);
        return;
    case OF_DIMS:
        memcpy(stage, dim_stage, h->n_dims * sizeof *stage);
        return;
    case OF_TENSORS:
        for (uint32_t i = 0; i < h->n_inputs + h->n_outputs; i++) {
            stage[i] = 0;
            for (uint32_t d = 0; d < plan->tensors[i].rank; d++)
                stage[i] = later(stage[i], number_stage(dim_stage, plan->tensors[i].dims[d]));
        }
        return;
    case OF_ARGS:
        for (uint32_t i = 0; i < h->n_args; i++)
            stage[i] = later(number_stage(dim_stage, plan->args[i].offset),
                             number_stage(dim_stage, plan->args[i].size));
        return;
    case OF_STEPS:
        for (uint32_t i = 0; i < h->n_steps; i++)
            stage[i] = number_stage(dim_stage, plan->steps[i].n_tasks);
        return;
    default:
        for (uint32_t i = 0; i < h->n_step_dims; i++)
            stage[i] = dim_stage[plan->step_dims[i]];
    }
}

static uint32_t count_of(const engine_plan *plan, int kind)
{
    const strop_plan_header *h = plan->header;
    const uint32_t counts[N_ORDERS] = {h->n_syms, h->n_dims,  h->n_inputs + h->n_outputs,
                                       h->n_args, h->n_steps, h->n_step_dims};

    return counts[kind];
}

/* Fails when a step needs a number that is found by itself or a later one. */
static int check_early(const engine_file *file, const engine_plan *plan, const uint32_t *dim_stage,
                       strop_error *error)
{
    for (uint32_t i = 0; i < plan->header->n_steps; i++) {
        const strop_step_record *s = &plan->steps[i];
        uint32_t stage = number_stage(dim_stage, s->n_tasks);

        for (uint32_t k = 0; k < s->n_args; k++) {
            const strop_arg_record *a = &plan->args[s->first_arg + k];

            stage = later(stage, later(number_stage(dim_stage, a->offset), number_stage(dim_stage, a->size)));
        }
        for (uint32_t k = 0; k < s->n_dims; k++)
            stage = later(stage, dim_stage[plan->step_dims[s->first_dim + k]]);
        if (stage > 0 && plan->finders[stage - 1] >= i)
            return plan_corrupt(file, error, "step that needs a size before it is found", i);
    }
    return STROP_OK;
}

/* Lists the steps that find sizes, and the stage of each symbol. */
static int list_finders(const engine_file *file, engine_plan *plan, uint32_t *sym_stage,
                        strop_error *error)
{
    const strop_plan_header *h = plan->header;
    uint32_t steps[STROP_MAX_SYMS], n = 0;

    for (uint32_t s = 0; s < h->n_syms; s++) {
        const strop_sym_record *sym = &plan->syms[s];
        uint32_t place = 0;

        sym_stage[s] = 0;
        if (sym->set_by == 0)
            continue;
        steps[s] = step_of(plan, sym->set_by - 1);
        if (steps[s] == h->n_steps || plan->args[sym->set_by - 1].space == STROP_SPACE_INPUT ||
            plan->args[sym->set_by - 1].space == STROP_SPACE_WEIGHTS ||
            (plan->args[sym->set_by - 1].size >= 0 && plan->args[sym->set_by - 1].size < 8))
            return plan_corrupt(file, error, "size in an arg that cannot hold it", s);
        while (place < n && plan->finders[place] < steps[s])
            place++;
        if (place < n && plan->finders[place] == steps[s])
            continue;
        memmove(plan->finders + place + 1, plan->finders + place, (n - place) * sizeof *plan->finders);
        plan->finders[place] = steps[s];
        n++;
    }
    plan->n_finders = n;
    for (uint32_t s = 0; s < h->n_syms; s++)
        for (uint32_t k = 0; plan->syms[s].set_by && k < n; k++)
            if (plan->finders[k] == steps[s])
                sym_stage[s] = k + 1;
    return STROP_OK;
}

int plan_find_stages(const engine_file *file, engine_plan *plan, strop_error *error)
{
    const strop_plan_header *h = plan->header;
    uint32_t sym_stage[STROP_MAX_SYMS], most = 1;
    uint32_t *dim_stage, *stage;
    bool any = false;
    int code;

    for (uint32_t s = 0; s < h->n_syms; s++)
        any |= plan->syms[s].set_by != 0;
    if (!any)
        return STROP_OK;
    for (int k = 0; k < N_ORDERS; k++)
        most = later(most, count_of(plan, k));
    plan->finders = calloc((size_t)h->n_syms + 1, sizeof *plan->finders);
    dim_stage = calloc((size_t)h->n_dims + 1, sizeof *dim_stage);
    stage = calloc(most, sizeof *stage);
    if (!plan->finders || !dim_stage || !stage) {
        code = strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", file->where);
        goto done;
    }
    code = list_finders(file, plan, sym_stage, error);
    if (code)
        goto done;
    for (uint32_t i = 0; i < h->n_dims; i++) {
        const strop_dim_record *d = &plan->dims[i];

        dim_stage[i] = d->op == STROP_DIM_CONST ? 0
                       : d->op == STROP_DIM_SYM ? sym_stage[d->a]
                                                : later(dim_stage[d->a], dim_stage[d->b]);
    }
    code = check_early(file, plan, dim_stage, error);
    for (int k = 0; k < N_ORDERS && !code; k++) {
        find_items(plan, k, sym_stage, dim_stage, stage);
        if (!sort_by_stage(&plan->orders[k], stage, count_of(plan, k), plan->n_finders + 1))
            code = strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", file->where);
    }
done:
    free(dim_stage);
    free(stage);
    return code;
}

bool plan_is_found(const engine_plan *plan, uint32_t tensor)
{
    const plan_order *order = &plan->orders[OF_TENSORS];

    if (plan->n_finders == 0)
        return false;
    for (uint32_t k = order->first[1]; k < order->first[plan->n_finders + 1]; k++)
        if (order->items[k] == tensor)
            return true;
    return false;
}

/* ---- how large tensors may become ---------------------------------------------------------- */

/* The least and the largest of x op y where x and y lie between these ends; divisors count from 1. */
static bool combine_ends(uint32_t op, const int64_t *a_low, const int64_t *a_high,
                         const int64_t *b_low, const int64_t *b_high, int64_t *low, int64_t *high)
{
    const bool divides = op == STROP_DIM_FLOORDIV || op == STROP_DIM_MOD;
    const int64_t a[2] = {*a_low, *a_high};
    const int64_t b[2] = {divides && *b_low < 1 ? 1 : *b_low, divides && *b_high < 1 ? 1 : *b_high};
    int64_t found;

    if (op == STROP_DIM_MOD) {
        *low = 0;
        *high = b[1] - 1;
        return true;
    }
    if (op != STROP_DIM_MUL && op != STROP_DIM_FLOORDIV)
        return plan_combine(op, a[0], b[0], low) && plan_combine(op, a[1], b[1], high);
    for (int k = 0; k < 4; k++) {
        if (!plan_combine(op, a[k / 2], b[k % 2], &found))
            return false;
        *low = k == 0 || found < *low ? found : *low;
        *high = k == 0 || found > *high ? found : *high;
    }
    return true;
}

int plan_rooms(const engine_file *file, const engine_plan *plan, const int64_t *symbols,
               int64_t *ends, uint64_t *rooms, strop_error *error)
{
    const strop_plan_header *h = plan->header;
    int64_t *low = ends, *high = ends + h->n_dims;

    for (uint32_t i = 0; i < h->n_dims; i++) {
        const strop_dim_record *d = &plan->dims[i];

        if (d->op == STROP_DIM_CONST) {
            low[i] = high[i] = d->value;
        } else if (d->op == STROP_DIM_SYM) {
            const strop_sym_record *sym = &plan->syms[d->a];

            low[i] = sym->set_by ? sym->min : symbols[d->a];
            high[i] = sym->set_by ? sym->max : symbols[d->a];
        } else if (!combine_ends(d->op, &low[d->a], &high[d->a], &low[d->b], &high[d->b], &low[i],
                                 &high[i])) {
            return plan_corrupt(file, error, "dim that cannot be computed", i);
        }
    }
    for (uint32_t i = 0; i < h->n_inputs + h->n_outputs; i++) {
        const int code = plan_check_size(file, plan, i, high, error);

        if (code)
            return code;
        rooms[i] = plan_tensor_bytes(plan, i, high);
    }
    return STROP_OK;
}

/* ---- in a run ------------------------------------------------------------------------------ */

/* Reads what a step has found; STROP_ERR_DATA when that is out of the range that was planned for. */
static int take_symbols(strop_context *context, uint32_t stage, strop_error *error)
{
    const engine_plan *plan = &context->engine->plan;
    const plan_order *order = &plan->orders[OF_SYMS];

    for (uint32_t k = order->first[stage]; k < order->first[stage + 1]; k++) {
        const strop_sym_record *sym = &plan->syms[order->items[k]];
        int64_t value;

        memcpy(&value, context->operands[sym->set_by - 1], sizeof value);
        if (value < sym->min || value > sym->max)
            return strop_fail(error, STROP_ERR_DATA, "%s: step '%.200s' finds %" PRId64 " for '%.100s', which is "
                              "planned for %" PRId64 " to %" PRId64, context->engine->where,
                              plan->strings + plan->steps[plan->finders[stage - 1]].name, value,
                              plan->strings + sym->name, sym->min, sym->max);
        context->symbols[order->items[k]] = value;
    }
    return STROP_OK;
}

int context_take_found(strop_context *context, uint32_t stage, strop_error *error)
{
    const engine_file *file = &context->engine->file;
    const engine_plan *plan = &context->engine->plan;
    const plan_order *orders = plan->orders;
    int code = take_symbols(context, stage, error);

    for (uint32_t k = orders[OF_DIMS].first[stage]; k < orders[OF_DIMS].first[stage + 1] && !code; k++)
        code = plan_compute_dim(file, plan, orders[OF_DIMS].items[k], context->symbols, context->dims, error);
    for (uint32_t k = orders[OF_TENSORS].first[stage]; k < orders[OF_TENSORS].first[stage + 1] && !code; k++)
        code = plan_check_size(file, plan, orders[OF_TENSORS].items[k], context->dims, error);
    for (uint32_t k = orders[OF_ARGS].first[stage]; k < orders[OF_ARGS].first[stage + 1] && !code; k++) {
        const uint32_t arg = orders[OF_ARGS].items[k];

        code = plan_check_reach(file, plan, arg, context->dims, context->rooms, error);
        if (!code)
            context_resolve(context, arg);
    }
    for (uint32_t k = orders[OF_STEPS].first[stage]; k < orders[OF_STEPS].first[stage + 1] && !code; k++) {
        code = plan_check_tasks(file, plan, orders[OF_STEPS].items[k], context->dims, error);
        if (!code)
            context_deal(context, orders[OF_STEPS].items[k]);
    }
    for (uint32_t k = orders[OF_STEP_DIMS].first[stage]; k < orders[OF_STEP_DIMS].first[stage + 1] && !code; k++) {
        const uint32_t i = orders[OF_STEP_DIMS].items[k];

        context->step_dims[i] = context->dims[plan->step_dims[i]];
    }
    return code;
}
