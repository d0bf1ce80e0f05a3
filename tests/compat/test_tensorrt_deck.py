"""The deck's LeNet, its Python code verbatim but for the import, classifies real digits; and the same network in the style of each era."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import strop.compat.pycuda.autoinit
import strop.compat.pycuda.driver as cuda
import strop.compat.tensorrt as trt
from strop.compat import cudart, level
from strop.demo_data import held_back_digits, lenet_path, lenet_weights
from strop.frontend.onnx import read_onnx
from strop.ir.interp import run

TRT_LOGGER = trt.Logger(trt.Logger.WARNING)
INPUT_NAME, OUTPUT_NAME, OUTPUT_SIZE = "data", "prob", 10

#: Slides "Usages and code" and "Writing Network definitions".
DECK = """
with trt.Builder(TRT_LOGGER) as builder, builder.create_network() as network:
    # Configure the network layers based on the weights provided. In this case, the weights are imported from a pytorch model.
    # Add an input layer. The name is a string, dtype is a TensorRT dtype, and the shape can be provided as either a list or tuple.
    input_tensor = network.add_input(name=INPUT_NAME, dtype=trt.float32, shape=INPUT_SHAPE)

    # Add a convolution layer
    conv1_w = weights['conv1.weight'].numpy()
    conv1_b = weights['conv1.bias'].numpy()
    conv1 = network.add_convolution(input=input_tensor, num_output_maps=20, kernel_shape=(5, 5), kernel=conv1_w, bias=conv1_b)
    conv1.stride = (1, 1)

    pool1 = network.add_pooling(input=conv1.get_output(0), type=trt.PoolingType.MAX, window_size=(2, 2))
    pool1.stride = (2, 2)
    conv2_w = weights['conv2.weight'].numpy()
    conv2_b = weights['conv2.bias'].numpy()
    conv2 = network.add_convolution(pool1.get_output(0), 50, (5, 5), conv2_w, conv2_b)
    conv2.stride = (1, 1)

    pool2 = network.add_pooling(conv2.get_output(0), trt.PoolingType.MAX, (2, 2))
    pool2.stride = (2, 2)

    fc1_w = weights['fc1.weight'].numpy()
    fc1_b = weights['fc1.bias'].numpy()
    fc1 = network.add_fully_connected(input=pool2.get_output(0), num_outputs=500, kernel=fc1_w, bias=fc1_b)

    relu1 = network.add_activation(fc1.get_output(0), trt.ActivationType.RELU)

    fc2_w = weights['fc2.weight'].numpy()
    fc2_b = weights['fc2.bias'].numpy()
    fc2 = network.add_fully_connected(relu1.get_output(0), OUTPUT_SIZE, fc2_w, fc2_b)

    fc2.get_output(0).name = OUTPUT_NAME
    network.mark_output(fc2.get_output(0))
"""


class Tensor:
    """What a torch tensor answers."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def numpy(self) -> np.ndarray[Any, Any]:
        return self._array


def deck(shape: Any) -> dict[str, Any]:
    names = {"trt": trt, "TRT_LOGGER": TRT_LOGGER, "INPUT_NAME": INPUT_NAME, "OUTPUT_NAME": OUTPUT_NAME, "OUTPUT_SIZE": OUTPUT_SIZE}
    names |= {"INPUT_SHAPE": shape, "weights": {k: Tensor(v) for k, v in lenet_weights().items()}}
    exec(DECK, names)
    return names


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    images, labels = held_back_digits()
    return images[:400], labels[:400]


