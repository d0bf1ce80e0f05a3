/* c_api_types.h - where older or newer code includes it from. */
#ifndef STROP_TENSORFLOW_LITE_C_C_API_TYPES_H
#define STROP_TENSORFLOW_LITE_C_C_API_TYPES_H

#include "tensorflow/lite/c/common.h"

#endif /* STROP_TENSORFLOW_LITE_C_C_API_TYPES_H */
