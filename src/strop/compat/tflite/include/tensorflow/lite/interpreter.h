/*
 * interpreter.h - TensorFlow Lite's C++ interpreter on Strop. Header only, C++14; link with the runtime library of strop.h.
 *
 *     auto model = tflite::FlatBufferModel::BuildFromFile("net.tflite");
 *     tflite::ops::builtin::BuiltinOpResolver resolver;
 *     std::unique_ptr<tflite::Interpreter> interpreter;
 *     tflite::InterpreterBuilder(*model, resolver)(&interpreter);
 *     interpreter->AllocateTensors();
 *     float *input = interpreter->typed_input_tensor<float>(0);
 *     interpreter->Invoke();
 *     float *output = interpreter->typed_output_tensor<float>(0);
 *
 * model_builder.h says how a file becomes an engine. Of tensors only inputs and outputs are stored: data of others is NULL.
 */
#ifndef STROP_TENSORFLOW_LITE_INTERPRETER_H
#define STROP_TENSORFLOW_LITE_INTERPRETER_H

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/lite/error_reporter.h"
#include "tensorflow/lite/model_builder.h"
#include "tensorflow/lite/signature_runner.h"
#include "tensorflow/lite/subgraph.h"

namespace tflite {

template <typename T> struct TypeOf;
template <> struct TypeOf<float> { static constexpr TfLiteType type = kTfLiteFloat32; };
template <> struct TypeOf<double> { static constexpr TfLiteType type = kTfLiteFloat64; };
template <> struct TypeOf<std::int8_t> { static constexpr TfLiteType type = kTfLiteInt8; };
template <> struct TypeOf<std::uint8_t> { static constexpr TfLiteType type = kTfLiteUInt8; };
template <> struct TypeOf<std::int16_t> { static constexpr TfLiteType type = kTfLiteInt16; };
template <> struct TypeOf<std::uint16_t> { static constexpr TfLiteType type = kTfLiteUInt16; };
template <> struct TypeOf<std::int32_t> { static constexpr TfLiteType type = kTfLiteInt32; };
template <> struct TypeOf<std::uint32_t> { static constexpr TfLiteType type = kTfLiteUInt32; };
template <> struct TypeOf<std::int64_t> { static constexpr TfLiteType type = kTfLiteInt64; };
template <> struct TypeOf<std::uint64_t> { static constexpr TfLiteType type = kTfLiteUInt64; };
template <> struct TypeOf<bool> { static constexpr TfLiteType type = kTfLiteBool; };
template <> struct TypeOf<TfLiteFloat16> { static constexpr TfLiteType type = kTfLiteFloat16; };
template <> struct TypeOf<TfLiteBFloat16> { static constexpr TfLiteType type = kTfLiteBFloat16; };

namespace impl {

class InterpreterBuilder;

class Interpreter {
public:
    Interpreter(Interpreter const &) = delete;
    Interpreter &operator=(Interpreter const &) = delete;

    const std::vector<int> &inputs() const { return main_->sheet().inputs; }
    const std::vector<int> &outputs() const { return main_->sheet().outputs; }
    const char *GetInputName(int index) const { return Name(inputs(), index); }
    const char *GetOutputName(int index) const { return Name(outputs(), index); }
    std::size_t tensors_size() const { return main_->size(); }
    std::size_t nodes_size() const { return main_->nodes().size(); }
    std::size_t subgraphs_size() const { return static_cast<std::size_t>(main_->sheet().subgraphs); }
    const std::vector<int> &execution_plan() const { return plan_; }
    const std::pair<TfLiteNode, TfLiteRegistration> *node_and_registration(int index) const
    {
        return index >= 0 && static_cast<std::size_t>(index) < nodes_size() ? &main_->nodes()[static_cast<std::size_t>(index)] : nullptr;
    }

    TfLiteTensor *tensor(int index) { return main_->tensor(index); }
    const TfLiteTensor *tensor(int index) const { return main_->tensor(index); }
    TfLiteTensor *input_tensor(std::size_t index) { return tensor(inputs().at(index)); }
    const TfLiteTensor *input_tensor(std::size_t index) const { return tensor(inputs().at(index)); }
    TfLiteTensor *output_tensor(std::size_t index) { return tensor(outputs().at(index)); }
    const TfLiteTensor *output_tensor(std::size_t index) const { return tensor(outputs().at(index)); }

    /* nullptr where the tensor has another type or is not stored. */
    template <class T> T *typed_tensor(int index)
    {
        TfLiteTensor *found = tensor(index);
        return found && found->type == TypeOf<T>::type ? static_cast<T *>(found->data.data) : nullptr;
    }
    template <class T> const T *typed_tensor(int index) const { return const_cast<Interpreter *>(this)->typed_tensor<T>(index); }
    template <class T> T *typed_input_tensor(int index) { return typed_tensor<T>(inputs().at(static_cast<std::size_t>(index))); }
    template <class T> const T *typed_input_tensor(int index) const { return typed_tensor<T>(inputs().at(static_cast<std::size_t>(index))); }
    template <class T> T *typed_output_tensor(int index) { return typed_tensor<T>(outputs().at(static_cast<std::size_t>(index))); }
    template <class T> const T *typed_output_tensor(int index) const { return typed_tensor<T>(outputs().at(static_cast<std::size_t>(index))); }

