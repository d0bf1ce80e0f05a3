/* plan.c - does every number of the plan stay within what it points into? */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

uint64_t dtype_size(uint32_t dtype)
{
    switch (dtype) {
    case STROP_U8:
    case STROP_I8:
    case STROP_BOOL:
        return 1;
    case STROP_U16:
    case STROP_I16:
    case STROP_F16:
    case STROP_BF16:
        return 2;
    case STROP_F32:
    case STROP_I32:
    case STROP_U32:
        return 4;
    case STROP_I64:
    case STROP_F64:
    case STROP_U64:
        return 8;
    default:
        return 0;
    }
}

int plan_corrupt(const engine_file *file, strop_error *error, const char *what, uint64_t index)
{
    return strop_fail(error, STROP_ERR_FILE, "%s: corrupt plan: %s (number %" PRIu64 ")",
                      file->where, what, index);
}

static int check_header(const engine_file *file, const strop_section_record *section,
                        const strop_plan_header *h, strop_error *error)
{
    uint64_t size = sizeof *h;

    if (section->size < size)
        return plan_corrupt(file, error, "shorter than its header", section->size);
    if (h->abi != STROP_PLAN_ABI)
        return strop_fail(error, STROP_ERR_VERSION,
                          "%s: plan of version %" PRIu32 "; this runtime reads version %u",
                          file->where, h->abi, STROP_PLAN_ABI);
    if ((h->flags & ~STROP_PLAN_KNOWN_FLAGS) != 0)
        return strop_fail(error, STROP_ERR_VERSION, "%s: plan flags 0x%" PRIx32 " are not known to "
                          "this runtime", file->where, h->flags);
    if (h->n_inputs > STROP_MAX_TENSORS || h->n_outputs > STROP_MAX_TENSORS)
        return plan_corrupt(file, error, "too many inputs or outputs",
                       (uint64_t)h->n_inputs + h->n_outputs);
    if (h->n_steps > STROP_MAX_STEPS)
        return plan_corrupt(file, error, "too many steps", h->n_steps);
    if (h->n_args > STROP_MAX_ARGS)
        return plan_corrupt(file, error, "too many args", h->n_args);
    if (h->n_syms > STROP_MAX_SYMS)
        return plan_corrupt(file, error, "too many symbols", h->n_syms);
    if (h->n_dims > STROP_MAX_DIMS || h->n_step_dims > STROP_MAX_STEP_DIMS)
        return plan_corrupt(file, error, "too many dims", (uint64_t)h->n_dims + h->n_step_dims);
    if (h->n_jumps > STROP_MAX_STEPS || h->zero != 0)
        return plan_corrupt(file, error, "too many jumps", h->n_jumps);
    if (h->n_string_bytes > STROP_MAX_STRINGS)
        return plan_corrupt(file, error, "too many string bytes", h->n_string_bytes);
    if (h->arena_bytes > STROP_MAX_BYTES || h->scratch_bytes > STROP_MAX_BYTES / STROP_MAX_THREADS)
        return plan_corrupt(file, error, "too large an arena or scratch",
                       h->arena_bytes > STROP_MAX_BYTES ? h->arena_bytes : h->scratch_bytes);
    size += ((uint64_t)h->n_inputs + h->n_outputs) * sizeof(strop_tensor_record);
    size += h->n_steps * (uint64_t)sizeof(strop_step_record);
    size += h->n_args * (uint64_t)sizeof(strop_arg_record);
    size += h->n_syms * (uint64_t)sizeof(strop_sym_record);
    size += h->n_dims * (uint64_t)sizeof(strop_dim_record);
    size += h->n_step_dims * (uint64_t)sizeof(uint32_t);
    size += h->n_jumps * (uint64_t)sizeof(strop_jump_record);
    size += h->n_string_bytes;
    if (section->size != size)
        return plan_corrupt(file, error, "its records do not fill it", section->size);
    return STROP_OK;
}

