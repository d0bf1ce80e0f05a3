/* subgraph.h - a subgraph with its tensors, and its engine at the shapes in force. Interpreter and SignatureRunner are made of it. */
#ifndef STROP_TENSORFLOW_LITE_SUBGRAPH_H
#define STROP_TENSORFLOW_LITE_SUBGRAPH_H

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "strop_tflite_program.h"
#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/error_reporter.h"

namespace tflite {
namespace impl {

/* Values of variables by name, which the subgraphs of an interpreter share. */
using State = std::map<std::string, std::vector<char>>;

inline TfLiteType TypeNamed(std::string const &name)
{
    for (int k = 0; k <= static_cast<int>(kTfLiteBFloat16); k++)
        if (name == TfLiteTypeGetName(static_cast<TfLiteType>(k)))
            return static_cast<TfLiteType>(k);
    return kTfLiteNoType;
}

inline std::size_t TypeSize(TfLiteType type)
{
    switch (type) {
    case kTfLiteInt8: case kTfLiteUInt8: case kTfLiteBool: return 1;
    case kTfLiteInt16: case kTfLiteUInt16: case kTfLiteFloat16: case kTfLiteBFloat16: return 2;
    case kTfLiteFloat32: case kTfLiteInt32: case kTfLiteUInt32: return 4;
    case kTfLiteFloat64: case kTfLiteInt64: case kTfLiteUInt64: return 8;
    default: return 0;
    }
}

inline TfLiteIntArray *IntArray(std::vector<int> const &numbers)
{
    TfLiteIntArray *made = TfLiteIntArrayCreate(static_cast<int>(numbers.size()));
    std::copy(numbers.begin(), numbers.end(), made->data);
    return made;
}

class Subgraph {
public:
    Subgraph(std::shared_ptr<strop_tflite::Model> model, std::string key, std::shared_ptr<strop_tflite::Program> program, std::shared_ptr<State> state, int threads,
             ErrorReporter *reporter)
        : model_(std::move(model)), key_(std::move(key)), program_(std::move(program)), state_(std::move(state)), threads_(threads), reporter_(reporter)
    {
        Describe();
    }
    ~Subgraph()
    {
        strop_context_destroy(context_);
        Forget();
    }
    Subgraph(Subgraph const &) = delete;
    Subgraph &operator=(Subgraph const &) = delete;

    strop_tflite::Sheet const &sheet() const { return program_->sheet(); }
    std::size_t size() const { return tensors_.size(); }
    TfLiteTensor *tensor(int index) { return index >= 0 && static_cast<std::size_t>(index) < tensors_.size() ? &tensors_[static_cast<std::size_t>(index)] : nullptr; }
    std::vector<std::pair<TfLiteNode, TfLiteRegistration>> const &nodes() const { return nodes_; }
    ErrorReporter *reporter() const { return reporter_; }

    TfLiteStatus SetNumThreads(int threads)
    {
        if (threads < -1) {
            reporter_->Report("num_threads should be >= 0 or just -1 to let TFLite runtime set the value.");
            return kTfLiteError;
        }
        threads = threads < 1 ? 1 : threads;
        if (threads != threads_ && context_) {
            threads_ = threads;
            return ready_ ? Prepare() : kTfLiteOk;
        }
        threads_ = threads;
        return kTfLiteOk;
    }

