"""Custom layers among layouts and groups: copies only where a layer asks for them, expressions fused on either side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from strop import custom
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.op import Op, Type
from strop.lower.pipeline import Lowered, Step, lower
from strop.ops.conv import Conv
from strop.ops.data import Concat, Slice
from strop.ops.elementwise import make
from strop.target.detect import parse as parse_target
from strop.trace import Trace

TARGET = parse_target("x86-64-v3")
NHWC = (640, 1, 64, 8)  # strides of [1, 8, 10, 8] with channels innermost
ROWS = (640, 80, 8, 1)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    for name in custom.declared():
        custom.forget(name)


def declare(name: str, **options: Any) -> Op:
    class Layer(custom.Layer):
        def shape(self, *inputs: Any) -> Any:
            return inputs[0]

        def compute(self, *inputs: Any) -> Any:
            return inputs[0]

        def emit(self, c: Any) -> str:
            return c.store("1.0f", *"0" * len(c.outputs[0].shape))

    custom.layer(name, **options)(Layer)
    return custom.make(name, {})


class Net:
    """A graph over x[1, 8, 10, 8] under construction."""

    def __init__(self) -> None:
        self.graph = Graph("g")
        self.x = self.graph.add_input("x", Type(dt.f32, (1, 8, 10, 8)))

    def conv(self, x: Value, size: int = 3) -> Value:
        w = self.graph.add_const(np.ones((8, 8, size, size), np.float32), "w")
        op = Conv((1, 1), (size // 2,) * 4, (1, 1), 1)
        return self.graph.add(op, [x, w], name=f"conv{len(self.graph.nodes)}").output

    def add(self, op: Op, *operands: Value | None, name: str = "") -> Value:
        return self.graph.add(op, operands, name=name or None, source=(name,) if name else ()).outputs[0]

    def lower(self, *outputs: Value) -> Lowered:
        self.graph.set_outputs(outputs, [f"y{k}" for k in range(len(outputs))])
        return lower(self.graph, TARGET, Trace())


def step(lowered: Lowered, name: str) -> Step:
    return next(s for s in lowered.steps if s.region.name == name)


def copies(lowered: Lowered) -> list[str]:
    return [s.region.name for s in lowered.steps if s.copy == "layout"]


def strides(lowered: Lowered, name: str) -> list[Sequence[int]]:
    region = step(lowered, name).region
    return [region.operand(0).view.strides, region.out.strides]


@pytest.mark.parametrize(
    ("takes", "want", "n_copies"),
    [(custom.ANY, [NHWC, NHWC], 0), (custom.CHANNELS_LAST, [NHWC, NHWC], 0), (custom.ROW_MAJOR, [ROWS, ROWS], 2)],
)
def test_between_convolutions(takes: str, want: list[Sequence[int]], n_copies: int) -> None:
    net = Net()
    y = net.conv(net.add(declare("test::Mine", takes=takes), net.conv(net.x), name="mine"))
    lowered = net.lower(y)
    assert strides(lowered, "mine") == want
    assert len(copies(lowered)) == 1 + n_copies  # of the network's input, and those around the layer


def test_alone_between_the_callers_arrays() -> None:
    for takes, count in ((custom.ANY, 0), (custom.ROW_MAJOR, 0), (custom.CHANNELS_LAST, 2)):
        net = Net()
        lowered = net.lower(net.add(declare("test::Mine", takes=takes), net.x, name="mine"))
        assert len([s for s in lowered.steps if s.copy]) == count


def test_dense_layers_write_no_parts_of_concats() -> None:
    for takes, parts in ((custom.ANY, 2), (custom.CHANNELS_LAST, 1)):
        net = Net()
        op = declare("test::Mine", takes=takes)
        a = net.conv(net.x)
        whole = net.add(Concat(1), net.add(op, a, name="mine"), net.conv(a), name="whole")
        lowered = net.lower(net.add(make("relu"), whole, name="relu"))
        assert len([s for s in lowered.steps if s.copy == "concat"]) == 2 - parts
        assert step(lowered, "mine").region.out.is_dense((0, 2, 3, 1)) == (parts == 1)


def test_dense_layers_get_parts_of_splits_copied() -> None:
    net = Net()
    part = net.add(Slice(axes=(1,), starts=(0,), stops=(4,), steps=(1,)), net.conv(net.x), name="part")
    lowered = net.lower(net.add(declare("test::Mine", takes=custom.CHANNELS_LAST), part, name="mine"))
    region = step(lowered, "mine").region
    assert region.operand(0).view.is_dense((0, 2, 3, 1)) and region.operand(0).view.shape == (1, 4, 10, 8)


def test_constants_lie_row_major_and_are_known() -> None:
    seen: list[Any] = []

    class Mine(custom.Layer):
        def shape(self, x: Any, w: Any) -> Any:
            return x

        def compute(self, x: Any, w: Any) -> Any:
            return x

        def emit(self, c: Any) -> str:
            seen.append((c.inputs[1].strides, c.inputs[1].const, c.inputs[0].const))
            return ""

    custom.layer("test::Mine", takes=custom.CHANNELS_LAST)(Mine)
    net = Net()
    w = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    net.lower(net.add(Mine(), net.conv(net.x), net.graph.add_const(w, "c"), name="mine"))
    assert seen[0][0] == (12, 4, 1) and seen[0][2] is None
    np.testing.assert_array_equal(seen[0][1], w)


def test_an_expression_is_an_epilogue_and_a_prologue() -> None:
    custom.elementwise("test::Ramp", lambda x, k: custom.call("max", x * k, x), k=0.1)
    ramp = custom.make("test::Ramp", {"k": 0.25})
    net = Net()
    a = net.add(ramp, net.x, name="before")
    y = net.add(ramp, net.conv(a, 1), name="behind")
    lowered = net.lower(y)
    (region,) = [s.region for s in lowered.steps if not s.copy]
    assert region.has_prologue and region.has_epilogue and region.kind == "conv"
    assert {"before", "behind"} <= set(region.source)


def test_only_layers_that_say_so_take_an_epilogue() -> None:
    for fuses in (False, True):
        net = Net()
        y = net.add(make("relu"), net.add(declare("test::Mine", fuses=fuses), net.x, name="mine"), name="relu")
        lowered = net.lower(y)
        assert len(lowered.steps) == 2 - fuses and step(lowered, "mine").region.has_epilogue == fuses


def test_stores_of_vectors_apply_any_epilogue() -> None:
    """With what vectors can do, without, with operands that lie otherwise."""

    class Mine(custom.Layer):
        def shape(self, x: Any) -> Any:
            return x

        def compute(self, x: Any) -> Any:
            return x

        def emit(self, c: Any) -> str:
            return str(c.store_vector("vzero()", 1, "0", "8", "0", "0", count="m"))

    custom.layer("test::Mine", takes=custom.CHANNELS_LAST, fuses=True)(Mine)
    texts = []
    for op, other in (("add", (1, 8, 1, 1)), ("add", ()), ("fmod", ()), ("add", (1, 8, 10, 8))):
        net = Net()
        const = net.graph.add_const(np.ones(other, np.float32), "c")
        lowered = net.lower(net.conv(net.add(make(op), net.add(Mine(), net.conv(net.x), name="mine"), const)))
        found = step(lowered, "mine")
        texts.append(found.chosen.emit(found.region, TARGET).body)
    assert "vload_n(&e0[(8) * 1], m)" in texts[0] and "vstore_n(&y0[" in texts[0]
    assert "vset1(e0[0])" in texts[1] or "vset1(1.0f)" in texts[1]
    assert "fmodf(" in texts[2] and "t_[k_]" in texts[2]
    assert "e0_[k_] = e0[((8) + k_) * 80 + " in texts[3] and "vload(e0_)" in texts[3]