/* The table ends with a NUL, so any offset inside it starts a string that ends inside it. */
static int is_string(const engine_plan *plan, uint32_t offset)
{
    return offset < plan->header->n_string_bytes;
}

/* A number, or the name of a dim that is there. */
static bool is_number(const engine_plan *plan, int64_t number)
{
    return number >= -(int64_t)plan->header->n_dims;
}

static int check_tensor(const engine_file *file, const engine_plan *plan, uint32_t index,
                        strop_error *error)
{
    const strop_tensor_record *t = &plan->tensors[index];
    bool is_dynamic = false;

    if (!is_string(plan, t->name))
        return plan_corrupt(file, error, "tensor without a name", index);
    if (dtype_size(t->dtype) == 0)
        return plan_corrupt(file, error, "tensor of unknown dtype", index);
    if (t->rank > STROP_MAX_RANK || t->flags != 0)
        return plan_corrupt(file, error, "tensor of impossible rank or flags", index);
    for (uint32_t d = 0; d < STROP_MAX_RANK; d++) {
        uint32_t symbol;
        int64_t factor;

        if (!is_number(plan, t->dims[d]) || (d >= t->rank && t->dims[d] != 0))
            return plan_corrupt(file, error, "tensor of impossible shape", index);
        if (t->dims[d] < 0 && index < plan->header->n_inputs &&
            !plan_input_dim(plan, t->dims[d], &symbol, &factor))
            return plan_corrupt(file, error, "input with a computed dim", index);
        is_dynamic |= t->dims[d] < 0;
    }
    if (is_dynamic ? t->bytes != 0 : t->bytes != plan_tensor_bytes(plan, index, NULL))
        return plan_corrupt(file, error, "tensor whose size is not that of its shape", index);
    return STROP_OK;
}

static int check_step(const engine_file *file, const engine_plan *plan, uint32_t index,
                      strop_error *error)
{
    const strop_step_record *s = &plan->steps[index];

    if (!is_string(plan, s->name))
        return plan_corrupt(file, error, "step without a name", index);
    if (s->kernel >= plan->header->n_kernels && s->kernel != STROP_KERNEL_BY_NAME)
        return plan_corrupt(file, error, "step with a kernel that is not there", index);
    if (s->first_arg > plan->header->n_args || s->n_args > plan->header->n_args - s->first_arg)
        return plan_corrupt(file, error, "step with args that are not there", index);
    if (!is_number(plan, s->n_tasks) || s->grain < 1 || s->grain > STROP_MAX_TASKS)
        return plan_corrupt(file, error, "step with impossible tasks or grain", index);
    if (s->first_dim > plan->header->n_step_dims ||
        s->n_dims > plan->header->n_step_dims - s->first_dim)
        return plan_corrupt(file, error, "step with dims that are not there", index);
    return STROP_OK;
}

static int check_arg(const engine_file *file, const engine_plan *plan, uint32_t index,
                     strop_error *error)
{
    const strop_arg_record *a = &plan->args[index];
    const strop_plan_header *h = plan->header;

    switch (a->space) {
    case STROP_SPACE_ARENA:
    case STROP_SPACE_WEIGHTS:
        if (a->index != 0)
            return plan_corrupt(file, error, "arg with an index it cannot have", index);
        break;
    case STROP_SPACE_INPUT:
    case STROP_SPACE_OUTPUT:
        if (a->index >= (a->space == STROP_SPACE_INPUT ? h->n_inputs : h->n_outputs))
            return plan_corrupt(file, error, "arg of an input or output that is not there", index);
        break;
    default:
        return plan_corrupt(file, error, "arg in an unknown space", index);
    }
    if (!is_number(plan, a->offset) || !is_number(plan, a->size))
        return plan_corrupt(file, error, "arg with dims that are not there", index);
    return STROP_OK;
}

