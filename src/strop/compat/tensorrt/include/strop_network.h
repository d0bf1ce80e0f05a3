/*
 * strop_network.h - INetworkDefinition of NvInfer.h: what strop_layers.h records, and how it is written.
 */
#ifndef STROP_NETWORK_H
#define STROP_NETWORK_H

#include "strop_layers.h"

namespace nvinfer1 {

/* A network of layers, or a model that NvOnnxParser.h read. */
class INetworkDefinition : public INoCopy {
public:
    enum class Batch { kEXPLICIT, kIMPLICIT, kUNDECIDED };

    explicit INetworkDefinition(ILogger &logger, Batch batch = Batch::kEXPLICIT) : logger_(logger), batch_(batch) {}

    std::string const &model() const { return model_; }
    void setModel(std::string path) { model_ = std::move(path); }
    strop::command::Folder &folder() { return folder_; }

    void setName(char const *name) { name_ = name; }
    char const *getName() const { return name_.c_str(); }
    std::int32_t getNbLayers() const { return static_cast<std::int32_t>(layers_.size()); }
    std::int32_t getNbInputs() const { return static_cast<std::int32_t>(inputs_.size()); }
    std::int32_t getNbOutputs() const { return static_cast<std::int32_t>(outputs_.size()); }
    ILayer *getLayer(std::int32_t index) const { return index >= 0 && index < getNbLayers() ? layers_[static_cast<std::size_t>(index)].get() : nullptr; }
    ITensor *getInput(std::int32_t index) const { return index >= 0 && index < getNbInputs() ? inputs_[static_cast<std::size_t>(index)].get() : nullptr; }
    ITensor *getOutput(std::int32_t index) const { return index >= 0 && index < getNbOutputs() ? outputs_[static_cast<std::size_t>(index)] : nullptr; }
    bool hasImplicitBatchDimension() const { return batch_ == Batch::kIMPLICIT; }

    /* ---- inputs and outputs ---- */

    ITensor *addInput(char const *name, DataType type, Dims const &dims)
    {
        for (auto const &input : inputs_)
            if (!std::strcmp(input->getName(), name)) {
                strop_detail::say(logger_, ILogger::Severity::kERROR, std::string("input name is taken: ") + name);
                return nullptr;
            }
        inputs_.emplace_back(new ITensor(name, type, dims, true));
        return inputs_.back().get();
    }
    void markOutput(ITensor &tensor)
    {
        tensor.output_ = true;
        outputs_.push_back(&tensor);
    }

    /* ---- the layers of version 4 ---- */

