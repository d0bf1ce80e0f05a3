"""engine_refit_mnist and engine_refit_onnx: engines with wrong weights are given the right ones, by layer and role, by name, and from a model."""

import io

import common
import mnist_8
import numpy as np
import onnx
import tensorrt as trt
from onnx import numpy_helper

from strop.demo_data import lenet_path

TRT_LOGGER = trt.Logger(trt.Logger.ERROR)


def classify(engine, images):
    context, out, found = engine.create_execution_context(), np.empty(10, np.float32), []
    for image in images:
        image = np.ascontiguousarray(image)
        assert context.execute_v2([image.ctypes.data, out.ctypes.data])
        found.append(int(out.argmax()))
    return found


def build(network, builder, *flags):
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    for flag in (trt.BuilderFlag.REFIT, *flags):
        config.set_flag(flag)
    return trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(builder.build_serialized_network(network, config))


def by_layer(images, labels):
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(1)
    weights = common.get_weights()
    wrong = {**weights, "conv1.weight": common.Torch(np.zeros_like(weights["conv1.weight"].numpy()))}
    mnist_8.populate_network(network, wrong)
    network.get_layer(0).name = "conv_1"
    engine = build(network, builder)
    assert np.mean(np.array(classify(engine, images)) == labels) < 0.5
    with trt.Refitter(engine, TRT_LOGGER) as refitter:
        assert refitter.set_weights("conv_1", trt.WeightsRole.KERNEL, weights["conv1.weight"].numpy())
        assert not refitter.set_weights("conv_9", trt.WeightsRole.KERNEL, weights["conv1.weight"].numpy())
        layers, roles = refitter.get_all()
        assert ("conv_1", trt.WeightsRole.BIAS) in list(zip(layers, roles))
        missing, _ = refitter.get_missing()
        assert not missing
        assert refitter.refit_cuda_engine()
    common.report(classify(engine, images), labels)


def from_a_model(images, labels):
    model = onnx.load(lenet_path())
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    stored = io.BytesIO()
    onnx.save(model, stored)
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, TRT_LOGGER).parse(stored.getvalue())
    engine = build(network, builder)
    assert np.mean(np.array(classify(engine, images)) == labels) < 0.5
    refitter = trt.Refitter(engine, TRT_LOGGER)
    assert refitter.get_all_weights()
    parser = trt.OnnxParserRefitter(refitter, TRT_LOGGER)
    assert parser.refit_from_file(lenet_path()) and parser.num_errors == 0
    assert refitter.refit_cuda_engine_async(0)
    common.report(classify(engine, images), labels)


def main():
    images, labels = common.digits()
    by_layer(images, labels)
    from_a_model(images, labels)


if __name__ == "__main__":
    main()
