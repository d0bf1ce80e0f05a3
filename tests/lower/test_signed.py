"""Activations become signed bytes on GPUs, and mean what they meant."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import Type
from strop.lower.signed import signed
from strop.ops.pool import MaxPool
from strop.ops.quantize import Dequantize, Quantize


def _graph(zero: int | None, output: bool = False) -> Graph:
    graph = Graph("quantized")
    x = graph.add_input("x", Type(dt.f32, (1, 2, 6, 6)))
    grid = [graph.add_const(np.asarray(0.1, np.float32), "scale")] + ([] if zero is None else [graph.add_const(np.asarray(zero, np.uint8), "zero")])
    q = graph.add(Quantize(dt.u8), [x, *grid], name="q").output
    pooled = graph.add(MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), [q], name="pool").output
    y = graph.add(Dequantize(), [pooled, *grid], name="y").output
    graph.set_outputs([y, pooled] if output else [y])
    return graph


@pytest.mark.parametrize("zero", [None, 0, 100])
def test_integers_are_signed_and_numbers_stay(zero):
    graph = _graph(zero)
    turned = signed(graph)
    assert [n.output.dtype for n in turned.nodes] == [dt.i8, dt.i8, dt.f32]
    x = {"x": np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32)}
    for a, b in zip(run(turned, x).values(), run(graph, x).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_output_stays():
    assert [n.output.dtype for n in signed(_graph(100, output=True)).nodes] == [dt.u8, dt.u8, dt.f32]