    IConvolutionLayer *addConvolutionNd(ITensor &input, std::int64_t maps, Dims const &kernel, Weights weights, Weights bias)
    {
        return windowed<IConvolutionLayer>("Convolution", input, maps, kernel, weights, bias);
    }
    IConvolutionLayer *addConvolution(ITensor &input, std::int64_t maps, DimsHW const &kernel, Weights weights, Weights bias)
    {
        return addConvolutionNd(input, maps, kernel, weights, bias);
    }
    IDeconvolutionLayer *addDeconvolutionNd(ITensor &input, std::int64_t maps, Dims const &kernel, Weights weights, Weights bias)
    {
        return windowed<IDeconvolutionLayer>("Deconvolution", input, maps, kernel, weights, bias);
    }
    IDeconvolutionLayer *addDeconvolution(ITensor &input, std::int64_t maps, DimsHW const &kernel, Weights weights, Weights bias)
    {
        return addDeconvolutionNd(input, maps, kernel, weights, bias);
    }
    IFullyConnectedLayer *addFullyConnected(ITensor &input, std::int64_t outputs, Weights kernel, Weights bias)
    {
        decide(input, 3);
        auto *layer = add<IFullyConnectedLayer>("FullyConnected", {&input});
        layer->set("maps", std::to_string(outputs));
        layer->set("kernel", kernel, true);
        layer->set("bias", bias);
        return layer;
    }
    IPoolingLayer *addPoolingNd(ITensor &input, PoolingType type, Dims const &window)
    {
        decide(input, window.nbDims + 1);
        auto *layer = add<IPoolingLayer>("Pooling", {&input});
        layer->setPoolingType(type);
        layer->set("window", strop_detail::list(window));
        return layer;
    }
    IPoolingLayer *addPooling(ITensor &input, PoolingType type, DimsHW const &window) { return addPoolingNd(input, type, window); }
    ILRNLayer *addLRN(ITensor &input, std::int64_t window, float alpha, float beta, float k)
    {
        decide(input, 3);
        auto *layer = add<ILRNLayer>("LRN", {&input});
        layer->set("window", std::to_string(window));
        layer->set("alpha", strop_detail::number(alpha));
        layer->set("beta", strop_detail::number(beta));
        layer->set("k", strop_detail::number(k));
        return layer;
    }
    IActivationLayer *addActivation(ITensor &input, ActivationType type)
    {
        return typed<IActivationLayer>("Activation", {&input}, "type", type,
                                       "relu sigmoid tanh leaky_relu elu selu softsign softplus clip hard_sigmoid scaled_tanh thresholded_relu "
                                       "gelu_erf gelu_tanh");
    }
    ISoftMaxLayer *addSoftMax(ITensor &input) { return add<ISoftMaxLayer>("Softmax", {&input}); }
    IRaggedSoftMaxLayer *addRaggedSoftMax(ITensor &input, ITensor &bounds) { return add<IRaggedSoftMaxLayer>("RaggedSoftmax", {&input, &bounds}); }
    IRNNv2Layer *addRNNv2(ITensor &input, std::int32_t layers, std::int32_t hidden, std::int32_t steps, RNNOperation op)
    {
        decide(input, 2);
        auto *layer = typed<IRNNv2Layer>("RNN", {&input}, "op", op, "relu tanh lstm gru", op == RNNOperation::kLSTM ? 3 : 2);
        layer->set("layers", std::to_string(layers));
        layer->set("hidden", std::to_string(hidden));
        layer->set("steps", std::to_string(steps));
        return layer;
    }
    IScaleLayer *addScale(ITensor &input, ScaleMode mode, Weights shift, Weights scale, Weights power)
    {
        auto *layer = typed<IScaleLayer>("Scale", {&input}, "mode", mode, "uniform channel elementwise");
        layer->set("shift", shift);
        layer->set("scale", scale);
        layer->set("power", power);
        return layer;
    }
    IScaleLayer *addScaleNd(ITensor &input, ScaleMode mode, Weights shift, Weights scale, Weights power, std::int32_t channelAxis)
    {
        auto *layer = addScale(input, mode, shift, scale, power);
        layer->setChannelAxis(channelAxis);
        return layer;
    }
    IElementWiseLayer *addElementWise(ITensor &a, ITensor &b, ElementWiseOperation op)
    {
        return typed<IElementWiseLayer>("Elementwise", {&a, &b}, "op", op, "sum prod max min sub div pow floor_div and or xor equal greater less");
    }
    IUnaryLayer *addUnary(ITensor &input, UnaryOperation op)
    {
        return typed<IUnaryLayer>("Unary", {&input}, "op", op,
                                  "exp log sqrt recip abs neg sin cos tan sinh cosh asin acos atan asinh acosh atanh ceil floor erf not sign "
                                  "round isinf isnan");
    }
    IConcatenationLayer *addConcatenation(ITensor *const *inputs, std::int32_t count)
    {
        return add<IConcatenationLayer>("Concatenation", std::vector<ITensor *>(inputs, inputs + count));
    }
    IPaddingLayer *addPaddingNd(ITensor &input, Dims const &pre, Dims const &post)
    {
        auto *layer = add<IPaddingLayer>("Padding", {&input});
        layer->set("pre", strop_detail::list(pre));
        layer->set("post", strop_detail::list(post));
        return layer;
    }
    IPaddingLayer *addPadding(ITensor &input, DimsHW const &pre, DimsHW const &post) { return addPaddingNd(input, pre, post); }
    IShuffleLayer *addShuffle(ITensor &input) { return add<IShuffleLayer>("Shuffle", {&input}); }
    IMatrixMultiplyLayer *addMatrixMultiply(ITensor &a, MatrixOperation opA, ITensor &b, MatrixOperation opB)
    {
        auto *layer = typed<IMatrixMultiplyLayer>("MatrixMultiply", {&a, &b}, "op0", opA, "none transpose vector");
        layer->set("op1", strop_detail::word(opB, "none transpose vector"));
        return layer;
    }
    IConstantLayer *addConstant(Dims const &dims, Weights weights)
    {
        auto *layer = add<IConstantLayer>("Constant", {});
        layer->set("values", weights, true);
        layer->set("shape", strop_detail::list(dims));
        return layer;
    }
    IGatherLayer *addGather(ITensor &data, ITensor &indices, std::int32_t axis)
    {
        auto *layer = add<IGatherLayer>("Gather", {&data, &indices});
        layer->setGatherAxis(axis);
        return layer;
    }
    IReduceLayer *addReduce(ITensor &input, ReduceOperation op, std::uint32_t axes, bool keep)
    {
        auto *layer = typed<IReduceLayer>("Reduce", {&input}, "op", op, "sum prod max min avg");
        layer->setAxes(axes);
        layer->setKeepDimensions(keep);
        return layer;
    }
    ITopKLayer *addTopK(ITensor &input, TopKOperation op, std::int32_t k, std::uint32_t axes)
    {
        auto *layer = typed<ITopKLayer>("TopK", {&input}, "op", op, "max min", 2);
        layer->setK(k);
        layer->setAxes(axes);
        return layer;
    }

