/* signature_runner.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_SIGNATURE_RUNNER_H
#define STROP_TFLITE_SIGNATURE_RUNNER_H

#include "tensorflow/lite/signature_runner.h"

#endif /* STROP_TFLITE_SIGNATURE_RUNNER_H */
