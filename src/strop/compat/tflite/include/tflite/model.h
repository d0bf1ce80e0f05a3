/* model.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_MODEL_H
#define STROP_TFLITE_MODEL_H

#include "tensorflow/lite/model.h"

#endif /* STROP_TFLITE_MODEL_H */
