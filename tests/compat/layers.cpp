// Networks by layer calls: the presentation's LeNet in the style of version 5, built and run; and one of every other kind of layer, written to a file.
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "NvInfer.h"
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

namespace {

std::vector<float> numbers(char const *path)
{
    std::vector<char> bytes;
    strop::command::read(path, bytes);
    std::vector<float> made(bytes.size() / sizeof(float));
    std::memcpy(made.data(), bytes.data(), made.size() * sizeof(float));
    return made;
}

// The weights of a file, one after the other.
struct Source {
    std::vector<float> all;
    std::size_t at = 0;
    Weights next(std::int64_t count)
    {
        at += static_cast<std::size_t>(count);
        return Weights{DataType::kFLOAT, all.data() + at - count, count};
    }
};

void lenet(INetworkDefinition &network, Source &weights)
{
    ITensor *data = network.addInput("data", DataType::kFLOAT, Dims3{1, 28, 28});
    Weights w = weights.next(500), b = weights.next(20);
    IConvolutionLayer *conv1 = network.addConvolution(*data, 20, DimsHW{5, 5}, w, b);
    conv1->setStride(DimsHW{1, 1});
    IPoolingLayer *pool1 = network.addPooling(*conv1->getOutput(0), PoolingType::kMAX, DimsHW{2, 2});
    pool1->setStride(DimsHW{2, 2});
    w = weights.next(25000), b = weights.next(50);
    IConvolutionLayer *conv2 = network.addConvolution(*pool1->getOutput(0), 50, DimsHW{5, 5}, w, b);
    conv2->setStride(DimsHW{1, 1});
    IPoolingLayer *pool2 = network.addPooling(*conv2->getOutput(0), PoolingType::kMAX, DimsHW{2, 2});
    pool2->setStride(DimsHW{2, 2});
    w = weights.next(400000), b = weights.next(500);
    IFullyConnectedLayer *fc1 = network.addFullyConnected(*pool2->getOutput(0), 500, w, b);
    IActivationLayer *relu1 = network.addActivation(*fc1->getOutput(0), ActivationType::kRELU);
    w = weights.next(5000), b = weights.next(10);
    IFullyConnectedLayer *fc2 = network.addFullyConnected(*relu1->getOutput(0), 10, w, b);
    fc2->getOutput(0)->setName("prob");
    network.markOutput(*fc2->getOutput(0));
}

// One of every other kind of layer; outputs are called after their layers.
void others(INetworkDefinition &net)
{
    static float const ramp[64] = {1.0f, -2.0f, 0.5f, 3.0f, -1.0f, 2.0f, 0.25f, -0.5f};
    static float const some[3] = {0.5f, 2.0f, -1.0f};
    static std::int32_t const picks[2] = {2, 0};
    static std::int32_t const first[1] = {0};
    Weights const none{DataType::kFLOAT, nullptr, 0};
    auto out = [&net](ITensor *tensor, char const *name) {
        tensor->setName(name);
        net.markOutput(*tensor);
    };
    ITensor &x = *net.addInput("x", DataType::kFLOAT, Dims4{1, 3, 4, 4});
    IDeconvolutionLayer *deconv = net.addDeconvolution(x, 1, DimsHW{2, 2}, Weights{DataType::kFLOAT, ramp, 12}, none);
    deconv->setStride(DimsHW{2, 2});
    out(deconv->getOutput(0), "deconvolution");
    IPoolingLayer *pool = net.addPoolingNd(x, PoolingType::kMAX_AVERAGE_BLEND, DimsHW{3, 3});
    pool->setStrideNd(DimsHW{2, 2});
    pool->setPaddingMode(PaddingMode::kSAME_UPPER);
    pool->setBlendFactor(0.25f);
    pool->setAverageCountExcludesPadding(false);
    out(pool->getOutput(0), "pooling");
    out(net.addLRN(x, 3, 0.5f, 0.75f, 2.0f)->getOutput(0), "lrn");
    IActivationLayer *leaky = net.addActivation(x, ActivationType::kLEAKY_RELU);
    leaky->setAlpha(0.125f);
    out(leaky->getOutput(0), "activation");
    ISoftMaxLayer *soft = net.addSoftMax(x);
    soft->setAxes(1u << 3);
    out(soft->getOutput(0), "softmax");
    out(net.addScale(x, ScaleMode::kCHANNEL, none, Weights{DataType::kFLOAT, some, 3}, none)->getOutput(0), "scale");
    out(net.addUnary(x, UnaryOperation::kABS)->getOutput(0), "unary");
    out(net.addElementWise(x, *leaky->getOutput(0), ElementWiseOperation::kPROD)->getOutput(0), "elementwise");
    ITensor *both[] = {&x, leaky->getOutput(0)};
    out(net.addConcatenation(both, 2)->getOutput(0), "concatenation");
    out(net.addPadding(x, DimsHW{1, -1}, DimsHW{0, 2})->getOutput(0), "padding");
    IShuffleLayer *shuffle = net.addShuffle(x);
    shuffle->setFirstTranspose(Permutation{{0, 2, 3, 1}});
    shuffle->setReshapeDimensions(Dims3{0, 16, -1});
    shuffle->setSecondTranspose(Permutation{{0, 2, 1}});
    out(shuffle->getOutput(0), "shuffle");
    ITensor &matrix = *shuffle->getOutput(0);
    out(net.addMatrixMultiply(matrix, MatrixOperation::kNONE, matrix, MatrixOperation::kTRANSPOSE)->getOutput(0), "matrix");
    ITensor &index = *net.addConstant(Dims2{1, 2}, Weights{DataType::kINT32, picks, 2})->getOutput(0);
    out(net.addGather(x, index, 1)->getOutput(0), "gather");
    out(net.addReduce(x, ReduceOperation::kAVG, 1u << 2 | 1u << 3, true)->getOutput(0), "reduce");
    ITopKLayer *top = net.addTopK(x, TopKOperation::kMAX, 2, 1u << 3);
    out(top->getOutput(0), "topk");
    out(top->getOutput(1), "places");
    Dims one;
    one.nbDims = 1, one.d[0] = 1;
    out(net.addSqueeze(x, *net.addConstant(one, Weights{DataType::kINT32, first, 1})->getOutput(0))->getOutput(0), "squeeze");
    IRNNv2Layer *rnn = net.addRNNv2(*shuffle->getOutput(0), 1, 2, 8, RNNOperation::kTANH);
    rnn->setWeightsForGate(0, RNNGateType::kINPUT, true, Weights{DataType::kFLOAT, ramp, 32});
    rnn->setWeightsForGate(0, RNNGateType::kINPUT, false, Weights{DataType::kFLOAT, ramp, 4});
    rnn->setBiasForGate(0, RNNGateType::kINPUT, true, Weights{DataType::kFLOAT, ramp, 2});
    out(rnn->getOutput(0), "rnn");
    ITensor &bounds = *net.addInput("bounds", DataType::kINT32, Dims3{1, 3, 1});
    out(net.addRaggedSoftMax(matrix, bounds)->getOutput(0), "ragged");
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    Source weights{numbers(argv[1]), 0};
    std::vector<float> images = numbers(argv[2]);
    std::int32_t const batch = static_cast<std::int32_t>(images.size() / 784);
    IBuilder *builder = createInferBuilder(gLogger);
    INetworkDefinition *network = builder->createNetwork();
    IBuilderConfig *config = builder->createBuilderConfig();
    lenet(*network, weights);
    if (network->addInput("data", DataType::kFLOAT, Dims3{1, 28, 28}) || network->getNbLayers() != 7 || !network->hasImplicitBatchDimension())
        return 3;
    builder->setMaxBatchSize(batch);
    config->setBuilderOptimizationLevel(0);
    ICudaEngine *engine = builder->buildEngineWithConfig(*network, *config);
    if (!engine)
        return 4;
    IExecutionContext *context = engine->createExecutionContext();
    std::vector<float> found(static_cast<std::size_t>(batch) * 10);
    void *bindings[2];
    cudaMalloc(&bindings[engine->getBindingIndex("data")], images.size() * sizeof(float));
    cudaMalloc(&bindings[engine->getBindingIndex("prob")], found.size() * sizeof(float));
    cudaMemcpy(bindings[0], images.data(), images.size() * sizeof(float), cudaMemcpyHostToDevice);
    if (context->execute(batch + 1, bindings) || !context->execute(batch, bindings))
        return 5;
    cudaMemcpy(found.data(), bindings[1], found.size() * sizeof(float), cudaMemcpyDeviceToHost);
    for (float value : found)
        std::printf("%.9g\n", static_cast<double>(value));
    std::unique_ptr<INetworkDefinition> wrong{builder->createNetworkV2(0)};
    wrong->markOutput(*wrong->addConvolution(*wrong->addInput("x", DataType::kFLOAT, Dims4{1, 1, 8, 8}), 1, DimsHW{3, 3}, weights.next(0), weights.next(0))->getOutput(0));
    if (wrong->hasImplicitBatchDimension() || builder->buildSerializedNetwork(*wrong, *config))
        return 6;
    std::unique_ptr<INetworkDefinition> every{builder->createNetworkV2(1u)};
    others(*every);
    std::vector<char> const stored = every->stored(1);
    if (!strop::command::write(argv[3], stored.data(), stored.size()))
        return 7;
    for (void *memory : bindings)
        cudaFree(memory);
    context->destroy();
    engine->destroy();
    network->destroy();
    config->destroy();
    builder->destroy();
    return 0;
}
