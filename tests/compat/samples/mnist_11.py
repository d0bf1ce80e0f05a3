"""The same in the style of version 11: strongly typed, cuda.bindings, weights named and refitted, the plan written as a stream."""

import common
import mnist_8
import numpy as np
import tensorrt as trt
from cuda.bindings import runtime as cudart

TRT_LOGGER = trt.Logger(trt.Logger.ERROR)


class Writer(trt.IStreamWriter):
    def __init__(self):
        trt.IStreamWriter.__init__(self)
        self.data = bytearray()

    def write(self, data):
        self.data += data
        return len(data)


class Reader(trt.IStreamReaderV2):
    def __init__(self, data):
        trt.IStreamReaderV2.__init__(self)
        self.data, self.at = data, 0

    def read(self, num_bytes, stream):
        piece = bytes(self.data[self.at : self.at + num_bytes])
        self.at += len(piece)
        return piece

    def seek(self, offset, where):
        self.at = {trt.SeekPosition.SET: 0, trt.SeekPosition.CUR: self.at, trt.SeekPosition.END: len(self.data)}[where] + offset
        return True


def classify(engine, images):
    context = engine.create_execution_context()
    _, device_in = cudart.cudaMalloc(28 * 28 * 4)
    _, device_out = cudart.cudaMalloc(40)
    context.set_tensor_address("data", device_in)
    context.set_tensor_address("prob", device_out)
    out, found = np.empty(10, np.float32), []
    for image in images:
        image = np.ascontiguousarray(image)
        cudart.cudaMemcpy(device_in, image.ctypes.data, image.nbytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)
        assert context.execute_async_v3(0)
        cudart.cudaMemcpy(out.ctypes.data, device_out, out.nbytes, cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost)
        found.append(int(out.argmax()))
    return found


def main():
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.REFIT)
    weights = common.get_weights()
    wrong = {name: common.Torch(np.zeros_like(t.numpy())) if name == "conv2.weight" else t for name, t in weights.items()}
    mnist_8.populate_network(network, wrong)
    network.set_weights_name(wrong["conv2.weight"].numpy(), "conv2.weight")
    writer = Writer()
    assert builder.build_serialized_network_to_stream(network, config, writer)
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(Reader(writer.data))
    images, labels = common.digits()
    before = np.mean(np.array(classify(engine, images)) == labels)
    assert before < 0.5, before
    refitter = trt.Refitter(engine, TRT_LOGGER)
    assert "conv2.weight" in refitter.get_all_weights()
    assert refitter.set_named_weights("conv2.weight", trt.Weights(weights["conv2.weight"].numpy()))
    assert not refitter.get_missing_weights() and refitter.refit_cuda_engine()
    common.report(classify(engine, images), labels)


if __name__ == "__main__":
    main()
