/*
 * NvInfer.h - the part of TensorRT's C++ API that loads and runs engines, and builds them from layers
 * (strop_network.h) and ONNX models (NvOnnxParser.h), on Strop. Header only, C++14; link with the
 * runtime library of strop.h.
 *
 *     class Logger : public nvinfer1::ILogger { void log(Severity s, const char *msg) override {...} } logger;
 *     std::unique_ptr<nvinfer1::IRuntime> runtime{nvinfer1::createInferRuntime(logger)};
 *     std::unique_ptr<nvinfer1::ICudaEngine> engine{runtime->deserializeCudaEngine(data, size)};
 *     std::unique_ptr<nvinfer1::IExecutionContext> context{engine->createExecutionContext()};
 *     context->executeV2(bindings);
 *
 * Memory is the processor's: cuda_runtime_api.h beside this file has cudaMalloc and its like. A build
 * runs the `strop` command, or what the environment variable STROP_COMMAND names. Failures are logged
 * and answer nullptr or false.
 */
#ifndef STROP_NV_INFER_H
#define STROP_NV_INFER_H

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strop.h"
#include "strop_command.hpp"

#define NV_TENSORRT_MAJOR 11
#define NV_TENSORRT_MINOR 1
#define NV_TENSORRT_PATCH 0

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;

namespace nvinfer1 {

using AsciiChar = char;

/* ---- loggers ---- */

class ILogger {
public:
    enum class Severity : std::int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };

    /* Without noexcept, so that overrides of all versions compile. */
    virtual void log(Severity severity, AsciiChar const *msg) = 0;

    ILogger() = default;
    virtual ~ILogger() = default;
};

/* ---- small types ---- */

class Dims {
public:
    static constexpr std::int32_t MAX_DIMS{8};
    std::int32_t nbDims{-1};
    std::int64_t d[MAX_DIMS]{};
};

using Dims64 = Dims;

class Dims2 : public Dims {
public:
    Dims2(std::int64_t d0 = 0, std::int64_t d1 = 0) { nbDims = 2, d[0] = d0, d[1] = d1; }
};

class DimsHW : public Dims2 {
public:
    using Dims2::Dims2;
    std::int64_t h() const { return d[0]; }
    std::int64_t w() const { return d[1]; }
};

class Dims3 : public Dims {
public:
    Dims3(std::int64_t d0 = 0, std::int64_t d1 = 0, std::int64_t d2 = 0) { nbDims = 3, d[0] = d0, d[1] = d1, d[2] = d2; }
};

class Dims4 : public Dims {
public:
    Dims4(std::int64_t d0 = 0, std::int64_t d1 = 0, std::int64_t d2 = 0, std::int64_t d3 = 0)
    {
        nbDims = 4, d[0] = d0, d[1] = d1, d[2] = d2, d[3] = d3;
    }
};

enum class DataType : std::int32_t {
    kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBOOL = 4, kUINT8 = 5, kFP8 = 6, kBF16 = 7, kINT64 = 8, kINT4 = 9
};
enum class TensorIOMode : std::int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class OptProfileSelector : std::int32_t { kMIN = 0, kOPT = 1, kMAX = 2 };
enum class MemoryPoolType : std::int32_t { kWORKSPACE = 0 };
enum class BuilderFlag : std::int32_t { kFP16 = 0, kINT8 = 1, kDEBUG = 2, kGPU_FALLBACK = 3, kREFIT = 4, kTF32 = 6, kBF16 = 17 };
enum class NetworkDefinitionCreationFlag : std::int32_t { kEXPLICIT_BATCH = 0, kSTRONGLY_TYPED = 1 };

/* ---- what every object has ---- */

class INoCopy {
public:
    INoCopy() = default;
    virtual ~INoCopy() = default;
    INoCopy(INoCopy const &) = delete;
    INoCopy &operator=(INoCopy const &) = delete;

    /* Versions before 8 end objects by this. */
    void destroy() { delete this; }
};

class IHostMemory : public INoCopy {
public:
    explicit IHostMemory(std::vector<char> data) : data_(std::move(data)) {}
    void *data() const noexcept { return const_cast<char *>(data_.data()); }
    std::size_t size() const noexcept { return data_.size(); }
    DataType type() const noexcept { return DataType::kINT8; }

private:
    std::vector<char> data_;
};

class IProfiler {
public:
    virtual void reportLayerTime(char const *layerName, float ms) noexcept = 0;
    virtual ~IProfiler() = default;
};

