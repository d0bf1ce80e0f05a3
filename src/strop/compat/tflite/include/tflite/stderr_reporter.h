/* stderr_reporter.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_STDERR_REPORTER_H
#define STROP_TFLITE_STDERR_REPORTER_H

#include "tensorflow/lite/stderr_reporter.h"

#endif /* STROP_TFLITE_STDERR_REPORTER_H */
