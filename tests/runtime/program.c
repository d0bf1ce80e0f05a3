/* A C program that uses the runtime the way strop.h says; linked with its sources.
 *
 *     program ENGINE
 *
 * ENGINE is the arithmetic engine of synthetic.py. Exits with 0 when everything holds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strop.h"

enum { ROWS = 16, COLUMNS = 64, N = ROWS * COLUMNS };

#define EXPECT(condition)                                                            \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "line %d: %s; %s\n", __LINE__, #condition, error.message); \
            return 1;                                                                \
        }                                                                            \
    } while (0)

static float a[N], b[N], sum[N];
static double total;
static strop_error error;

static int check_questions(const strop_engine *engine)
{
    strop_tensor_info tensor;
    strop_step_info step;
    strop_memory_info memory;
    size_t size = 0;

    EXPECT(strop_abi_version() == STROP_ABI_VERSION);
    EXPECT(strop_engine_input_count(engine) == 2 && strop_engine_output_count(engine) == 2);
    EXPECT(strop_engine_input_info(engine, 1, &tensor, &error) == STROP_OK);
    EXPECT(strcmp(tensor.name, "b") == 0 && tensor.dtype == STROP_F32 && tensor.rank == 2 &&
           tensor.dims[0] == ROWS && tensor.dims[1] == COLUMNS && tensor.bytes == sizeof b);
    EXPECT(strop_engine_output_info(engine, 1, &tensor, &error) == STROP_OK);
    EXPECT(tensor.dtype == STROP_F64 && tensor.rank == 0 && tensor.bytes == 8);
    EXPECT(strop_engine_input_info(engine, 2, &tensor, &error) == STROP_ERR_ARGUMENT);
    EXPECT(strop_engine_step_count(engine) == 3);
    EXPECT(strop_engine_step_info(engine, 1, &step, &error) == STROP_OK);
    EXPECT(strcmp(step.name, "scale") == 0 && step.tasks == ROWS && step.grain == 1);
    EXPECT(strop_engine_step_info(engine, 3, &step, &error) == STROP_ERR_ARGUMENT);
    EXPECT(memcmp(strop_engine_manifest(engine, &size), "{\"name\":", 8) == 0 && size == 21);
    EXPECT(strop_engine_graph(engine, &size) != NULL && size > 0);
    EXPECT(strop_engine_attachment(engine, "nothing", &size) == NULL && size == 0);
    strop_engine_memory(engine, &memory);
    EXPECT(memory.weights == 128 && memory.arena == sizeof a && memory.scratch == 4 * COLUMNS);
    EXPECT(strop_cpu_supports(strop_engine_target(engine)) && strop_cpu_supports(strop_cpu_target()));
    EXPECT(!strop_cpu_supports("z80") && !strop_cpu_supports(""));
    return 0;
}

static int check_results(void)
{
    double expected = 0;

    for (int i = 0; i < N; i++) {
        const float w = 0.5f + 1.5f * (float)(i / COLUMNS) / (ROWS - 1);
        const float difference = sum[i] - (a[i] + b[i]) * w;

        EXPECT(difference < 1e-3f && difference > -1e-3f);
        expected += sum[i];
    }
    EXPECT(total == expected);
    return 0;
}

static int check_binding(strop_context *context)
{
    const void *inputs[] = {a, b};
    void *outputs[] = {sum, &total};
    uint64_t times[3];

    EXPECT(strop_context_run(context, &error) == STROP_ERR_UNBOUND);
    EXPECT(strstr(error.message, "input 'a' is not bound"));
    EXPECT(strop_last_error()->code == STROP_ERR_UNBOUND);
    EXPECT(strop_context_profile(context, 1, times, 3, &error) == STROP_ERR_UNBOUND);
    EXPECT(strop_context_bind_input(context, 0, a, sizeof a - 1, &error) == STROP_ERR_ARGUMENT);
    EXPECT(strop_context_bind_input(context, 0, NULL, sizeof a, &error) == STROP_ERR_ARGUMENT);
    EXPECT(strop_context_bind_input(context, 2, a, sizeof a, &error) == STROP_ERR_ARGUMENT);
    EXPECT(strop_context_bind_input(context, 0, (char *)a + 1, sizeof a, &error) ==
           STROP_ERR_ARGUMENT);
    EXPECT(strop_context_bind_input(context, 0, a, sizeof a, &error) == STROP_OK);
    EXPECT(strop_context_bind_input(context, 1, b, sizeof b, &error) == STROP_OK);
    EXPECT(strop_context_bind_output(context, 0, sum, sizeof sum, &error) == STROP_OK);
    EXPECT(strop_context_run(context, NULL) == STROP_ERR_UNBOUND);
    EXPECT(strstr(strop_last_error()->message, "output 'total' is not bound"));
    EXPECT(strop_context_bind_output(context, 1, &total, sizeof total, &error) == STROP_OK);
    EXPECT(strop_context_run(context, &error) == STROP_OK);
    EXPECT(check_results() == 0);
    a[3] = 17;
    EXPECT(strop_context_call(context, inputs, outputs, &error) == STROP_OK);
    EXPECT(check_results() == 0);
    inputs[1] = NULL;
    EXPECT(strop_context_call(context, inputs, outputs, &error) == STROP_ERR_ARGUMENT);
    EXPECT(strop_context_profile(context, 0, times, 3, &error) == STROP_ERR_ARGUMENT);
    EXPECT(strop_context_profile(context, 5, times, 2, &error) == STROP_ERR_ARGUMENT);
    EXPECT(strop_context_profile(context, 5, times, 3, &error) == STROP_OK);
    EXPECT(times[0] < 1000000000u && times[2] < 1000000000u);
    return 0;
}

/* Loads the same file from memory, at every alignment that makes a difference. */
static int check_memory(const char *path)
{
    FILE *file = fopen(path, "rb");
    strop_engine *engine;
    char *room;
    long size;

    EXPECT(file && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) > 0);
    room = aligned_alloc(4096, (size_t)size + 4096);
    rewind(file);
    EXPECT(room && fread(room, 1, (size_t)size, file) == (size_t)size);
    fclose(file);
    EXPECT(strop_engine_load_memory(room, (size_t)size, &engine, &error) == STROP_OK);
    strop_engine_destroy(engine);
    memmove(room + 8, room, (size_t)size);
    EXPECT(strop_engine_load_memory(room + 8, (size_t)size, &engine, &error) == STROP_OK);
    strop_engine_destroy(engine);
    room[0] = 0;
    EXPECT(strop_engine_load_memory(room, (size_t)size, &engine, &error) == STROP_ERR_FILE);
    EXPECT(engine == NULL);
    EXPECT(strop_engine_load_memory(NULL, 0, &engine, &error) == STROP_ERR_FILE);
    EXPECT(strop_engine_load_memory(NULL, 1, &engine, &error) == STROP_ERR_ARGUMENT);
    free(room);
    return 0;
}

