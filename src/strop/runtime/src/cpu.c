/* cpu.c - features of the processor, by the names that compilers use for them. */
#include "cpu.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "platform.h"
#include "strop.h"

typedef struct {
    const char *name;
    int level;      /* -1: an extra; else the base that has it, and all bases above */
    unsigned word;  /* into words[] below */
    unsigned bit;
} feature;

typedef struct {
    const char *name;
    int level;
} base;

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>

enum { LEAF1_C, LEAF7_B, LEAF7_C, LEAF7_D, LEAF7_1_A, LEAF7_1_D, EXTENDED_C, N_WORDS };

static const base bases[] = {
    {"x86_64", 1},
    {"x86_64-v2", 2},
    {"x86_64-v3", 3},
    {"x86_64-v4", 4},
};

/* Levels 2 to 4 are those of the x86-64 psABI. */
static const feature features[] = {
    {"sse3", 2, LEAF1_C, 0},
    {"ssse3", 2, LEAF1_C, 9},
    {"cx16", 2, LEAF1_C, 13},
    {"sse4.1", 2, LEAF1_C, 19},
    {"sse4.2", 2, LEAF1_C, 20},
    {"popcnt", 2, LEAF1_C, 23},
    {"sahf", 2, EXTENDED_C, 0},
    {"fma", 3, LEAF1_C, 12},
    {"movbe", 3, LEAF1_C, 22},
    {"avx", 3, LEAF1_C, 28},
    {"f16c", 3, LEAF1_C, 29},
    {"bmi", 3, LEAF7_B, 3},
    {"avx2", 3, LEAF7_B, 5},
    {"bmi2", 3, LEAF7_B, 8},
    {"lzcnt", 3, EXTENDED_C, 5},
    {"avx512f", 4, LEAF7_B, 16},
    {"avx512dq", 4, LEAF7_B, 17},
    {"avx512cd", 4, LEAF7_B, 28},
    {"avx512bw", 4, LEAF7_B, 30},
    {"avx512vl", 4, LEAF7_B, 31},
    {"avx512vbmi", -1, LEAF7_C, 1},
    {"avx512vnni", -1, LEAF7_C, 11},
    {"avx512bf16", -1, LEAF7_1_A, 5},
    {"avx512fp16", -1, LEAF7_D, 23},
    {"avxvnni", -1, LEAF7_1_A, 4},
    {"avxvnniint8", -1, LEAF7_1_D, 4},
};

static unsigned operating_system_saves(void)
{
    unsigned low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static void read_words(uint64_t words[N_WORDS])
{
    unsigned a, b, c, d, saved = 0;

    if (__get_cpuid(1, &a, &b, &c, &d)) {
        words[LEAF1_C] = c;
        if (c >> 27 & 1) /* osxsave */
            saved = operating_system_saves();
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        const unsigned last = a;

        words[LEAF7_B] = b;
        words[LEAF7_C] = c;
        words[LEAF7_D] = d;
        if (last >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
            words[LEAF7_1_A] = a;
            words[LEAF7_1_D] = d;
        }
    }
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d))
        words[EXTENDED_C] = c;
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        const feature *f = &features[i];
        const unsigned need = strncmp(f->name, "avx512", 6) == 0 ? 0xe6
                              : strncmp(f->name, "avx", 3) == 0 || strcmp(f->name, "fma") == 0 ||
                                      strcmp(f->name, "f16c") == 0
                                  ? 0x6
                                  : 0;

        if ((saved & need) != need)
            words[f->word] &= ~(UINT64_C(1) << f->bit);
    }
}

uint64_t cpu_enter_float_mode(int flush_denormals)
{
    const unsigned previous = _mm_getcsr();
    const unsigned wanted = flush_denormals ? 0x9fc0u : 0x1f80u; /* flush: FTZ and DAZ */

    if ((previous & ~0x3fu) != wanted) /* the low bits are sticky flags */
        _mm_setcsr(wanted);
    return previous;
}

void cpu_leave_float_mode(uint64_t previous)
{
    const unsigned mode = (unsigned)previous;

    if ((_mm_getcsr() & ~0x3fu) != (mode & ~0x3fu))
        _mm_setcsr(mode);
}

#elif defined(__aarch64__)

enum { HWCAP, HWCAP2, N_WORDS };

static const base bases[] = {
    {"aarch64", 1},
};

static const feature features[] = {
    {"fullfp16", -1, HWCAP, 10},
    {"dotprod", -1, HWCAP, 20},
    {"sve", -1, HWCAP, 22},
    {"sve2", -1, HWCAP2, 1},
    {"i8mm", -1, HWCAP2, 13},
    {"bf16", -1, HWCAP2, 14},
};

static void read_words(uint64_t words[N_WORDS])
{
    platform_arm_features(&words[HWCAP], &words[HWCAP2]);
}

uint64_t cpu_enter_float_mode(int flush_denormals)
{
    const uint64_t wanted = flush_denormals ? UINT64_C(1) << 24 : 0; /* FZ */
    uint64_t previous;

    __asm__ volatile("mrs %0, fpcr" : "=r"(previous));
    if (previous != wanted)
        __asm__ volatile("msr fpcr, %0" ::"r"(wanted));
    return previous;
}

void cpu_leave_float_mode(uint64_t previous)
{
    uint64_t current;

    __asm__ volatile("mrs %0, fpcr" : "=r"(current));
    if (current != previous)
        __asm__ volatile("msr fpcr, %0" ::"r"(previous));
}

#else
#error "no description of this processor: add its bases and features here"
#endif

#define N_BASES (sizeof bases / sizeof *bases)
#define N_FEATURES (sizeof features / sizeof *features)

static int has_feature(const feature *f, const uint64_t words[N_WORDS])
{
    return (int)(words[f->word] >> f->bit & 1);
}

static int has_level(int level, const uint64_t words[N_WORDS])
{
    for (size_t i = 0; i < N_FEATURES; i++)
        if (features[i].level > 0 && features[i].level <= level &&
            !has_feature(&features[i], words))
            return 0;
    return 1;
}

static int is_word(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

int cpu_rank(const char *target)
{
    uint64_t words[N_WORDS] = {0};
    size_t length = strcspn(target, "+");
    int rank = -1;

    read_words(words);
    for (size_t i = 0; i < N_BASES; i++)
        if (is_word(target, length, bases[i].name) && has_level(bases[i].level, words))
            rank = 100 * bases[i].level;
    while (rank >= 0 && target[length] == '+') {
        int found = 0;

        target += length + 1;
        length = strcspn(target, "+");
        for (size_t i = 0; i < N_FEATURES && !found; i++)
            found = is_word(target, length, features[i].name) && has_feature(&features[i], words);
        rank = found ? rank + 1 : -1;
    }
    return rank;
}

int strop_cpu_supports(const char *target)
{
    return target && cpu_rank(target) >= 0;
}

const char *strop_cpu_target(void)
{
    static _Thread_local char text[256];
    uint64_t words[N_WORDS] = {0};
    int level = 0;
    size_t end = 0;

    read_words(words);
    for (size_t i = 0; i < N_BASES; i++)
        if (has_level(bases[i].level, words)) {
            level = bases[i].level;
            end = (size_t)snprintf(text, sizeof text, "%s", bases[i].name);
        }
    for (size_t i = 0; i < N_FEATURES; i++)
        if ((features[i].level < 0 || features[i].level > level) &&
            has_feature(&features[i], words))
            end += (size_t)snprintf(text + end, sizeof text - end, "+%s", features[i].name);
    return text;
}
