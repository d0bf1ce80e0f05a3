"""network_api_pytorch_mnist in the style of version 7: implicit batch, build_engine of the builder, pycuda, execute_async."""

import common
import numpy as np
import pycuda.autoinit  # noqa: F401
import pycuda.driver as cuda
import tensorrt as trt

TRT_LOGGER = trt.Logger(trt.Logger.WARNING)


class ModelData:
    INPUT_NAME, INPUT_SHAPE, OUTPUT_NAME, OUTPUT_SIZE, DTYPE = "data", (1, 28, 28), "prob", 10, trt.float32


class HostDeviceMem:
    def __init__(self, host_mem, device_mem):
        self.host = host_mem
        self.device = device_mem


def allocate_buffers(engine):
    inputs, outputs, bindings = [], [], []
    stream = cuda.Stream()
    for binding in engine:
        size = trt.volume(engine.get_binding_shape(binding)) * engine.max_batch_size
        dtype = trt.nptype(engine.get_binding_dtype(binding))
        host_mem = cuda.pagelocked_empty(size, dtype)
        device_mem = cuda.mem_alloc(host_mem.nbytes)
        bindings.append(int(device_mem))
        (inputs if engine.binding_is_input(binding) else outputs).append(HostDeviceMem(host_mem, device_mem))
    return inputs, outputs, bindings, stream


def do_inference(context, bindings, inputs, outputs, stream, batch_size=1):
    [cuda.memcpy_htod_async(inp.device, inp.host, stream) for inp in inputs]
    context.execute_async(batch_size=batch_size, bindings=bindings, stream_handle=stream.handle)
    [cuda.memcpy_dtoh_async(out.host, out.device, stream) for out in outputs]
    stream.synchronize()
    return [out.host for out in outputs]


def populate_network(network, weights):
    data = network.add_input(name=ModelData.INPUT_NAME, dtype=ModelData.DTYPE, shape=ModelData.INPUT_SHAPE)
    conv1 = network.add_convolution(input=data, num_output_maps=20, kernel_shape=(5, 5), kernel=weights["conv1.weight"].numpy(), bias=weights["conv1.bias"].numpy())
    conv1.stride = (1, 1)
    pool1 = network.add_pooling(input=conv1.get_output(0), type=trt.PoolingType.MAX, window_size=(2, 2))
    pool1.stride = (2, 2)
    conv2 = network.add_convolution(pool1.get_output(0), 50, (5, 5), weights["conv2.weight"].numpy(), weights["conv2.bias"].numpy())
    conv2.stride = (1, 1)
    pool2 = network.add_pooling(conv2.get_output(0), trt.PoolingType.MAX, (2, 2))
    pool2.stride = (2, 2)
    fc1 = network.add_fully_connected(input=pool2.get_output(0), num_outputs=500, kernel=weights["fc1.weight"].numpy(), bias=weights["fc1.bias"].numpy())
    relu1 = network.add_activation(input=fc1.get_output(0), type=trt.ActivationType.RELU)
    fc2 = network.add_fully_connected(relu1.get_output(0), ModelData.OUTPUT_SIZE, weights["fc2.weight"].numpy(), weights["fc2.bias"].numpy())
    fc2.get_output(0).name = ModelData.OUTPUT_NAME
    network.mark_output(tensor=fc2.get_output(0))


def main():
    with trt.Builder(TRT_LOGGER) as builder, builder.create_network() as network, builder.create_builder_config() as config:
        config.max_workspace_size = 1 << 30
        populate_network(network, common.get_weights())
        engine = builder.build_engine(network, config)
    images, labels = common.digits()
    inputs, outputs, bindings, stream = allocate_buffers(engine)
    predictions = []
    with engine.create_execution_context() as context:
        for image in images:
            np.copyto(inputs[0].host, image.ravel())
            (output,) = do_inference(context, bindings=bindings, inputs=inputs, outputs=outputs, stream=stream)
            predictions.append(int(np.argmax(output)))
    common.report(predictions, labels)


if __name__ == "__main__":
    main()