static int check_jump(const engine_file *file, const engine_plan *plan, uint32_t index,
                      strop_error *error)
{
    const strop_plan_header *h = plan->header;
    const strop_jump_record *j = &plan->jumps[index];
    const strop_step_record *s;

    if (j->step >= h->n_steps || j->target > h->n_steps || j->when > 1 ||
        (index > 0 && j->step <= plan->jumps[index - 1].step))
        return plan_corrupt(file, error, "impossible jump", index);
    s = &plan->steps[j->step];
    if (j->arg < s->first_arg || j->arg - s->first_arg >= s->n_args ||
        plan->args[j->arg].space != STROP_SPACE_ARENA || plan->args[j->arg].size < 1)
        return plan_corrupt(file, error, "jump by an arg that its step cannot write", index);
    return STROP_OK;
}

/* ---- symbols and dims ---------------------------------------------------------------------- */

static int check_sym(const engine_file *file, const engine_plan *plan, uint32_t index,
                     strop_error *error)
{
    const strop_sym_record *s = &plan->syms[index];

    if (!is_string(plan, s->name))
        return plan_corrupt(file, error, "symbol without a name", index);
    if (s->set_by > plan->header->n_args)
        return plan_corrupt(file, error, "symbol in an arg that is not there", index);
    if (s->min < (s->set_by ? 0 : 1) || s->min > s->opt || s->opt > s->max || s->max > STROP_MAX_SYM)
        return plan_corrupt(file, error, "symbol of an impossible range", index);
    return STROP_OK;
}

static int check_dim(const engine_file *file, const engine_plan *plan, uint32_t index,
                     strop_error *error)
{
    const strop_dim_record *d = &plan->dims[index];
    bool holds;

    if (d->op == STROP_DIM_CONST)
        holds = d->a == 0 && d->b == 0;
    else if (d->op == STROP_DIM_SYM)
        holds = d->a < plan->header->n_syms && d->b == 0 && d->value == 0;
    else
        holds = d->op <= STROP_DIM_MAX && d->a < index && d->b < index && d->value == 0;
    if (!holds || d->zero != 0)
        return plan_corrupt(file, error, "impossible dim", index);
    return STROP_OK;
}

bool plan_input_dim(const engine_plan *plan, int64_t number, uint32_t *symbol, int64_t *factor)
{
    const strop_dim_record *d = &plan->dims[-1 - number];

    *factor = 1;
    if (d->op == STROP_DIM_MUL && plan->dims[d->b].op == STROP_DIM_CONST) {
        *factor = plan->dims[d->b].value;
        d = &plan->dims[d->a];
    }
    *symbol = d->a;
    return d->op == STROP_DIM_SYM && plan->syms[d->a].set_by == 0 && *factor >= 1 &&
           *factor <= STROP_MAX_SYM;
}

static int check_told(const engine_file *file, const engine_plan *plan, strop_error *error)
{
    bool told[STROP_MAX_SYMS] = {false};
    uint32_t symbol;
    int64_t factor;

    for (uint32_t i = 0; i < plan->header->n_inputs; i++)
        for (uint32_t d = 0; d < plan->tensors[i].rank; d++)
            if (plan->tensors[i].dims[d] < 0 &&
                plan_input_dim(plan, plan->tensors[i].dims[d], &symbol, &factor))
                told[symbol] = true;
    for (uint32_t s = 0; s < plan->header->n_syms; s++)
        if (!told[s] && plan->syms[s].set_by == 0)
            return plan_corrupt(file, error, "symbol that no input has", s);
    return STROP_OK;
}

bool plan_combine(uint32_t op, int64_t a, int64_t b, int64_t *result)
{
    switch (op) {
    case STROP_DIM_ADD:
        return !__builtin_add_overflow(a, b, result);
    case STROP_DIM_MUL:
        return !__builtin_mul_overflow(a, b, result);
    case STROP_DIM_FLOORDIV:
        if (b < 1)
            return false;
        *result = a / b - (a % b < 0);
        return true;
    case STROP_DIM_MOD:
        if (b < 1)
            return false;
        *result = a % b < 0 ? a % b + b : a % b;
        return true;
    case STROP_DIM_MIN:
        *result = a < b ? a : b;
        return true;
    default:
        *result = a > b ? a : b;
        return true;
    }
}

