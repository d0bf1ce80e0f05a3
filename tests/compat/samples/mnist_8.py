"""The same in the style of version 8: explicit batch, a serialized network and a runtime, execute_async_v2."""

import common
import numpy as np
import pycuda.autoinit  # noqa: F401
import pycuda.driver as cuda
import tensorrt as trt

TRT_LOGGER = trt.Logger(trt.Logger.WARNING)


def add_matmul_as_fc(net, input, outputs, w, b):
    assert len(input.shape) >= 3
    m = 1 if len(input.shape) == 3 else input.shape[0]
    k = int(np.prod(input.shape) / m)
    n = int(w.size / k)
    assert n == b.shape[0] == outputs
    input_reshape = net.add_shuffle(input)
    input_reshape.reshape_dims = trt.Dims2(m, k)
    filter_const = net.add_constant(trt.Dims2(n, k), w)
    mm = net.add_matrix_multiply(input_reshape.get_output(0), trt.MatrixOperation.NONE, filter_const.get_output(0), trt.MatrixOperation.TRANSPOSE)
    bias_const = net.add_constant(trt.Dims2(1, n), b)
    bias_add = net.add_elementwise(mm.get_output(0), bias_const.get_output(0), trt.ElementWiseOperation.SUM)
    output_reshape = net.add_shuffle(bias_add.get_output(0))
    output_reshape.reshape_dims = trt.Dims4(m, n, 1, 1)
    return output_reshape


def populate_network(network, weights):
    data = network.add_input(name="data", dtype=trt.float32, shape=(1, 1, 28, 28))
    conv1 = network.add_convolution_nd(input=data, num_output_maps=20, kernel_shape=(5, 5), kernel=weights["conv1.weight"].numpy(), bias=weights["conv1.bias"].numpy())
    conv1.stride_nd = (1, 1)
    pool1 = network.add_pooling_nd(input=conv1.get_output(0), type=trt.PoolingType.MAX, window_size=(2, 2))
    pool1.stride_nd = trt.Dims2(2, 2)
    conv2 = network.add_convolution_nd(pool1.get_output(0), 50, (5, 5), weights["conv2.weight"].numpy(), weights["conv2.bias"].numpy())
    conv2.stride_nd = (1, 1)
    pool2 = network.add_pooling_nd(conv2.get_output(0), trt.PoolingType.MAX, (2, 2))
    pool2.stride_nd = trt.Dims2(2, 2)
    fc1 = add_matmul_as_fc(network, pool2.get_output(0), 500, weights["fc1.weight"].numpy(), weights["fc1.bias"].numpy())
    relu1 = network.add_activation(input=fc1.get_output(0), type=trt.ActivationType.RELU)
    fc2 = add_matmul_as_fc(network, relu1.get_output(0), 10, weights["fc2.weight"].numpy(), weights["fc2.bias"].numpy())
    fc2.get_output(0).name = "prob"
    network.mark_output(tensor=fc2.get_output(0))


def main():
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    config = builder.create_builder_config()
    runtime = trt.Runtime(TRT_LOGGER)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    populate_network(network, common.get_weights())
    engine = runtime.deserialize_cuda_engine(builder.build_serialized_network(network, config))
    host = [cuda.pagelocked_empty(trt.volume(engine.get_binding_shape(i)), np.float32) for i in range(engine.num_bindings)]
    device = [cuda.mem_alloc(h.nbytes) for h in host]
    stream, context, predictions = cuda.Stream(), engine.create_execution_context(), []
    images, labels = common.digits()
    for image in images:
        np.copyto(host[0], image.ravel())
        cuda.memcpy_htod_async(device[0], host[0], stream)
        context.execute_async_v2(bindings=[int(d) for d in device], stream_handle=stream.handle)
        cuda.memcpy_dtoh_async(host[1], device[1], stream)
        stream.synchronize()
        predictions.append(int(host[1].argmax()))
    common.report(predictions, labels)


if __name__ == "__main__":
    main()
