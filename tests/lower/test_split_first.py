"""Axes are split before they are transposed, on GPUs, so that attention heads are views."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import Type
from strop.lower.pipeline import lower
from strop.lower.split_first import split_first
from strop.ops.data import Reshape, Slice, Transpose
from strop.ops.elementwise import make
from strop.target.detect import parse
from strop.trace import Trace


def _heads(last=(2, 3, 5, 4)) -> Graph:
    """x[5, 2, 24] as exporters split heads: a third of it as [5, 2*3, 4], turned, as [2, 3, 5, 4]."""
    graph = Graph("heads")
    x = graph.add_input("x", Type(dt.f32, (5, 2, 36)))
    doubled = graph.add(make("add"), [x, x]).output
    part = graph.add(Slice((12,), (24,), (2,), (1,)), [doubled]).output
    joined = graph.add(Reshape((5, 6, 4)), [part]).output
    turned = graph.add(Transpose((1, 0, 2)), [joined]).output
    heads = graph.add(Reshape(last), [turned]).output
    graph.set_outputs([graph.add(make("relu"), [heads]).output], ["y"])
    return graph


def test_results_stay_the_same():
    graph = _heads()
    x = {"x": np.random.default_rng(0).standard_normal((5, 2, 36)).astype(np.float32)}
    before = run(graph, x)["y"]
    split_first(graph)
    graph.prune()
    assert [type(n.op) for n in graph.nodes if isinstance(n.op, (Reshape, Transpose))] == [Reshape, Transpose]
    np.testing.assert_array_equal(run(graph, x)["y"], before)


@pytest.mark.parametrize(("target", "copies"), [("cuda:sm_90", 0), ("x86-64-v3", 1)])
def test_no_bytes_move_on_a_gpu(target, copies):
    lowered = lower(_heads(), parse(target), Trace())
    assert sum(step.copy == "reshape" for step in lowered.steps) == copies


def test_a_reshape_that_joins_axes_stays():
    graph = _heads(last=(30, 4))
    nodes = list(graph.nodes)
    split_first(graph)
    assert list(graph.nodes) == nodes
