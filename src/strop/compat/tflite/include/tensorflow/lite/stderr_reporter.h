/* stderr_reporter.h - where older or newer code includes it from. */
#ifndef STROP_TENSORFLOW_LITE_STDERR_REPORTER_H
#define STROP_TENSORFLOW_LITE_STDERR_REPORTER_H

#include "tensorflow/lite/error_reporter.h"

#endif /* STROP_TENSORFLOW_LITE_STDERR_REPORTER_H */
