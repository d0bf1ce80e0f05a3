/*
 * platform.h - everything the runtime asks of the operating system; platform.c answers for Linux.
 * Functions that return int give 0 or an errno value.
 */
#ifndef STROP_PLATFORM_H
#define STROP_PLATFORM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "strop.h"

/* Maps a regular file read-only and brings its pages in. */
int platform_map_file(const char *path, const void **data, size_t *size);
void platform_unmap_file(const void *data, size_t size);

/* Zeroed, page-aligned memory that costs nothing until touched; whole huge pages are asked for as
 * such. NULL when refused. A size of 0 is allowed. */
void *platform_allocate(size_t size);
void platform_free(void *memory, size_t size);

/* Loads the shared object that is in memory. `label` appears in debuggers and profilers. */
int platform_load_code(const void *data, size_t size, const char *label, void **library,
                       strop_error *error);
void *platform_symbol(void *library, const char *name);
void platform_unload_code(void *library);

/* Starts a detached thread that receives no signals. */
int platform_start_thread(void *(*function)(void *), void *argument, const char *name);
/* Has these called around fork(): before and after in the parent, and after in the child. */
int platform_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void));

/* Sleeps while *word == value, until platform_wake; may return early. */
void platform_sleep(_Atomic(uint32_t) *word, uint32_t value);
void platform_wake(_Atomic(uint32_t) *word);

/* Monotonic. */
uint64_t platform_nanoseconds(void);
/* Processors this process may run on, at least 1. */
int platform_cpu_count(void);
/* Optional instructions of an Arm processor: AT_HWCAP and AT_HWCAP2. */
void platform_arm_features(uint64_t *hwcap, uint64_t *hwcap2);
const char *platform_error_text(int code, char *buffer, size_t size);

#endif /* STROP_PLATFORM_H */
