"""Every builtin operator that is read, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
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
