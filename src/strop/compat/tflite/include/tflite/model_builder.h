/* model_builder.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_MODEL_BUILDER_H
#define STROP_TFLITE_MODEL_BUILDER_H

#include "tensorflow/lite/model_builder.h"

#endif /* STROP_TFLITE_MODEL_BUILDER_H */
