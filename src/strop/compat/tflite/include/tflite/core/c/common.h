/* common.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_CORE_C_COMMON_H
#define STROP_TFLITE_CORE_C_COMMON_H

#include "tensorflow/lite/core/c/common.h"

#endif /* STROP_TFLITE_CORE_C_COMMON_H */
