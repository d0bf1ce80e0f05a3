/* Custom layers through strop.h: y = x * factor by a callback, then + 1 by a kernel found by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strop.h"

#define EXPECT(condition)                                                                      \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition,     \
                    strop_last_error()->message);                                              \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

enum { N = 16 * 64 };

static float x[N], y[N];

static int scale(const strop_custom_call *call, void *user, strop_error *error)
{
    const strop_custom_tensor *in = &call->inputs[0], *out = &call->outputs[0];
    const float *from = in->data;
    float *to = out->data;

    EXPECT(strcmp(call->name, "test::scale") == 0 && strcmp(call->layer, "scale") == 0);
    EXPECT(strcmp(call->attributes, "{\"factor\":3}") == 0);
    EXPECT(call->n_inputs == 2 && call->n_outputs == 1 && call->inputs[1].data == NULL);
    EXPECT(in->rank == 2 && in->dims[0] == 16 && in->dims[1] == 64 && in->strides[0] == 64);
    EXPECT(in->strides[1] == 1 && out->dtype == STROP_F32);
    if (*(const int *)user < 0) {
        snprintf(error->message, sizeof error->message, "told to");
        return 1;
    }
    for (int64_t i = 0; i < in->dims[0]; i++)
        for (int64_t j = 0; j < in->dims[1]; j++)
            to[i * out->strides[0] + j * out->strides[1]] =
                3 * from[i * in->strides[0] + j * in->strides[1]];
    return 0;
}

static void increase(const strop_args *a, int64_t begin, int64_t end)
{
    const float *from = a->p[1];
    float *to = a->p[0];

    for (int64_t i = begin * 64; i < end * 64; i++)
        to[i] = from[i] + 1;
}

int main(int argc, char **argv)
{
    int sign = 1;
    strop_engine *engine;
    strop_error error;

    EXPECT(argc == 2);
    EXPECT(strop_register_custom("", scale, &sign, &error) == STROP_ERR_ARGUMENT);
    EXPECT(strop_engine_load(argv[1], &engine, &error) == STROP_OK);
    EXPECT(strop_engine_check_custom(engine, &error) == STROP_ERR_CUSTOM);
    EXPECT(strstr(error.message, "layer 'scale' needs the custom layer 'test::scale', a callback (here)"));
    EXPECT(strop_register_custom("test::scale", scale, &sign, NULL) == STROP_OK);
    EXPECT(strop_register_custom("test::increase", scale, &sign, NULL) == STROP_OK); /* of the wrong kind */
    EXPECT(strop_engine_check_custom(engine, &error) == STROP_ERR_CUSTOM);
    EXPECT(strstr(error.message, "'test::increase', a kernel of a shared library") &&
           strstr(error.message, "strop_register_kernel"));
    EXPECT(strop_register_kernel("test::increase", increase, &error) == STROP_OK);
    EXPECT(strop_engine_check_custom(engine, &error) == STROP_OK);
    for (int32_t threads = 1; threads <= 3; threads++) {
        strop_context *context;
        const void *inputs[] = {x};
        void *outputs[] = {y};

        EXPECT(strop_context_create(engine, threads, &context, &error) == STROP_OK);
        for (int run = 0; run < 50; run++) {
            uint64_t times[2];

            sign = run % 3 == 1 ? -1 : 1;
            for (int i = 0; i < N; i++)
                x[i] = (float)(i + run);
            if (sign < 0) {
                EXPECT(strop_context_call(context, inputs, outputs, &error) == STROP_ERR_CUSTOM);
                EXPECT(strstr(error.message, "'test::scale' failed: told to"));
                EXPECT(strop_context_profile(context, 2, times, 2, &error) == STROP_ERR_CUSTOM);
                continue;
            }
            EXPECT(strop_context_call(context, inputs, outputs, &error) == STROP_OK);
            for (int i = 0; i < N; i++)
                EXPECT(y[i] == 3 * x[i] + 1);
        }
        strop_context_destroy(context);
    }
    EXPECT(strop_register_custom("test::scale", NULL, NULL, &error) == STROP_OK);
    EXPECT(strop_engine_check_custom(engine, &error) == STROP_ERR_CUSTOM);
    strop_engine_destroy(engine);
    puts("ok");
    return 0;
}