int plan_compute_dim(const engine_file *file, const engine_plan *plan, uint32_t dim,
                     const int64_t *symbols, int64_t *dims, strop_error *error)
{
    const strop_dim_record *d = &plan->dims[dim];

    if (d->op == STROP_DIM_CONST)
        dims[dim] = d->value;
    else if (d->op == STROP_DIM_SYM)
        dims[dim] = symbols[d->a];
    else if (!plan_combine(d->op, dims[d->a], dims[d->b], &dims[dim]))
        return plan_corrupt(file, error, "dim that cannot be computed", dim);
    return STROP_OK;
}

int plan_compute(const engine_file *file, const engine_plan *plan, const int64_t *symbols,
                 int64_t *dims, strop_error *error)
{
    int code = STROP_OK;

    for (uint32_t i = 0; i < plan->header->n_dims && !code; i++)
        code = plan_compute_dim(file, plan, i, symbols, dims, error);
    return code;
}

uint64_t plan_tensor_bytes(const engine_plan *plan, uint32_t tensor, const int64_t *dims)
{
    const strop_tensor_record *t = &plan->tensors[tensor];
    uint64_t bytes = dtype_size(t->dtype);

    for (uint32_t d = 0; d < t->rank; d++)
        bytes *= (uint64_t)plan_number(t->dims[d], dims);
    return bytes;
}

int plan_check_size(const engine_file *file, const engine_plan *plan, uint32_t index,
                    const int64_t *dims, strop_error *error)
{
    const strop_tensor_record *t = &plan->tensors[index];
    uint64_t bytes = dtype_size(t->dtype);

    for (uint32_t d = 0; d < t->rank; d++) {
        const int64_t dim = plan_number(t->dims[d], dims);

        if (dim < 0)
            return plan_corrupt(file, error, "tensor with a dim below zero", index);
        if (dim > 0 && bytes > STROP_MAX_BYTES / (uint64_t)dim)
            return plan_corrupt(file, error, "tensor too large", index);
        bytes *= dim > 0 ? (uint64_t)dim : 1;
    }
    return STROP_OK;
}

int plan_check_reach(const engine_file *file, const engine_plan *plan, uint32_t index,
                     const int64_t *dims, const uint64_t *rooms, strop_error *error)
{
    const strop_arg_record *a = &plan->args[index];
    const strop_plan_header *h = plan->header;
    const int64_t offset = plan_number(a->offset, dims), size = plan_number(a->size, dims);
    uint64_t limit;

    if (a->space == STROP_SPACE_ARENA)
        limit = h->arena_bytes;
    else if (a->space == STROP_SPACE_WEIGHTS)
        limit = file_section(file, STROP_SECTION_WEIGHTS)->size;
    else
        limit = rooms[a->index + (a->space == STROP_SPACE_INPUT ? 0 : h->n_inputs)];
    if (offset < 0 || size < 0 || (uint64_t)offset > limit || (uint64_t)size > limit - (uint64_t)offset)
        return plan_corrupt(file, error, "arg beyond the end of its space", index);
    return STROP_OK;
}

int plan_check_tasks(const engine_file *file, const engine_plan *plan, uint32_t step,
                     const int64_t *dims, strop_error *error)
{
    const int64_t n_tasks = plan_number(plan->steps[step].n_tasks, dims);

    if (n_tasks < 0 || n_tasks > STROP_MAX_TASKS)
        return plan_corrupt(file, error, "step with impossible tasks", step);
    return STROP_OK;
}

int plan_check_numbers(const engine_file *file, const engine_plan *plan, const int64_t *dims,
                       const uint64_t *rooms, strop_error *error)
{
    const strop_plan_header *h = plan->header;
    int code = STROP_OK;

    for (uint32_t i = 0; i < h->n_inputs + h->n_outputs && !code; i++)
        code = plan_check_size(file, plan, i, dims, error);
    for (uint32_t i = 0; i < h->n_args && !code; i++)
        code = plan_check_reach(file, plan, i, dims, rooms, error);
    for (uint32_t i = 0; i < h->n_steps && !code; i++)
        code = plan_check_tasks(file, plan, i, dims, error);
    return code;
}

