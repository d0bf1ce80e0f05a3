/*
 * strop_format.h - the bytes of an engine file; the C twin of strop/engine/format.py.
 *
 *     header | section table | zeros to a multiple of 4096
 *     section 0 | zeros to a multiple of 4096
 *     section 1 | ...
 *
 * Numbers are little endian. Sections follow each other without gaps. Every byte of the file is
 * covered by exactly one checksum: those before the first section by the header's (computed with
 * that field zero), the others by their section's.
 */
#ifndef STROP_FORMAT_H
#define STROP_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "engine files are little endian and so must be the machine that maps them"
#endif

#define STROP_FORMAT_VERSION 1u
#define STROP_PLAN_ABI 3u
#define STROP_CUSTOM_ABI 1u
#define STROP_ALIGNMENT 4096u
#define STROP_MAX_SECTIONS 256u

#define STROP_MAX_TENSORS (1u << 16)
#define STROP_MAX_STEPS (1u << 20)
#define STROP_MAX_ARGS (1u << 24)
#define STROP_MAX_STRINGS (1u << 28)
#define STROP_MAX_SYMS 256u
#define STROP_MAX_DIMS (1u << 20)
#define STROP_MAX_STEP_DIMS (1u << 22)
#define STROP_MAX_SYM (INT64_C(1) << 31)
#define STROP_MAX_BYTES (UINT64_C(1) << 44) /* file, arena, one tensor */
#define STROP_MAX_TASKS (INT64_C(1) << 40)

static const char strop_magic[8] = {'S', 'T', 'R', 'O', 'P', '\0', '\r', '\n'};

enum strop_section_kind {
    STROP_SECTION_MANIFEST = 1, /* JSON */
    STROP_SECTION_GRAPH = 2,    /* portable IR text */
    STROP_SECTION_PLAN = 3,     /* the records below; flags: STROP_PLAN_ABI */
    STROP_SECTION_WEIGHTS = 4,
    STROP_SECTION_KERNELS = 5, /* shared object; name: target; flags: STROP_KERNEL_ABI */
    STROP_SECTION_RUNTIME = 6, /* shared object; name: os-arch; flags: STROP_ABI_VERSION */
    STROP_SECTION_CUSTOM = 7,  /* steps without code; flags: STROP_CUSTOM_ABI */
    STROP_SECTION_ATTACHMENT = 8, /* a caller's own bytes; the runtime does not read them */
    STROP_SECTION_HOST = 9 /* of an engine for a GPU what the processor does; the runtime does not read it */
};

typedef struct strop_file_header {
    char magic[8];
    uint32_t version;
    uint32_t n_sections;
    uint64_t file_size;
    uint64_t table_checksum;
    uint8_t zero[32];
} strop_file_header;

typedef struct strop_section_record {
    uint32_t kind;
    uint32_t flags;
    uint64_t offset;
    uint64_t size;
    uint64_t checksum; /* of [offset, offset + size rounded up to 4096) */
    char name[64];     /* NUL padded */
} strop_section_record;

/* The plan section: header, inputs, outputs, steps, args, symbols, dims, step dims, jumps, strings;
 * nothing before or after. Dims of tensors, offsets and sizes of args and the tasks of a step are numbers, or
 * depend on the shape: -1 - k then names entry k of the dims. */
typedef struct strop_plan_header {
    uint32_t abi;
    uint32_t n_inputs;
    uint32_t n_outputs;
    uint32_t n_steps;
    uint32_t n_args;
    uint32_t n_syms;
    uint32_t n_string_bytes;
    uint32_t flags; /* STROP_PLAN_* */
    uint32_t n_dims;
    uint32_t n_step_dims;
    uint32_t n_jumps;
    uint32_t zero;
    uint64_t arena_bytes;
    uint64_t scratch_bytes; /* per thread */
    uint64_t n_kernels;
} strop_plan_header;

#define STROP_PLAN_FLUSH_DENORMALS 1u /* run with denormal floats read and written as zero */
#define STROP_PLAN_KNOWN_FLAGS STROP_PLAN_FLUSH_DENORMALS

typedef struct strop_tensor_record {
    uint32_t name; /* offset in strings */
    uint32_t dtype;
    uint32_t rank;
    uint32_t flags; /* 0 */
    int64_t dims[8]; /* of inputs: numbers, symbols, and symbols times constants */
    uint64_t bytes;  /* 0 when the shape is not always the same */
} strop_tensor_record;

/* The kernel of a step whose code is found by name in the process that runs it: see the custom section. */
#define STROP_KERNEL_BY_NAME UINT32_MAX

