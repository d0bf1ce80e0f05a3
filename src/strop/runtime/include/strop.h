/*
 * strop.h - load a Strop engine file and run it.
 *
 *     strop_engine *engine;
 *     strop_context *context;
 *     strop_error error;
 *
 *     if (strop_engine_load("net.strop", &engine, &error) ||
 *         strop_context_create(engine, 1, &context, &error)) {
 *         fprintf(stderr, "%s\n", error.message);
 *         return 1;
 *     }
 *     strop_context_bind_input(context, 0, x, sizeof x, &error);
 *     strop_context_bind_output(context, 0, y, sizeof y, &error);
 *     if (strop_context_run(context, &error)) ...
 *     strop_context_destroy(context);
 *     strop_engine_destroy(engine);
 *
 * The library is in every engine file for the use of Python; programs compile its sources in, or
 * make it with
 *
 *     cc -std=gnu11 -O3 -fPIC -shared -fvisibility=hidden -Iinclude src/[a-z]*.c \
 *         -Wl,-z,nodelete -lpthread -ldl -o libstrop.so
 *
 * Functions that can fail return STROP_OK (0) or one of the codes below and, when `error` is not
 * NULL, describe the failure there. Handles are opaque. An engine may be used from any number of
 * threads; a context by one thread at a time. Contexts of one engine, and of several engines, run
 * concurrently. All functions may be called in a child after fork().
 */
#ifndef STROP_H
#define STROP_H

#include <stddef.h>
#include <stdint.h>

#include "strop_kernel.h"

#define STROP_ABI_VERSION 3u
#define STROP_MAX_RANK 8
#define STROP_MAX_THREADS 256

#if defined(_WIN32)
#define STROP_API __declspec(dllexport)
#else
#define STROP_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum strop_code {
    STROP_OK = 0,
    STROP_ERR_ARGUMENT = 1, /* the caller passed something unusable */
    STROP_ERR_SYSTEM = 2,   /* the operating system refused a file, memory or a thread */
    STROP_ERR_FILE = 3,     /* not an engine file, or a truncated, changed or malformed one */
    STROP_ERR_VERSION = 4,  /* an engine file of another version, or with a newer feature */
    STROP_ERR_ISA = 5,      /* no code in the file that this processor can execute */
    STROP_ERR_CODE = 6,     /* the code in the file cannot be loaded */
    STROP_ERR_UNBOUND = 7,  /* run before every input and output was bound */
    STROP_ERR_BUSY = 8,     /* the context is in use by another thread */
    STROP_ERR_SHAPE = 9,    /* a shape that the engine does not serve */
    STROP_ERR_CUSTOM = 10,  /* a custom layer is not registered, or failed */
    STROP_ERR_DATA = 11     /* a size that the data decides is out of the range that is planned for */
};

typedef struct strop_error {
    int32_t code;
    char message[1024]; /* one line, NUL-terminated; names in it are as in the file */
} strop_error;

/* Element types: the numbers of the engine file. */
enum strop_dtype {
    STROP_F32 = 1,
    STROP_U8 = 2,
    STROP_I8 = 3,
    STROP_U16 = 4,
    STROP_I16 = 5,
    STROP_I32 = 6,
    STROP_I64 = 7,
    STROP_BOOL = 9,
    STROP_F16 = 10,
    STROP_F64 = 11,
    STROP_U32 = 12,
    STROP_U64 = 13,
    STROP_BF16 = 16
};

typedef struct strop_tensor_info {
    const char *name; /* lives as long as the engine */
    uint32_t dtype;   /* enum strop_dtype */
    uint32_t rank;
    int64_t dims[STROP_MAX_RANK]; /* row-major, the last one is contiguous; 0 beyond rank */
    uint64_t bytes;
    int64_t least[STROP_MAX_RANK]; /* the dims at the smallest shape that the engine serves, */
    int64_t most[STROP_MAX_RANK];  /* and at the largest; an input's dim in between is any */
    int64_t step[STROP_MAX_RANK];  /* multiple of this. least == most: always the same. */
    uint32_t is_computed; /* 1 where a step finds a dim of this output; see strop_context_output_info */
    uint32_t zero;
} strop_tensor_info;

typedef struct strop_step_info {
    const char *name; /* lives as long as the engine */
    uint32_t kernel;  /* number in the kernels library */
    int64_t tasks;    /* independent pieces of work */
    int64_t grain;    /* tasks that stay on one thread */
} strop_step_info;

typedef struct strop_memory_info {
    uint64_t weights; /* bytes mapped from the file, shared by all contexts */
    uint64_t arena;   /* bytes of intermediate values, per context */
    uint64_t scratch; /* bytes of kernel scratch, per context (all its threads) */
} strop_memory_info;

