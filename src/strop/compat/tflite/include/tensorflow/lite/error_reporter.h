/* error_reporter.h - who is told of failures. */
#ifndef STROP_TENSORFLOW_LITE_ERROR_REPORTER_H
#define STROP_TENSORFLOW_LITE_ERROR_REPORTER_H

#include <cstdarg>
#include <cstdio>

namespace tflite {

class ErrorReporter {
public:
    virtual ~ErrorReporter() = default;
    virtual int Report(const char *format, std::va_list arguments) = 0;
    int Report(const char *format, ...)
    {
        std::va_list arguments;
        va_start(arguments, format);
        int const code = Report(format, arguments);
        va_end(arguments);
        return code;
    }
    int ReportError(void *, const char *format, ...)
    {
        std::va_list arguments;
        va_start(arguments, format);
        int const code = Report(format, arguments);
        va_end(arguments);
        return code;
    }
};

class StderrReporter : public ErrorReporter {
public:
    using ErrorReporter::Report;
    int Report(const char *format, std::va_list arguments) override
    {
        std::fputs("ERROR: ", stderr);
        int const code = std::vfprintf(stderr, format, arguments);
        std::fputc('\n', stderr);
        return code;
    }
};

inline ErrorReporter *DefaultErrorReporter()
{
    static StderrReporter reporter;
    return &reporter;
}

} // namespace tflite

#define TF_LITE_REPORT_ERROR(reporter, ...) (reporter)->Report(__VA_ARGS__)

#endif /* STROP_TENSORFLOW_LITE_ERROR_REPORTER_H */