    TfLiteStatus Resize(int index, std::vector<int> const &dims, bool strict)
    {
        if (std::find(sheet().inputs.begin(), sheet().inputs.end(), index) == sheet().inputs.end()) {
            reporter_->Report("tensor %d is no input", index);
            return kTfLiteError;
        }
        TfLiteTensor &t = tensors_[static_cast<std::size_t>(index)];
        for (std::size_t k = 0; strict && k < dims.size(); k++) {
            bool const open = dims.size() == static_cast<std::size_t>(t.dims->size) && t.dims_signature->data[k] == -1;
            if (dims.size() != static_cast<std::size_t>(t.dims->size) || (!open && dims[k] != t.dims->data[k])) {
                reporter_->Report("Attempting to resize dimension %d of tensor %d. ResizeInputTensorStrict only allows mutating unknown dimensions identified by -1.",
                                  static_cast<int>(k), index);
                return kTfLiteError;
            }
        }
        TfLiteIntArray *given = IntArray(dims);
        if (TfLiteIntArrayEqual(given, t.dims)) {
            TfLiteIntArrayFree(given);
            return kTfLiteOk;
        }
        TfLiteIntArrayFree(t.dims);
        t.dims = given;
        shapes_[sheet().tensors[static_cast<std::size_t>(index)].holder] = dims;
        ready_ = false;
        return kTfLiteOk;
    }

    TfLiteStatus Allocate()
    {
        if (ready_)
            return kTfLiteOk;
        if (!shapes_.empty() && !Serves()) {
            std::string why;
            strop_tflite::Shapes all;
            for (int index : sheet().inputs) {
                TfLiteIntArray const *dims = tensors_[static_cast<std::size_t>(index)].dims;
                all[sheet().tensors[static_cast<std::size_t>(index)].holder].assign(dims->data, dims->data + dims->size);
            }
            auto made = model_->program(key_, all, threads_, why);
            if (!made) {
                reporter_->Report("%s", why.c_str());
                return kTfLiteError;
            }
            strop_context_destroy(context_);
            context_ = nullptr;
            program_ = std::move(made);
            Describe();
        }
        return Prepare();
    }

    TfLiteStatus Invoke()
    {
        if (!ready_) {
            reporter_->Report("Invoke called on model that is not ready.");
            return kTfLiteError;
        }
        strop_error error;
        if (strop_context_call(context_, inputs_.data(), outputs_.data(), &error) != STROP_OK) {
            reporter_->Report("%s", error.message);
            return kTfLiteError;
        }
        for (auto const &carried : carried_)
            std::memcpy(carried.first->data(), carried.second, carried.first->size());
        for (std::size_t k = 0; k < computed_.size(); k++) {
            strop_tensor_info info;
            if (strop_context_output_info(context_, computed_[k].first, &info, &error) == STROP_OK)
                SetDims(*computed_[k].second, info);
        }
        return kTfLiteOk;
    }

    TfLiteStatus ResetVariables()
    {
        std::size_t at = 0;
        for (auto const &variable : sheet().variables) {
            auto &value = (*state_)[variable.input];
            std::copy_n(program_->state().begin() + static_cast<std::ptrdiff_t>(at), std::min(variable.size, value.size()), value.begin());
            at += variable.size;
        }
        return kTfLiteOk;
    }

    TfLiteStatus Release()
    {
        strop_context_destroy(context_);
        context_ = nullptr;
        ready_ = false;
        for (auto &t : tensors_)
            t.data.raw = nullptr;
        return kTfLiteOk;
    }

private:
    void Forget()
    {
        for (auto &t : tensors_) {
            TfLiteIntArrayFree(t.dims);
            TfLiteIntArrayFree(const_cast<TfLiteIntArray *>(t.dims_signature));
            if (auto *grid = static_cast<TfLiteAffineQuantization *>(t.quantization.params)) {
                std::free(grid->scale);
                TfLiteIntArrayFree(grid->zero_point);
                delete grid;
            }
        }
        for (auto &node : nodes_) {
            TfLiteIntArrayFree(node.first.inputs);
            TfLiteIntArrayFree(node.first.outputs);
        }
        tensors_.clear();
        nodes_.clear();
    }

