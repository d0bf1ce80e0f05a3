/* error.c - the text of failures. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local strop_error last;

int strop_fail(strop_error *error, int code, const char *format, ...)
{
    va_list arguments;

    last.code = code;
    va_start(arguments, format);
    vsnprintf(last.message, sizeof last.message, format, arguments);
    va_end(arguments);
    for (char *p = last.message; *p; p++) /* names from files keep to one line */
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    if (error)
        *error = last;
    return code;
}

const strop_error *strop_last_error(void)
{
    return &last;
}