def logits(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the trained net says, one digit at a time, by the numpy oracle."""
    graph = read_onnx(lenet_path())
    return np.concatenate([run(graph, {"input": image[None]})["logits"] for image in images])


def accuracy(context: Any, digits: Any) -> float:
    """Runs digits one by one through device memory, as samples of versions 5 to 8 do."""
    images, labels = digits
    host_in, host_out = cuda.pagelocked_empty((1, 28, 28), np.float32), cuda.pagelocked_empty(OUTPUT_SIZE, np.float32)
    device_in, device_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    right = 0
    for image, label in zip(images, labels):
        np.copyto(host_in, image)
        cuda.memcpy_htod_async(device_in, host_in, stream)
        assert context.execute_async(batch_size=1, bindings=[int(device_in), int(device_out)], stream_handle=stream.handle)
        cuda.memcpy_dtoh_async(host_out, device_out, stream)
        stream.synchronize()
        right += int(host_out.argmax() == label)
    return right / len(labels)


@pytest.mark.parametrize("shape", [(1, 28, 28), [1, 28, 28]])
def test_the_deck_classifies_digits(shape: Any, digits: Any) -> None:
    names = deck(shape)
    assert names["network"].has_implicit_batch_dimension
    assert names["conv1"].get_output(0).shape == (20, 24, 24)
    assert names["fc1"].get_output(0).shape == (500, 1, 1)
    engine = names["builder"].build_cuda_engine(names["network"])
    assert [engine.get_binding_shape(i) for i in range(engine.num_bindings)] == [(1, 28, 28), (10, 1, 1)]
    assert engine["prob"] == 1 and engine[0] == "data" and engine.binding_is_input(0) and not engine.binding_is_input("prob")
    with engine.create_execution_context() as context:
        assert accuracy(context, digits) >= 0.985


def test_four_axes_make_the_batch_explicit(digits: Any) -> None:
    names = deck((1, 1, 28, 28))
    assert not names["network"].has_implicit_batch_dimension
    config = names["builder"].create_builder_config()
    config.builder_optimization_level = 0
    plan = names["builder"].build_serialized_network(names["network"], config)
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(plan)
    assert engine.get_tensor_shape("prob") == (1, 10, 1, 1)
    context = engine.create_execution_context()
    images, labels = digits
    _, device_in = cudart.cudaMalloc(images[0].nbytes)
    _, device_out = cudart.cudaMalloc(40)
    out, right = np.empty(10, np.float32), 0
    context.set_tensor_address("data", device_in)
    context.set_tensor_address("prob", device_out)
    _, stream = cudart.cudaStreamCreate()
    for image, label in zip(images[:100], labels[:100]):
        cudart.cudaMemcpyAsync(device_in, image.ctypes.data, image.nbytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)
        assert context.execute_async_v3(stream)
        cudart.cudaMemcpyAsync(out.ctypes.data, device_out, out.nbytes, cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)
        right += int(out.argmax() == label)
    assert right >= 97
    assert cudart.cudaFree(device_in) == cudart.cudaFree(device_out) == (cudart.cudaError_t.cudaSuccess,)


def test_implicit_batch_of_several_samples(digits: Any) -> None:
    names = deck((1, 28, 28))
    names["builder"].max_batch_size = 4
    config = names["builder"].create_builder_config()
    config.builder_optimization_level = 0
    engine = names["builder"].build_engine(names["network"], config)
    assert engine.max_batch_size == 4
    context = engine.create_execution_context()
    for size in (1, 3, 4):
        given, got = np.ascontiguousarray(digits[0][:size]), np.zeros((size, 10), np.float32)
        assert context.execute(batch_size=size, bindings=[given.ctypes.data, got.ctypes.data])
        np.testing.assert_allclose(got, logits(given), rtol=1e-4, atol=1e-4)
    messages = Messages()
    engine.logger = messages
    assert not context.execute(batch_size=5, bindings=[given.ctypes.data, got.ctypes.data])
    assert "batch size out of range" in messages.text


class Messages(trt.ILogger):
    """Keeps messages."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.text = ""

    def log(self, severity: Any, msg: str) -> None:
        self.text += f"{severity.name}: {msg}\n"


def test_parser_with_a_dynamic_profile(tmp_path: Any, digits: Any) -> None:
    import onnx

    model = onnx.load(lenet_path())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, TRT_LOGGER)
    assert parser.parse(model.SerializeToString()), [parser.get_error(i) for i in range(parser.num_errors)]
    assert network.num_layers > 4 and network.get_input(0).shape[0] == -1
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 28)
    profile = builder.create_optimization_profile()
    profile.set_shape("input", (1, 1, 28, 28), (4, 1, 28, 28), (8, 1, 28, 28))
    assert config.add_optimization_profile(profile) == 0
    engine = builder.build_engine_with_config(network, config)
    name = engine.get_tensor_name(1)
    assert engine.get_tensor_shape("input") == (-1, 1, 28, 28)
    assert engine.get_tensor_profile_shape("input", 0) == [(1, 1, 28, 28), (4, 1, 28, 28), (8, 1, 28, 28)]
    context = engine.create_execution_context()
    assert context.infer_shapes() == ["input"] and not context.set_input_shape("input", (9, 1, 28, 28))
    for size in (8, 3):
        assert context.set_input_shape("input", (size, 1, 28, 28))
        assert context.get_tensor_shape(name) == (size, 10)
        given, got = np.ascontiguousarray(digits[0][:size]), np.zeros((size, 10), np.float32)
        context.set_tensor_address("input", given.ctypes.data)
        context.set_tensor_address(name, got.ctypes.data)
        assert context.execute_async_v3(0)
        np.testing.assert_allclose(got, logits(given), rtol=1e-4, atol=1e-4)


def test_parser_says_which_node(tmp_path: Any) -> None:
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("TransformLandmarks", ["x"], ["y"], "landmarks", domain="mediapipe")], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mediapipe", 1)])
    network = trt.Builder(TRT_LOGGER).create_network(1)
    parser = trt.OnnxParser(network, Messages())
    assert not parser.parse(model.SerializeToString())
    error = parser.get_error(0)
    assert error.node_name() == "landmarks" and "TransformLandmarks" in error.desc() and error.code() == trt.ErrorCode.UNSUPPORTED_NODE


