/* NvOnnxParser.h - reads ONNX models into a network of NvInfer.h. */
#ifndef STROP_NV_ONNX_PARSER_H
#define STROP_NV_ONNX_PARSER_H

#include "NvInfer.h"

namespace nvonnxparser {

class IParser : public nvinfer1::INoCopy {
public:
    IParser(nvinfer1::INetworkDefinition &network, nvinfer1::ILogger &logger) : network_(network), logger_(logger) {}

    /* Takes a file; the build reads it. False when it cannot be opened. */
    bool parseFromFile(char const *path, int)
    {
        std::FILE *file = std::fopen(path, "rb");
        if (!file) {
            logger_.log(nvinfer1::ILogger::Severity::kERROR, (std::string("the model cannot be opened: ") + path).c_str());
            return false;
        }
        std::fclose(file);
        network_.setModel(path);
        return true;
    }
    bool parse(void const *data, std::size_t size, char const * = nullptr)
    {
        std::string const path = network_.folder().file("model.onnx");
        return strop::command::write(path, data, size) && parseFromFile(path.c_str(), 0);
    }
    std::int32_t getNbErrors() const { return 0; }

private:
    nvinfer1::INetworkDefinition &network_;
    nvinfer1::ILogger &logger_;
};

inline IParser *createParser(nvinfer1::INetworkDefinition &network, nvinfer1::ILogger &logger) { return new IParser(network, logger); }

} // namespace nvonnxparser

#endif /* STROP_NV_ONNX_PARSER_H */