/* Computes and checks the dims at one end of the symbols' ranges or at their optimum. */
static int check_end(const engine_file *file, engine_plan *plan, int end, strop_error *error)
{
    const strop_plan_header *h = plan->header;
    int64_t symbols[STROP_MAX_SYMS];
    int64_t *dims = malloc(((size_t)h->n_dims + 1) * sizeof *dims);
    int64_t *ends = malloc((2 * (size_t)h->n_dims + 1) * sizeof *ends);
    uint64_t *rooms = malloc(((size_t)h->n_inputs + h->n_outputs + 1) * sizeof *rooms);
    int code = STROP_OK;

    plan->numbers[end] = dims;
    if (!dims || !ends || !rooms)
        code = strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", file->where);
    for (uint32_t s = 0; s < h->n_syms; s++)
        symbols[s] = end == AT_MIN   ? plan->syms[s].min
                     : end == AT_OPT ? plan->syms[s].opt
                                     : plan->syms[s].max;
    if (!code)
        code = plan_compute(file, plan, symbols, dims, error);
    if (!code)
        code = plan_rooms(file, plan, symbols, ends, rooms, error);
    if (!code)
        code = plan_check_numbers(file, plan, dims, rooms, error);
    free(ends);
    free(rooms);
    return code;
}

void plan_free(engine_plan *plan)
{
    for (int end = AT_MIN; end <= AT_MAX; end++)
        free(plan->numbers[end]);
    plan_free_stages(plan);
}

int plan_check(const engine_file *file, engine_plan *plan, strop_error *error)
{
    const strop_section_record *section = file_section(file, STROP_SECTION_PLAN);
    const strop_plan_header *h = (const void *)(file->data + section->offset);
    int code = check_header(file, section, h, error);

    if (code)
        return code;
    plan->header = h;
    plan->tensors = (const void *)(h + 1);
    plan->steps = (const void *)(plan->tensors + h->n_inputs + h->n_outputs);
    plan->args = (const void *)(plan->steps + h->n_steps);
    plan->syms = (const void *)(plan->args + h->n_args);
    plan->dims = (const void *)(plan->syms + h->n_syms);
    plan->step_dims = (const void *)(plan->dims + h->n_dims);
    plan->jumps = (const void *)(plan->step_dims + h->n_step_dims);
    plan->strings = (const void *)(plan->jumps + h->n_jumps);
    if (h->n_string_bytes > 0 && plan->strings[h->n_string_bytes - 1] != '\0')
        return plan_corrupt(file, error, "names that do not end", h->n_string_bytes);
    for (uint32_t i = 0; i < h->n_syms && !code; i++)
        code = check_sym(file, plan, i, error);
    for (uint32_t i = 0; i < h->n_dims && !code; i++)
        code = check_dim(file, plan, i, error);
    for (uint32_t i = 0; i < h->n_inputs + h->n_outputs && !code; i++)
        code = check_tensor(file, plan, i, error);
    for (uint32_t i = 0; i < h->n_steps && !code; i++)
        code = check_step(file, plan, i, error);
    for (uint32_t i = 0; i < h->n_args && !code; i++)
        code = check_arg(file, plan, i, error);
    for (uint32_t i = 0; i < h->n_step_dims && !code; i++)
        if (plan->step_dims[i] >= h->n_dims)
            code = plan_corrupt(file, error, "step with a dim that is not there", i);
    for (uint32_t i = 0; i < h->n_jumps && !code; i++)
        code = check_jump(file, plan, i, error);
    if (!code)
        code = check_told(file, plan, error);
    if (!code)
        code = plan_find_stages(file, plan, error);
    for (int end = AT_MIN; end <= AT_MAX && !code; end++)
        code = check_end(file, plan, end, error);
    return code;
}