namespace strop_detail {

inline void say(ILogger &logger, ILogger::Severity severity, std::string const &text) { logger.log(severity, text.c_str()); }

inline bool fine(ILogger &logger, int code, strop_error const &error)
{
    if (code != STROP_OK)
        say(logger, ILogger::Severity::kERROR, error.message);
    return code == STROP_OK;
}

inline DataType dtype(std::uint32_t code)
{
    switch (code) {
    case STROP_F16: return DataType::kHALF;
    case STROP_I8: return DataType::kINT8;
    case STROP_I32: return DataType::kINT32;
    case STROP_BOOL: return DataType::kBOOL;
    case STROP_U8: return DataType::kUINT8;
    case STROP_BF16: return DataType::kBF16;
    case STROP_I64: return DataType::kINT64;
    default: return DataType::kFLOAT;
    }
}

inline Dims dims(std::int64_t const *sizes, std::uint32_t rank)
{
    Dims made;
    made.nbDims = static_cast<std::int32_t>(rank);
    std::copy(sizes, sizes + rank, made.d);
    return made;
}

} // namespace strop_detail

/* ---- running ---- */

class ICudaEngine;

class IExecutionContext : public INoCopy {
public:
    IExecutionContext(ICudaEngine const &engine, ILogger &logger, strop_context *handle);
    ~IExecutionContext() override { strop_context_destroy(handle_); }

    bool setInputShape(char const *name, Dims const &shape);
    Dims getTensorShape(char const *name) const;
    bool setTensorAddress(char const *name, void *data);
    bool setInputTensorAddress(char const *name, void const *data) { return setTensorAddress(name, const_cast<void *>(data)); }
    void const *getTensorAddress(char const *name) const;
    bool executeV2(void *const *bindings);
    /* Of an implicit batch: axis 0 of every input. */
    bool execute(std::int32_t batchSize, void *const *bindings) { return setBatch(batchSize) && executeV2(bindings); }
    bool enqueue(std::int32_t batchSize, void *const *bindings, cudaStream_t, cudaEvent_t *) { return execute(batchSize, bindings); }
    bool enqueueV2(void *const *bindings, cudaStream_t, cudaEvent_t *) { return executeV2(bindings); }
    bool enqueueV3(cudaStream_t) { return executeV2(addresses_.data()); }
    void setProfiler(IProfiler *profiler) { profiler_ = profiler; }
    IProfiler *getProfiler() const { return profiler_; }
    ICudaEngine const &getEngine() const { return engine_; }

private:
    bool setBatch(std::int32_t size);
    bool resize(std::vector<std::vector<std::int64_t>> shapes);

    ICudaEngine const &engine_;
    ILogger &logger_;
    strop_context *handle_;
    IProfiler *profiler_ = nullptr;
    std::vector<void *> addresses_;
    std::vector<std::vector<std::int64_t>> shapes_;
};

class ICudaEngine : public INoCopy {
public:
    ICudaEngine(ILogger &logger, std::vector<char> data, strop_engine *handle) : logger_(logger), data_(std::move(data)), handle_(handle)
    {
        std::uint32_t const inputs = strop_engine_input_count(handle), outputs = strop_engine_output_count(handle);
        inputs_ = inputs;
        infos_.resize(inputs + outputs);
        for (std::uint32_t i = 0; i < inputs + outputs; i++) {
            strop_error error;
            if (i < inputs)
                strop_engine_input_info(handle, i, &infos_[i], &error);
            else
                strop_engine_output_info(handle, i - inputs, &infos_[i], &error);
        }
    }
    ~ICudaEngine() override { strop_engine_destroy(handle_); }

