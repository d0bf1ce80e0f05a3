/* c_api_types.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_C_C_API_TYPES_H
#define STROP_TFLITE_C_C_API_TYPES_H

#include "tensorflow/lite/c/c_api_types.h"

#endif /* STROP_TFLITE_C_C_API_TYPES_H */
