/* signature_runner.h - runs a signature by the names of its inputs and outputs. */
#ifndef STROP_TENSORFLOW_LITE_SIGNATURE_RUNNER_H
#define STROP_TENSORFLOW_LITE_SIGNATURE_RUNNER_H

#include <string>
#include <utility>
#include <vector>

#include "tensorflow/lite/subgraph.h"

namespace tflite {
namespace impl {

class SignatureRunner {
public:
    SignatureRunner(strop_tflite::Signature const &signature, Subgraph &subgraph) : signature_(signature), subgraph_(subgraph)
    {
        for (auto const &entry : signature_.inputs)
            inputs_.push_back(entry.first.c_str());
        for (auto const &entry : signature_.outputs)
            outputs_.push_back(entry.first.c_str());
    }
    SignatureRunner(SignatureRunner const &) = delete;
    SignatureRunner &operator=(SignatureRunner const &) = delete;

    const std::string &signature_key() const { return signature_.key; }
    std::size_t input_size() const { return inputs_.size(); }
    std::size_t output_size() const { return outputs_.size(); }
    const std::vector<const char *> &input_names() const { return inputs_; }
    const std::vector<const char *> &output_names() const { return outputs_; }
    TfLiteTensor *input_tensor(const char *name) { return subgraph_.tensor(Number(signature_.inputs, name)); }
    const TfLiteTensor *output_tensor(const char *name) const { return subgraph_.tensor(Number(signature_.outputs, name)); }
    TfLiteStatus ResizeInputTensor(const char *name, const std::vector<int> &dims) { return subgraph_.Resize(Number(signature_.inputs, name), dims, false); }
    TfLiteStatus ResizeInputTensorStrict(const char *name, const std::vector<int> &dims) { return subgraph_.Resize(Number(signature_.inputs, name), dims, true); }
    TfLiteStatus AllocateTensors() { return subgraph_.Allocate(); }
    TfLiteStatus Invoke() { return subgraph_.Invoke(); }

private:
    static int Number(std::vector<std::pair<std::string, int>> const &entries, const char *name)
    {
        for (auto const &entry : entries)
            if (entry.first == name)
                return entry.second;
        return -1;
    }

    strop_tflite::Signature signature_;
    Subgraph &subgraph_;
    std::vector<const char *> inputs_, outputs_;
};

} // namespace impl

using SignatureRunner = impl::SignatureRunner;

} // namespace tflite

#endif /* STROP_TENSORFLOW_LITE_SIGNATURE_RUNNER_H */
