"""int8_caffe_mnist in the style of version 8, without the Caffe parser: an entropy calibrator with a cache, INT8 and its accuracy."""

import os
import tempfile

import common
import mnist_8
import numpy as np
import pycuda.autoinit  # noqa: F401
import pycuda.driver as cuda
import tensorrt as trt

from strop.demo_data import held_back_digits

TRT_LOGGER = trt.Logger(trt.Logger.ERROR)


class MNISTEntropyCalibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, images, cache_file, batch_size=8):
        trt.IInt8EntropyCalibrator2.__init__(self)
        self.cache_file, self.batch_size, self.current_index, self.data = cache_file, batch_size, 0, images
        self.device_input = cuda.mem_alloc(self.data[0].nbytes * self.batch_size)

    def get_batch_size(self):
        return self.batch_size

    def get_batch(self, names):
        if self.current_index + self.batch_size > self.data.shape[0]:
            return None
        batch = self.data[self.current_index : self.current_index + self.batch_size].ravel()
        cuda.memcpy_htod(self.device_input, batch)
        self.current_index += self.batch_size
        return [self.device_input]

    def read_calibration_cache(self):
        if os.path.exists(self.cache_file):
            with open(self.cache_file, "rb") as f:
                return f.read()

    def write_calibration_cache(self, cache):
        with open(self.cache_file, "wb") as f:
            f.write(cache)


def build(calibrator):
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator
    mnist_8.populate_network(network, common.get_weights())
    return trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(builder.build_serialized_network(network, config))


def main():
    images, labels = common.digits()
    with tempfile.TemporaryDirectory() as folder:
        cache = os.path.join(folder, "mnist_calibration.cache")
        first = MNISTEntropyCalibrator(held_back_digits()[0][common.COUNT : common.COUNT + 64], cache)
        engine = build(first)
        assert first.current_index == 64
        with open(cache) as f:
            print(f.readline().strip())
        again = MNISTEntropyCalibrator(held_back_digits()[0][:8], cache)
        build(again)
        assert again.current_index == 0
    context, out, predictions = engine.create_execution_context(), np.empty(10, np.float32), []
    for image in images:
        image = np.ascontiguousarray(image)
        assert context.execute_v2([image.ctypes.data, out.ctypes.data])
        predictions.append(int(out.argmax()))
    common.report(predictions, labels)


if __name__ == "__main__":
    main()
