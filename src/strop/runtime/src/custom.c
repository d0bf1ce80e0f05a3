/* custom.c - custom layers: the table of registered code, checks of the section, and calls. */
#include "custom.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "pool.h"

/* ---- what is registered -------------------------------------------------------------------- */

/* Entries are only ever put in front: a lookup takes the newest of a name, needs no lock, and goes
 * on working in a child after fork(). */
typedef struct entry {
    struct entry *next;
    strop_custom_fn call;
    void *user;
    strop_kernel kernel;
    char name[];
} entry;

static _Atomic(entry *) registered;

static const entry *find(const char *name, uint32_t kind)
{
    const entry *e = atomic_load_explicit(&registered, memory_order_acquire);

    while (e && strcmp(e->name, name) != 0)
        e = e->next;
    return e && (kind == STROP_CUSTOM_CALLBACK ? e->call != NULL : e->kernel != NULL) ? e : NULL;
}

static int add(const char *name, strop_custom_fn call, void *user, strop_kernel kernel,
               strop_error *error)
{
    const size_t size = name ? strlen(name) + 1 : 0;
    entry *e;

    if (size <= 1)
        return strop_fail(error, STROP_ERR_ARGUMENT, "a custom layer without a name");
    e = malloc(sizeof *e + size);
    if (!e)
        return strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", name);
    e->call = call;
    e->user = user;
    e->kernel = kernel;
    memcpy(e->name, name, size);
    e->next = atomic_load_explicit(&registered, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&registered, &e->next, e, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    return STROP_OK;
}

int strop_register_custom(const char *name, strop_custom_fn call, void *user, strop_error *error)
{
    return add(name, call, user, NULL, error);
}

int strop_register_kernel(const char *name, strop_kernel kernel, strop_error *error)
{
    return add(name, NULL, NULL, kernel, error);
}

/* ---- checks -------------------------------------------------------------------------------- */

static int corrupt(const engine_file *file, strop_error *error, const char *what, uint64_t index)
{
    return strop_fail(error, STROP_ERR_FILE, "%s: corrupt custom layers: %s (number %" PRIu64 ")",
                      file->where, what, index);
}

static int check_record(const engine_file *file, const engine_plan *plan,
                        const engine_custom *custom, uint32_t index, strop_error *error)
{
    const strop_custom_header *h = custom->header;
    const strop_custom_step_record *r = &custom->records[index];
    const uint64_t n_tensors = (uint64_t)r->n_outputs + r->n_inputs;
    uint32_t present = 0;

    if (r->step >= plan->header->n_steps || plan->steps[r->step].kernel != STROP_KERNEL_BY_NAME ||
        (index > 0 && r->step <= custom->records[index - 1].step))
        return corrupt(file, error, "a step that has code of its own", index);
    if (r->kind != STROP_CUSTOM_CALLBACK && r->kind != STROP_CUSTOM_KERNEL)
        return corrupt(file, error, "of an unknown kind", index);
    if (r->name >= h->n_string_bytes || r->attributes >= h->n_string_bytes ||
        r->origin >= h->n_string_bytes)
        return corrupt(file, error, "without a name", index);
    if (r->first_tensor > h->n_tensors || n_tensors > h->n_tensors - r->first_tensor)
        return corrupt(file, error, "with tensors that are not there", index);
    for (uint32_t i = 0; i < n_tensors; i++)
        present += custom->tensors[r->first_tensor + i].is_absent == 0;
    if (r->kind == STROP_CUSTOM_CALLBACK ? present != plan->steps[r->step].n_args : n_tensors != 0)
        return corrupt(file, error, "with another number of tensors than args", index);
    return STROP_OK;
}

static int check_tensor(const engine_file *file, const engine_plan *plan,
                        const engine_custom *custom, uint32_t index, strop_error *error)
{
    const strop_custom_tensor_record *t = &custom->tensors[index];
    const int64_t least = -(int64_t)plan->header->n_dims;

    if (dtype_size(t->dtype) == 0 || t->rank > STROP_MAX_RANK || t->is_absent > 1 || t->zero != 0)
        return corrupt(file, error, "impossible tensor", index);
    for (uint32_t d = 0; d < STROP_MAX_RANK; d++)
        if (t->dims[d] < least || t->strides[d] < least ||
            (d >= t->rank && (t->dims[d] != 0 || t->strides[d] != 0)))
            return corrupt(file, error, "tensor of impossible shape", index);
    return STROP_OK;
}

static uint32_t steps_by_name(const engine_plan *plan)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < plan->header->n_steps; i++)
        count += plan->steps[i].kernel == STROP_KERNEL_BY_NAME;
    return count;
}