int main(int count, char **arguments)
{
    strop_engine *engine = NULL;
    strop_context *context = NULL;

    EXPECT(count == 2);
    for (int i = 0; i < N; i++) {
        a[i] = (float)i;
        b[i] = (float)(2 * i % 7);
    }
    EXPECT(strop_engine_load("/nonexistent/engine", &engine, &error) == STROP_ERR_SYSTEM);
    EXPECT(strop_engine_load("/", &engine, &error) == STROP_ERR_SYSTEM && !engine);
    EXPECT(strop_engine_load(arguments[1], &engine, &error) == STROP_OK);
    EXPECT(check_questions(engine) == 0);
    for (int32_t threads = 1; threads <= 3; threads++) {
        strop_memory_info memory;

        EXPECT(strop_context_create(engine, threads, &context, &error) == STROP_OK);
        EXPECT(strop_context_threads(context) == threads);
        strop_context_memory(context, &memory);
        EXPECT(memory.arena == sizeof a && memory.scratch >= (uint64_t)threads * 4 * COLUMNS);
        EXPECT(check_binding(context) == 0);
        strop_context_destroy(context);
    }
    EXPECT(strop_context_create(engine, -1, &context, &error) == STROP_ERR_ARGUMENT && !context);
    EXPECT(strop_context_create(engine, 0, &context, &error) == STROP_OK);
    strop_engine_destroy(engine);
    EXPECT(check_binding(context) == 0); /* it keeps the engine */
    strop_context_destroy(context);
    strop_context_destroy(NULL);
    strop_engine_destroy(NULL);
    EXPECT(check_memory(arguments[1]) == 0);
    puts("ok");
    return 0;
}
