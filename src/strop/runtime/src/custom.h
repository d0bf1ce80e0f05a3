/* custom.h - steps whose code is not in the engine file but found by name in this process. */
#ifndef STROP_CUSTOM_H
#define STROP_CUSTOM_H

#include <stdbool.h>

#include "context.h"

/* A callback of one context, ready to be called. */
typedef struct custom_callback {
    strop_custom_fn call;
    void *user;
    const strop_custom_step_record *record;
    strop_custom_tensor *tensors; /* results, then operands */
} custom_callback;

/* What a context knows of the custom layers of its engine. */
typedef struct custom_state {
    custom_callback *callbacks; /* per record of the section */
    strop_kernel *kernels;      /* likewise; NULL where there is a callback */
    strop_custom_tensor *tensors;
    strop_error error; /* of the run that is going on; code STROP_OK while all is well */
} custom_state;

/* Views into the custom section of a file; every index and offset in it holds. */
int custom_check(const engine_file *file, const engine_plan *plan, engine_custom *custom,
                 strop_error *error);
/* Does every view stay within its arg where the dims have these values? */
int custom_check_numbers(const engine_file *file, const engine_plan *plan,
                         const engine_custom *custom, const int64_t *dims, strop_error *error);

/* Finds the code of every custom layer; STROP_ERR_CUSTOM names the first that is not registered. */
int custom_create(strop_context *context, strop_error *error);
void custom_destroy(strop_context *context);
/* Steps and views at the context's shape. */
void custom_apply(strop_context *context);

/* Forgets the failure of an earlier run. */
void custom_begin(strop_context *context);
/* One thread's part of a step that is a callback: thread 0 calls it, all meet behind it. closes: nothing follows it
 * in the run. Returns whether the run ends here, because it failed. */
bool custom_walk(const strop_context *context, uint32_t step, int32_t thread, int32_t threads, bool closes);
/* STROP_OK, or what failed in the run that has just ended. */
int custom_end(const strop_context *context, strop_error *error);

#endif /* STROP_CUSTOM_H */