def test_refit_changes_weights() -> None:
    names = deck((1, 1, 28, 28))
    config = names["builder"].create_builder_config()
    config.builder_optimization_level = 0
    config.set_flag(trt.BuilderFlag.REFIT)
    plan = names["builder"].build_serialized_network(names["network"], config)
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(plan)
    assert engine.refittable
    context = engine.create_execution_context()
    image, before, after = held_back_digits()[0][:1].copy(), np.zeros(10, np.float32), np.zeros(10, np.float32)
    assert context.execute_v2([image.ctypes.data, before.ctypes.data])
    refitter = trt.Refitter(engine, TRT_LOGGER)
    layers, roles = refitter.get_all()
    assert (names["fc2"].name, trt.WeightsRole.BIAS) in set(zip(layers, roles))
    assert refitter.set_weights(names["fc2"].name, trt.WeightsRole.BIAS, lenet_weights()["fc2.bias"] + 1)
    assert not refitter.set_weights(names["fc2"].name, trt.WeightsRole.BIAS, np.zeros(3, np.float32))
    assert refitter.refit_cuda_engine()
    assert context.execute_v2([image.ctypes.data, after.ctypes.data])
    np.testing.assert_allclose(after, before + 1, rtol=1e-5, atol=1e-5)


def test_profiler_inspector_and_monitor() -> None:
    class Times(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.layers: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.layers[layer_name] = ms

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: list[str] = []

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases.append(phase_name)

    names = deck((1, 1, 28, 28))
    config = names["builder"].create_builder_config()
    config.builder_optimization_level = 0
    config.progress_monitor = monitor = Monitor()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    engine = names["builder"].build_engine(names["network"], config)
    assert monitor.phases
    context = engine.create_execution_context()
    context.profiler = Times()
    image, out = held_back_digits()[0][:1].copy(), np.zeros(10, np.float32)
    assert context.execute_v2([image.ctypes.data, out.ctypes.data])
    assert context.profiler.layers and all(ms >= 0 for ms in context.profiler.layers.values())
    inspector = engine.create_engine_inspector()
    import json

    found = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    assert len(found["Layers"]) == engine.num_layers and {"Name", "LayerType", "Inputs", "Outputs"} <= found["Layers"][0].keys()


def test_failures_answer_none_and_say_why() -> None:
    messages = Messages()
    builder = trt.Builder(messages)
    network = builder.create_network(1)
    x = network.add_input("x", trt.float32, (1, 3, 8, 8))
    assert network.add_input("x", trt.float32, (1,)) is None and "input name is taken" in messages.text
    assert network.add_convolution_nd(x, 0, (3, 3), np.zeros(1, np.float32)) is None and "maps do not fit" in messages.text
    conv = network.add_convolution_nd(x, 4, (3, 3), np.zeros(5, np.float32))
    network.mark_output(conv.get_output(0))
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert "kernel has the wrong number of elements" in messages.text
    assert trt.Runtime(messages).deserialize_cuda_engine(b"nonsense") is None and "not an engine file" in messages.text


@pytest.fixture
def levels() -> Any:
    yield level.set_level
    level.set_level("auto")


def test_levels_decide_what_flags_mean(levels: Any) -> None:
    levels(11)
    assert not trt.Builder(TRT_LOGGER).create_network().has_implicit_batch_dimension
    levels(8)
    assert trt.Builder(TRT_LOGGER).create_network().has_implicit_batch_dimension


def test_levels_have_the_members_of_their_version(levels: Any) -> None:
    levels(10)
    builder = trt.Builder(TRT_LOGGER)
    network, config = builder.create_network(), builder.create_builder_config()
    with pytest.raises(AttributeError, match="'INetworkDefinition' object has no attribute 'add_fully_connected': TensorRT 10 removed it"):
        _ = network.add_fully_connected
    conv = network.add_convolution_nd(network.add_input("x", trt.float32, (1, 1, 4, 4)), 1, (3, 3), np.ones(9, np.float32))
    with pytest.raises(AttributeError, match="stride"):
        conv.stride = (1, 1)
    conv.stride_nd = (1, 1)
    network.mark_output(conv.get_output(0))
    config.builder_optimization_level = 0
    engine = builder.build_engine_with_config(network, config)
    assert not hasattr(engine, "num_bindings") and engine["x"] == 0 and config.set_flag(trt.BuilderFlag.FP16)
    assert not hasattr(builder, "build_engine") and not hasattr(engine.create_execution_context(), "execute_async_v2")
    levels(11)
    assert not hasattr(conv, "precision") and engine.device_memory_size_v2 >= 0 and not hasattr(engine, "device_memory_size")
    with pytest.raises(AttributeError, match="no member INT8 in TensorRT 11"):
        config.set_flag(trt.BuilderFlag.INT8)
    levels("auto")
    assert conv.stride == (1, 1) and engine.num_bindings == 2 and network.add_fully_connected and conv.precision == trt.float32


def test_autoinit_makes_a_context() -> None:
    assert strop.compat.pycuda.autoinit.device.count() == 1