    /* Tensors and nodes as the sheet has them; addresses stay as long as their number does. */
    void Describe()
    {
        Forget();
        tensors_.resize(sheet().tensors.size());
        std::vector<bool> made(tensors_.size(), false);
        for (auto const &op : sheet().operators)
            for (int index : op.outputs)
                made[static_cast<std::size_t>(index)] = true;
        for (int index : sheet().inputs)
            made[static_cast<std::size_t>(index)] = true;
        for (std::size_t k = 0; k < tensors_.size(); k++)
            Describe(tensors_[k], sheet().tensors[k], made[k]);
        for (auto const &op : sheet().operators)
            nodes_.push_back({TfLiteNode{IntArray(op.inputs), IntArray(op.outputs)}, TfLiteRegistration{-1, op.code.c_str(), 1}});
    }

    static void Describe(TfLiteTensor &t, strop_tflite::SheetTensor const &told, bool is_made)
    {
        t = TfLiteTensor();
        t.type = TypeNamed(told.type);
        t.dims = IntArray(told.shape);
        t.dims_signature = IntArray(told.signature);
        t.name = told.name.c_str();
        t.allocation_type = told.place.empty() && !is_made ? kTfLiteMmapRo : told.place.empty() ? kTfLiteMemNone : kTfLiteArenaRw;
        t.bytes = TypeSize(t.type);
        for (int d : told.shape)
            t.bytes *= static_cast<std::size_t>(d);
        if (told.scales.empty())
            return;
        auto *grid = new TfLiteAffineQuantization();
        std::size_t const count = told.scales.size();
        grid->scale = static_cast<TfLiteFloatArray *>(std::malloc(sizeof(TfLiteFloatArray) + count * sizeof(float)));
        grid->scale->size = static_cast<int>(count);
        std::copy(told.scales.begin(), told.scales.end(), grid->scale->data);
        grid->zero_point = IntArray(told.zeros);
        grid->quantized_dimension = told.axis;
        t.quantization = {kTfLiteAffineQuantization, grid};
        if (count == 1)
            t.params = {told.scales[0], told.zeros[0]};
    }

    static void SetDims(TfLiteTensor &t, strop_tensor_info const &info)
    {
        std::vector<int> dims;
        for (std::uint32_t k = 0; k < info.rank; k++)
            dims.push_back(static_cast<int>(info.dims[k]));
        TfLiteIntArrayFree(t.dims);
        t.dims = IntArray(dims);
        t.bytes = TypeSize(t.type);
        for (int d : dims)
            t.bytes *= static_cast<std::size_t>(d);
    }

    /* Whether the loaded engine serves the shapes that are asked for. */
    bool Serves() const
    {
        for (std::uint32_t i = 0; i < strop_engine_input_count(program_->engine()); i++) {
            strop_tensor_info info;
            if (strop_engine_input_info(program_->engine(), i, &info, nullptr) != STROP_OK)
                return false;
            auto const wanted = shapes_.find(info.name);
            if (wanted == shapes_.end())
                continue;
            if (wanted->second.size() != info.rank)
                return false;
            for (std::uint32_t k = 0; k < info.rank; k++) {
                std::int64_t const d = wanted->second[k];
                if (d < info.least[k] || d > info.most[k] || d % info.step[k])
                    return false;
            }
        }
        return true;
    }

    /* The tensor that the engine's input or output of this name holds. */
    TfLiteTensor *Held(char const *place, char const *name)
    {
        for (std::size_t k = 0; k < tensors_.size(); k++)
            if (sheet().tensors[k].place == place && sheet().tensors[k].holder == name)
                return &tensors_[k];
        return nullptr;
    }

