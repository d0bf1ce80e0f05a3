/*
 * model_builder.h - models: .tflite files, or engines in their place. What does not open is reported and answered by nullptr.
 *
 * A .tflite file is compiled when an interpreter of it is built first, by the command `strop`, or what the environment variable
 * STROP_COMMAND names, and kept in STROP_CACHE. Where a file of the same name with .strop behind it lies beside it, that is loaded:
 * strop build net.tflite -o net.tflite.strop. It may be of any level, and needs no compiler.
 */
#ifndef STROP_TENSORFLOW_LITE_MODEL_BUILDER_H
#define STROP_TENSORFLOW_LITE_MODEL_BUILDER_H

#include <memory>
#include <string>
#include <utility>

#include "strop_tflite_program.h"
#include "tensorflow/lite/error_reporter.h"

namespace tflite {

class TfLiteVerifier {
public:
    virtual bool Verify(const char *data, int length, ErrorReporter *reporter) = 0;
    virtual ~TfLiteVerifier() = default;
};

namespace impl {

class FlatBufferModel {
public:
    static std::unique_ptr<FlatBufferModel> BuildFromFile(const char *filename, ErrorReporter *reporter = DefaultErrorReporter())
    {
        return Checked(std::make_shared<strop_tflite::Model>(std::string(filename)), filename, reporter);
    }
    static std::unique_ptr<FlatBufferModel> BuildFromBuffer(const char *data, std::size_t size, ErrorReporter *reporter = DefaultErrorReporter())
    {
        return Checked(std::make_shared<strop_tflite::Model>(data, size), "the given bytes", reporter);
    }
    static std::unique_ptr<FlatBufferModel> VerifyAndBuildFromFile(const char *filename, TfLiteVerifier *extra = nullptr, ErrorReporter *reporter = DefaultErrorReporter())
    {
        std::vector<char> data;
        if (extra && (!strop::command::read(filename, data) || !extra->Verify(data.data(), static_cast<int>(data.size()), reporter)))
            return nullptr;
        return BuildFromFile(filename, reporter);
    }
    static std::unique_ptr<FlatBufferModel> VerifyAndBuildFromBuffer(const char *data, std::size_t size, TfLiteVerifier *extra = nullptr, ErrorReporter *reporter = DefaultErrorReporter())
    {
        if (extra && !extra->Verify(data, static_cast<int>(size), reporter))
            return nullptr;
        return BuildFromBuffer(data, size, reporter);
    }

    bool initialized() const { return true; }
    ErrorReporter *error_reporter() const { return reporter_; }
    const std::shared_ptr<strop_tflite::Model> &strop_model() const { return model_; }

private:
    FlatBufferModel(std::shared_ptr<strop_tflite::Model> model, ErrorReporter *reporter) : model_(std::move(model)), reporter_(reporter) {}

    static std::unique_ptr<FlatBufferModel> Checked(std::shared_ptr<strop_tflite::Model> model, const char *what, ErrorReporter *reporter)
    {
        reporter = reporter ? reporter : DefaultErrorReporter();
        char const kind = model->kind();
        if (kind == '0')
            reporter->Report("Could not open '%s'.", what);
        else if (kind == 'x')
            reporter->Report("The model is not a valid Flatbuffer buffer");
        return kind == 'e' || kind == 't' ? std::unique_ptr<FlatBufferModel>(new FlatBufferModel(std::move(model), reporter)) : nullptr;
    }

    std::shared_ptr<strop_tflite::Model> model_;
    ErrorReporter *reporter_;
};

} // namespace impl

using FlatBufferModel = impl::FlatBufferModel;

} // namespace tflite

#endif /* STROP_TENSORFLOW_LITE_MODEL_BUILDER_H */
