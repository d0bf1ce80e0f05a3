/* interpreter_builder.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_CORE_INTERPRETER_BUILDER_H
#define STROP_TFLITE_CORE_INTERPRETER_BUILDER_H

#include "tensorflow/lite/core/interpreter_builder.h"

#endif /* STROP_TFLITE_CORE_INTERPRETER_BUILDER_H */
