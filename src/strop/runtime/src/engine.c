/* engine.c - loading an engine, and questions about it. */
#include "engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "custom.h"
#include "platform.h"

uint32_t strop_abi_version(void)
{
    return STROP_ABI_VERSION;
}

/* ---- life ---------------------------------------------------------------------------------- */

void engine_retain(strop_engine *engine)
{
    atomic_fetch_add_explicit(&engine->references, 1, memory_order_relaxed);
}

void strop_engine_destroy(strop_engine *engine)
{
    if (!engine || atomic_fetch_sub_explicit(&engine->references, 1, memory_order_acq_rel) != 1)
        return;
    platform_unload_code(engine->code.library);
    plan_free(&engine->plan);
    if (engine->is_mapped)
        platform_unmap_file(engine->file.data, engine->file.size);
    platform_free(engine->copy, engine->file.size);
    free(engine->first_use);
    free(engine->uses);
    free(engine->where);
    free(engine);
}

static int fail_memory(const char *where, strop_error *error)
{
    return strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", where);
}

static strop_engine *create(const char *where)
{
    strop_engine *engine = calloc(1, sizeof *engine);

    if (!engine)
        return NULL;
    atomic_init(&engine->references, 1);
    engine->where = strdup(where);
    if (!engine->where) {
        free(engine);
        return NULL;
    }
    engine->file.where = engine->where;
    return engine;
}

/* ---- uses ---------------------------------------------------------------------------------- */

/* The tensor (inputs, then outputs) that an arg points into, or -1. */
static int64_t tensor_of(const engine_plan *plan, const strop_arg_record *arg)
{
    if (arg->space == STROP_SPACE_INPUT)
        return arg->index;
    if (arg->space == STROP_SPACE_OUTPUT)
        return (int64_t)arg->index + plan->header->n_inputs;
    return -1;
}

static int collect_uses(strop_engine *engine, strop_error *error)
{
    const engine_plan *plan = &engine->plan;
    const uint32_t n_tensors = plan->header->n_inputs + plan->header->n_outputs;
    uint32_t *first = calloc((size_t)n_tensors + 2, sizeof *first);
    uint32_t n_uses;

    engine->first_use = first;
    if (!first)
        return fail_memory(engine->where, error);
    /* Counting sort by tensor. Counts are kept two places up, so that the running sum at
     * first[t + 1] is first where the next use of t goes and in the end where t + 1 begins. */
    for (uint32_t i = 0; i < plan->header->n_args; i++) {
        const int64_t tensor = tensor_of(plan, &plan->args[i]);

        if (tensor >= 0)
            first[tensor + 2]++;
    }
    for (uint32_t t = 0; t < n_tensors; t++)
        first[t + 2] += first[t + 1];
    n_uses = first[n_tensors + 1];
    engine->uses = calloc((size_t)n_uses + 1, sizeof *engine->uses);
    if (!engine->uses)
        return fail_memory(engine->where, error);
    for (uint32_t i = 0; i < plan->header->n_args; i++) {
        const int64_t tensor = tensor_of(plan, &plan->args[i]);

        if (tensor >= 0)
            engine->uses[first[tensor + 1]++] = (engine_use){i, plan->args[i].offset};
    }
    return STROP_OK;
}

/* ---- load ---------------------------------------------------------------------------------- */

/* Takes over a new engine whose file.data and file.size are set. */
static int finish(strop_engine *engine, strop_engine **result, strop_error *error)
{
    int code = file_check(&engine->file, error);

    if (!code)
        code = plan_check(&engine->file, &engine->plan, error);
    if (!code)
        code = custom_check(&engine->file, &engine->plan, &engine->custom, error);
    if (!code)
        code = code_load(&engine->file, engine->plan.header->n_kernels, &engine->code, error);
    if (!code)
        code = collect_uses(engine, error);
    if (code) {
        strop_engine_destroy(engine);
        return code;
    }
    const strop_section_record *weights = file_section(&engine->file, STROP_SECTION_WEIGHTS);

    engine->weights = engine->file.data + weights->offset;
    engine->weights_size = weights->size;
    *result = engine;
    return STROP_OK;
}

int strop_engine_load(const char *path, strop_engine **result, strop_error *error)
{
    strop_engine *engine;
    const void *data = NULL;
    char buffer[128];
    int code;

    if (!path || !result)
        return strop_fail(error, STROP_ERR_ARGUMENT, "strop_engine_load: NULL argument");
    *result = NULL;
    engine = create(path);
    if (!engine)
        return fail_memory(path, error);
    code = platform_map_file(path, &data, &engine->file.size);
    if (code) {
        strop_engine_destroy(engine);
        return strop_fail(error, STROP_ERR_SYSTEM, "%s: cannot read: %s", path,
                          platform_error_text(code, buffer, sizeof buffer));
    }
    engine->file.data = data;
    engine->is_mapped = 1;
    return finish(engine, result, error);
}

int strop_engine_load_memory(const void *data, size_t size, strop_engine **result,
                             strop_error *error)
{
    static const char where[] = "(memory)";
    strop_engine *engine;

    if ((!data && size > 0) || !result)
        return strop_fail(error, STROP_ERR_ARGUMENT, "strop_engine_load_memory: NULL argument");
    *result = NULL;
    engine = create(where);
    if (!engine)
        return fail_memory(where, error);
    engine->file.data = data;
    engine->file.size = size;
    if ((uintptr_t)data % 64 != 0) {
        engine->copy = platform_allocate(size);
        if (!engine->copy) {
            strop_engine_destroy(engine);
            return fail_memory(where, error);
        }
        memcpy(engine->copy, data, size);
        engine->file.data = engine->copy;
    }
    return finish(engine, result, error);
}

