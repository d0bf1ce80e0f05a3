"""Every builtin operator that is read, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.errors import ModelError
from strop.frontend.table import read
from strop.frontend.tflite import supported_operators
from strop.ir.interp import run
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests.frontend.tflite_cases import CASES, names
from tests.frontend.tflite_models import Maker

#: Operators with state: ``test_tflite_recurrent``; and those that take more than one operator, or a subgraph, to try: ``test_tflite_nets``.
RECURRENT = {
    "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
}  # fmt: skip
ELSEWHERE = RECURRENT | {"ASSIGN_VARIABLE", "CALL_ONCE", "DENSIFY", "DEQUANTIZE", "IF", "READ_VARIABLE", "STABLEHLO_COMPOSITE", "VAR_HANDLE", "WHILE"}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    graph = read(case.file)
    verify(graph, "imported")
    feeds = {value.name: array for value, array in zip(graph.inputs, case.inputs, strict=True)}
    for form in (graph, optimize(graph, Trace())):
        found = run(form, feeds)
        for got, wanted in zip(found.values(), case.results, strict=True):
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(got, wanted, 1e-5, 1e-5)


def test_every_operator_is_tried() -> None:
    assert set(names()) | ELSEWHERE == set(supported_operators())


GRIDS = [
    (0.05, 0.04, 0.2, (3, -20)), (0.02, 0.04, 0.3, (-60, 5)), (0.07, 0.01, -0.5, (0, 1)), (0.5, 0.5, 0.25, (-128, 7)), (0.05, 0.04, None, (3, -20)), (0.02, 0.05, None, (-40, 30)),
    (0.03, 0.03, 0.3, (5, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("scale", "to", "alpha", "zeros"), GRIDS)
def test_leaky_relu_and_quantize_in_integers_round_as_litert(scale: float, to: float, alpha: float | None, zeros: tuple[int, int]) -> None:
    """XNNPACK's qs8-vlrelu, and qs8-vcvt where there is no slope, in integers, over every integer: a product with a multiple of 1/256, halves up."""
    grids = [{"scale": s, "zero": z} for s, z in zip((scale, to), zeros, strict=True)]
    maker = Maker()
    maker.main.outputs = [maker.main.tensor("y", (256,), "INT8", **grids[1])]
    given = [maker.main.input("x", (256,), "INT8", **grids[0])]
    if alpha is None:
        maker.main.op("QUANTIZE", given, maker.main.outputs)
    else:
        maker.main.op("LEAKY_RELU", given, maker.main.outputs, "LeakyReluOptions", Alpha=alpha)
    x = np.arange(-128, 128).astype(np.int8)
    ratio = np.float32(scale) / np.float32(to)
    moved = x.astype(np.int64) - zeros[0]
    factor = np.where(moved > 0, np.rint(ratio * np.float32(256)), np.rint(ratio * np.float32(alpha or 1) * np.float32(256))).astype(np.int64)
    wanted = np.clip((moved * factor + 128 >> 8) + zeros[1], -128, 127)
    graph = read(maker.bytes())
    for form in (graph, optimize(graph, Trace())):
        (found,) = run(form, {"x": x}).values()
        np.testing.assert_array_equal(found, wanted)
    engine = strop.build(maker.bytes(), level=0, threads=1)
    np.testing.assert_array_equal(engine.run({"x": x})["y"], wanted)


SUMS = [
    ("ADD", 0.05, 0.04, 0.07, (3, -20, 5), 0, "INT8"), ("ADD", 0.3, 0.0007, 0.31, (-128, 127, -128), 1, "INT8"), ("SUB", 0.02, 0.07, 0.1, (0, 11, 4), 3, "INT8"),
    ("ADD", 0.05, 0.05, 0.1, (0, 0, 0), 0, "INT8"), ("ADD", 0.05, 0.04, 0.0005, (128, 120, 9), 2, "UINT8"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "a", "b", "to", "zeros", "activation", "type"), SUMS)
