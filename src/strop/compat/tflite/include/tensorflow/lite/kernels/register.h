/* register.h - the resolver of builtin ops. */
#ifndef STROP_TENSORFLOW_LITE_KERNELS_REGISTER_H
#define STROP_TENSORFLOW_LITE_KERNELS_REGISTER_H

#include "tensorflow/lite/op_resolver.h"

namespace tflite {
namespace ops {
namespace builtin {

class BuiltinOpResolver : public MutableOpResolver {};
class BuiltinOpResolverWithoutDefaultDelegates : public BuiltinOpResolver {};
class BuiltinRefOpResolver : public MutableOpResolver {};

} // namespace builtin
} // namespace ops
} // namespace tflite

#endif /* STROP_TENSORFLOW_LITE_KERNELS_REGISTER_H */
