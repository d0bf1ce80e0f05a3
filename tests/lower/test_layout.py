"""Values around ops that know channels lie with channels innermost, in whatever axis order the graph has them."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.op import Type
from strop.lower.pipeline import lower
from strop.ops.conv import Conv
from strop.ops.data import Transpose
from strop.ops.elementwise import make
from strop.ops.resize import Resize
from strop.target.detect import parse
from strop.trace import Trace

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def _upsampled(last: bool) -> Graph:
    """A convolution's result, enlarged and added to another one's, before a third; the middle in the order of the flag."""
    graph = Graph("upsampled")
    rng = np.random.default_rng(0)

    def conv(x: Value, name: str) -> Value:
        w = graph.add_const(rng.standard_normal((8, 8, 1, 1)).astype(np.float32), f"{name}.w")
        return graph.add(Conv((1, 1), (0,) * 4, (1, 1)), [x, w], name=name).output

    def turned(x: Value, perm: tuple[int, ...]) -> Value:
        return graph.add(Transpose(perm), [x]).output if last else x

    small, large = (graph.add_input(name, Type(dt.f32, (1, 8, n, n))) for name, n in (("small", 6), ("large", 12)))
    sizes, scales = ((1, 12, 12, 8), (1.0, 2.0, 2.0, 1.0)) if last else ((1, 8, 12, 12), (1.0, 1.0, 2.0, 2.0))
    enlarged = graph.add(Resize(sizes, scales, "linear"), [turned(conv(small, "a"), LAST)], name="resize").output
    whole = graph.add(make("add"), [enlarged, turned(conv(large, "b"), LAST)], name="add").output
    graph.set_outputs([conv(turned(whole, FIRST), "c")], ["y"])
    return graph


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_a_resize_between_convolutions_needs_no_copies(last: bool) -> None:
    steps = lower(_upsampled(last), parse("x86-64-v3"), Trace()).steps
    assert [step.copy for step in steps if step.copy] == ["layout", "layout", "output"]  # of both inputs and the output
    resize = next(step.region for step in steps if isinstance(step.region.op, Resize))
    assert [view.strides[3 if last else 1] for view in (resize.operand(0).view, resize.out)] == [1, 1]
