/*
 * strop_layers.h - the part of NvInfer.h that defines networks layer by layer. Calls are recorded and written as a
 * network of layers (the format is described in frontend/network/stored.py), which the compiler reads; what layers
 * mean, and whether their parameters fit, is decided there. So sizes of results are not known here:
 * ITensor::getDimensions knows those of inputs only. Weights are copied when they are given.
 */
#ifndef STROP_LAYERS_H
#define STROP_LAYERS_H

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nvinfer1 {

struct Weights {
    DataType type;
    void const *values;
    std::int64_t count;
};

struct Permutation {
    std::int32_t order[Dims::MAX_DIMS];
};

enum class ActivationType : std::int32_t {
    kRELU, kSIGMOID, kTANH, kLEAKY_RELU, kELU, kSELU, kSOFTSIGN, kSOFTPLUS, kCLIP, kHARD_SIGMOID, kSCALED_TANH, kTHRESHOLDED_RELU,
    kGELU_ERF, kGELU_TANH
};
enum class PoolingType : std::int32_t { kMAX, kAVERAGE, kMAX_AVERAGE_BLEND };
enum class PaddingMode : std::int32_t { kEXPLICIT_ROUND_DOWN, kEXPLICIT_ROUND_UP, kSAME_UPPER, kSAME_LOWER, kCAFFE_ROUND_DOWN, kCAFFE_ROUND_UP };
enum class ScaleMode : std::int32_t { kUNIFORM, kCHANNEL, kELEMENTWISE };
enum class ElementWiseOperation : std::int32_t {
    kSUM, kPROD, kMAX, kMIN, kSUB, kDIV, kPOW, kFLOOR_DIV, kAND, kOR, kXOR, kEQUAL, kGREATER, kLESS
};
enum class UnaryOperation : std::int32_t {
    kEXP, kLOG, kSQRT, kRECIP, kABS, kNEG, kSIN, kCOS, kTAN, kSINH, kCOSH, kASIN, kACOS, kATAN, kASINH, kACOSH, kATANH, kCEIL, kFLOOR,
    kERF, kNOT, kSIGN, kROUND, kISINF, kISNAN
};
enum class ReduceOperation : std::int32_t { kSUM, kPROD, kMAX, kMIN, kAVG };
enum class TopKOperation : std::int32_t { kMAX, kMIN };
enum class MatrixOperation : std::int32_t { kNONE, kTRANSPOSE, kVECTOR };
enum class GatherMode : std::int32_t { kDEFAULT, kELEMENT, kND };
enum class InterpolationMode : std::int32_t { kNEAREST, kLINEAR, kCUBIC };
using ResizeMode = InterpolationMode;
enum class ResizeCoordinateTransformation : std::int32_t { kALIGN_CORNERS, kASYMMETRIC, kHALF_PIXEL };
enum class RNNOperation : std::int32_t { kRELU, kTANH, kLSTM, kGRU };
enum class RNNDirection : std::int32_t { kUNIDIRECTION, kBIDIRECTION };
enum class RNNInputMode : std::int32_t { kLINEAR, kSKIP };
enum class RNNGateType : std::int32_t { kINPUT, kOUTPUT, kFORGET, kUPDATE, kRESET, kCELL, kHIDDEN };

namespace strop_detail {

inline std::string quoted(std::string const &text)
{
    std::string made = "\"";
    for (char c : text) {
        char code[8];
        if (c == '"' || c == '\\')
            made += '\\', made += c;
        else if (static_cast<unsigned char>(c) < 32)
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c)), made += code;
        else
            made += c;
    }
    return made + "\"";
}

/* The word of an enum's member among words that spaces part. */
template <typename E> std::string word(E value, char const *words)
{
    std::string const all = std::string(words) + " ";
    std::size_t start = 0;
    for (int skip = static_cast<int>(value); skip > 0; skip--)
        start = all.find(' ', start) + 1;
    return quoted(all.substr(start, all.find(' ', start) - start));
}

