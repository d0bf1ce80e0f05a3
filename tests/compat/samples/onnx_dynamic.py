"""introductory_parser_samples and dynamic shapes: a parser, a profile with a free batch, an output allocator."""

import io
import sys

import common
import numpy as np
import onnx
import tensorrt as trt

from strop.demo_data import lenet_path

TRT_LOGGER = trt.Logger()


class Allocator(trt.IOutputAllocator):
    def __init__(self):
        trt.IOutputAllocator.__init__(self)
        self.memory, self.shape = None, None

    def reallocate_output_async(self, tensor_name, memory, size, alignment, stream):
        self.memory = np.empty(size, np.uint8)
        return self.memory.ctypes.data

    def notify_shape(self, tensor_name, shape):
        self.shape = tuple(shape)


def main():
    model = onnx.load(lenet_path())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    stored = io.BytesIO()
    onnx.save(model, stored)
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, TRT_LOGGER)
    if not parser.parse(stored.getvalue()):
        for error in range(parser.num_errors):
            print(parser.get_error(error))
        sys.exit(1)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("input", (1, 1, 28, 28), (8, 1, 28, 28), (16, 1, 28, 28))
    config.add_optimization_profile(profile)
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    context, allocator = engine.create_execution_context(), Allocator()
    context.set_output_allocator("logits", allocator)
    images, labels = common.digits()
    predictions, at = [], 0
    for size in (1, 16, 3, 8, 12) * 5:
        batch = np.ascontiguousarray(images[at : at + size])
        at += size
        context.set_input_shape("input", batch.shape)
        context.set_tensor_address("input", batch.ctypes.data)
        assert context.execute_async_v3(0)
        predictions += allocator.memory.view(np.float32).reshape(allocator.shape).argmax(1).tolist()
    common.report(predictions, labels[:at])


if __name__ == "__main__":
    main()
