/* model.h - where older or newer code includes it from. */
#ifndef STROP_TENSORFLOW_LITE_CORE_MODEL_H
#define STROP_TENSORFLOW_LITE_CORE_MODEL_H

#include "tensorflow/lite/model.h"

#endif /* STROP_TENSORFLOW_LITE_CORE_MODEL_H */
