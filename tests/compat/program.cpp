// Builds an engine from an ONNX model, loads it again, runs it; and the presentation's Logger with and without noexcept.
#include <iostream>
#include <memory>
#include <vector>

#include "NvInfer.h"
#include "NvOnnxParser.h"
#include "cuda_runtime_api.h"

using namespace nvinfer1;

class Logger : public ILogger
{
    void log(Severity severity, const char* msg) override
    {
        // suppress info-level messages
        if (severity != Severity::kINFO)
            std::cout << msg << std::endl;
    }
} gLogger;

class NewLogger : public nvinfer1::ILogger {
    void log(nvinfer1::ILogger::Severity, nvinfer1::AsciiChar const *) noexcept override {}
} newLogger;

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    std::unique_ptr<IBuilder> builder{createInferBuilder(gLogger)};
    std::unique_ptr<INetworkDefinition> network{builder->createNetworkV2(1U << static_cast<unsigned>(NetworkDefinitionCreationFlag::kEXPLICIT_BATCH))};
    std::unique_ptr<nvonnxparser::IParser> parser{nvonnxparser::createParser(*network, gLogger)};
    std::unique_ptr<IBuilderConfig> config{builder->createBuilderConfig()};
    config->setBuilderOptimizationLevel(0);
    config->setMemoryPoolLimit(MemoryPoolType::kWORKSPACE, std::size_t{1} << 28);
    if (parser->parseFromFile("/nowhere.onnx", 0) || !parser->parseFromFile(argv[1], static_cast<int>(ILogger::Severity::kWARNING)))
        return 3;
    std::unique_ptr<IHostMemory> plan{builder->buildSerializedNetwork(*network, *config)};
    if (!plan)
        return 4;
    std::unique_ptr<IRuntime> runtime{createInferRuntime(gLogger)};
    std::unique_ptr<ICudaEngine> engine{runtime->deserializeCudaEngine(plan->data(), plan->size())};
    if (!engine || runtime->deserializeCudaEngine("nonsense", 8))
        return 5;
    std::unique_ptr<IExecutionContext> context{engine->createExecutionContext()};
    std::vector<void *> bindings;
    std::vector<std::size_t> sizes;
    for (std::int32_t i = 0; i < engine->getNbIOTensors(); i++) {
        Dims const shape = engine->getTensorShape(engine->getIOTensorName(i));
        std::size_t size = 1;
        for (std::int32_t k = 0; k < shape.nbDims; k++)
            size *= static_cast<std::size_t>(shape.d[k]);
        sizes.push_back(size);
        bindings.push_back(nullptr);
        if (cudaMalloc(&bindings.back(), size * sizeof(float)) != cudaSuccess)
            return 6;
    }
    std::vector<float> input(sizes[0]), output(sizes[1]), again(sizes[1]);
    for (std::size_t i = 0; i < input.size(); i++)
        input[i] = static_cast<float>(i % 7) / 7.0f;
    cudaMemcpy(bindings[0], input.data(), input.size() * sizeof(float), cudaMemcpyHostToDevice);
    if (!context->executeV2(bindings.data()))
        return 7;
    cudaMemcpy(output.data(), bindings[1], output.size() * sizeof(float), cudaMemcpyDeviceToHost);
    context->setTensorAddress(engine->getIOTensorName(0), bindings[0]);
    context->setTensorAddress(engine->getIOTensorName(1), bindings[1]);
    if (context->setTensorAddress("nothing", nullptr) || !context->enqueueV3(nullptr))
        return 8;
    cudaMemcpy(again.data(), bindings[1], again.size() * sizeof(float), cudaMemcpyDeviceToHost);
    for (std::size_t i = 0; i < output.size(); i++)
        std::printf("%.9g%c", static_cast<double>(output[i]), output[i] == again[i] ? '\n' : '!');
    for (void *memory : bindings)
        cudaFree(memory);
    return 0;
}
