/* Kernels of the synthetic engines; ROWS x COLUMNS floats in every tensor. */
#include "strop_kernel.h"

#ifndef ISA
#define ISA "portable"
#endif

enum { ROWS = 16, COLUMNS = 64, N = ROWS * COLUMNS };

/* z = x + y, a task per element */
static void add(const strop_args *a, int64_t begin, int64_t end)
{
    const float *x = a->p[0], *y = a->p[1];
    float *z = a->p[2];

    for (int64_t i = begin; i < end; i++)
        z[i] = x[i] + y[i];
}

/* z[r] = x[r] * w[r], a task per row, by way of scratch */
static void scale(const strop_args *a, int64_t begin, int64_t end)
{
    const float *x = a->p[0], *w = a->p[1];
    float *z = a->p[2], *row = a->scratch;

    for (int64_t r = begin; r < end; r++) {
        for (int i = 0; i < COLUMNS; i++)
            row[i] = x[r * COLUMNS + i] * w[r];
        for (int i = 0; i < COLUMNS; i++)
            z[r * COLUMNS + i] = row[i];
    }
}

/* the sum of x as one double, one task */
static void total(const strop_args *a, int64_t begin, int64_t end)
{
    const float *x = a->p[0];
    double sum = 0;

    for (int i = 0; i < N; i++)
        sum += x[i];
    if (begin < end)
        *(double *)a->p[1] = sum;
}

/* y[i] = x[i + 1] + 1, a task per element: wrong if it runs before all of x is there */
static void rotate(const strop_args *a, int64_t begin, int64_t end)
{
    const float *x = a->p[0];
    float *y = a->p[1];

    for (int64_t i = begin; i < end; i++)
        y[i] = x[(i + 1) % N] + 1;
}

/* pairs of thread and n_threads, a task per pair */
static void who(const strop_args *a, int64_t begin, int64_t end)
{
    int64_t *pairs = a->p[0];

    for (int64_t i = begin; i < end; i++) {
        pairs[2 * i] = a->thread;
        pairs[2 * i + 1] = a->n_threads;
    }
}

/* y = x * x, a task per element: denormal for small x */
static void square(const strop_args *a, int64_t begin, int64_t end)
{
    const float *x = a->p[0];
    float *y = a->p[1];

    for (int64_t i = begin; i < end; i++)
        y[i] = x[i] * x[i];
}

/* y = 2 x, a task per row; sym: elements of a row */
static void twice(const strop_args *a, int64_t begin, int64_t end)
{
    const float *x = a->p[0];
    float *y = a->p[1];

    for (int64_t i = begin * a->sym[0]; i < end * a->sym[0]; i++)
        y[i] = 2 * x[i];
}

/* the elements of x above 0, and how many there are as an i64; one task; sym: elements of x */
static void keep(const strop_args *a, int64_t begin, int64_t end)
{
    const float *x = a->p[0];
    float *y = a->p[1];
    int64_t count = 0;

    for (int64_t i = 0; begin < end && i < a->sym[0]; i++)
        if (x[i] > 0)
            y[count++] = x[i];
    if (begin < end)
        *(int64_t *)a->p[2] = count;
}

static void nothing(const strop_args *a, int64_t begin, int64_t end)
{
    (void)a;
    (void)begin;
    (void)end;
}

STROP_KERNEL_EXPORT const strop_kernel strop_kernel_table[] = {
    add, scale, total, rotate, who, square, nothing, twice, keep,
};
STROP_KERNEL_EXPORT const uint32_t strop_kernel_count =
    sizeof strop_kernel_table / sizeof *strop_kernel_table;
STROP_KERNEL_EXPORT const uint32_t strop_kernel_abi = STROP_KERNEL_ABI;
STROP_KERNEL_EXPORT const char strop_kernel_isa[] = ISA;