/* ---- questions ----------------------------------------------------------------------------- */

uint32_t strop_engine_input_count(const strop_engine *engine)
{
    return engine->plan.header->n_inputs;
}

uint32_t strop_engine_output_count(const strop_engine *engine)
{
    return engine->plan.header->n_outputs;
}

uint32_t strop_engine_step_count(const strop_engine *engine)
{
    return engine->plan.header->n_steps;
}

const char *engine_tensor_text(const strop_engine *engine, uint32_t tensor, char *buffer,
                               size_t size)
{
    const char *role = tensor < engine->plan.header->n_inputs ? "input" : "output";

    snprintf(buffer, size, "%s '%.200s'", role,
             engine->plan.strings + engine->plan.tensors[tensor].name);
    return buffer;
}

void engine_tensor_info(const strop_engine *engine, uint32_t tensor, const int64_t *dims,
                        strop_tensor_info *info)
{
    const engine_plan *plan = &engine->plan;
    const strop_tensor_record *t = &plan->tensors[tensor];

    info->name = plan->strings + t->name;
    info->dtype = t->dtype;
    info->rank = t->rank;
    info->bytes = plan_tensor_bytes(plan, tensor, dims);
    info->is_computed = plan_is_found(plan, tensor);
    info->zero = 0;
    for (uint32_t d = 0; d < STROP_MAX_RANK; d++) {
        uint32_t symbol;

        info->dims[d] = plan_number(t->dims[d], dims);
        info->least[d] = plan_number(t->dims[d], plan->numbers[AT_MIN]);
        info->most[d] = plan_number(t->dims[d], plan->numbers[AT_MAX]);
        info->step[d] = 1;
        if (t->dims[d] < 0 && tensor < plan->header->n_inputs)
            plan_input_dim(plan, t->dims[d], &symbol, &info->step[d]);
    }
}

static int tensor_info(const strop_engine *engine, const char *role, uint32_t index,
                       uint32_t first, uint32_t count, strop_tensor_info *info, strop_error *error)
{
    if (index >= count)
        return strop_fail(error, STROP_ERR_ARGUMENT, "%s: %s %" PRIu32 " of %" PRIu32,
                          engine->where, role, index, count);
    engine_tensor_info(engine, first + index, engine->plan.numbers[AT_OPT], info);
    return STROP_OK;
}

int strop_engine_input_info(const strop_engine *engine, uint32_t index, strop_tensor_info *info,
                            strop_error *error)
{
    return tensor_info(engine, "input", index, 0, engine->plan.header->n_inputs, info, error);
}

int strop_engine_output_info(const strop_engine *engine, uint32_t index, strop_tensor_info *info,
                             strop_error *error)
{
    return tensor_info(engine, "output", index, engine->plan.header->n_inputs,
                       engine->plan.header->n_outputs, info, error);
}

int strop_engine_step_info(const strop_engine *engine, uint32_t index, strop_step_info *info,
                           strop_error *error)
{
    const strop_step_record *step;

    if (index >= engine->plan.header->n_steps)
        return strop_fail(error, STROP_ERR_ARGUMENT, "%s: step %" PRIu32 " of %" PRIu32,
                          engine->where, index, engine->plan.header->n_steps);
    step = &engine->plan.steps[index];
    info->name = engine->plan.strings + step->name;
    info->kernel = step->kernel;
    info->tasks = plan_number(step->n_tasks, engine->plan.numbers[AT_OPT]);
    info->grain = step->grain;
    return STROP_OK;
}

static const char *text_of(const strop_engine *engine, uint32_t kind, size_t *size)
{
    const strop_section_record *section = file_section(&engine->file, kind);

    *size = section ? section->size : 0;
    return section ? (const char *)engine->file.data + section->offset : NULL;
}

const char *strop_engine_manifest(const strop_engine *engine, size_t *size)
{
    return text_of(engine, STROP_SECTION_MANIFEST, size);
}

const char *strop_engine_graph(const strop_engine *engine, size_t *size)
{
    return text_of(engine, STROP_SECTION_GRAPH, size);
}

const void *strop_engine_attachment(const strop_engine *engine, const char *name, size_t *size)
{
    for (uint32_t i = 0; i < engine->file.n_sections; i++) {
        const strop_section_record *section = &engine->file.sections[i];

        if (section->kind == STROP_SECTION_ATTACHMENT && strcmp(section->name, name) == 0) {
            *size = section->size;
            return engine->file.data + section->offset;
        }
    }
    *size = 0;
    return NULL;
}

const char *strop_engine_target(const strop_engine *engine)
{
    return engine->code.target;
}

const char *strop_engine_isa(const strop_engine *engine)
{
    return engine->code.isa;
}

void strop_engine_memory(const strop_engine *engine, strop_memory_info *info)
{
    info->weights = engine->weights_size;
    info->arena = engine->plan.header->arena_bytes;
    info->scratch = engine->plan.header->scratch_bytes;
}
