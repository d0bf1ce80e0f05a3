/* interpreter.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_CORE_INTERPRETER_H
#define STROP_TFLITE_CORE_INTERPRETER_H

#include "tensorflow/lite/core/interpreter.h"

#endif /* STROP_TFLITE_CORE_INTERPRETER_H */
