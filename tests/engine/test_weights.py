"""Weights alone in 8 and 4 bits: asked for by precision, and as ONNX files bring them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop import demo_data
from strop.engine.build import build
from strop.engine.engine import Engine
from strop.quantize.weights import grouped
from tests.engine.planted import digits

IMAGES, LABELS = digits(100, 400)
RNG = np.random.default_rng(5)


def kernels(engine: Engine) -> list[str]:
    return [step["kernel"].split("(")[0] for step in engine.manifest["steps"]]


def made(model: Any, **options: Any) -> Engine:
    return build(model, level=0, threads=1, **options)


def right(engine: Engine) -> float:
    return float(np.mean([np.argmax(engine(x[None])) == y for x, y in zip(IMAGES, LABELS, strict=True)]))


def test_lenet_keeps_its_digits() -> None:
    """Its convolutions have several taps and stay floats; products with matrices are stored in 8 and in 4 bits."""
    floats = made(demo_data.lenet_path())
    whole = right(floats)
    for precision, share in (("w8", 0.26), ("w4", 0.17), ("w4:16", 0.2)):
        engine = made(demo_data.lenet_path(), precision=precision)
        assert kernels(engine).count("matmul_mixed") == 2
        assert floats.memory.weights - engine.memory.weights > (1 - share) * 4 * (800 * 500 + 500 * 10)
        assert whole - right(engine) <= 0.01
        assert {row["name"]: row["precision"] for row in engine.manifest["precision"]["weights"]} == {"fc1": precision, "fc2": precision}
        assert any("MB instead of" in note and "dB" in note for note in engine.manifest["notes"])
        report = engine.accuracy_report(IMAGES[:8])
        assert {row.precision for row in report.layers if row.name.startswith("fc")} == {precision} and 15 < report.sqnr < 70


def test_error_of_groups() -> None:
    columns = RNG.standard_normal((96, 40)).astype(np.float32)
    noise = {}
    for bits, group in ((8, 0), (4, 0), (4, 32), (4, 7)):
        integers, scales = grouped(columns, bits, group)
        size = group or 96
        assert scales.shape == (-(-96 // size), 40) and integers.min() >= (-127 if bits == 8 else -8) and integers.max() <= (127 if bits == 8 else 7)
        real = integers * np.repeat(scales, size, 0)[:96]
        noise[bits, group] = float(np.square(real - columns).sum() / np.square(columns).sum())
    assert noise[8, 0] < 1e-4 and noise[4, 7] < noise[4, 32] < noise[4, 0] < 0.03
    zeros, scales = grouped(np.zeros((8, 3), np.float32), 4, 4)
    assert not zeros.any() and np.isfinite(scales).all()


def test_convolutions_of_one_tap() -> None:
    """With a bias and a stride; stored in 4 bits, and of several layers only the one that is named."""
    weight, bias = (RNG.standard_normal(s).astype(np.float32) for s in ((24, 40, 1, 1), (24,)))
    model = _model([helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", strides=[2, 2])], (1, 40, 9, 7), {"w": weight, "b": bias})
    engine = made(model, precision="fp32", layer_precision={"conv": "w4:8"})
    assert "matmul_mixed" in kernels(engine)
    integers, scales = grouped(weight.reshape(24, 40).T, 4, 8)
    real = (integers * np.repeat(scales, 8, 0)).T.reshape(weight.shape)
    x = RNG.standard_normal((1, 40, 9, 7)).astype(np.float32)
    wanted = np.einsum("nchw,oc->nohw", x[:, :, ::2, ::2], real[:, :, 0, 0]) + bias[:, None, None]
    np.testing.assert_allclose(engine(x), wanted, rtol=1e-4, atol=1e-4)


def _model(nodes: list[Any], x: tuple[int, ...], known: dict[str, Any], opset: int = 21) -> Any:
    tensors = [t if isinstance(t, TensorProto) else numpy_helper.from_array(t, name) for name, t in known.items()]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def half_bytes(name: str, array: Any, kind: int) -> TensorProto:
    return helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
@pytest.mark.parametrize("zeros", [False, True])
def test_dequantize_linear_of_4_bits_in_blocks(kind: int, zeros: bool) -> None:
    low = -8 if kind == TensorProto.INT4 else 0
    w, zero = (RNG.integers(low, low + 16, shape) for shape in ((50, 18), (4, 18)))
    scale = RNG.uniform(0.05, 0.4, (4, 18)).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", *(["z"] if zeros else [])], ["d"], axis=0, block_size=16),
        helper.make_node("MatMul", ["x", "d"], ["y"], name="product"),
    ]
    known = {"w": half_bytes("w", w, kind), "s": scale, **({"z": half_bytes("z", zero, kind)} if zeros else {})}
    model = _model(nodes, (2, 50), known)
    engine = made(model)
    assert kernels(engine) == ["matmul_mixed"]
    x = RNG.standard_normal((2, 50)).astype(np.float32)
    spread = [np.repeat(p, 16, 0)[:50] for p in (zero if zeros else zero * 0, scale)]
    wanted = x @ ((w - spread[0]) * spread[1]).astype(np.float32)
    np.testing.assert_allclose(engine(x), wanted, rtol=1e-4, atol=1e-4)
    columns = 32  # 18, filled up to whole vectors
    assert engine.memory.weights <= 25 * columns + 2 * 4 * 4 * columns + 64


@pytest.mark.parametrize("bits", [4, 8])
def test_mat_mul_n_bits_keeps_its_bits(bits: int) -> None:
    k, n, block = 96, 40, 32
    levels = RNG.integers(0, 1 << bits, (n, k // block, block)).astype(np.uint8)
    packed = levels if bits == 8 else levels[..., 0::2] | levels[..., 1::2] << 4
    scales = RNG.uniform(0.05, 0.4, n * k // block).astype(np.float32)
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", name="product", K=k, N=n, bits=bits, block_size=block)
    engine = made(_model([node], (1, k), {"w": packed, "s": scales}))
    assert kernels(engine) == ["matmul_mixed"] and engine.memory.weights < k * n * bits // 8 + 4 * scales.size + 4096
    x = RNG.standard_normal((1, k)).astype(np.float32)
    real = (levels.astype(np.float32) - (1 << (bits - 1))) * scales.reshape(n, -1, 1)
    np.testing.assert_allclose(engine(x), x @ real.reshape(n, k).T, rtol=1e-4, atol=1e-3)