    TfLiteStatus AllocateTensors() { return main_->Allocate(); }
    TfLiteStatus Invoke() { return main_->Invoke(); }
    TfLiteStatus ResizeInputTensor(int index, const std::vector<int> &dims) { return main_->Resize(index, dims, false); }
    TfLiteStatus ResizeInputTensorStrict(int index, const std::vector<int> &dims) { return main_->Resize(index, dims, true); }
    TfLiteStatus ResetVariableTensors()
    {
        for (auto &other : others_)
            other.second->ResetVariables();
        return main_->ResetVariables();
    }
    TfLiteStatus ReleaseNonPersistentMemory() { return main_->Release(); }
    TfLiteStatus EnsureTensorDataIsReadable(int) { return kTfLiteOk; }
    TfLiteStatus SetNumThreads(int threads)
    {
        threads_ = threads;
        return main_->SetNumThreads(threads);
    }

    /* Have no effect: the engine has its precision, and steps are timed by strop bench --per-step. */
    void SetAllowFp16PrecisionForFp32(bool allow) { allows_fp16_ = allow; }
    bool GetAllowFp16PrecisionForFp32() const { return allows_fp16_; }
    template <class Profiler> void SetProfiler(Profiler *) {}

    /* Delegates take over nothing: the engine does every op. */
    template <class Delegate> TfLiteStatus ModifyGraphWithDelegate(Delegate &&) { return kTfLiteOk; }

    /* Refused: a run cannot be interrupted, and the engine's memory is its own. */
    TfLiteStatus Cancel()
    {
        main_->reporter()->Report("a run cannot be cancelled");
        return kTfLiteError;
    }
    template <class Allocation> TfLiteStatus SetCustomAllocationForTensor(int index, const Allocation &, std::int64_t = 0)
    {
        main_->reporter()->Report("tensor %d keeps the memory of the engine; copy into it", index);
        return kTfLiteError;
    }

    std::vector<const std::string *> signature_keys() const
    {
        std::vector<const std::string *> found;
        for (auto const &signature : signatures_)
            found.push_back(&signature.key);
        return found;
    }

    /* nullptr for the only signature; answers nullptr where there is none of this key. */
    SignatureRunner *GetSignatureRunner(const char *key)
    {
        strop_tflite::Signature const *found = nullptr;
        for (auto const &signature : signatures_)
            if (key ? signature.key == key : signatures_.size() == 1)
                found = &signature;
        if (!found)
            return nullptr;
        auto &runner = runners_[found->key];
        Subgraph *subgraph = runner ? nullptr : SubgraphOf(*found);
        if (!runner && subgraph)
            runner.reset(new SignatureRunner(*found, *subgraph));
        return runner.get();
    }

private:
    friend class InterpreterBuilder;

    Interpreter(std::shared_ptr<strop_tflite::Model> model, std::shared_ptr<strop_tflite::Program> program, int threads, ErrorReporter *reporter)
        : model_(std::move(model)), state_(std::make_shared<State>()), threads_(threads), signatures_(program->sheet().signatures)
    {
        main_.reset(new Subgraph(model_, "", std::move(program), state_, threads, reporter));
        for (std::size_t k = 0; k < nodes_size(); k++)
            plan_.push_back(static_cast<int>(k));
    }

    const char *Name(std::vector<int> const &numbers, int index) const { return tensor(numbers.at(static_cast<std::size_t>(index)))->name; }

    Subgraph *SubgraphOf(strop_tflite::Signature const &signature)
    {
        if (signature.subgraph == main_->sheet().subgraph)
            return main_.get();
        auto &other = others_[signature.subgraph];
        if (other)
            return other.get();
        std::string why = "the engine was built of another signature: " + main_->sheet().key;
        auto program = model_->kind() == 'e' ? nullptr : model_->program(signature.key, {}, threads_, why);
        if (!program) {
            main_->reporter()->Report("%s", why.c_str());
            return nullptr;
        }
        other.reset(new Subgraph(model_, signature.key, std::move(program), state_, threads_, main_->reporter()));
        return other.get();
    }

    std::shared_ptr<strop_tflite::Model> model_;
    std::shared_ptr<State> state_;
    int threads_;
    bool allows_fp16_ = false;
    std::vector<strop_tflite::Signature> signatures_;
    std::unique_ptr<Subgraph> main_;
    std::map<int, std::unique_ptr<Subgraph>> others_;
    std::map<std::string, std::unique_ptr<SignatureRunner>> runners_;
    std::vector<int> plan_;
};

} // namespace impl

using Interpreter = impl::Interpreter;

} // namespace tflite

#endif /* STROP_TENSORFLOW_LITE_INTERPRETER_H */
