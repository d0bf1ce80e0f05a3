/*
 * Times calls of an engine from C.
 *
 *     overhead ENGINE BLOCK BLOCKS CPU
 *
 * Prints `run` and `call` with one number per block: nanoseconds per inference, the mean of BLOCK
 * inferences. `run` binds once, `call` binds at every inference. CPU is the core to stay on, or -1.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "strop.h"

#define MOST 64

static void fail(const char *what, const strop_error *error) {
    fprintf(stderr, "%s: %s\n", what, error ? error->message : "unusable");
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

/* Memory for a tensor; floats are spread over [-1, 1), everything else is 0. */
static void *buffer(const strop_tensor_info *info) {
    void *data = NULL;
    if (posix_memalign(&data, 64, info->bytes ? info->bytes : 64)) fail("memory", NULL);
    memset(data, 0, info->bytes);
    if (info->dtype == STROP_F32) {
        float *f = data;
        unsigned x = 1;
        for (unsigned long long i = 0; i < info->bytes / 4; i++) {
            x = x * 1664525u + 1013904223u;
            f[i] = (float)(x >> 8) / 8388608.0f - 1.0f;
        }
    }
    return data;
}

int main(int argc, char **argv) {
    strop_engine *engine;
    strop_context *context;
    strop_error error;
    if (argc != 5) fail("usage: overhead ENGINE BLOCK BLOCKS CPU", NULL);
    long block = atol(argv[2]), blocks = atol(argv[3]);
    int cpu = atoi(argv[4]);
    if (block < 1 || blocks < 1) fail("numbers", NULL);
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set)) fail("affinity", NULL);
    }
    if (strop_engine_load(argv[1], &engine, &error)) fail("load", &error);
    if (strop_context_create(engine, 1, &context, &error)) fail("context", &error);

    uint32_t n_in = strop_engine_input_count(engine), n_out = strop_engine_output_count(engine);
    if (n_in > MOST || n_out > MOST) fail("tensors", NULL);
    const void *in[MOST];
    void *out[MOST];
    strop_tensor_info info;
    for (uint32_t i = 0; i < n_in; i++) {
        if (strop_engine_input_info(engine, i, &info, &error)) fail("input", &error);
        in[i] = buffer(&info);
        if (strop_context_bind_input(context, i, in[i], info.bytes, &error)) fail("bind", &error);
    }
    for (uint32_t i = 0; i < n_out; i++) {
        if (strop_engine_output_info(engine, i, &info, &error)) fail("output", &error);
        out[i] = buffer(&info);
        if (strop_context_bind_output(context, i, out[i], info.bytes, &error)) fail("bind", &error);
    }
    /* The first block warms up and is not printed. */
    printf("run");
    for (long b = -1; b < blocks; b++) {
        double start = now();
        for (long k = 0; k < block; k++)
            if (strop_context_run(context, &error)) fail("run", &error);
        if (b >= 0) printf(" %.1f", (now() - start) / (double)block);
    }
    printf("\ncall");
    for (long b = -1; b < blocks; b++) {
        double start = now();
        for (long k = 0; k < block; k++)
            if (strop_context_call(context, in, out, &error)) fail("call", &error);
        if (b >= 0) printf(" %.1f", (now() - start) / (double)block);
    }
    printf("\n");
    strop_context_destroy(context);
    strop_engine_destroy(engine);
    return 0;
}
