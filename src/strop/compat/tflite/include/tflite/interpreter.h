/* interpreter.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_INTERPRETER_H
#define STROP_TFLITE_INTERPRETER_H

#include "tensorflow/lite/interpreter.h"

#endif /* STROP_TFLITE_INTERPRETER_H */