    /* ---- later ones ---- */

    IIdentityLayer *addIdentity(ITensor &input) { return add<IIdentityLayer>("Identity", {&input}); }
    ICastLayer *addCast(ITensor &input, DataType type)
    {
        auto *layer = add<ICastLayer>("Cast", {&input});
        layer->set("to", strop_detail::quoted(strop_detail::dtype_name(type)));
        return layer;
    }
    ISelectLayer *addSelect(ITensor &condition, ITensor &yes, ITensor &no) { return add<ISelectLayer>("Select", {&condition, &yes, &no}); }
    IShapeLayer *addShape(ITensor &input) { return add<IShapeLayer>("Shape", {&input}); }
    ISliceLayer *addSlice(ITensor &input, Dims const &start, Dims const &size, Dims const &stride)
    {
        auto *layer = add<ISliceLayer>("Slice", {&input});
        layer->set("start", strop_detail::list(start));
        layer->set("size", strop_detail::list(size));
        layer->set("stride", strop_detail::list(stride));
        return layer;
    }
    ISqueezeLayer *addSqueeze(ITensor &input, ITensor &axes) { return add<ISqueezeLayer>("Squeeze", {&input, &axes}); }
    IUnsqueezeLayer *addUnsqueeze(ITensor &input, ITensor &axes) { return add<IUnsqueezeLayer>("Unsqueeze", {&input, &axes}); }
    IResizeLayer *addResize(ITensor &input) { return add<IResizeLayer>("Resize", {&input}); }
    IEinsumLayer *addEinsum(ITensor *const *inputs, std::int32_t count, char const *equation)
    {
        auto *layer = add<IEinsumLayer>("Einsum", std::vector<ITensor *>(inputs, inputs + count));
        layer->set("equation", strop_detail::quoted(equation));
        return layer;
    }