template <typename T> std::string list(T const *numbers, std::int32_t count)
{
    std::string made = "[";
    for (std::int32_t k = 0; k < count; k++)
        made += (k ? ", " : "") + std::to_string(numbers[k]);
    return made + "]";
}

inline std::string list(Dims const &dims) { return list(dims.d, dims.nbDims); }

inline std::string number(double value)
{
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", value);
    return std::isfinite(value) ? text : value > 0 ? "1e999" : value < 0 ? "-1e999" : "0";
}

inline char const *dtype_name(DataType type)
{
    switch (type) {
    case DataType::kHALF: return "f16";
    case DataType::kINT8: return "i8";
    case DataType::kINT32: return "i32";
    case DataType::kBOOL: return "bool";
    case DataType::kUINT8: return "u8";
    case DataType::kBF16: return "bf16";
    case DataType::kINT64: return "i64";
    default: return "f32";
    }
}

inline std::size_t dtype_size(DataType type)
{
    switch (type) {
    case DataType::kHALF: case DataType::kBF16: return 2;
    case DataType::kINT8: case DataType::kBOOL: case DataType::kUINT8: return 1;
    case DataType::kINT64: return 8;
    default: return 4;
    }
}

} // namespace strop_detail

/* ---- tensors ---- */

class ILayer;

class ITensor {
public:
    ITensor(std::string name, DataType type, Dims const &dims, bool input) : name_(std::move(name)), type_(type), dims_(dims), input_(input) {}
    void setName(char const *name) { name_ = name; }
    char const *getName() const { return name_.c_str(); }
    /* Of inputs; other tensors have nbDims -1: their sizes are known when the network is built. */
    Dims getDimensions() const { return dims_; }
    void setDimensions(Dims const &dims) { dims_ = dims; }
    DataType getType() const { return type_; }
    void setType(DataType type) { type_ = type; }
    void setDimensionName(std::int32_t index, char const *name) { axes_[index] = name; }
    bool isNetworkInput() const { return input_; }
    bool isNetworkOutput() const { return output_; }

private:
    friend class INetworkDefinition;
    std::string name_;
    DataType type_;
    Dims dims_;
    bool input_, output_ = false;
    std::map<std::int32_t, std::string> axes_;
};

/* ---- layers ---- */

class ILayer : public INoCopy {
public:
    ILayer(char const *kind, std::string name, std::vector<char> &blob) : kind_(kind), name_(std::move(name)), blob_(blob) {}
    void setName(char const *name) { name_ = name; }
    char const *getName() const { return name_.c_str(); }
    std::int32_t getNbInputs() const { return static_cast<std::int32_t>(inputs_.size()); }
    std::int32_t getNbOutputs() const { return static_cast<std::int32_t>(outputs_.size()); }
    ITensor *getInput(std::int32_t index) const { return index >= 0 && index < getNbInputs() ? inputs_[static_cast<std::size_t>(index)] : nullptr; }
    ITensor *getOutput(std::int32_t index) const
    {
        return index >= 0 && index < getNbOutputs() ? outputs_[static_cast<std::size_t>(index)].get() : nullptr;
    }
    void setInput(std::int32_t index, ITensor &tensor)
    {
        if (index < 0)
            return;
        if (index >= getNbInputs())
            inputs_.resize(static_cast<std::size_t>(index) + 1, nullptr);
        inputs_[static_cast<std::size_t>(index)] = &tensor;
    }
    /* A wish that need not be followed. */
    void setPrecision(DataType) {}
    void setOutputType(std::int32_t, DataType) {}

    /* Sets a parameter of the layer as it is called in strop.layers, as JSON. */
    void set(char const *field, std::string const &json) { fields_[field] = json; }
    void set(char const *field, Weights const &weights, bool always = false)
    {
        if (weights.count > 0 || always)
            fields_[field] = stored(weights, "[" + std::to_string(weights.count) + "]");
    }

protected:
    std::string stored(Weights const &weights, std::string const &shape)
    {
        std::size_t const offset = blob_.size();
        char const *bytes = static_cast<char const *>(weights.values);
        if (weights.count > 0)
            blob_.insert(blob_.end(), bytes, bytes + static_cast<std::size_t>(weights.count) * strop_detail::dtype_size(weights.type));
        return "{\"array\": [" + std::to_string(offset) + ", \"" + strop_detail::dtype_name(weights.type) + "\", " + shape + "]}";
    }

private:
    friend class INetworkDefinition;
    std::string kind_, name_;
    std::vector<char> &blob_;
    std::map<std::string, std::string> fields_;
    std::vector<ITensor *> inputs_;
    std::vector<std::unique_ptr<ITensor>> outputs_;
};

