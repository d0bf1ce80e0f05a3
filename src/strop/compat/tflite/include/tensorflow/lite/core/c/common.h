/* common.h - where older or newer code includes it from. */
#ifndef STROP_TENSORFLOW_LITE_CORE_C_COMMON_H
#define STROP_TENSORFLOW_LITE_CORE_C_COMMON_H

#include "tensorflow/lite/c/common.h"

#endif /* STROP_TENSORFLOW_LITE_CORE_C_COMMON_H */