    /* The network as the bytes of a file. */
    std::vector<char> stored(std::int32_t maxBatch) const
    {
        std::string text = "{\"name\": " + strop_detail::quoted(name_) + ", \"implicit_batch\": " + (hasImplicitBatchDimension() ? "true" : "false");
        text += ", \"batch\": " + std::to_string(hasImplicitBatchDimension() ? maxBatch : 1) + ", \"groups\": [], \"inputs\": [";
        std::string between;
        for (auto const &input : inputs_) {
            text += between + "{\"name\": " + strop_detail::quoted(input->name_) + ", \"dtype\": \"" + strop_detail::dtype_name(input->type_);
            text += "\", \"shape\": " + strop_detail::list(input->dims_) + ", \"axes\": {" + axes(*input) + "}}";
            between = ", ";
        }
        text += "], \"layers\": [";
        between.clear();
        for (auto const &layer : layers_) {
            text += between + "{\"kind\": \"" + layer->kind_ + "\", \"name\": " + strop_detail::quoted(layer->name_) + ", \"inputs\": [" + names(layer->inputs_);
            text += "], \"outputs\": [" + names(layer->outputs_) + "], \"fields\": {";
            between.clear();
            for (auto const &field : layer->fields_) {
                text += between + "\"" + field.first + "\": " + field.second;
                between = ", ";
            }
            text += "}}";
            between = ", ";
        }
        text += "], \"outputs\": [" + names(outputs_) + "]}";
        std::vector<char> made{'S', 'T', 'R', 'O', 'P', 'N', 'E', 'T'};
        for (int k = 0; k < 8; k++)
            made.push_back(static_cast<char>(static_cast<std::uint64_t>(text.size()) >> 8 * k & 255));
        made.insert(made.end(), text.begin(), text.end());
        made.insert(made.end(), blob_.begin(), blob_.end());
        return made;
    }

private:
    template <typename L> L *add(char const *kind, std::vector<ITensor *> inputs, std::int32_t results = 1)
    {
        std::string const name = "(Unnamed Layer* " + std::to_string(layers_.size()) + ") [" + kind + "]";
        L *layer = new L(kind, name, blob_);
        layers_.emplace_back(layer);
        layer->inputs_ = std::move(inputs);
        for (std::int32_t k = 0; k < results; k++)
            layer->outputs_.emplace_back(new ITensor(name + "_output" + (k ? "_" + std::to_string(k) : ""), DataType::kFLOAT, Dims(), false));
        return layer;
    }
    template <typename L, typename E>
    L *typed(char const *kind, std::vector<ITensor *> inputs, char const *field, E value, char const *words, std::int32_t results = 1)
    {
        L *layer = add<L>(kind, std::move(inputs), results);
        layer->set(field, strop_detail::word(value, words));
        return layer;
    }
    template <typename L> L *windowed(char const *kind, ITensor &input, std::int64_t maps, Dims const &kernel, Weights const &weights, Weights const &bias)
    {
        decide(input, kernel.nbDims + 1);
        L *layer = add<L>(kind, {&input});
        layer->set("maps", std::to_string(maps));
        layer->set("window", strop_detail::list(kernel));
        layer->set("kernel", weights);
        layer->set("bias", bias);
        return layer;
    }
    /* Where versions differ in what flags mean, the first layer that takes samples of a known rank decides whether the batch is implicit. */
    void decide(ITensor const &input, std::int32_t rank)
    {
        if (batch_ == Batch::kUNDECIDED && input.input_)
            batch_ = input.dims_.nbDims == rank ? Batch::kIMPLICIT : Batch::kEXPLICIT;
    }
    static std::string axes(ITensor const &tensor)
    {
        std::string text;
        for (auto const &axis : tensor.axes_)
            text += (text.empty() ? "\"" : ", \"") + std::to_string(axis.first) + "\": " + strop_detail::quoted(axis.second);
        return text;
    }
    template <typename P> static std::string names(std::vector<P> const &tensors)
    {
        std::string text;
        for (auto const &tensor : tensors)
            text += (text.empty() ? "" : ", ") + (tensor ? strop_detail::quoted(tensor->getName()) : std::string("null"));
        return text;
    }

    ILogger &logger_;
    Batch batch_;
    std::string name_ = "network", model_;
    std::vector<char> blob_;
    std::vector<std::unique_ptr<ITensor>> inputs_;
    std::vector<std::unique_ptr<ILayer>> layers_;
    std::vector<ITensor *> outputs_;
    strop::command::Folder folder_;
};

} // namespace nvinfer1

#endif /* STROP_NETWORK_H */
