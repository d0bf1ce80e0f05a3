"""First layers of few channels get a power of two of them, on GPUs."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import Type
from strop.lower.pipeline import lower
from strop.lower.widen import widen
from strop.ops.conv import Conv
from strop.ops.elementwise import Cast
from strop.ops.integer import IntegerConv
from strop.ops.quantize import Quantize
from strop.target.detect import parse
from strop.trace import Trace


def _net(channels=3, kernel=7, dtype=dt.f16, extent=(12, 10), pads=None, stride=2) -> Graph:
    graph = Graph("first")
    rng = np.random.default_rng(0)
    x = graph.add_input("x", Type(dt.f32, (2, channels, *extent)))
    value = graph.add(Cast(dtype), [x]).output if dtype is not dt.f32 else x
    w = graph.add_const(rng.standard_normal((8, channels, kernel, kernel)).astype(dtype.numpy), "w")
    pad = kernel // 2
    graph.set_outputs([graph.add(Conv((stride,) * 2, pads or (pad,) * 4, (1, 1)), [value, w], name="conv1", source=["conv1"]).output], ["y"])
    return graph


@pytest.mark.parametrize("dtype", [dt.f16, dt.f32])
@pytest.mark.parametrize("extent", [(12, 10), (13, 9), (40, 31)])
@pytest.mark.parametrize("pads", [(3, 3, 3, 3), (0, 0, 0, 0), (2, 0, 5, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (5, 1), (6, 3)])
def test_results_stay_the_same(dtype, extent, pads, kernel, stride):
    graph = _net(dtype=dtype, extent=extent, pads=pads, kernel=kernel, stride=stride)
    x = {"x": np.random.default_rng(1).standard_normal((2, 3, *extent)).astype(np.float32)}
    before = run(graph, x)
    widen(graph)
    conv = next(n for n in graph.nodes if isinstance(n.op, Conv))
    assert conv.operand(1).shape[1] == 4 and conv.source == ("conv1",)
    assert (conv.operand(1).shape[3] == 8 and conv.op.pads == (0, 0, 0, 0)) or stride == 3
    np.testing.assert_allclose(run(graph, x)["y"].astype(np.float32), before["y"].astype(np.float32), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("net", [_net(channels=4), _net(channels=9), _net(kernel=3), _net(kernel=1)], ids=["power", "many", "small", "tap"])
def test_others_stay_as_they_are(net):
    nodes = list(net.nodes)
    widen(net)
    assert list(net.nodes) == nodes


def test_the_cast_is_the_padding_s_epilogue():
    lowered = lower(_net(), parse("cuda:sm_90"), Trace())
    assert [step.chosen.kernel.name for step in lowered.steps] == ["channel_pad", "conv_gemm", "pointwise"][: len(lowered.steps)]
    first, conv = (step.region for step in lowered.steps[:2])
    assert first.has_epilogue and first.out.dtype is dt.f16
    assert conv.operand(0).view.strides[1] == 1 and conv.operand(0).view.strides[3] == 4


def test_processors_keep_three_channels():
    lowered = lower(_net(dtype=dt.f32), parse("x86-64-v3"), Trace())
    assert next(s.region for s in lowered.steps if isinstance(s.region.op, Conv)).operand(0).view.shape[1] == 3


@pytest.mark.parametrize("same", [True, False])
def test_integers_are_padded_with_their_zero_point(same):
    graph, rng = Graph("first"), np.random.default_rng(2)
    x = graph.add_input("x", Type(dt.f32, (2, 3, 12, 10)))
    zero = graph.add_const(np.asarray(-17, np.int8), "zero")
    other = zero if same else graph.add_const(np.asarray(3, np.int8), "other")
    value = graph.add(Quantize(dt.i8), [x, graph.add_const(np.asarray(0.02, np.float32), "scale"), zero]).output
    w = graph.add_const(rng.integers(-127, 128, (8, 3, 7, 7)).astype(np.int8), "w")
    graph.set_outputs([graph.add(IntegerConv((2, 2), (3,) * 4, (1, 1)), [value, w, other], name="conv1").output], ["y"])
    given = {"x": rng.standard_normal((2, 3, 12, 10)).astype(np.float32)}
    before = run(graph, given)
    widen(graph)
    conv = next(n for n in graph.nodes if isinstance(n.op, IntegerConv))
    assert conv.op.pads == ((0,) * 4 if same else (3,) * 4) and conv.operand(1).shape == (8, 4, 7, 8 if same else 7)
    np.testing.assert_array_equal(run(graph, given)["y"], before["y"])