def test_sums_of_integers_are_those_of_litert(code: str, a: float, b: float, to: float, zeros: tuple[int, int, int], activation: int, type: str) -> None:
    """XNNPACK's qs8-vadd over every pair of integers: multipliers of 21 bits for the larger scale, halves up. Exported, it is a sum of reals."""
    maker = Maker()
    grids = [{"scale": s, "zero": z} for s, z in zip((a, b, to), zeros, strict=True)]
    operands = [maker.main.input("x", (256, 1), type, **grids[0]), maker.main.input("y", (256,), type, **grids[1])]
    maker.main.outputs = [maker.main.tensor("z", (256, 256), type, **grids[2])]
    maker.main.op(code, operands, maker.main.outputs, "AddOptions" if code == "ADD" else "SubOptions", FusedActivationFunction=activation)
    low, high = (0, 255) if type == "UINT8" else (-128, 127)
    every = np.arange(low, high + 1, dtype=np.int64)

    ratios = np.float32([a, b]) / np.float32(to)
    shift = 20 - int(np.floor(np.log2(ratios.max())))
    first, second = (int(m) for m in np.rint(np.ldexp(ratios.astype(np.float64), shift)))
    terms = (every - zeros[0])[:, None] * first, (every - zeros[1]) * second * (-1 if code == "SUB" else 1)
    whole = ((terms[0] + terms[1] + (1 << (shift - 1))) >> shift) + zeros[2]
    bounds = {0: (-np.inf, np.inf), 1: (0, np.inf), 2: (-1, 1), 3: (0, 6)}[activation]
    ends = [np.clip(np.rint(end / np.float32(to)) + zeros[2], low, high) for end in bounds]
    wanted = np.clip(whole, *ends).astype(np.int64)

    graph = read(maker.bytes())
    feeds = {"x": every[:, None].astype(graph.inputs[0].dtype.numpy), "y": every.astype(graph.inputs[1].dtype.numpy)}
    for form in (graph, optimize(graph, Trace())):
        (found,) = run(form, feeds).values()
        np.testing.assert_array_equal(found, wanted)
    engine = strop.build(maker.bytes(), level=0, threads=1)
    np.testing.assert_array_equal(engine.run(feeds)["z"], wanted)
    for format in ("tflite", "onnx"):
        (found,) = run(read(strop.convert(graph, to=format)), feeds).values()
        assert np.abs(found - wanted).max() <= 1


def transposed_with_bias(kind: int, size: tuple[int, int]) -> tuple[bytes, np.ndarray, np.ndarray, np.ndarray]:
    """MediaPipe's operator with a kernel of 3 x 2 and strides of 2 and 1; weights and bias."""
    rng = np.random.default_rng(4)
    w, b = rng.standard_normal((5, 3, 2, 4)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    maker = Maker()
    given = [maker.main.input("x", (1, 6, 7, 4)), maker.main.const(w), maker.main.const(b)]
    maker.main.outputs = [maker.main.tensor("y", (1, *size, 5))]
    maker.main.op("CUSTOM", given, maker.main.outputs, custom="Convolution2DTransposeBias", custom_options=np.array([kind, 1, 2], np.int32).tobytes())
    return maker.bytes(), w, b, rng.standard_normal((1, 6, 7, 4)).astype(np.float32)


@pytest.mark.parametrize(("kind", "size"), [(1, (12, 7)), (2, (13, 8))])
def test_the_transposed_convolution_of_mediapipe(kind: int, size: tuple[int, int]) -> None:
    file, w, b, x = transposed_with_bias(kind, size)
    whole = np.zeros((1, 13, 8, 5), np.float32)
    for i, j, p, q in np.ndindex(6, 7, 3, 2):
        whole[0, 2 * i + p, j + q] += w[:, p, q] @ x[0, i, j]
    np.testing.assert_allclose(run(read(file), {"x": x})["y"], whole[:, : size[0], : size[1]] + b, 1e-5, 1e-5)
    with pytest.raises(ModelError, match="unknown padding"):
        read(transposed_with_bias(3, size)[0])