typedef struct strop_engine strop_engine;
typedef struct strop_context strop_context;

/* ---- library ------------------------------------------------------------------------------- */

/* STROP_ABI_VERSION of the library that is running, which may differ from this header's. */
STROP_API uint32_t strop_abi_version(void);

/* The most recent failure on the calling thread, or a code of STROP_OK. */
STROP_API const strop_error *strop_last_error(void);

/* 1 when this processor executes code built for `target` ("x86_64-v3", "aarch64+dotprod"). */
STROP_API int strop_cpu_supports(const char *target);

/* The target that describes this processor best, e.g. "x86_64-v4+avx512vnni". */
STROP_API const char *strop_cpu_target(void);

/* The checksum of engine files over `size` bytes. */
STROP_API uint64_t strop_hash64(const void *data, size_t size);

/* ---- engine -------------------------------------------------------------------------------- */

/* Maps the file, checks every byte of it and loads the best code for this processor. Replace an
 * engine file by renaming a new one over it; never write into a file that is loaded. */
STROP_API int strop_engine_load(const char *path, strop_engine **engine, strop_error *error);

/* The same from memory. 64-byte aligned memory is used in place and must outlive the engine and
 * its contexts unchanged; other memory is copied. */
STROP_API int strop_engine_load_memory(const void *data, size_t size, strop_engine **engine,
                                       strop_error *error);

/* Contexts that are still alive keep what they need. NULL is allowed. */
STROP_API void strop_engine_destroy(strop_engine *engine);

/* Of tensors with free dims, the infos give those that the engine was tuned for; a new context has
 * this shape. */
STROP_API uint32_t strop_engine_input_count(const strop_engine *engine);
STROP_API uint32_t strop_engine_output_count(const strop_engine *engine);
STROP_API int strop_engine_input_info(const strop_engine *engine, uint32_t index,
                                      strop_tensor_info *info, strop_error *error);
STROP_API int strop_engine_output_info(const strop_engine *engine, uint32_t index,
                                       strop_tensor_info *info, strop_error *error);
STROP_API uint32_t strop_engine_step_count(const strop_engine *engine);
STROP_API int strop_engine_step_info(const strop_engine *engine, uint32_t index,
                                     strop_step_info *info, strop_error *error);

/* UTF-8 text, not NUL-terminated; lives as long as the engine. The graph may be absent (NULL). */
STROP_API const char *strop_engine_manifest(const strop_engine *engine, size_t *size);
STROP_API const char *strop_engine_graph(const strop_engine *engine, size_t *size);

/* Bytes that the engine carries for a program above it, by their name; NULL where it has none of the
 * name. They live as long as the engine. */
STROP_API const void *strop_engine_attachment(const strop_engine *engine, const char *name,
                                              size_t *size);

/* The target whose code was chosen, and the instruction set that code names itself. */
STROP_API const char *strop_engine_target(const strop_engine *engine);
STROP_API const char *strop_engine_isa(const strop_engine *engine);

/* Weights, and arena and scratch of a context with one thread. */
STROP_API void strop_engine_memory(const strop_engine *engine, strop_memory_info *info);

/* ---- context ------------------------------------------------------------------------------- */

/* Memory and threads to run the engine with. `threads` of 0 means one per processor that this
 * process may use. With 1, no thread is ever started. All contexts of a process share one pool of
 * worker threads; a run that finds the pool taken does all its work on the calling thread. */
STROP_API int strop_context_create(strop_engine *engine, int32_t threads, strop_context **context,
                                   strop_error *error);
STROP_API void strop_context_destroy(strop_context *context);

/* A context without memory for arena and scratch: contexts that do not run at once can use the same
 * memory one after the other. It runs only between lending it at least strop_context_room() bytes, aligned
 * to 64, and taking them away by lending NULL; what they hold is lost in between. */
STROP_API int strop_context_create_lean(strop_engine *engine, int32_t threads, strop_context **context,
                                        strop_error *error);
STROP_API int strop_context_lend(strop_context *context, void *memory, uint64_t size, strop_error *error);
STROP_API uint64_t strop_context_room(const strop_context *context);

STROP_API int32_t strop_context_threads(const strop_context *context);
STROP_API void strop_context_memory(const strop_context *context, strop_memory_info *info);

/* Makes the context run at another shape: dims[i] are those of input i, as many as its rank. Nothing
 * is allocated: the arena is as large as the largest shape wants. Fails with STROP_ERR_SHAPE, and the
 * context keeps its shape, when a dim is out of its range or two dims that must be equal are not.
 * Otherwise, unless all dims were these already, tensors with free dims must be bound anew. */
