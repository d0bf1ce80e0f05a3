/* error.h - how a failure is reported: return strop_fail(error, code, "text", ...). */
#ifndef STROP_ERROR_H
#define STROP_ERROR_H

#include "strop.h"

#if defined(__GNUC__)
#define STROP_PRINTF(text, first) __attribute__((format(printf, text, first), cold))
#else
#define STROP_PRINTF(text, first)
#endif

/* Writes code and text to *error (when not NULL) and to the thread's last error; returns code. */
int strop_fail(strop_error *error, int code, const char *format, ...) STROP_PRINTF(3, 4);

#endif /* STROP_ERROR_H */