    std::int32_t getNbIOTensors() const { return static_cast<std::int32_t>(infos_.size()); }
    std::int32_t getNbBindings() const { return getNbIOTensors(); }
    std::int32_t getNbLayers() const { return static_cast<std::int32_t>(strop_engine_step_count(handle_)); }
    char const *getIOTensorName(std::int32_t index) const { return infos_.at(static_cast<std::size_t>(index)).name; }
    char const *getBindingName(std::int32_t index) const { return getIOTensorName(index); }
    std::int32_t getBindingIndex(char const *name) const { return index(name); }
    bool bindingIsInput(std::int32_t i) const { return static_cast<std::uint32_t>(i) < inputs_; }
    TensorIOMode getTensorIOMode(char const *name) const
    {
        std::int32_t const i = index(name);
        return i < 0 ? TensorIOMode::kNONE : bindingIsInput(i) ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    Dims getTensorShape(char const *name) const { return getBindingDimensions(index(name)); }
    Dims getBindingDimensions(std::int32_t i) const
    {
        if (i < 0)
            return Dims();
        strop_tensor_info const &info = infos_.at(static_cast<std::size_t>(i));
        Dims made = strop_detail::dims(info.dims, info.rank);
        for (std::uint32_t k = 0; k < info.rank; k++)
            if (info.least[k] != info.most[k])
                made.d[k] = -1;
        return made;
    }
    DataType getTensorDataType(char const *name) const { return getBindingDataType(index(name)); }
    DataType getBindingDataType(std::int32_t i) const { return strop_detail::dtype(infos_.at(static_cast<std::size_t>(i)).dtype); }
    Dims getProfileShape(char const *name, std::int32_t, OptProfileSelector select) const
    {
        std::int32_t const i = index(name);
        if (i < 0)
            return Dims();
        strop_tensor_info const &info = infos_[static_cast<std::size_t>(i)];
        std::int64_t const *sizes = select == OptProfileSelector::kMIN ? info.least : select == OptProfileSelector::kMAX ? info.most : info.dims;
        return strop_detail::dims(sizes, info.rank);
    }
    IExecutionContext *createExecutionContext() const
    {
        strop_context *made = nullptr;
        strop_error error;
        if (!strop_detail::fine(logger_, strop_context_create(handle_, 0, &made, &error), error))
            return nullptr;
        return new IExecutionContext(*this, logger_, made);
    }
    IHostMemory *serialize() const { return new IHostMemory(data_); }

    std::int32_t index(char const *name) const
    {
        for (std::size_t i = 0; i < infos_.size(); i++)
            if (!std::strcmp(infos_[i].name, name))
                return static_cast<std::int32_t>(i);
        return -1;
    }
    std::uint32_t inputs() const { return inputs_; }
    std::vector<strop_tensor_info> const &infos() const { return infos_; }

private:
    ILogger &logger_;
    std::vector<char> data_;
    strop_engine *handle_;
    std::uint32_t inputs_ = 0;
    std::vector<strop_tensor_info> infos_;
};

inline IExecutionContext::IExecutionContext(ICudaEngine const &engine, ILogger &logger, strop_context *handle)
    : engine_(engine), logger_(logger), handle_(handle), addresses_(engine.infos().size(), nullptr)
{
    for (std::uint32_t i = 0; i < engine.inputs(); i++)
        shapes_.emplace_back(engine.infos()[i].dims, engine.infos()[i].dims + engine.infos()[i].rank);
}

inline bool IExecutionContext::setInputShape(char const *name, Dims const &shape)
{
    std::int32_t const i = engine_.index(name);
    if (i < 0 || !engine_.bindingIsInput(i) || shape.nbDims != static_cast<std::int32_t>(engine_.infos()[static_cast<std::size_t>(i)].rank)) {
        strop_detail::say(logger_, ILogger::Severity::kERROR, std::string("no input of this name and rank: ") + name);
        return false;
    }
    auto shapes = shapes_;
    shapes[static_cast<std::size_t>(i)].assign(shape.d, shape.d + shape.nbDims);
    return resize(std::move(shapes));
}

inline bool IExecutionContext::setBatch(std::int32_t size)
{
    auto shapes = shapes_;
    for (auto &shape : shapes)
        if (!shape.empty())
            shape[0] = size;
    return resize(std::move(shapes));
}

inline bool IExecutionContext::resize(std::vector<std::vector<std::int64_t>> shapes)
{
    if (shapes == shapes_)
        return true;
    std::vector<std::int64_t const *> all;
    for (auto const &sizes : shapes)
        all.push_back(sizes.data());
    strop_error error;
    if (!strop_detail::fine(logger_, strop_context_resize(handle_, all.data(), &error), error))
        return false;
    shapes_ = std::move(shapes);
    return true;
}

inline Dims IExecutionContext::getTensorShape(char const *name) const
{
    std::int32_t const i = engine_.index(name);
    if (i < 0)
        return Dims();
    strop_tensor_info info;
    strop_error error;
    std::uint32_t const at = static_cast<std::uint32_t>(i), inputs = engine_.inputs();
    int const code = at < inputs ? strop_context_input_info(handle_, at, &info, &error) : strop_context_output_info(handle_, at - inputs, &info, &error);
    return code == STROP_OK ? strop_detail::dims(info.dims, info.rank) : Dims();
}

inline bool IExecutionContext::setTensorAddress(char const *name, void *data)
{
    std::int32_t const i = engine_.index(name);
    if (i < 0)
        strop_detail::say(logger_, ILogger::Severity::kERROR, std::string("no input or output is called ") + name);
    else
        addresses_[static_cast<std::size_t>(i)] = data;
    return i >= 0;
}

inline void const *IExecutionContext::getTensorAddress(char const *name) const
{
    std::int32_t const i = engine_.index(name);
    return i < 0 ? nullptr : addresses_[static_cast<std::size_t>(i)];
}

inline bool IExecutionContext::executeV2(void *const *bindings)
{
    for (std::size_t i = 0; i < engine_.infos().size(); i++)
        if (!bindings[i]) {
            strop_detail::say(logger_, ILogger::Severity::kERROR, std::string("no address was given for ") + engine_.infos()[i].name);
            return false;
        }
    strop_error error;
    std::vector<void const *> given(bindings, bindings + engine_.inputs());
    if (!strop_detail::fine(logger_, strop_context_call(handle_, given.data(), bindings + engine_.inputs(), &error), error))
        return false;
    if (profiler_) {
        std::vector<std::uint64_t> times(static_cast<std::size_t>(engine_.getNbLayers()));
        if (strop_context_profile(handle_, 1, times.data(), static_cast<std::uint32_t>(times.size()), &error) == STROP_OK)
            for (std::size_t k = 0; k < times.size(); k++)
                profiler_->reportLayerTime(std::to_string(k).c_str(), static_cast<float>(times[k]) / 1e6f);
    }
    return true;
}

class IRuntime : public INoCopy {
public:
    explicit IRuntime(ILogger &logger) : logger_(logger) {}

