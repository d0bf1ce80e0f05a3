/* computed.c - an output whose shape only a run tells. */
#include <stdio.h>
#include <stdlib.h>

#include "strop.h"

#define TRY(call)                                    \
    do {                                             \
        if (call) {                                  \
            fprintf(stderr, "%s\n", error.message); \
            return 1;                                \
        }                                            \
    } while (0)

int main(int argc, char **argv)
{
    strop_engine *engine;
    strop_context *context;
    strop_tensor_info info;
    strop_error error;
    float x[8] = {5, -1, 7, -2, -3, 0, -4, -5};
    const int64_t rows = 8, *const dims[] = {&rows};
    float *out[2];

    if (argc != 2)
        return 2;
    TRY(strop_engine_load(argv[1], &engine, &error));
    TRY(strop_context_create(engine, 3, &context, &error));
    TRY(strop_context_resize(context, dims, &error));
    for (uint32_t i = 0; i < 2; i++) {
        TRY(strop_context_output_info(context, i, &info, &error));
        if (!info.is_computed)
            return 3;
        out[i] = malloc(info.bytes);
        TRY(strop_context_bind_output(context, i, out[i], info.bytes, &error));
    }
    printf("room %d\n", (int)info.bytes);
    TRY(strop_context_bind_input(context, 0, x, sizeof x, &error));
    for (int round = 0; round < 2; round++) {
        TRY(strop_context_run(context, &error));
        TRY(strop_context_output_info(context, 0, &info, &error));
        printf("found %d\n", (int)info.dims[0]);
        for (int64_t i = 0; i < info.dims[0]; i++)
            printf("%d\n", (int)out[0][i]);
        x[0] = x[2] = -1;
    }
    strop_context_destroy(context);
    strop_engine_destroy(engine);
    free(out[0]);
    free(out[1]);
    return 0;
}