    /* A context of the engine, and memory for its inputs and outputs. */
    TfLiteStatus Prepare()
    {
        strop_error error;
        strop_context *made = nullptr;
        if (strop_context_create(program_->engine(), threads_, &made, &error) != STROP_OK) {
            reporter_->Report("%s", error.message);
            return kTfLiteError;
        }
        strop_context_destroy(context_);
        context_ = made;
        std::uint32_t const inputs = strop_engine_input_count(program_->engine()), outputs = strop_engine_output_count(program_->engine());
        if (!ResizeContext(inputs))
            return kTfLiteError;
        inputs_.assign(inputs, nullptr), outputs_.assign(outputs, nullptr);
        computed_.clear(), carried_.clear();
        memory_.resize(inputs + outputs);
        for (std::uint32_t i = 0; i < inputs + outputs; i++) {
            strop_tensor_info info;
            if ((i < inputs ? strop_context_input_info(context_, i, &info, &error) : strop_context_output_info(context_, i - inputs, &info, &error)) != STROP_OK)
                return kTfLiteError;
            TfLiteTensor *held = Held(i < inputs ? "in" : "out", info.name);
            void *data = i < inputs && !held ? Variable(info) : Memory(i, info.bytes);
            if (i < inputs)
                inputs_[i] = data;
            else
                outputs_[i - inputs] = data;
            if (held) {
                SetDims(*held, info);
                held->data.data = data;
                if (i >= inputs && info.is_computed)
                    computed_.emplace_back(i - inputs, held);
            }
            for (auto const &variable : sheet().variables)
                if (i >= inputs && variable.output == info.name)
                    carried_.emplace_back(&(*state_)[variable.input], data);
        }
        ready_ = true;
        return kTfLiteOk;
    }

    bool ResizeContext(std::uint32_t inputs)
    {
        std::vector<std::vector<std::int64_t>> dims(inputs);
        std::vector<std::int64_t const *> rows;
        strop_error error;
        for (std::uint32_t i = 0; i < inputs; i++) {
            strop_tensor_info info;
            if (strop_engine_input_info(program_->engine(), i, &info, &error) != STROP_OK)
                return false;
            TfLiteTensor const *held = Held("in", info.name);
            if (held)
                dims[i].assign(held->dims->data, held->dims->data + held->dims->size);
            else
                dims[i].assign(info.dims, info.dims + info.rank);
            rows.push_back(dims[i].data());
        }
        if (rows.empty() || strop_context_resize(context_, rows.data(), &error) == STROP_OK)
            return true;
        reporter_->Report("%s", error.message);
        return false;
    }

    /* 64-byte aligned zeros that stay where they are while their size does. */
    void *Memory(std::uint32_t index, std::uint64_t size)
    {
        auto &room = memory_[index];
        if (room.size() != size + 64)
            room.assign(size + 64, 0);
        return reinterpret_cast<void *>((reinterpret_cast<std::uintptr_t>(room.data()) + 63) & ~std::uintptr_t{63});
    }

    /* The value of a variable, its first one if it has none yet. */
    void *Variable(strop_tensor_info const &info)
    {
        auto &value = (*state_)[info.name];
        std::size_t at = 0;
        for (auto const &variable : sheet().variables) {
            if (variable.input == info.name && value.size() != variable.size)
                value.assign(program_->state().begin() + static_cast<std::ptrdiff_t>(at), program_->state().begin() + static_cast<std::ptrdiff_t>(at + variable.size));
            at += variable.size;
        }
        value.resize(info.bytes);
        return value.data();
    }

    std::shared_ptr<strop_tflite::Model> model_;
    std::string key_;
    std::shared_ptr<strop_tflite::Program> program_;
    std::shared_ptr<State> state_;
    int threads_;
    ErrorReporter *reporter_;
    strop_context *context_ = nullptr;
    bool ready_ = false;
    strop_tflite::Shapes shapes_;
    std::vector<TfLiteTensor> tensors_;
    std::vector<std::pair<TfLiteNode, TfLiteRegistration>> nodes_;
    std::vector<std::vector<char>> memory_;
    std::vector<void const *> inputs_;
    std::vector<void *> outputs_;
    std::vector<std::pair<std::uint32_t, TfLiteTensor *>> computed_;
    std::vector<std::pair<std::vector<char> *, void *>> carried_;
};

} // namespace impl
} // namespace tflite

#endif /* STROP_TENSORFLOW_LITE_SUBGRAPH_H */
