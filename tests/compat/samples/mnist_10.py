"""The same in the style of version 10: create_network(0), named tensors, cudart, execute_async_v3; with a progress monitor and a profiler."""

import common
import mnist_8
import numpy as np
import tensorrt as trt
from cuda import cuda, cudart

TRT_LOGGER = trt.Logger(trt.Logger.ERROR)


def check(answer):
    error, *rest = answer
    if isinstance(error, cuda.CUresult):
        assert error == cuda.CUresult.CUDA_SUCCESS, error
    elif isinstance(error, cudart.cudaError_t):
        assert error == cudart.cudaError_t.cudaSuccess, error
    else:
        raise RuntimeError(f"unknown error type: {error}")
    return rest[0] if len(rest) == 1 else rest


def close(stream: cudart.cudaStream_t):
    check(cudart.cudaStreamDestroy(stream))


class Monitor(trt.IProgressMonitor):
    def __init__(self):
        trt.IProgressMonitor.__init__(self)
        self.open, self.seen = [], []

    def phase_start(self, phase_name, parent_phase, num_steps):
        self.open.append(phase_name)
        self.seen.append((phase_name, num_steps))

    def phase_finish(self, phase_name):
        self.open.remove(phase_name)

    def step_complete(self, phase_name, step):
        return True


class Times(trt.IProfiler):
    def __init__(self):
        trt.IProfiler.__init__(self)
        self.total = 0.0

    def report_layer_time(self, layer_name, ms):
        self.total += ms


def main():
    check(cuda.cuInit(0))
    assert check(cuda.cuDeviceGet(0)) == 0
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(0)
    config = builder.create_builder_config()
    config.progress_monitor = Monitor()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    mnist_8.populate_network(network, common.get_weights())
    plan = builder.build_serialized_network(network, config)
    print("phases:", *(name for name, _ in config.progress_monitor.seen))
    assert config.progress_monitor.seen
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(plan)
    buffers = {}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        shape = engine.get_tensor_shape(name)
        host = np.empty(trt.volume(shape), trt.nptype(engine.get_tensor_dtype(name)))
        buffers[name] = host, check(cudart.cudaMalloc(host.nbytes))
    context = engine.create_execution_context()
    context.profiler = Times()
    for name, (_, device) in buffers.items():
        context.set_tensor_address(name, device)
    stream = check(cudart.cudaStreamCreate())
    to, back = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice, cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
    images, labels = common.digits()
    predictions = []
    for image in images:
        (given, device_in), (got, device_out) = buffers["data"], buffers["prob"]
        np.copyto(given, image.ravel())
        check(cudart.cudaMemcpyAsync(device_in, given.ctypes.data, given.nbytes, to, stream))
        assert context.execute_async_v3(stream_handle=stream)
        check(cudart.cudaMemcpyAsync(got.ctypes.data, device_out, got.nbytes, back, stream))
        check(cudart.cudaStreamSynchronize(stream))
        predictions.append(int(got.argmax()))
    assert context.profiler.total > 0
    for _, device in buffers.values():
        check(cudart.cudaFree(device))
    close(stream)
    common.report(predictions, labels)


if __name__ == "__main__":
    main()
