"""A layer of one's own, in numpy and in C, between two convolutions of an ONNX model.

    python examples/custom_layer.py

Builds the model twice, once with the layer in numpy alone and once with C for it, runs both, saves one and loads it again.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import strop
from strop import custom
from strop.cli.inspect import steps_table
from strop.engine.describe import describe


class PixelNorm(custom.Layer):
    """Each pixel's channels divided by their root mean square (Karras et al. 2018, section 4.2)."""

    epsilon: float = 1e-8

    def shape(self, x: custom.Type) -> custom.Type:
        """The result is like x[N, C, H, W]."""
        return x

    def compute(self, x: np.ndarray) -> np.ndarray:
        """In numpy: the meaning, and what runs where there is no C."""
        return x / np.sqrt((x * x).mean(1, keepdims=True) + np.float32(self.epsilon))


class FastPixelNorm(PixelNorm):
    """The same with C for values whose channels are innermost, as they are around convolutions."""

    def tasks(self, code: custom.Code) -> int:
        """Images times rows."""
        return code.outputs[0].shape[0] * code.outputs[0].shape[2]

    def emit(self, code: custom.Code) -> str:
        """Vectors of channels; the store takes along what is fused behind the layer."""
        x = code.inputs[0]
        _, channels, height, width = x.shape
        store = code.store_vector("vload_n(p + c, m) * scale", 1, "n", "c", "h", "w", count="m")
        return f"""
  for (int64_t task = begin; task < end; task++) {{
    const int64_t n = task / {height}, h = task % {height};
    for (int64_t w = 0; w < {width}; w++) {{
      const float *p = &{x.at("n", 0, "h", "w")};
      float sum = 0;
      for (int64_t c = 0; c < {channels}; c++)
        sum += p[c] * p[c];
      const vf scale = vset1(1.0f / sqrtf(sum / {channels} + {self.epsilon}f));
      for (int64_t c = 0; c < {channels}; c += VL) {{
        const int64_t m = {channels} - c < VL ? {channels} - c : VL;
{store}
      }}
    }}
  }}"""


custom.layer("example::PixelNorm")(PixelNorm)
custom.layer("example::FastPixelNorm", takes=custom.CHANNELS_LAST, fuses=True)(FastPixelNorm)
# An elementwise function needs no class: it becomes part of the layer before it.
custom.elementwise("example::Squareplus", lambda x, b: 0.5 * (x + custom.call("sqrt", x * x + b)), b=4.0)


def model(norm: str) -> onnx.ModelProto:
    """conv -> squareplus -> norm -> relu -> conv over x[1, 8, 16, 16]."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal((8, 8, 3, 3)).astype(np.float32), name) for name in ("w1", "w2")]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="conv1"),
        helper.make_node("Squareplus", ["a"], ["b"], name="act", domain="example", b=1.0),
        helper.make_node(norm, ["b"], ["c"], name="norm", domain="example", epsilon=1e-6),
        helper.make_node("Relu", ["c"], ["d"], name="relu"),
        helper.make_node("Conv", ["d", "w2"], ["y"], name="conv2"),
    ]
    graph = helper.make_graph(
        nodes,
        "pixel_norm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 12, 12])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("example", 1)])


def main() -> None:
    """Builds, runs, saves and loads."""
    x = np.random.default_rng(1).standard_normal((1, 8, 16, 16)).astype(np.float32)
    results = []
    for norm in ("PixelNorm", "FastPixelNorm"):
        engine = strop.build(model(norm), level=0)
        results.append(engine(x))
        steps_table(describe(engine))
        print(*(f"  {step.name}: {step.custom}" for step in describe(engine).steps if step.custom), sep="\n")
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-4)
    print("the layer in C agrees with numpy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.strop"
        engine.save(path)
        np.testing.assert_array_equal(strop.load(path)(x), results[1])


if __name__ == "__main__":
    main()
