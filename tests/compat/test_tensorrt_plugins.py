"""Plugins of versions 2 and 3 and function plugins, in networks, and in engines that are loaded again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import strop.compat.tensorrt as trt
import strop.compat.tensorrt.plugins as trtp
from strop import custom
from strop.compat.memory import array_at

LOGGER = trt.Logger()


class CircPad(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
    """Pads the last axis circularly."""

    def __init__(self, fc: Any = None) -> None:
        trt.IPluginV3.__init__(self)
        trt.IPluginV3OneCore.__init__(self)
        trt.IPluginV3OneBuild.__init__(self)
        trt.IPluginV3OneRuntime.__init__(self)
        self.pads = [int(v) for v in fc[0].data] if fc else []
        self.plugin_name, self.plugin_version, self.plugin_namespace, self.num_outputs = "CircPad", "1", "", 1

    def get_capability_interface(self, type: Any) -> Any:
        return self

    def get_output_data_types(self, input_types: Any) -> Any:
        return [input_types[0]]

    def get_output_shapes(self, inputs: Any, shape_inputs: Any, expr_builder: Any) -> Any:
        out = trt.DimsExprs(len(inputs[0]))
        for k, size in enumerate(inputs[0]):
            more = sum(self.pads) if k == len(inputs[0]) - 1 else 0
            out[k] = expr_builder.operation(trt.DimensionOperation.SUM, size, expr_builder.constant(more))
        return [out]

    def get_fields_to_serialize(self) -> Any:
        return trt.PluginFieldCollection([trt.PluginField("pads", np.array(self.pads, np.int32), trt.PluginFieldType.INT32)])

    def enqueue(self, input_desc: Any, output_desc: Any, inputs: Any, outputs: Any, workspace: Any, stream: Any) -> None:
        x = array_at(inputs[0], np.dtype(np.float32), tuple(input_desc[0].dims))
        y = array_at(outputs[0], np.dtype(np.float32), tuple(output_desc[0].dims))
        y[...] = np.pad(x, [(0, 0)] * (x.ndim - 1) + [tuple(self.pads)], mode="wrap")

    def clone(self) -> Any:
        made = CircPad()
        made.__dict__.update(self.__dict__)
        return made


class CircPadCreator(trt.IPluginCreatorV3One):
    """Makes it."""

    def __init__(self) -> None:
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_namespace, self.plugin_version = "CircPad", "", "1"
        self.field_names = trt.PluginFieldCollection([trt.PluginField("pads", np.array([]), trt.PluginFieldType.INT32)])

    def create_plugin(self, name: str, fc: Any, phase: Any) -> Any:
        return CircPad(fc)


@pytest.fixture
def registered() -> Any:
    creator = CircPadCreator()
    registry = trt.get_plugin_registry()
    registry.register_creator(creator, "")
    yield registry
    registry.deregister_creator(creator)
    for name in custom.declared():
        if name.startswith("tensorrt::"):
            custom.forget(name)


def run(engine: Any, *inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    context = engine.create_execution_context()
    name = engine.get_tensor_name(engine.num_io_tensors - 1)
    for k, array in enumerate(inputs):
        context.set_input_shape(engine.get_tensor_name(k), array.shape)
        context.set_tensor_address(engine.get_tensor_name(k), array.ctypes.data)
    out = np.zeros(tuple(context.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name)))
    context.set_tensor_address(name, out.ctypes.data)
    assert context.execute_async_v3(0)
    return out


def build(network: Any) -> Any:
    builder = network.builder
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    return builder.build_serialized_network(network, config)


def test_plugin_v3_runs_and_is_made_again_from_its_fields(registered: Any) -> None:
    creator = registered.get_creator("CircPad", "1", "")
    fields = trt.PluginFieldCollection([trt.PluginField("pads", np.array([2, 1], np.int32), trt.PluginFieldType.INT32)])
    plugin = creator.create_plugin("circ", fields, trt.TensorRTPhase.BUILD)
    network = trt.Builder(LOGGER).create_network(1)
    x = network.add_input("x", trt.float32, (2, 3, 8))
    relu = network.add_activation(x, trt.ActivationType.RELU)
    layer = network.add_plugin_v3([relu.get_output(0)], [], plugin)
    assert layer.plugin is plugin and layer.get_output(0).shape == (2, 3, 11)
    network.mark_output(layer.get_output(0))
    plan = build(network)
    given = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    wanted = np.pad(np.maximum(given, 0), [(0, 0), (0, 0), (2, 1)], mode="wrap")
    for name in custom.declared():
        if name.startswith("tensorrt::"):
            custom.forget(name)  # as in another process
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(plan)
    np.testing.assert_array_equal(run(engine, given), wanted)


def test_an_engine_without_its_creator_is_refused_by_name(registered: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = CircPad([trt.PluginField("pads", np.array([1, 1], np.int32), trt.PluginFieldType.INT32)])
    network = trt.Builder(LOGGER).create_network(1)
    network.mark_output(network.add_plugin_v3([network.add_input("x", trt.float32, (1, 4))], [], plugin).get_output(0))
    plan = build(network)
    for creator in list(registered.all_creators):
        registered.deregister_creator(creator)
    for name in custom.declared():
        if name.startswith("tensorrt::"):
            custom.forget(name)
    assert trt.Runtime(LOGGER).deserialize_cuda_engine(plan) is None
    assert "no creator of a plugin is registered" in capsys.readouterr().err


def test_plugin_v2() -> None:
    class Clip(trt.IPluginV2DynamicExt):
        """Cuts values off."""

        num_outputs, plugin_type, plugin_version = 1, "CustomClip", "1"

        def get_output_dimensions(self, output_index: int, inputs: Any, expr_builder: Any) -> Any:
            return inputs[0]

        def enqueue(self, input_desc: Any, output_desc: Any, inputs: Any, outputs: Any, workspace: Any, stream: Any) -> int:
            shape, kind = tuple(input_desc[0].dims), np.dtype(np.float32)
            array_at(outputs[0], kind, shape)[...] = np.clip(array_at(inputs[0], kind, shape), -1, 1)
            return 0

    network = trt.Builder(LOGGER).create_network(1)
    layer = network.add_plugin_v2([network.add_input("x", trt.float32, (3, 5))], Clip())
    network.mark_output(layer.get_output(0))
    given = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32) * 3
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(build(network))
    np.testing.assert_array_equal(run(engine, given), np.clip(given, -1, 1))


def test_plugins_that_are_functions() -> None:
    @trtp.register("samples::scaled_sum")
    def describe(a: trtp.TensorDesc, b: trtp.TensorDesc, factor: float) -> trtp.TensorDesc:
        return a.like()

    @trtp.impl("samples::scaled_sum")
    def compute(a: trtp.Tensor, b: trtp.Tensor, factor: float, outputs: Any, stream: int) -> None:
        outputs[0].numpy()[...] = a.numpy() + np.float32(factor) * b.numpy()

    network = trt.Builder(LOGGER).create_network(1)
    a, b = (network.add_input(n, trt.float32, (2, 4)) for n in "ab")
    layer = network.add_plugin(trtp.op.samples.scaled_sum(a, b, factor=3.0), aot=False)
    network.mark_output(layer.get_output(0))
    given = [np.random.default_rng(k).standard_normal((2, 4)).astype(np.float32) for k in range(2)]
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(build(network))
    np.testing.assert_allclose(run(engine, *given), given[0] + 3 * given[1], rtol=1e-6)
