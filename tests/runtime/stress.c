/* Many contexts on many threads, all through one pool, while the process forks.
 *
 *     stress ENGINE FORKS
 *
 * ENGINE is the arithmetic engine of synthetic.py. Exits with 0 when every result is right. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "strop.h"

enum { ROWS = 16, COLUMNS = 64, N = ROWS * COLUMNS, USERS = 6, CONTEXTS = 20, RUNS = 50 };

static strop_engine *engine;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void run(strop_context *context, float first)
{
    float a[N], b[N], sum[N];
    double total, expected = 0;
    const void *inputs[] = {a, b};
    void *outputs[] = {sum, &total};
    strop_error error;

    for (int i = 0; i < N; i++) {
        a[i] = first + (float)i;
        b[i] = 1;
    }
    if (strop_context_call(context, inputs, outputs, &error))
        fail(error.message);
    for (int i = 0; i < N; i++)
        expected += sum[i];
    if (total != expected || sum[0] != (a[0] + b[0]) * 0.5f)
        fail("wrong result");
}

static void *use(void *argument)
{
    const int32_t threads = 1 + (int32_t)(intptr_t)argument % 3;

    for (int i = 0; i < CONTEXTS; i++) {
        strop_context *context;
        strop_error error;

        if (strop_context_create(engine, threads, &context, &error))
            fail(error.message);
        for (int j = 0; j < RUNS; j++)
            run(context, (float)j);
        strop_context_destroy(context);
    }
    return NULL;
}

int main(int count, char **arguments)
{
    pthread_t users[USERS];
    strop_error error;

    if (count != 3)
        fail("usage: stress ENGINE FORKS");
    if (strop_engine_load(arguments[1], &engine, &error))
        fail(error.message);
    for (intptr_t i = 0; i < USERS; i++)
        if (pthread_create(&users[i], NULL, use, (void *)i) != 0)
            fail("no thread");
    for (int i = atoi(arguments[2]); i > 0; i--) {
        const pid_t child = fork();
        int status;

        if (child == 0) {
            use((void *)(intptr_t)1);
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child || status != 0)
            fail("a child failed");
    }
    for (int i = 0; i < USERS; i++)
        pthread_join(users[i], NULL);
    strop_engine_destroy(engine);
    puts("ok");
    return 0;
}
