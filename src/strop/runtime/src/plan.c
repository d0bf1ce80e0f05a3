/* plan.c - does every number of the plan stay within what it points into? */
#include <inttypes.h>
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

static int corrupt(const engine_file *file, strop_error *error, const char *what, uint64_t index)
{
    return strop_fail(error, STROP_ERR_FILE, "%s: corrupt plan: %s (number %" PRIu64 ")",
                      file->where, what, index);
}

static int check_header(const engine_file *file, const strop_section_record *section,
                        const strop_plan_header *h, strop_error *error)
{
    uint64_t size = sizeof *h;

    if (section->size < size)
        return corrupt(file, error, "shorter than its header", section->size);
    if (h->abi != STROP_PLAN_ABI)
        return strop_fail(error, STROP_ERR_VERSION,
                          "%s: plan of version %" PRIu32 "; this runtime reads version %u",
                          file->where, h->abi, STROP_PLAN_ABI);
    if (h->n_syms != 0)
        return strop_fail(error, STROP_ERR_VERSION,
                          "%s: the plan has n_syms = %" PRIu32 " run-time symbols; this runtime "
                          "runs constant shapes only", file->where, h->n_syms);
    if ((h->flags & ~STROP_PLAN_KNOWN_FLAGS) != 0)
        return strop_fail(error, STROP_ERR_VERSION, "%s: plan flags 0x%" PRIx32 " are not known to "
                          "this runtime", file->where, h->flags);
    if (h->n_inputs > STROP_MAX_TENSORS || h->n_outputs > STROP_MAX_TENSORS)
        return corrupt(file, error, "too many inputs or outputs",
                       (uint64_t)h->n_inputs + h->n_outputs);
    if (h->n_steps > STROP_MAX_STEPS)
        return corrupt(file, error, "too many steps", h->n_steps);
    if (h->n_args > STROP_MAX_ARGS)
        return corrupt(file, error, "too many args", h->n_args);
    if (h->n_string_bytes > STROP_MAX_STRINGS)
        return corrupt(file, error, "too many string bytes", h->n_string_bytes);
    if (h->arena_bytes > STROP_MAX_BYTES || h->scratch_bytes > STROP_MAX_BYTES / STROP_MAX_THREADS)
        return corrupt(file, error, "too large an arena or scratch",
                       h->arena_bytes > STROP_MAX_BYTES ? h->arena_bytes : h->scratch_bytes);
    size += ((uint64_t)h->n_inputs + h->n_outputs) * sizeof(strop_tensor_record);
    size += h->n_steps * (uint64_t)sizeof(strop_step_record);
    size += h->n_args * (uint64_t)sizeof(strop_arg_record);
    size += h->n_string_bytes;
    if (section->size != size)
        return corrupt(file, error, "its records do not fill it", section->size);
    return STROP_OK;
}

/* The table ends with a NUL, so any offset inside it starts a string that ends inside it. */
static int is_string(const engine_plan *plan, uint32_t offset)
{
    return offset < plan->header->n_string_bytes;
}

static int check_tensor(const engine_file *file, const engine_plan *plan, uint32_t index,
                        strop_error *error)
{
    const strop_tensor_record *t = &plan->tensors[index];
    uint64_t bytes = dtype_size(t->dtype);

    if (!is_string(plan, t->name))
        return corrupt(file, error, "tensor without a name", index);
    if (bytes == 0)
        return corrupt(file, error, "tensor of unknown dtype", index);
    if (t->rank > STROP_MAX_RANK || t->flags != 0)
        return corrupt(file, error, "tensor of impossible rank or flags", index);
    for (uint32_t d = 0; d < STROP_MAX_RANK; d++) {
        if (t->dims[d] < 0 || (d >= t->rank && t->dims[d] != 0))
            return corrupt(file, error, "tensor of impossible shape", index);
        if (d < t->rank && t->dims[d] != 0 && bytes > STROP_MAX_BYTES / (uint64_t)t->dims[d])
            return corrupt(file, error, "tensor too large", index);
        if (d < t->rank)
            bytes *= (uint64_t)t->dims[d];
    }
    if (t->bytes != bytes)
        return corrupt(file, error, "tensor whose size is not that of its shape", index);
    return STROP_OK;
}

static int check_step(const engine_file *file, const engine_plan *plan, uint32_t index,
                      strop_error *error)
{
    const strop_step_record *s = &plan->steps[index];

    if (!is_string(plan, s->name))
        return corrupt(file, error, "step without a name", index);
    if (s->kernel >= plan->header->n_kernels)
        return corrupt(file, error, "step with a kernel that is not there", index);
    if (s->first_arg > plan->header->n_args || s->n_args > plan->header->n_args - s->first_arg)
        return corrupt(file, error, "step with args that are not there", index);
    if (s->n_tasks < 0 || s->n_tasks > STROP_MAX_TASKS || s->grain < 1 ||
        s->grain > STROP_MAX_TASKS || s->flags != 0)
        return corrupt(file, error, "step with impossible tasks, grain or flags", index);
    return STROP_OK;
}

static int check_arg(const engine_file *file, const engine_plan *plan, uint64_t weights_size,
                     uint32_t index, strop_error *error)
{
    const strop_arg_record *a = &plan->args[index];
    const strop_plan_header *h = plan->header;
    uint64_t limit;

    switch (a->space) {
    case STROP_SPACE_ARENA:
    case STROP_SPACE_WEIGHTS:
        if (a->index != 0)
            return corrupt(file, error, "arg with an index it cannot have", index);
        limit = a->space == STROP_SPACE_ARENA ? h->arena_bytes : weights_size;
        break;
    case STROP_SPACE_INPUT:
    case STROP_SPACE_OUTPUT:
        if (a->index >= (a->space == STROP_SPACE_INPUT ? h->n_inputs : h->n_outputs))
            return corrupt(file, error, "arg of an input or output that is not there", index);
        limit = plan->tensors[a->index + (a->space == STROP_SPACE_INPUT ? 0 : h->n_inputs)].bytes;
        break;
    default:
        return corrupt(file, error, "arg in an unknown space", index);
    }
    if (a->offset > limit || a->size > limit - a->offset)
        return corrupt(file, error, "arg beyond the end of its space", index);
    return STROP_OK;
}

int plan_check(const engine_file *file, engine_plan *plan, strop_error *error)
{
    const strop_section_record *section = file_section(file, STROP_SECTION_PLAN);
    const uint64_t weights_size = file_section(file, STROP_SECTION_WEIGHTS)->size;
    const strop_plan_header *h = (const void *)(file->data + section->offset);
    int code = check_header(file, section, h, error);

    if (code)
        return code;
    plan->header = h;
    plan->tensors = (const void *)(h + 1);
    plan->steps = (const void *)(plan->tensors + h->n_inputs + h->n_outputs);
    plan->args = (const void *)(plan->steps + h->n_steps);
    plan->strings = (const void *)(plan->args + h->n_args);
    if (h->n_string_bytes > 0 && plan->strings[h->n_string_bytes - 1] != '\0')
        return corrupt(file, error, "names that do not end", h->n_string_bytes);
    for (uint32_t i = 0; i < h->n_inputs + h->n_outputs && !code; i++)
        code = check_tensor(file, plan, i, error);
    for (uint32_t i = 0; i < h->n_steps && !code; i++)
        code = check_step(file, plan, i, error);
    for (uint32_t i = 0; i < h->n_args && !code; i++)
        code = check_arg(file, plan, weights_size, i, error);
    return code;
}
