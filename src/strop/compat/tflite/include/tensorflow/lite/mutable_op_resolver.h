/* mutable_op_resolver.h - where older or newer code includes it from. */
#ifndef STROP_TENSORFLOW_LITE_MUTABLE_OP_RESOLVER_H
#define STROP_TENSORFLOW_LITE_MUTABLE_OP_RESOLVER_H

#include "tensorflow/lite/op_resolver.h"

#endif /* STROP_TENSORFLOW_LITE_MUTABLE_OP_RESOLVER_H */