    ICudaEngine *deserializeCudaEngine(void const *blob, std::size_t size)
    {
        std::vector<char> data(static_cast<char const *>(blob), static_cast<char const *>(blob) + size);
        strop_engine *engine = nullptr;
        strop_error error;
        if (!strop_detail::fine(logger_, strop_engine_load_memory(data.data(), data.size(), &engine, &error), error))
            return nullptr;
        return new ICudaEngine(logger_, std::move(data), engine);
    }
    ICudaEngine *deserializeCudaEngine(void const *blob, std::size_t size, void *) { return deserializeCudaEngine(blob, size); }

private:
    ILogger &logger_;
};

inline IRuntime *createInferRuntime(ILogger &logger) { return new IRuntime(logger); }

/* ---- building ---- */

} // namespace nvinfer1

#include "strop_network.h"

namespace nvinfer1 {

class IOptimizationProfile {
public:
    bool setDimensions(char const *inputName, OptProfileSelector select, Dims const &shape)
    {
        shapes_[inputName][static_cast<int>(select)] = shape;
        return true;
    }
    std::map<std::string, std::map<int, Dims>> const &shapes() const { return shapes_; }

private:
    std::map<std::string, std::map<int, Dims>> shapes_;
};

class IBuilderConfig : public INoCopy {
public:
    void setFlag(BuilderFlag flag) { flags_ |= 1u << static_cast<unsigned>(flag); }
    void clearFlag(BuilderFlag flag) { flags_ &= ~(1u << static_cast<unsigned>(flag)); }
    bool getFlag(BuilderFlag flag) const { return flags_ >> static_cast<unsigned>(flag) & 1u; }
    void setMemoryPoolLimit(MemoryPoolType, std::size_t) {}
    void setMaxWorkspaceSize(std::size_t) {}
    void setBuilderOptimizationLevel(std::int32_t level) { level_ = level; }
    std::int32_t getBuilderOptimizationLevel() const { return level_; }
    std::int32_t addOptimizationProfile(IOptimizationProfile const *profile)
    {
        profiles_.push_back(profile);
        return static_cast<std::int32_t>(profiles_.size()) - 1;
    }
    std::vector<IOptimizationProfile const *> const &profiles() const { return profiles_; }

private:
    unsigned flags_ = 0;
    std::int32_t level_ = 3;
    std::vector<IOptimizationProfile const *> profiles_;
};

class IBuilder : public INoCopy {
public:
    explicit IBuilder(ILogger &logger) : logger_(logger) {}

