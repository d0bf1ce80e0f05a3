/* A C program that runs an engine at several shapes; linked with the runtime's sources.
 *
 *     program ENGINE
 *
 * ENGINE is the dynamic engine of synthetic.py. Exits with 0 when everything holds. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "strop.h"

#define EXPECT(condition)                                                            \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "line %d: %s; %s\n", __LINE__, #condition, error.message); \
            return 1;                                                                \
        }                                                                            \
    } while (0)

static float a[8 * 64], b[8], quadruple[8 * 64], last[64], same[8];
static strop_error error;

static int resize(strop_context *context, int64_t rows, int64_t columns, int64_t other_rows)
{
    const int64_t first[] = {rows, columns}, second[] = {other_rows};
    const int64_t *const dims[] = {first, second};

    return strop_context_resize(context, dims, &error);
}

static int run_at(strop_context *context, int64_t rows, int64_t columns)
{
    const void *const inputs[] = {a, b};
    void *const outputs[] = {quadruple, last, same};
    strop_tensor_info info;

    EXPECT(resize(context, rows, columns, rows) == STROP_OK);
    EXPECT(strop_context_output_info(context, 0, &info, &error) == STROP_OK);
    EXPECT(info.rank == 2 && info.dims[0] == rows && info.dims[1] == columns);
    EXPECT(info.bytes == (uint64_t)(rows * columns) * 4);
    for (int64_t i = 0; i < rows * columns; i++)
        a[i] = (float)(i + rows);
    memset(quadruple, 0, sizeof quadruple);
    EXPECT(strop_context_call(context, inputs, outputs, &error) == STROP_OK);
    for (int64_t i = 0; i < 8 * 64; i++)
        EXPECT(quadruple[i] == (i < rows * columns ? 4 * a[i] : 0));
    for (int64_t i = 0; i < columns; i++)
        EXPECT(last[i] == 2 * a[(rows - 1) * columns + i]);
    return 0;
}

int main(int count, char **arguments)
{
    strop_engine *engine;
    strop_context *context;
    strop_tensor_info info;
    strop_memory_info before, after;

    EXPECT(count == 2 && strop_engine_load(arguments[1], &engine, &error) == STROP_OK);
    EXPECT(strop_engine_input_info(engine, 0, &info, &error) == STROP_OK);
    EXPECT(info.dims[0] == 2 && info.dims[1] == 16 && info.least[0] == 1 && info.most[0] == 8);
    EXPECT(info.least[1] == 4 && info.most[1] == 64 && info.step[1] == 4 && info.bytes == 2 * 16 * 4);
    EXPECT(strop_context_create(engine, 2, &context, &error) == STROP_OK);
    strop_context_memory(context, &before);

    /* Bindings stay while the shape does, and go with it. */
    EXPECT(strop_context_bind_input(context, 0, a, 2 * 16 * 4, &error) == STROP_OK);
    EXPECT(strop_context_bind_input(context, 1, b, 8, &error) == STROP_OK);
    EXPECT(strop_context_bind_output(context, 0, quadruple, 2 * 16 * 4, &error) == STROP_OK);
    EXPECT(strop_context_bind_output(context, 1, last, 64, &error) == STROP_OK);
    EXPECT(strop_context_bind_output(context, 2, same, 8, &error) == STROP_OK);
    EXPECT(strop_context_run(context, &error) == STROP_OK);
    EXPECT(resize(context, 2, 16, 2) == STROP_OK);
    EXPECT(strop_context_run(context, &error) == STROP_OK);
    EXPECT(resize(context, 3, 16, 3) == STROP_OK);
    EXPECT(strop_context_run(context, &error) == STROP_ERR_UNBOUND);
    EXPECT(strop_context_bind_input(context, 0, a, 2 * 16 * 4, &error) == STROP_ERR_ARGUMENT);

    for (int64_t rows = 1; rows <= 8; rows++)
        for (int64_t columns = 4; columns <= 64; columns += 4)
            if (run_at(context, rows, columns))
                return 1;

    EXPECT(resize(context, 9, 16, 9) == STROP_ERR_SHAPE && strstr(error.message, "'rows' takes 1 to 8"));
    EXPECT(resize(context, 2, 18, 2) == STROP_ERR_SHAPE && strstr(error.message, "in steps of 4"));
    EXPECT(resize(context, 2, 0, 2) == STROP_ERR_SHAPE && resize(context, -4, 4, -4) == STROP_ERR_SHAPE);
    EXPECT(resize(context, 2, 16, 3) == STROP_ERR_SHAPE && strstr(error.message, "'a'") &&
           strstr(error.message, "'b'") && strstr(error.message, "'rows'"));
    EXPECT(strop_context_input_info(context, 1, &info, &error) == STROP_OK && info.dims[0] == 8);
    EXPECT(strop_context_input_info(context, 2, &info, &error) == STROP_ERR_ARGUMENT);
    strop_context_memory(context, &after);
    EXPECT(before.arena == after.arena && before.scratch == after.scratch);
    strop_context_destroy(context);
    strop_engine_destroy(engine);
    puts("ok");
    return 0;
}
