/* engine.h - the insides of an engine: checked views into the mapped file, and its code. */
#ifndef STROP_ENGINE_H
#define STROP_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "strop.h"
#include "strop_format.h"
#include "strop_kernel.h"

/* A file whose header, table and checksums hold. `where` names it in errors. */
typedef struct engine_file {
    const char *where;
    const uint8_t *data;
    size_t size;
    const strop_section_record *sections;
    uint32_t n_sections;
} engine_file;

int file_check(engine_file *file, strop_error *error);
/* The only section of a kind, or NULL. */
const strop_section_record *file_section(const engine_file *file, uint32_t kind);

/* Numbers of items, ordered by the stage they belong to: those of stage s are items[first[s]] to
 * items[first[s + 1] - 1]. */
typedef struct plan_order {
    uint32_t *first, *items;
} plan_order;

enum { OF_SYMS = 0, OF_DIMS, OF_TENSORS, OF_ARGS, OF_STEPS, OF_STEP_DIMS, N_ORDERS };

/* A plan whose every index and offset holds. */
typedef struct engine_plan {
    const strop_plan_header *header;
    const strop_tensor_record *tensors; /* inputs, then outputs */
    const strop_step_record *steps;
    const strop_arg_record *args;
    const strop_sym_record *syms;
    const strop_dim_record *dims;
    const uint32_t *step_dims;
    const strop_jump_record *jumps;
    const char *strings;
    int64_t *numbers[3]; /* the dims where all symbols are at their ends and optimum */
    /* What steps find. Stage 0 is what shapes tell; stage s what is known once step finders[s - 1] has
     * run, and depends on no later one. Without finders there are no orders. */
    uint32_t n_finders;
    uint32_t *finders; /* ascending */
    plan_order orders[N_ORDERS];
} engine_plan;

enum { AT_MIN = 0, AT_OPT = 1, AT_MAX = 2 };

int plan_check(const engine_file *file, engine_plan *plan, strop_error *error);
void plan_free(engine_plan *plan);

/* What a number of the plan is where the dims have these values. */
static inline int64_t plan_number(int64_t number, const int64_t *dims)
{
    return number >= 0 ? number : dims[-1 - number];
}

/* Computes all dims from values of the symbols. */
int plan_compute(const engine_file *file, const engine_plan *plan, const int64_t *symbols,
                 int64_t *dims, strop_error *error);
/* Computes dim i, for which earlier ones are needed. */
int plan_compute_dim(const engine_file *file, const engine_plan *plan, uint32_t dim,
                     const int64_t *symbols, int64_t *dims, strop_error *error);
/* Does every tensor fit into memory, every arg into its space, where the dims have these values?
 * `rooms` are the bytes of tensors (inputs, then outputs) that callers provide. */
int plan_check_numbers(const engine_file *file, const engine_plan *plan, const int64_t *dims,
                       const uint64_t *rooms, strop_error *error);
int plan_check_size(const engine_file *file, const engine_plan *plan, uint32_t tensor,
                    const int64_t *dims, strop_error *error);
int plan_check_reach(const engine_file *file, const engine_plan *plan, uint32_t arg,
                     const int64_t *dims, const uint64_t *rooms, strop_error *error);
int plan_check_tasks(const engine_file *file, const engine_plan *plan, uint32_t step,
                     const int64_t *dims, strop_error *error);
/* Sorts out what is known when; fails where a step needs a number before it is known. */
int plan_find_stages(const engine_file *file, engine_plan *plan, strop_error *error);
void plan_free_stages(engine_plan *plan);
/* Bytes of every tensor, at most, where shapes have told these symbols and steps may find any number
 * of their ranges. `ends` has room for twice the dims. */
int plan_rooms(const engine_file *file, const engine_plan *plan, const int64_t *symbols,
               int64_t *ends, uint64_t *rooms, strop_error *error);
/* a op b; false when that leaves 64 bits or divides by less than 1. */
bool plan_combine(uint32_t op, int64_t a, int64_t b, int64_t *result);
/* Whether a step finds a dim of tensor i (inputs, then outputs). */
bool plan_is_found(const engine_plan *plan, uint32_t tensor);
int plan_corrupt(const engine_file *file, strop_error *error, const char *what, uint64_t index);
/* Bytes of tensor i (inputs, then outputs); its dims are known to fit. */
uint64_t plan_tensor_bytes(const engine_plan *plan, uint32_t tensor, const int64_t *dims);
/* The symbol of an input's dim below zero, and what it is multiplied with. */
bool plan_input_dim(const engine_plan *plan, int64_t number, uint32_t *symbol, int64_t *factor);

/* The kernels library chosen for this processor. */
typedef struct engine_code {
    void *library;
    const char *target;
    const char *isa;
    const strop_kernel *kernels;
} engine_code;

/* Loads the best supported kernels section; it must have exactly n_kernels kernels. */
int code_load(const engine_file *file, uint64_t n_kernels, engine_code *code, strop_error *error);

/* The custom section of a file; header is NULL where there is none. */
typedef struct engine_custom {
    const strop_custom_header *header;
    const strop_custom_step_record *records;
    const strop_custom_tensor_record *tensors;
    const char *strings;
} engine_custom;

/* One operand of one step that points into an input or output. */
typedef struct engine_use {
    uint32_t arg;
    int64_t offset;
} engine_use;

struct strop_engine {
    atomic_uint references; /* the caller's and one per context */
    char *where;
    void *copy; /* of memory that was not aligned, or NULL */
    int is_mapped;
    engine_file file;
    engine_plan plan;
    engine_custom custom;
    engine_code code;
    const uint8_t *weights;
    uint64_t weights_size;
    /* Uses of tensor i (inputs, then outputs) are uses[first_use[i]] .. uses[first_use[i + 1]]. */
    uint32_t *first_use;
    engine_use *uses;
};

void engine_retain(strop_engine *engine);
/* "input 'x'" or "output 'y'" of tensor i (inputs, then outputs). */
const char *engine_tensor_text(const strop_engine *engine, uint32_t tensor, char *buffer,
                               size_t size);
/* Describes tensor i (inputs, then outputs) where the dims have these values. */
void engine_tensor_info(const strop_engine *engine, uint32_t tensor, const int64_t *dims,
                        strop_tensor_info *info);

/* Bytes per element, or 0 for a number that is no dtype. */
uint64_t dtype_size(uint32_t dtype);

#endif /* STROP_ENGINE_H */