    /* Without kEXPLICIT_BATCH versions differ: the first layer decides, see INetworkDefinition. */
    INetworkDefinition *createNetworkV2(std::uint32_t flags)
    {
        bool const isExplicit = flags >> static_cast<unsigned>(NetworkDefinitionCreationFlag::kEXPLICIT_BATCH) & 1u;
        return new INetworkDefinition(logger_, isExplicit ? INetworkDefinition::Batch::kEXPLICIT : INetworkDefinition::Batch::kUNDECIDED);
    }
    /* Of versions before 8: the batch is implicit. */
    INetworkDefinition *createNetwork() { return new INetworkDefinition(logger_, INetworkDefinition::Batch::kIMPLICIT); }
    void setMaxBatchSize(std::int32_t size) { maxBatch_ = size; }
    std::int32_t getMaxBatchSize() const { return maxBatch_; }
    void setMaxWorkspaceSize(std::size_t) {}
    ICudaEngine *buildCudaEngine(INetworkDefinition &network)
    {
        IBuilderConfig config;
        return buildEngineWithConfig(network, config);
    }
    IBuilderConfig *createBuilderConfig() { return new IBuilderConfig(); }
    IOptimizationProfile *createOptimizationProfile()
    {
        profiles_.emplace_back(new IOptimizationProfile());
        return profiles_.back().get();
    }
    bool platformHasFastFp16() const { return false; }
    bool platformHasFastInt8() const { return true; }

    IHostMemory *buildSerializedNetwork(INetworkDefinition &network, IBuilderConfig &config)
    {
        std::string model = network.model();
        if (model.empty()) {
            std::vector<char> const stored = network.stored(maxBatch_);
            model = network.folder().file("network.layers");
            if (!strop::command::write(model, stored.data(), stored.size())) {
                strop_detail::say(logger_, ILogger::Severity::kERROR, "the network cannot be written: " + model);
                return nullptr;
            }
        }
        for (BuilderFlag flag : {BuilderFlag::kINT8, BuilderFlag::kREFIT})
            if (config.getFlag(flag))
                strop_detail::say(logger_, ILogger::Severity::kWARNING, "a flag of the build has no effect in C++: " + std::to_string(static_cast<int>(flag)));
        std::string const out = network.folder().file("engine.strop");
        std::vector<std::string> arguments{strop::command::name(), "build", model, "-o", out, "--level",
                                           std::to_string(config.getBuilderOptimizationLevel())};
        if (config.getFlag(BuilderFlag::kFP16) || config.getFlag(BuilderFlag::kBF16)) { /* allowed: layers that gain nothing stay in FP32 */
            arguments.push_back("--precision");
            arguments.push_back(config.getFlag(BuilderFlag::kBF16) ? "bf16" : "fp16");
        }
        for (auto const &shape : ranges(config)) {
            arguments.push_back("--shape");
            arguments.push_back(shape);
        }
        std::vector<char> data;
        if (!strop::command::run(arguments) || !strop::command::read(out, data)) {
            strop_detail::say(logger_, ILogger::Severity::kERROR, "the build failed: " + arguments[0] + " build " + model);
            return nullptr;
        }
        return new IHostMemory(std::move(data));
    }
    ICudaEngine *buildEngineWithConfig(INetworkDefinition &network, IBuilderConfig &config)
    {
        std::unique_ptr<IHostMemory> plan(buildSerializedNetwork(network, config));
        return plan ? IRuntime(logger_).deserializeCudaEngine(plan->data(), plan->size()) : nullptr;
    }

private:
    /* "x=1..8(4)x3x224x224" of the first profile. */
    static std::vector<std::string> ranges(IBuilderConfig const &config)
    {
        std::vector<std::string> found;
        if (config.profiles().empty())
            return found;
        for (auto const &input : config.profiles()[0]->shapes()) {
            std::string text = input.first + "=";
            Dims const &low = input.second.at(0), &best = input.second.at(1), &high = input.second.at(2);
            for (std::int32_t k = 0; k < best.nbDims; k++) {
                text += k ? "x" : "";
                if (low.d[k] == high.d[k])
                    text += std::to_string(low.d[k]);
                else
                    text += std::to_string(low.d[k]) + ".." + std::to_string(high.d[k]) + "(" + std::to_string(best.d[k]) + ")";
            }
            found.push_back(text);
        }
        return found;
    }

    ILogger &logger_;
    std::int32_t maxBatch_ = 1;
    std::vector<std::unique_ptr<IOptimizationProfile>> profiles_;
};

inline IBuilder *createInferBuilder(ILogger &logger) { return new IBuilder(logger); }

} // namespace nvinfer1

#endif /* STROP_NV_INFER_H */
