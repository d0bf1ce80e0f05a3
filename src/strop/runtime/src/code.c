/* code.c - which kernels section this processor can execute best, and loading it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "engine.h"
#include "platform.h"

/* The fields of an ELF header that say whom the code is for. */
enum { ELF_CLASS = 4, ELF_DATA = 5, ELF_TYPE = 16, ELF_MACHINE = 18, ELF_HEADER_SIZE = 64 };

#if defined(__x86_64__)
#define HOST_MACHINE 62
#elif defined(__aarch64__)
#define HOST_MACHINE 183
#endif

static int is_library_for_this_machine(const uint8_t *data, uint64_t size)
{
    static const uint8_t magic[4] = {0x7f, 'E', 'L', 'F'};

    return size >= ELF_HEADER_SIZE && memcmp(data, magic, sizeof magic) == 0 &&
           data[ELF_CLASS] == 2 && data[ELF_DATA] == 1 && data[ELF_TYPE] == 3 &&
           data[ELF_TYPE + 1] == 0 && data[ELF_MACHINE] == HOST_MACHINE &&
           data[ELF_MACHINE + 1] == 0;
}

static int fail_isa(const engine_file *file, strop_error *error)
{
    char targets[512] = "nothing";
    size_t end = 0;

    for (uint32_t i = 0; i < file->n_sections && end < sizeof targets; i++)
        if (file->sections[i].kind == STROP_SECTION_KERNELS)
            end += (size_t)snprintf(targets + end, sizeof targets - end, "%s%s", end ? ", " : "",
                                    file->sections[i].name);
    return strop_fail(error, STROP_ERR_ISA,
                      "%s: the engine has code for %s; this CPU is %s; rebuild with --target",
                      file->where, targets, strop_cpu_target());
}

static const strop_section_record *choose(const engine_file *file)
{
    const strop_section_record *best = NULL;
    int best_rank = -1;

    for (uint32_t i = 0; i < file->n_sections; i++) {
        const strop_section_record *s = &file->sections[i];
        const int rank = s->kind == STROP_SECTION_KERNELS ? cpu_rank(s->name) : -1;

        if (rank > best_rank) {
            best = s;
            best_rank = rank;
        }
    }
    return best;
}

static int check_library(const engine_file *file, const strop_section_record *section,
                         uint64_t n_kernels, engine_code *code, strop_error *error)
{
    const uint32_t *abi = platform_symbol(code->library, "strop_kernel_abi");
    const uint32_t *count = platform_symbol(code->library, "strop_kernel_count");

    code->kernels = platform_symbol(code->library, "strop_kernel_table");
    code->isa = platform_symbol(code->library, "strop_kernel_isa");
    if (!abi || !count || !code->kernels || !code->isa)
        return strop_fail(error, STROP_ERR_CODE, "%s: the kernels for %s do not export %s",
                          file->where, section->name,
                          !abi     ? "strop_kernel_abi"
                          : !count ? "strop_kernel_count"
                          : !code->kernels ? "strop_kernel_table"
                                           : "strop_kernel_isa");
    if (*abi != STROP_KERNEL_ABI)
        return strop_fail(error, STROP_ERR_VERSION, "%s: the kernels for %s have ABI %" PRIu32
                          "; this runtime calls ABI %u", file->where, section->name, *abi,
                          STROP_KERNEL_ABI);
    if (*count != n_kernels)
        return strop_fail(error, STROP_ERR_CODE, "%s: %" PRIu32 " kernels for %s; the plan has %"
                          PRIu64, file->where, *count, section->name, n_kernels);
    for (uint64_t i = 0; i < n_kernels; i++)
        if (!code->kernels[i])
            return strop_fail(error, STROP_ERR_CODE, "%s: kernel %" PRIu64 " for %s is missing",
                              file->where, i, section->name);
    return STROP_OK;
}

int code_load(const engine_file *file, uint64_t n_kernels, engine_code *code, strop_error *error)
{
    const strop_section_record *section = choose(file);
    const uint8_t *data;
    int status;

    if (!section)
        return fail_isa(file, error);
    data = file->data + section->offset;
    if (!is_library_for_this_machine(data, section->size))
        return strop_fail(error, STROP_ERR_CODE,
                          "%s: the kernels for %s are not a shared object for this machine",
                          file->where, section->name);
    code->target = section->name;
    status = platform_load_code(data, section->size, "strop-kernels", &code->library, error);
    if (!status)
        status = check_library(file, section, n_kernels, code, error);
    return status;
}