/* What layers with a window that slides share. */
class IWindowLayer : public ILayer {
public:
    using ILayer::ILayer;
    void setStrideNd(Dims const &stride) { set("stride", strop_detail::list(stride)); }
    void setStride(DimsHW const &stride) { setStrideNd(stride); }
    void setPaddingNd(Dims const &padding) { setPrePadding(padding), setPostPadding(padding); }
    void setPadding(DimsHW const &padding) { setPaddingNd(padding); }
    void setPrePadding(Dims const &padding) { set("pre_padding", strop_detail::list(padding)); }
    void setPostPadding(Dims const &padding) { set("post_padding", strop_detail::list(padding)); }
    void setPaddingMode(PaddingMode mode)
    {
        set("padding_mode", strop_detail::word(mode, "explicit_round_down explicit_round_up same_upper same_lower caffe_round_down caffe_round_up"));
    }
};

class IConvolutionLayer : public IWindowLayer {
public:
    using IWindowLayer::IWindowLayer;
    void setDilationNd(Dims const &dilation) { set("dilation", strop_detail::list(dilation)); }
    void setDilation(DimsHW const &dilation) { setDilationNd(dilation); }
    void setNbGroups(std::int64_t groups) { set("groups", std::to_string(groups)); }
    void setKernelWeights(Weights weights) { set("kernel", weights); }
    void setBiasWeights(Weights weights) { set("bias", weights); }
};

class IDeconvolutionLayer : public IConvolutionLayer {
public:
    using IConvolutionLayer::IConvolutionLayer;
};

class IPoolingLayer : public IWindowLayer {
public:
    using IWindowLayer::IWindowLayer;
    void setPoolingType(PoolingType type) { set("type", strop_detail::word(type, "max average max_average_blend")); }
    void setBlendFactor(float factor) { set("blend_factor", strop_detail::number(factor)); }
    void setAverageCountExcludesPadding(bool excludes) { set("average_count_excludes_padding", excludes ? "true" : "false"); }
};

class IFullyConnectedLayer : public ILayer {
public:
    using ILayer::ILayer;
};

class IActivationLayer : public ILayer {
public:
    using ILayer::ILayer;
    void setAlpha(float alpha) { set("alpha", strop_detail::number(alpha)); }
    void setBeta(float beta) { set("beta", strop_detail::number(beta)); }
};

class ILRNLayer : public ILayer {
public:
    using ILayer::ILayer;
};

class IScaleLayer : public ILayer {
public:
    using ILayer::ILayer;
    void setChannelAxis(std::int32_t axis) { set("channel_axis", std::to_string(axis)); }
};

/* Layers whose axes are a mask of bits. */
class IAxesLayer : public ILayer {
public:
    using ILayer::ILayer;
    void setAxes(std::uint32_t axes) { set("axes", std::to_string(axes)); }
};
using ISoftMaxLayer = IAxesLayer;

class IReduceLayer : public IAxesLayer {
public:
    using IAxesLayer::IAxesLayer;
    void setKeepDimensions(bool keep) { set("keep_dims", keep ? "true" : "false"); }
};

class ITopKLayer : public IAxesLayer {
public:
    using IAxesLayer::IAxesLayer;
    void setK(std::int32_t k) { set("k", std::to_string(k)); }
};

class IConcatenationLayer : public ILayer {
public:
    using ILayer::ILayer;
    void setAxis(std::int32_t axis) { set("axis", std::to_string(axis)); }
};

