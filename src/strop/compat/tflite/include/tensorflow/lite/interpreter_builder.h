/* interpreter_builder.h - makes interpreters of models; a .tflite file is compiled here. */
#ifndef STROP_TENSORFLOW_LITE_INTERPRETER_BUILDER_H
#define STROP_TENSORFLOW_LITE_INTERPRETER_BUILDER_H

#include <memory>
#include <string>

#include "tensorflow/lite/interpreter.h"
#include "tensorflow/lite/model_builder.h"
#include "tensorflow/lite/op_resolver.h"

namespace tflite {

/* Options of interpreters; engines have nothing that they would change. */
class InterpreterOptions {
public:
    void SetPreserveAllTensors(bool value = true) { preserve_ = value; }
    bool GetPreserveAllTensors() const { return preserve_; }
    void SetEnsureDynamicTensorsAreReleased(bool = true) {}
    void OptimizeMemoryForLargeTensors(int) {}
    void SetDisableDelegateClustering(bool = true) {}

private:
    bool preserve_ = false;
};

namespace impl {

class InterpreterBuilder {
public:
    InterpreterBuilder(const FlatBufferModel &model, const OpResolver &, const InterpreterOptions *options = nullptr)
        : model_(model.strop_model()), reporter_(model.error_reporter()), preserve_(options && options->GetPreserveAllTensors())
    {
    }
    InterpreterBuilder(InterpreterBuilder const &) = delete;
    InterpreterBuilder &operator=(InterpreterBuilder const &) = delete;

    TfLiteStatus operator()(std::unique_ptr<Interpreter> *interpreter) { return (*this)(interpreter, threads_); }
    TfLiteStatus operator()(std::unique_ptr<Interpreter> *interpreter, int num_threads)
    {
        if (!interpreter) {
            reporter_->Report("Null output pointer passed to InterpreterBuilder.");
            return kTfLiteError;
        }
        interpreter->reset();
        if (num_threads < -1) {
            reporter_->Report("num_threads should be >= 0 or just -1 to let TFLite runtime set the value.");
            return kTfLiteError;
        }
        if (preserve_) {
            reporter_->Report("intermediate tensors are kept by the Python interpreter only: experimental_preserve_all_tensors");
            return kTfLiteError;
        }
        int const threads = num_threads < 1 ? 1 : num_threads;
        std::string why;
        auto program = model_->program("", {}, threads, why);
        if (!program) {
            reporter_->Report("%s", why.c_str());
            return kTfLiteError;
        }
        interpreter->reset(new Interpreter(model_, std::move(program), threads, reporter_));
        return kTfLiteOk;
    }

    TfLiteStatus SetNumThreads(int num_threads)
    {
        if (num_threads < -1) {
            reporter_->Report("num_threads should be >= 0 or just -1 to let TFLite runtime set the value.");
            return kTfLiteError;
        }
        threads_ = num_threads;
        return kTfLiteOk;
    }
    InterpreterBuilder &PreserveAllTensorsExperimental()
    {
        preserve_ = true;
        return *this;
    }
    /* Delegates take over nothing. */
    template <class Delegate> void AddDelegate(Delegate *) {}

private:
    std::shared_ptr<strop_tflite::Model> model_;
    ErrorReporter *reporter_;
    bool preserve_;
    int threads_ = -1;
};

} // namespace impl

using InterpreterBuilder = impl::InterpreterBuilder;

} // namespace tflite

#endif /* STROP_TENSORFLOW_LITE_INTERPRETER_BUILDER_H */
