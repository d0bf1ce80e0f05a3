/* model.h - where older or newer code includes it from. */
#ifndef STROP_TENSORFLOW_LITE_MODEL_H
#define STROP_TENSORFLOW_LITE_MODEL_H

#include "tensorflow/lite/interpreter_builder.h"
#include "tensorflow/lite/model_builder.h"

#endif /* STROP_TENSORFLOW_LITE_MODEL_H */