class IGatherLayer : public IConcatenationLayer {
public:
    using IConcatenationLayer::IConcatenationLayer;
    void setGatherAxis(std::int32_t axis) { setAxis(axis); }
    void setNbElementWiseDims(std::int32_t count) { set("batch_axes", std::to_string(count)); }
    void setMode(GatherMode mode) { set("mode", strop_detail::word(mode, "default element nd")); }
};

class IShuffleLayer : public ILayer {
public:
    using ILayer::ILayer;
    /* Permutations are longer than the rank; the compiler takes as many numbers as there are axes. */
    void setFirstTranspose(Permutation const &order) { set("first", strop_detail::list(order.order, Dims::MAX_DIMS)); }
    void setSecondTranspose(Permutation const &order) { set("second", strop_detail::list(order.order, Dims::MAX_DIMS)); }
    void setReshapeDimensions(Dims const &dims) { set("reshape", strop_detail::list(dims)); }
    void setZeroIsPlaceholder(bool placeholder) { set("zero_is_placeholder", placeholder ? "true" : "false"); }
};

class IResizeLayer : public ILayer {
public:
    using ILayer::ILayer;
    void setOutputDimensions(Dims const &dims) { set("shape", strop_detail::list(dims)); }
    void setScales(float const *scales, std::int32_t count)
    {
        std::string text = "[";
        for (std::int32_t k = 0; k < count; k++)
            text += (k ? ", " : "") + strop_detail::number(scales[k]);
        set("scales", text + "]");
    }
    void setResizeMode(InterpolationMode mode) { set("mode", strop_detail::word(mode, "nearest linear cubic")); }
    void setCoordinateTransformation(ResizeCoordinateTransformation how)
    {
        set("coordinates", strop_detail::word(how, "align_corners asymmetric half_pixel"));
    }
};

class IRNNv2Layer : public ILayer {
public:
    using ILayer::ILayer;
    void setSequenceLengths(ITensor &lengths) { setInput(1, lengths); }
    void setHiddenState(ITensor &state) { setInput(2, state); }
    void setCellState(ITensor &cell) { setInput(3, cell); }
    void setDirection(RNNDirection direction) { set("bidirectional", direction == RNNDirection::kBIDIRECTION ? "true" : "false"); }
    void setInputMode(RNNInputMode mode) { set("skip_input", mode == RNNInputMode::kSKIP ? "true" : "false"); }
    void setWeightsForGate(std::int32_t layer, RNNGateType gate, bool isW, Weights weights) { gated("_weights", weights_, layer, gate, isW, weights); }
    void setBiasForGate(std::int32_t layer, RNNGateType gate, bool isW, Weights bias) { gated("_biases", biases_, layer, gate, isW, bias); }

private:
    void gated(char const *field, std::map<std::string, std::string> &all, std::int32_t layer, RNNGateType gate, bool isW, Weights const &weights)
    {
        std::string const key = "[" + std::to_string(layer) + ", " + strop_detail::word(gate, "input output forget update reset cell hidden") + (isW ? ", true]" : ", false]");
        all[key] = stored(weights, "[" + std::to_string(weights.count) + "]");
        std::string items;
        for (auto const &item : all)
            items += (items.empty() ? "[" : ", [") + item.first + ", " + item.second + "]";
        set(field, "{\"items\": [" + items + "]}");
    }
    std::map<std::string, std::string> weights_, biases_;
};

/* Layers without settings of their own. */
using IElementWiseLayer = ILayer;
using IUnaryLayer = ILayer;
using IPaddingLayer = ILayer;
using IMatrixMultiplyLayer = ILayer;
using IConstantLayer = ILayer;
using IRaggedSoftMaxLayer = ILayer;
using IIdentityLayer = ILayer;
using ICastLayer = ILayer;
using ISelectLayer = ILayer;
using IShapeLayer = ILayer;
using ISliceLayer = ILayer;
using ISqueezeLayer = ILayer;
using IUnsqueezeLayer = ILayer;
using IEinsumLayer = ILayer;

} // namespace nvinfer1

#endif /* STROP_LAYERS_H */
