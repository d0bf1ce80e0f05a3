"""Loops as steps: what is carried has buffers of its own, copies fill them, jumps lead round.

    begin:  copy what is carried first into its buffers, unless no round changes it; round = 0; flag = go; jump behind the loop unless flag
    body
    end:    copy what the round gave to its place among those of all rounds, and what is carried into its buffers;
            round = round + 1; flag = go; jump to the body if flag
    behind: the number of rounds is a size that a step finds
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from strop.errors import UnsupportedError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.expr import Input, call
from strop.ir.graph import Node, Value
from strop.ir.op import Type
from strop.ir.shape import Dim, Sym
from strop.kernels.base import View
from strop.kernels.extent import extents, highest
from strop.lower import views
from strop.lower.layout_rules import wanted_order
from strop.lower.placement import LOOP, Buffer, Jump, Launch, Placement
from strop.lower.regions import Group
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.sizes import ReadSizes


class _Memory(Protocol):
    """What loops need of a layout."""

    buffers: list[Buffer]
    launches: list[Launch]
    places: dict[Value, Placement]
    jumps: list[Jump]

    def buffer(self, size: int, name: str) -> Buffer: ...

    def move(self, value: Value, source: Placement | None, target: Placement, reason: str) -> None: ...


@dataclass(eq=False)
class _Open:
    """A loop that has begun.

    Attributes:
        carried: where the carried values lie.
        round, flag: where the round's number and whether there is another round lie.
        skip: number of the launch that jumps behind the loop.
        number: of the loop.
    """

    carried: list[Placement]
    round: Placement
    flag: Placement
    skip: int
    number: int


class Loops:
    """Places the loops of a layout."""

    def __init__(self, layout: _Memory) -> None:
        self.layout = layout
        self._open: dict[str, _Open] = {}
        self._stack: list[int] = []
        self._count = 0

    @property
    def scope(self) -> int:
        """The number of the innermost loop that is open, 0 outside of all."""
        return self._stack[-1] if self._stack else 0

    # ---- parts

    def _scalar(self, dtype: dt.DType, name: str) -> Placement:
        return Placement(self.layout.buffer(dtype.size, name), 0, View.dense((), dtype))

    def _own(self, value: Value, name: str) -> Placement:
        """Memory of its own for a value."""
        view = View.dense(extents(value.shape), value.dtype, wanted_order(value))
        return Placement(self.layout.buffer(view.nbytes, name), 0, view)

    def _copy(self, value: Value, target: Placement) -> None:
        self.layout.move(value, None if value.const is not None else self.layout.places[value], target, LOOP)

    def _flag(self, node: Node, value: Value, flag: Placement) -> int:
        """The launch that a jump follows."""
        launch = Launch(f"{node.name} (go)", None, [self._place(value)], [value if value.const is not None else None], [flag], LOOP, node.source)
        self.layout.launches.append(launch)
        return len(self.layout.launches) - 1

    def _place(self, value: Value) -> Placement | None:
        return None if value.const is not None else self.layout.places[value]

    def _compute(self, node: Node, name: str, group: Group, inputs: list[Placement], output: Placement) -> None:
        launch = Launch(f"{node.name} ({name})", group, list(inputs), [None] * len(inputs), [output], source=node.source)
        self.layout.launches.append(launch)

    def _find(self, node: Node, symbol: Sym, source: Placement, name: str) -> Placement:
        """A step that finds a size in an i64."""
        reader = Node(ReadSizes((symbol,)), [Value("round", Type(dt.i64, ()))], f"{node.name}.{name}", node.source)
        reader.outputs.append(Value(name, Type(dt.i64, ()), reader))
        result = self._scalar(dt.i64, f"{node.name}.{name}")
        self._compute(node, name, Group(reader, [reader], [reader.inputs[0]], 1, Input(0), reader.outputs), [source], result)
        return result

    # ---- begin and end

    def begin(self, node: Node) -> None:
        """The steps before the first round."""
        assert isinstance(node.op, LoopBegin)
        self._count += 1
        places = self.layout.places
        kept = self._kept(node)
        carried = [
            self.layout.places[first] if value in kept and first.const is None else self._own(value, value.name)
            for first, value in zip(node.operands[1:], node.outputs[1:], strict=True)
        ]
        count, flag = self._scalar(dt.i64, f"{node.name}.round"), self._scalar(dt.boolean, f"{node.name}.go")
        for value, place in zip(node.operands[1:], carried, strict=True):
            if value.const is not None or self.layout.places[value] is not place:
                self._copy(value, place)
        zero = Value(f"{node.name}.zero", Type(dt.i64, ()), const=np.zeros((), np.int64))
        self._copy(zero, count)
        skip = self._flag(node, node.operand(0), flag)
        places[node.outputs[0]] = count
        places.update(zip(node.outputs[1:], carried, strict=True))
        self._open[node.op.loop] = _Open(carried, count, flag, skip, self._count)
        self._stack.append(self._count)

    @staticmethod
    def _kept(node: Node) -> set[Value]:
        """The carried values that every round hands on as they are: they stay where they were before the loop."""
        ends = [user for user in node.outputs[0].users if isinstance(user.op, LoopEnd) and user.operand(0) is node.outputs[0]]
        assert len(ends) == 1
        return {v for v, after in zip(node.outputs[1:], ends[0].operands[2:], strict=False) if v is after}

    def end(self, node: Node) -> None:
        """The steps after a round, and behind the loop."""
        op = node.op
        assert isinstance(op, LoopEnd)
        loop = self._open.pop(op.loop)
        last = len(node.inputs) - op.scans
        places = self.layout.places
        if op.scans:
            self._collect(node, op.rounds, loop, node.operands[last:])
        self._carry(node.operands[2:last], loop)
        one = Value(f"{node.name}.one", Type(dt.i64, ()), const=np.ones((), np.int64))
        counter = Value(f"{node.name}.round", Type(dt.i64, ()))
        step = Node(LoopEnd("", 0, 0), [], f"{node.name}.next", node.source)
        group = Group(None, [step], [counter, one], 0, call("add", Input(0), Input(1)), [counter])
        launch = Launch(f"{node.name} (next)", group, [loop.round, None], [None, one], [loop.round], source=node.source)
        self.layout.launches.append(launch)
        back = self._flag(node, node.operand(1), loop.flag)
        self._stack.pop()
        behind = len(self.layout.launches)
        self.layout.jumps += [Jump(loop.skip, False, behind), Jump(back, True, loop.skip + 1)]
        places.update(zip(node.outputs[: last - 2], loop.carried, strict=True))
        places[node.outputs[-1]] = self._find(node, op.rounds, loop.round, "rounds") if isinstance(op.rounds, Sym) and op.computed else loop.round

    def _collect(self, node: Node, rounds: Dim, loop: _Open, values: list[Value]) -> None:
        """Copies of what the round gave to its place among those of all rounds."""
        most = sh.bounds(rounds)[1]
        if most >= (1 << 31) - 1:
            raise UnsupportedError("a loop collects values of any number of rounds", where=node.name, hint="give it a largest number of rounds")
        slot = Sym(f"slot_of_loop_{loop.number}", 0, 0, max(most - 1, 0))
        self._find(node, slot, loop.round, "slot")
        first = len(node.outputs) - 1 - len(values)
        for value, result in zip(values, node.outputs[first:-1], strict=True):
            whole = View.dense(extents(result.shape), result.dtype)
            size = highest(View.dense((most, *whole.shape[1:]), result.dtype).nbytes)
            buffer = Buffer("arena", len(self.layout.buffers), size, result.name)
            self.layout.buffers.append(buffer)
            view, offset = views.sliced(whole, 0, extents((slot,))[0], 1)
            part = View(view.shape[1:], view.strides[1:], view.dtype)
            self._copy(value, Placement(buffer, offset, part))
            self.layout.places[result] = Placement(buffer, 0, whole)

    def _carry(self, values: list[Value], loop: _Open) -> None:
        """Copies of what is carried; a value that lies in the buffer of another one goes through memory of its own first."""
        moves = [(value, self._place(value), target) for value, target in zip(values, loop.carried, strict=True)]
        moves = [(value, source, target) for value, source, target in moves if source is None or not source.same(target)]
        written = {target.buffer for _, _, target in moves}
        for number, (value, source, target) in enumerate(moves):
            if source is not None and source.buffer in written:
                spare = self._own(value, f"{value.name}.spare")
                self.layout.move(value, source, spare, LOOP)
                moves[number] = value, spare, target
        for value, source, target in moves:
            self.layout.move(value, source, target, LOOP)
