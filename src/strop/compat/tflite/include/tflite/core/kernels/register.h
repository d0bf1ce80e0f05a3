/* register.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_CORE_KERNELS_REGISTER_H
#define STROP_TFLITE_CORE_KERNELS_REGISTER_H

#include "tensorflow/lite/core/kernels/register.h"

#endif /* STROP_TFLITE_CORE_KERNELS_REGISTER_H */
