/* optional_debug_tools.h - what an interpreter holds, on stdout. */
#ifndef STROP_TENSORFLOW_LITE_OPTIONAL_DEBUG_TOOLS_H
#define STROP_TENSORFLOW_LITE_OPTIONAL_DEBUG_TOOLS_H

#include <cstdio>

#include "tensorflow/lite/interpreter.h"

namespace tflite {

/* Tensors and nodes with their numbers, types and sizes. */
inline void PrintInterpreterState(const Interpreter *interpreter)
{
    std::printf("Interpreter has %zu tensors and %zu nodes\n", interpreter->tensors_size(), interpreter->nodes_size());
    for (std::size_t k = 0; k < interpreter->tensors_size(); k++) {
        TfLiteTensor const *t = interpreter->tensor(static_cast<int>(k));
        std::printf("Tensor %3zu %-30s %-10s %10zu bytes [", k, t->name, TfLiteTypeGetName(t->type), t->bytes);
        for (int d = 0; d < t->dims->size; d++)
            std::printf("%s%d", d ? "," : "", t->dims->data[d]);
        std::printf("]%s\n", t->allocation_type == kTfLiteMmapRo ? " constant" : t->data.raw ? "" : " not stored");
    }
    for (std::size_t k = 0; k < interpreter->nodes_size(); k++)
        std::printf("Node %3zu %s\n", k, interpreter->node_and_registration(static_cast<int>(k))->second.custom_name);
}

} // namespace tflite

#endif /* STROP_TENSORFLOW_LITE_OPTIONAL_DEBUG_TOOLS_H */