STROP_API int strop_context_resize(strop_context *context, const int64_t *const *dims,
                                   strop_error *error);

/* Dims and bytes at the context's shape. The dims of an output that is_computed are those of the last
 * run; its bytes are the room that must be bound for it, as much as it may ever need at the context's
 * shape. After a run its elements lie row-major, by these dims, at the beginning of the room. */
STROP_API int strop_context_input_info(strop_context *context, uint32_t index,
                                       strop_tensor_info *info, strop_error *error);
STROP_API int strop_context_output_info(strop_context *context, uint32_t index,
                                        strop_tensor_info *info, strop_error *error);

/* Input or output `index` is the `size` bytes at `data`: row-major, aligned to the element, used
 * in place by every later run. `size` must be the tensor's at the context's shape. Outputs must not overlap inputs. */
STROP_API int strop_context_bind_input(strop_context *context, uint32_t index, const void *data,
                                       uint64_t size, strop_error *error);
STROP_API int strop_context_bind_output(strop_context *context, uint32_t index, void *data,
                                        uint64_t size, strop_error *error);

/* Computes all outputs from all inputs. Floating point runs in the default IEEE mode, or with
 * denormals flushed to zero where the engine asks for it, whatever the caller's mode is. */
STROP_API int strop_context_run(strop_context *context, strop_error *error);

/* Binds all inputs and outputs, in order and without sizes, and runs: one call per inference. */
STROP_API int strop_context_call(strop_context *context, const void *const *inputs,
                                 void *const *outputs, strop_error *error);

/* Does steps `first` to `end` - 1 only. Called for one range after the other, from 0 on, it computes what
 * strop_context_run does, and what a step has written can be looked at before others write over it. */
STROP_API int strop_context_run_steps(strop_context *context, uint32_t first, uint32_t end,
                                      strop_error *error);

/* Where the kernel of a step finds its operand number `operand`, and how many bytes it may touch from
 * there: to look at, not to write. Valid until the context runs, is resized or bound. */
STROP_API int strop_context_operand(strop_context *context, uint32_t step, uint32_t operand,
                                    const void **data, uint64_t *size, strop_error *error);

/* Runs `runs` times and writes, for each step, the minimum over the runs of the nanoseconds that
 * the calling thread spent in the step and in the barrier behind it. */
STROP_API int strop_context_profile(strop_context *context, uint32_t runs, uint64_t *nanoseconds,
                                    uint32_t n_steps, strop_error *error);

/* ---- custom layers ------------------------------------------------------------------------- */

/* A result or operand of a custom layer. Element (i, j, ...) is at i * strides[0] + j * strides[1] + ...
 * elements from data. It is valid during the call; operands must not be written to. */
typedef struct strop_custom_tensor {
    void *data;     /* NULL: an operand that is left out */
    uint32_t dtype; /* enum strop_dtype */
    uint32_t rank;
    int64_t dims[STROP_MAX_RANK];
    int64_t strides[STROP_MAX_RANK];
} strop_custom_tensor;

typedef struct strop_custom_call {
    const char *name;       /* of the custom layer: "domain::type" */
    const char *layer;      /* of the layer in the network */
    const char *attributes; /* JSON object */
    uint32_t n_outputs, n_inputs;
    const strop_custom_tensor *outputs, *inputs;
} strop_custom_call;

/* Computes the outputs from the inputs: 0, or anything else after a reason was put into error->message.
 * It is called on the thread that runs the context, once per run, with the default floating-point
 * mode; contexts that run at the same time call it at the same time. */
typedef int (*strop_custom_fn)(const strop_custom_call *call, void *user, strop_error *error);

/* Gives the custom layer `name` its code for contexts that are created from now on; NULL takes it away.
 * An engine says which of the two kinds it needs: a callback, or a kernel that does tasks on all
 * threads. What such a kernel finds in args: p are results, then operands; sym, for each of them in
 * this order, its dims and then its strides in elements, and behind all of these the numeric
 * attributes in the order of their declaration, a float as the 64 bits of a double. */
STROP_API int strop_register_custom(const char *name, strop_custom_fn call, void *user,
                                    strop_error *error);
STROP_API int strop_register_kernel(const char *name, strop_kernel kernel, strop_error *error);

/* STROP_OK when all custom layers that the engine needs are registered; contexts cannot be created
 * otherwise. */
STROP_API int strop_engine_check_custom(const strop_engine *engine, strop_error *error);

#ifdef __cplusplus
}
#endif

#endif /* STROP_H */
