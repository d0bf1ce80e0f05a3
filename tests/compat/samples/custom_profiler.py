"""A profiler of one's own: times per layer over many runs, reported at once or when the program asks; and the inspector's JSON beside it."""

import json

import common
import mnist_8
import numpy as np
import tensorrt as trt

TRT_LOGGER = trt.Logger(trt.Logger.ERROR)


class LayerTimes(trt.IProfiler):
    def __init__(self):
        trt.IProfiler.__init__(self)
        self.layers = {}

    def report_layer_time(self, layer_name, ms):
        self.layers.setdefault(layer_name, []).append(ms)


def main():
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(0)
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    mnist_8.populate_network(network, common.get_weights())
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    context, out = engine.create_execution_context(), np.empty(10, np.float32)
    context.profiler = times = LayerTimes()
    image = np.ascontiguousarray(common.digits()[0][0])
    for _ in range(5):
        assert context.execute_v2([image.ctypes.data, out.ctypes.data])
    assert len(times.layers) == engine.num_layers and all(len(t) == 5 for t in times.layers.values())
    context.enqueue_emits_profile = False
    context.set_tensor_address("data", image.ctypes.data)
    context.set_tensor_address("prob", out.ctypes.data)
    assert context.execute_async_v3(0) and all(len(t) == 5 for t in times.layers.values())
    assert context.report_to_profiler() and all(len(t) == 6 for t in times.layers.values())
    for name, found in times.layers.items():
        print(f"{name:<40} {np.mean(found):.4f} ms")
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    found = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    assert [layer["Name"] for layer in found["Layers"]] == list(times.layers)
    one = json.loads(inspector.get_layer_information(0, trt.LayerInformationFormat.JSON))
    assert one["Outputs"][0]["Dimensions"] and one["LayerType"]
    context.profiler = trt.Profiler()
    assert context.execute_v2([image.ctypes.data, out.ctypes.data])


if __name__ == "__main__":
    main()
