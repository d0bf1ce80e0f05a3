"""python_plugin and quickly_deployable_plugins: circular padding as a plugin of version 3 with its creator, and as functions with decorators."""

import ctypes

import numpy as np
import tensorrt as trt
import tensorrt.plugin as trtp

TRT_LOGGER = trt.Logger(trt.Logger.WARNING)


def array_of(address, desc):
    count = int(np.prod(desc.dims))
    return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32).reshape(tuple(desc.dims))


class CircPadPlugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
    def __init__(self, fc=None):
        trt.IPluginV3.__init__(self)
        trt.IPluginV3OneCore.__init__(self)
        trt.IPluginV3OneBuild.__init__(self)
        trt.IPluginV3OneRuntime.__init__(self)
        self.pads = []
        self.num_outputs = 1
        self.plugin_namespace, self.plugin_name, self.plugin_version = "", "CircPadPlugin", "1"
        if fc is not None:
            assert fc[0].name == "pads"
            self.pads = fc[0].data

    def get_capability_interface(self, type):
        return self

    def get_output_data_types(self, input_types):
        return [input_types[0]]

    def get_output_shapes(self, inputs, shape_inputs, expr_builder):
        output_dims = trt.DimsExprs(inputs[0])
        for i in range(len(self.pads) // 2):
            at = len(output_dims) - i - 1
            more = expr_builder.constant(int(self.pads[i * 2] + self.pads[i * 2 + 1]))
            output_dims[at] = expr_builder.operation(trt.DimensionOperation.SUM, inputs[0][at], more)
        return [output_dims]

    def get_fields_to_serialize(self):
        return trt.PluginFieldCollection([trt.PluginField("pads", self.pads, trt.PluginFieldType.INT32)])

    def configure_plugin(self, inp, out):
        pass

    def on_shape_change(self, inp, out):
        self.shapes = [tuple(d.dims) for d in (*inp, *out)]

    def supports_format_combination(self, pos, in_out, num_inputs):
        desc = in_out[pos].desc
        return desc.format == trt.TensorFormat.LINEAR and desc.type == trt.DataType.FLOAT

    def enqueue(self, input_desc, output_desc, inputs, outputs, workspace, stream):
        x, y = array_of(inputs[0], input_desc[0]), array_of(outputs[0], output_desc[0])
        wide = [(0, 0)] * x.ndim
        for i in range(len(self.pads) // 2):
            wide[x.ndim - 1 - i] = (int(self.pads[i * 2]), int(self.pads[i * 2 + 1]))
        y[...] = np.pad(x, wide, "wrap")

    def attach_to_context(self, context):
        return self.clone()

    def set_tactic(self, tactic):
        pass

    def clone(self):
        cloned = CircPadPlugin()
        cloned.__dict__.update(self.__dict__)
        return cloned


class CircPadPluginCreator(trt.IPluginCreatorV3One):
    def __init__(self):
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_namespace, self.plugin_version = "CircPadPlugin", "", "1"
        self.field_names = trt.PluginFieldCollection([trt.PluginField("pads", np.array([]), trt.PluginFieldType.INT32)])

    def create_plugin(self, name, fc, phase):
        return CircPadPlugin(fc)


@trtp.register("sample::circ_pad_plugin")
def circ_pad_plugin_desc(inp0: trtp.TensorDesc, pads: np.ndarray) -> trtp.TensorDesc:
    ndim = inp0.ndim
    out_desc = inp0.like()
    for i in range(np.size(pads) // 2):
        out_desc.shape_expr[ndim - i - 1] += int(pads[i * 2] + pads[i * 2 + 1])
    return out_desc


@trtp.autotune("sample::circ_pad_plugin")
def circ_pad_plugin_autotune(inp0: trtp.TensorDesc, pads: np.ndarray, outputs: tuple):
    return [trtp.AutoTuneCombination("FP32, FP32", "LINEAR")]


@trtp.impl("sample::circ_pad_plugin")
def circ_pad_plugin_impl(inp0: trtp.Tensor, pads: np.ndarray, outputs: tuple, stream: int) -> None:
    wide = [(0, 0), (0, 0)] + [(int(pads[i]), int(pads[i + 1])) for i in (2, 0)]
    outputs[0].numpy()[...] = np.pad(inp0.numpy(), wide, "wrap")


def run(builder, network, x):
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    context = engine.create_execution_context()
    name = engine.get_tensor_name(1)
    out = np.empty(tuple(context.get_tensor_shape(name)), np.float32)
    context.set_tensor_address(engine.get_tensor_name(0), x.ctypes.data)
    context.set_tensor_address(name, out.ctypes.data)
    assert context.execute_async_v3(0)
    return out


def main():
    registry = trt.get_plugin_registry()
    registry.register_creator(CircPadPluginCreator(), "")
    pads = np.array([1, 2, 3, 0], np.int32)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    wanted = np.pad(x, [(0, 0), (0, 0), (3, 0), (1, 2)], "wrap")

    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(0)
    given = network.add_input("X", trt.float32, x.shape)
    creator = registry.get_creator("CircPadPlugin", "1", "")
    fields = trt.PluginFieldCollection([trt.PluginField("pads", pads, trt.PluginFieldType.INT32)])
    layer = network.add_plugin_v3([given], [], creator.create_plugin("CircPadPlugin", fields, trt.TensorRTPhase.BUILD))
    network.mark_output(layer.get_output(0))
    np.testing.assert_array_equal(run(builder, network, x), wanted)

    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.PREFER_JIT_PYTHON_PLUGINS))
    given = network.add_input("X", trt.float32, x.shape)
    layer = network.add_plugin(trtp.op.sample.circ_pad_plugin(given, pads=pads))
    network.mark_output(layer.get_output(0))
    np.testing.assert_array_equal(run(builder, network, x), wanted)
    print("inference result correct")


if __name__ == "__main__":
    main()