typedef struct strop_step_record {
    uint32_t kernel;
    uint32_t first_arg;
    uint32_t n_args;
    uint32_t name;   /* offset in strings */
    int64_t n_tasks; /* >= 0 */
    int64_t grain;   /* >= 1: tasks are dealt to threads in multiples of it */
    uint32_t first_dim; /* what the kernel is handed as sym, in step dims */
    uint32_t n_dims;
} strop_step_record;

enum strop_space {
    STROP_SPACE_ARENA = 0,
    STROP_SPACE_WEIGHTS = 1,
    STROP_SPACE_INPUT = 2,
    STROP_SPACE_OUTPUT = 3
};

typedef struct strop_arg_record {
    uint32_t space;
    uint32_t index;  /* of the input or output, else 0 */
    int64_t offset; /* bytes from the start of the space or tensor */
    int64_t size;   /* bytes the kernel may touch from there */
} strop_arg_record;

/* A number that the shapes of the inputs tell, 1 <= min <= opt <= max, or that a step finds, 0 <= min:
 * then arg set_by - 1, one of that step's, holds it as an i64 once the step has run. */
typedef struct strop_sym_record {
    uint32_t name;   /* offset in strings */
    uint32_t set_by; /* 0: told by shapes */
    int64_t min, opt, max;
} strop_sym_record;

enum strop_dim_op {
    STROP_DIM_CONST = 0, /* value */
    STROP_DIM_SYM = 1,   /* symbol a */
    STROP_DIM_ADD = 2,   /* from here on of the entries a and b, which come before this one */
    STROP_DIM_MUL = 3,
    STROP_DIM_FLOORDIV = 4, /* rounding towards minus infinity; the divisor must be above 0 */
    STROP_DIM_MOD = 5,      /* of the sign of the divisor, which must be above 0 */
    STROP_DIM_MIN = 6,
    STROP_DIM_MAX = 7
};

/* An entry of the dims, computed whenever a context takes another shape. */
typedef struct strop_dim_record {
    uint32_t op;
    uint32_t a, b; /* 0 where they mean nothing, as is value */
    uint32_t zero;
    int64_t value;
} strop_dim_record;

/* After a step: go on with step `target`, n_steps for the end, where the bool that the step has written to
 * `arg`, one of its own in the arena, is `when`. By ascending steps, at most one per step. */
typedef struct strop_jump_record {
    uint32_t step;
    uint32_t arg;
    uint32_t when; /* 0 or 1 */
    uint32_t target;
} strop_jump_record;

/* The custom section: header, step records in the order of the plan's steps, tensors, strings. There
 * is one record for every step whose kernel is STROP_KERNEL_BY_NAME. */
typedef struct strop_custom_header {
    uint32_t abi;
    uint32_t n_steps;
    uint32_t n_tensors;
    uint32_t n_string_bytes;
} strop_custom_header;

enum strop_custom_kind {
    STROP_CUSTOM_CALLBACK = 1, /* a strop_custom_fn; has tensors, which are the step's args in order */
    STROP_CUSTOM_KERNEL = 2    /* a strop_kernel; has none */
};

typedef struct strop_custom_step_record {
    uint32_t step;
    uint32_t kind;
    uint32_t name;       /* offset in strings, as are these two */
    uint32_t attributes; /* JSON */
    uint32_t origin;     /* for people: where the code was when the engine was built */
    uint32_t n_outputs;
    uint32_t n_inputs;
    uint32_t first_tensor; /* results, then operands */
} strop_custom_step_record;

/* Dims and strides (in elements) are numbers as in the plan: below zero they name entries of its dims. */
typedef struct strop_custom_tensor_record {
    uint32_t dtype;
    uint32_t rank;
    uint32_t is_absent; /* 1 for an operand that is left out, which is no arg */
    uint32_t zero;
    int64_t dims[8];
    int64_t strides[8];
} strop_custom_tensor_record;

_Static_assert(sizeof(strop_custom_header) == 16, "custom header");
_Static_assert(sizeof(strop_custom_step_record) == 32, "custom step record");
_Static_assert(sizeof(strop_custom_tensor_record) == 144, "custom tensor record");
_Static_assert(sizeof(strop_jump_record) == 16, "jump record");
_Static_assert(sizeof(strop_file_header) == 64, "file header");
_Static_assert(sizeof(strop_section_record) == 96, "section record");
_Static_assert(sizeof(strop_plan_header) == 72, "plan header");
_Static_assert(sizeof(strop_tensor_record) == 88, "tensor record");
_Static_assert(sizeof(strop_step_record) == 40, "step record");
_Static_assert(sizeof(strop_arg_record) == 24, "arg record");
_Static_assert(sizeof(strop_sym_record) == 32, "symbol record");
_Static_assert(sizeof(strop_dim_record) == 24, "dim record");

#endif /* STROP_FORMAT_H */
