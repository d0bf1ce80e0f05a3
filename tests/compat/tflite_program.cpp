// The presentation's inference code, and every function of the headers that it stands on.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tensorflow/lite/interpreter.h"
#include "tensorflow/lite/kernels/register.h"
#include "tensorflow/lite/model.h"
#include "tensorflow/lite/optional_debug_tools.h"
#include "tflite/interpreter.h"

class Quiet : public tflite::ErrorReporter {
public:
    using tflite::ErrorReporter::Report;
    int Report(const char *format, std::va_list arguments) override
    {
        char text[2048];
        std::vsnprintf(text, sizeof text, format, arguments);
        last = text;
        return 0;
    }
    std::string last;
};

static int fail(const char *what)
{
    std::printf("failed: %s\n", what);
    return 1;
}

// As on the slide, with &interpreter.
static int deck(const char *filename)
{
    // Load the model
    std::unique_ptr<tflite::FlatBufferModel> model = tflite::FlatBufferModel::BuildFromFile(filename);
    if (!model)
        return fail("load");

    // Build the interpreter
    tflite::ops::builtin::BuiltinOpResolver resolver;
    std::unique_ptr<tflite::Interpreter> interpreter;
    tflite::InterpreterBuilder(*model, resolver)(&interpreter);
    if (!interpreter)
        return fail("build");

    // Resize input tensors, if desired.
    interpreter->AllocateTensors();

    float *input = interpreter->typed_input_tensor<float>(0);
    // Fill 'input'.
    std::size_t const count = interpreter->input_tensor(0)->bytes / sizeof(float);
    for (std::size_t i = 0; i < count; i++)
        input[i] = static_cast<float>(i % 7) / 7.0f;

    interpreter->Invoke();

    float *output = interpreter->typed_output_tensor<float>(0);
    for (std::size_t i = 0; i < interpreter->output_tensor(0)->bytes / sizeof(float); i++)
        std::printf("%.9g\n", static_cast<double>(output[i]));
    return 0;
}

// (x + c) * c in 8 bits: grids, names, types, errors.
static int quantized(const char *filename)
{
    Quiet quiet;
    if (tflite::FlatBufferModel::BuildFromFile("/nowhere.tflite", &quiet) || quiet.last != "Could not open '/nowhere.tflite'.")
        return fail("a file that is not there");
    if (tflite::FlatBufferModel::BuildFromBuffer("junk junk junk", 14, &quiet) || quiet.last != "The model is not a valid Flatbuffer buffer")
        return fail("junk");
    auto model = tflite::FlatBufferModel::VerifyAndBuildFromFile(filename, nullptr, &quiet);
    tflite::ops::builtin::BuiltinOpResolverWithoutDefaultDelegates resolver;
    tflite::InterpreterBuilder builder(*model, resolver);
    std::unique_ptr<tflite::Interpreter> interpreter;
    if (builder.SetNumThreads(-2) != kTfLiteError || builder.SetNumThreads(2) != kTfLiteOk || builder(nullptr) != kTfLiteError || builder(&interpreter) != kTfLiteOk)
        return fail(quiet.last.c_str());
    if (interpreter->Invoke() != kTfLiteError || quiet.last != "Invoke called on model that is not ready.")
        return fail("invoke before allocation");
    if (interpreter->AllocateTensors() != kTfLiteOk || interpreter->SetNumThreads(1) != kTfLiteOk)
        return fail(quiet.last.c_str());
    TfLiteTensor const *x = interpreter->input_tensor(0);
    if (x->type != kTfLiteInt8 || x->params.scale != 0.05f || x->params.zero_point != -3 || x->dims->size != 2 || x->dims->data[1] != 2 || x->bytes != 2)
        return fail("what the input is");
    auto const *grid = static_cast<TfLiteAffineQuantization const *>(x->quantization.params);
    if (x->quantization.type != kTfLiteAffineQuantization || grid->scale->size != 1 || grid->zero_point->data[0] != -3)
        return fail("the input's grid");
    if (std::strcmp(interpreter->GetInputName(0), "x") || std::strcmp(interpreter->GetOutputName(0), "y") || interpreter->inputs() != std::vector<int>{0} || interpreter->outputs() != std::vector<int>{3})
        return fail("names and numbers");
    if (interpreter->typed_input_tensor<float>(0) || interpreter->tensor(99) || interpreter->tensor(2)->data.raw || interpreter->tensor(1)->allocation_type != kTfLiteMmapRo)
        return fail("tensors that are not stored");
    if (interpreter->nodes_size() != 2 || std::strcmp(interpreter->node_and_registration(1)->second.custom_name, "MUL") || interpreter->execution_plan().size() != 2)
        return fail("nodes");
    interpreter->typed_input_tensor<std::int8_t>(0)[0] = -5;
    interpreter->typed_input_tensor<std::int8_t>(0)[1] = 9;
    if (interpreter->Invoke() != kTfLiteOk)
        return fail("invoke");
    std::printf("%d %d\n", interpreter->typed_output_tensor<std::int8_t>(0)[0], interpreter->typed_output_tensor<std::int8_t>(0)[1]);
    if (interpreter->ResizeInputTensorStrict(0, {3, 2}) != kTfLiteError || interpreter->ResizeInputTensor(1, {3, 2}) != kTfLiteError || interpreter->ResizeInputTensor(0, {3, 2}) != kTfLiteOk)
        return fail("sizes that may change");
    if (interpreter->Invoke() != kTfLiteError || interpreter->AllocateTensors() != kTfLiteOk)
        return fail(quiet.last.c_str());
    for (int i = 0; i < 6; i++)
        interpreter->typed_input_tensor<std::int8_t>(0)[i] = static_cast<std::int8_t>(i % 2 ? 9 : -5);
    if (interpreter->Invoke() != kTfLiteOk || interpreter->output_tensor(0)->dims->data[0] != 3)
        return fail("a larger batch");
    std::printf("%d %d\n", interpreter->typed_output_tensor<std::int8_t>(0)[4], interpreter->typed_output_tensor<std::int8_t>(0)[5]);
    if (interpreter->Cancel() != kTfLiteError || interpreter->SetCustomAllocationForTensor(0, 1) != kTfLiteError || interpreter->ModifyGraphWithDelegate(nullptr) != kTfLiteOk)
        return fail("what is refused or has no effect");
    if (interpreter->ReleaseNonPersistentMemory() != kTfLiteOk || interpreter->Invoke() != kTfLiteError)
        return fail("memory that is given back");
    tflite::PrintInterpreterState(interpreter.get());
    return 0;
}

