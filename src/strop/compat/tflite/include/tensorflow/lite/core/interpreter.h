/* interpreter.h - where older or newer code includes it from. */
#ifndef STROP_TENSORFLOW_LITE_CORE_INTERPRETER_H
#define STROP_TENSORFLOW_LITE_CORE_INTERPRETER_H

#include "tensorflow/lite/interpreter.h"

#endif /* STROP_TENSORFLOW_LITE_CORE_INTERPRETER_H */
