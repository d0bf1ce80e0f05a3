/* register.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_KERNELS_REGISTER_H
#define STROP_TFLITE_KERNELS_REGISTER_H

#include "tensorflow/lite/kernels/register.h"

#endif /* STROP_TFLITE_KERNELS_REGISTER_H */