static int check_header(const engine_file *file, const strop_section_record *section,
                        const strop_custom_header *h, uint32_t expected, strop_error *error)
{
    uint64_t size = sizeof *h;

    if (section->size < size)
        return corrupt(file, error, "shorter than their header", section->size);
    if (h->abi != STROP_CUSTOM_ABI)
        return strop_fail(error, STROP_ERR_VERSION, "%s: custom layers of version %" PRIu32
                          "; this runtime reads version %u", file->where, h->abi,
                          STROP_CUSTOM_ABI);
    if (h->n_steps != expected)
        return corrupt(file, error, "another number of steps than in the plan", h->n_steps);
    if (h->n_tensors > STROP_MAX_ARGS || h->n_string_bytes > STROP_MAX_STRINGS)
        return corrupt(file, error, "too many tensors or string bytes", h->n_tensors);
    size += h->n_steps * (uint64_t)sizeof(strop_custom_step_record);
    size += h->n_tensors * (uint64_t)sizeof(strop_custom_tensor_record);
    size += h->n_string_bytes;
    if (section->size != size)
        return corrupt(file, error, "records that do not fill the section", section->size);
    return STROP_OK;
}

int custom_check(const engine_file *file, const engine_plan *plan, engine_custom *custom,
                 strop_error *error)
{
    const strop_section_record *section = file_section(file, STROP_SECTION_CUSTOM);
    const uint32_t expected = steps_by_name(plan);
    const strop_custom_header *h;
    int code;

    if (!section)
        return expected ? corrupt(file, error, "steps without code", expected) : STROP_OK;
    h = (const void *)(file->data + section->offset);
    code = check_header(file, section, h, expected, error);
    if (code)
        return code;
    custom->header = h;
    custom->records = (const void *)(h + 1);
    custom->tensors = (const void *)(custom->records + h->n_steps);
    custom->strings = (const void *)(custom->tensors + h->n_tensors);
    if (h->n_string_bytes == 0 || custom->strings[h->n_string_bytes - 1] != '\0')
        return corrupt(file, error, "names that do not end", h->n_string_bytes);
    for (uint32_t i = 0; i < h->n_tensors && !code; i++)
        code = check_tensor(file, plan, custom, i, error);
    for (uint32_t i = 0; i < h->n_steps && !code; i++)
        code = check_record(file, plan, custom, i, error);
    for (int end = AT_MIN; end <= AT_MAX && !code; end++)
        code = custom_check_numbers(file, plan, custom, plan->numbers[end], error);
    return code;
}

/* Bytes from the first element to the end of the last; -1 when that is no size. */
static int64_t reach(const strop_custom_tensor_record *t, const int64_t *dims)
{
    int64_t last = 0, part;
    bool is_empty = false;

    for (uint32_t d = 0; d < t->rank; d++) {
        const int64_t dim = plan_number(t->dims[d], dims);
        const int64_t stride = plan_number(t->strides[d], dims);

        if (dim < 0 || stride < 0)
            return -1;
        is_empty |= dim == 0;
        if (dim > 0 && (__builtin_mul_overflow(dim - 1, stride, &part) ||
                        __builtin_add_overflow(last, part, &last)))
            return -1;
    }
    if (is_empty)
        return 0;
    if (last >= (int64_t)STROP_MAX_BYTES)
        return -1;
    return (last + 1) * (int64_t)dtype_size(t->dtype);
}

int custom_check_numbers(const engine_file *file, const engine_plan *plan,
                         const engine_custom *custom, const int64_t *dims, strop_error *error)
{
    const uint32_t n_steps = custom->header ? custom->header->n_steps : 0;

    for (uint32_t i = 0; i < n_steps; i++) {
        const strop_custom_step_record *r = &custom->records[i];
        const strop_arg_record *arg = &plan->args[plan->steps[r->step].first_arg];

        for (uint32_t t = 0; t < r->n_outputs + r->n_inputs; t++) {
            const strop_custom_tensor_record *tensor = &custom->tensors[r->first_tensor + t];
            const int64_t bytes = tensor->is_absent ? 0 : reach(tensor, dims);

            if (tensor->is_absent)
                continue;
            if (bytes < 0 || bytes > plan_number(arg++->size, dims))
                return corrupt(file, error, "a view that leaves its arg", i);
        }
    }
    return STROP_OK;
}

/* ---- contexts ------------------------------------------------------------------------------ */

static int check_registered(const strop_engine *engine, const strop_custom_step_record *record,
                            const entry **found, strop_error *error)
{
    const char *strings = engine->custom.strings, *origin = strings + record->origin;
    const char *name = strings + record->name;
    const bool is_callback = record->kind == STROP_CUSTOM_CALLBACK;
    const entry *e = find(name, record->kind);

    if (found)
        *found = e;
    if (e)
        return STROP_OK;
    return strop_fail(
        error, STROP_ERR_CUSTOM,
        "%s: layer '%.200s' needs the custom layer '%.200s', %s%s%.200s%s, and this process has "
        "registered none of this name; register it with %s before the engine is loaded",
        engine->where,
        engine->plan.strings + engine->plan.steps[record->step].name, name,
        is_callback ? "a callback" : "a kernel of a shared library", *origin ? " (" : "", origin,
        *origin ? ")" : "",
        is_callback ? "strop_register_custom, or in Python by importing the module that declares it "
                      "with strop.custom.layer,"
                    : "strop_register_kernel, or in Python with strop.custom.load_library,");
}

