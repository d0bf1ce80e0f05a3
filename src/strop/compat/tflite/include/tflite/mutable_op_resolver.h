/* mutable_op_resolver.h - where older or newer code includes it from. */
#ifndef STROP_TFLITE_MUTABLE_OP_RESOLVER_H
#define STROP_TFLITE_MUTABLE_OP_RESOLVER_H

#include "tensorflow/lite/mutable_op_resolver.h"

#endif /* STROP_TFLITE_MUTABLE_OP_RESOLVER_H */