// A queue that begins with 7, 7, 7: its sum after each value.
static int streaming(const char *filename)
{
    auto model = tflite::FlatBufferModel::BuildFromFile(filename);
    tflite::ops::builtin::BuiltinOpResolver resolver;
    std::unique_ptr<tflite::Interpreter> interpreter;
    if (tflite::InterpreterBuilder(*model, resolver)(&interpreter, 1) != kTfLiteOk || interpreter->AllocateTensors() != kTfLiteOk)
        return fail("streaming");
    for (int turn = 0; turn < 2; turn++) {
        for (int step = 0; step < 4; step++) {
            *interpreter->typed_input_tensor<float>(0) = static_cast<float>(step);
            interpreter->Invoke();
            std::printf("%g ", static_cast<double>(*interpreter->typed_output_tensor<float>(0)));
        }
        interpreter->ResetVariableTensors();
    }
    std::printf("\n");
    return 0;
}

static int signatures(const char *filename)
{
    std::vector<char> data;
    strop::command::read(filename, data);
    auto model = tflite::FlatBufferModel::BuildFromBuffer(data.data(), data.size());
    tflite::ops::builtin::BuiltinOpResolver resolver;
    std::unique_ptr<tflite::Interpreter> interpreter;
    if (tflite::InterpreterBuilder(*model, resolver)(&interpreter) != kTfLiteOk || interpreter->signature_keys().size() != 2)
        return fail("signatures");
    if (interpreter->GetSignatureRunner("bad") || interpreter->GetSignatureRunner(nullptr))
        return fail("a signature that is not there");
    for (const char *key : {"exp", "neg"}) {
        tflite::SignatureRunner *runner = interpreter->GetSignatureRunner(key);
        if (!runner || runner != interpreter->GetSignatureRunner(key) || runner->AllocateTensors() != kTfLiteOk || runner->input_tensor("z"))
            return fail(key);
        runner->input_tensor("x")->data.f[0] = 0.0f;
        runner->input_tensor("x")->data.f[1] = 2.0f;
        runner->Invoke();
        float const *found = runner->output_tensor(runner->output_names()[0])->data.f;
        std::printf("%s %.4f %.4f\n", key, static_cast<double>(found[0]), static_cast<double>(found[1]));
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    return deck(argv[1]) || quantized(argv[2]) || streaming(argv[3]) || signatures(argv[4]);
}