int strop_engine_check_custom(const strop_engine *engine, strop_error *error)
{
    const uint32_t n_steps = engine->custom.header ? engine->custom.header->n_steps : 0;
    int code = STROP_OK;

    for (uint32_t i = 0; i < n_steps && !code; i++)
        code = check_registered(engine, &engine->custom.records[i], NULL, error);
    return code;
}

int custom_create(strop_context *context, strop_error *error)
{
    const strop_engine *engine = context->engine;
    const engine_custom *custom = &engine->custom;
    custom_state *state = context->custom = calloc(1, sizeof *state);

    if (!state)
        return strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", engine->where);
    if (!custom->header)
        return STROP_OK;
    state->callbacks = calloc((size_t)custom->header->n_steps + 1, sizeof *state->callbacks);
    state->kernels = calloc((size_t)custom->header->n_steps + 1, sizeof *state->kernels);
    state->tensors = calloc((size_t)custom->header->n_tensors + 1, sizeof *state->tensors);
    if (!state->callbacks || !state->kernels || !state->tensors)
        return strop_fail(error, STROP_ERR_SYSTEM, "%s: out of memory", engine->where);
    for (uint32_t i = 0; i < custom->header->n_steps; i++) {
        const strop_custom_step_record *record = &custom->records[i];
        const entry *e;
        const int code = check_registered(engine, record, &e, error);

        if (code)
            return code;
        state->kernels[i] = record->kind == STROP_CUSTOM_KERNEL ? e->kernel : NULL;
        state->callbacks[i] = (custom_callback){e->call, e->user, record,
                                                state->tensors + record->first_tensor};
    }
    return STROP_OK;
}

void custom_destroy(strop_context *context)
{
    custom_state *state = context->custom;

    if (!state)
        return;
    free(state->callbacks);
    free(state->kernels);
    free(state->tensors);
    free(state);
}

void custom_apply(strop_context *context)
{
    const engine_custom *custom = &context->engine->custom;
    custom_state *state = context->custom;
    const uint32_t n_steps = custom->header ? custom->header->n_steps : 0;
    const uint32_t n_tensors = custom->header ? custom->header->n_tensors : 0;

    for (uint32_t i = 0; i < n_steps; i++) {
        context_step *step = &context->steps[custom->records[i].step];

        step->kernel = state->kernels[i];
        step->callback = state->kernels[i] ? NULL : &state->callbacks[i];
    }
    for (uint32_t t = 0; t < n_tensors; t++) {
        const strop_custom_tensor_record *record = &custom->tensors[t];
        strop_custom_tensor *tensor = &state->tensors[t];

        tensor->dtype = record->dtype;
        tensor->rank = record->rank;
        for (uint32_t d = 0; d < record->rank; d++) {
            tensor->dims[d] = plan_number(record->dims[d], context->dims);
            tensor->strides[d] = plan_number(record->strides[d], context->dims);
        }
    }
}

/* ---- running ------------------------------------------------------------------------------- */

void custom_begin(strop_context *context)
{
    context->custom->error.code = STROP_OK;
}

int custom_end(const strop_context *context, strop_error *error)
{
    const strop_error *found = &context->custom->error;

    return found->code ? strop_fail(error, found->code, "%s", found->message) : STROP_OK;
}

static void call(const strop_context *context, uint32_t index)
{
    const engine_custom *custom = &context->engine->custom;
    const context_step *step = &context->steps[index];
    const custom_callback *callback = step->callback;
    const strop_custom_step_record *record = callback->record;
    const char *layer = context->engine->plan.strings + context->engine->plan.steps[index].name;
    const strop_custom_call arguments = {
        .name = custom->strings + record->name,
        .layer = layer,
        .attributes = custom->strings + record->attributes,
        .n_outputs = record->n_outputs,
        .n_inputs = record->n_inputs,
        .outputs = callback->tensors,
        .inputs = callback->tensors + record->n_outputs,
    };
    void *const *operand = step->operands;
    strop_error told = {0};
    uint64_t mode;
    int status;

    for (uint32_t t = 0; t < record->n_outputs + record->n_inputs; t++)
        callback->tensors[t].data =
            custom->tensors[record->first_tensor + t].is_absent ? NULL : *operand++;
    mode = cpu_enter_float_mode(false);
    status = callback->call(&arguments, callback->user, &told);
    cpu_leave_float_mode(mode);
    if (status == 0)
        return;
    told.message[sizeof told.message - 1] = '\0';
    strop_fail(&context->custom->error, STROP_ERR_CUSTOM,
               "%s: layer '%.200s': the custom layer '%.200s' failed: %s", context->engine->where,
               layer, arguments.name, told.message[0] ? told.message : "it says no reason");
}

bool custom_walk(const strop_context *context, uint32_t step, int32_t thread, int32_t threads, bool closes)
{
    bool failed;

    if (thread == 0 && context->steps[step].n_tasks > 0)
        call(context, step);
    if (threads > 1)
        pool_barrier(threads);
    /* Behind the last barrier of a run the context may be gone. */
    if (closes)
        return false;
    failed = context->custom->error.code != STROP_OK;
    /* The next step may fail as well: not before all have looked. */
    if (threads > 1)
        pool_barrier(threads);
    return failed;
}
