/* engine.h - the insides of an engine: checked views into the mapped file, and its code. */
#ifndef STROP_ENGINE_H
#define STROP_ENGINE_H

#include <stdatomic.h>
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

/* A plan whose every index and offset holds. */
typedef struct engine_plan {
    const strop_plan_header *header;
    const strop_tensor_record *tensors; /* inputs, then outputs */
    const strop_step_record *steps;
    const strop_arg_record *args;
    const char *strings;
} engine_plan;

int plan_check(const engine_file *file, engine_plan *plan, strop_error *error);

/* The kernels library chosen for this processor. */
typedef struct engine_code {
    void *library;
    const char *target;
    const char *isa;
    const strop_kernel *kernels;
} engine_code;

/* Loads the best supported kernels section; it must have exactly n_kernels kernels. */
int code_load(const engine_file *file, uint64_t n_kernels, engine_code *code, strop_error *error);

/* One operand of one step that points into an input or output. */
typedef struct engine_use {
    uint32_t arg;
    uint64_t offset;
} engine_use;

struct strop_engine {
    atomic_uint references; /* the caller's and one per context */
    char *where;
    void *copy; /* of memory that was not aligned, or NULL */
    int is_mapped;
    engine_file file;
    engine_plan plan;
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

/* Bytes per element, or 0 for a number that is no dtype. */
uint64_t dtype_size(uint32_t dtype);

#endif /* STROP_ENGINE_H */
