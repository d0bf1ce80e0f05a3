"""Loop programs of recurrent layers: what RNN, GRU and LSTM share, step numbers, sums and states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Nest, Program, Stage
from strop.ir.op import Type
from strop.ops import base

DIRECTION, SAMPLE, STEP, UNIT = "d", "n", "s", "j"


@dataclass
class Steps:
    """Builds the program of one layer; names as in ``strop.ops.recurrent.Recurrent``.

    Attributes:
        operands: types of the operands that are present, by name.
        numbers: operand numbers by name.
        y: type of the first result.
        gates: per unit.
        reversed: per direction, whether it walks from the end.
        summed: per gate, whether its recurrent bias is part of the sum.
        states: operand name of the first value of each state, by the name of its stage.
        nest: the stages of a step, in order.
    """

    operands: Mapping[str, Type]
    numbers: Mapping[str, int]
    y: Type
    gates: int
    reversed: Sequence[bool]
    summed: Sequence[bool]
    states: Mapping[str, str]
    nest: list[Stage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steps, self.directions, self.samples, hidden = self.y.shape
        (self.hidden,) = sh.static((hidden,))
        self.kind: DType = base.compute_type(self.y.dtype)
        self.zero = base.literal(0.0, self.kind)
        axes = (Loop(DIRECTION, self.directions), Loop(SAMPLE, self.samples), Loop(STEP, self.steps))
        self.axes = axes
        self.here: list[Expr] = [loop.var for loop in axes]
        self.unit = ex.Axis(UNIT)

    # ---- what a step reads

    def operand(self, name: str, index: Sequence[Expr]) -> Expr:
        """An operand's element in the compute type."""
        return base.load(self.numbers[name], self.operands[name].dtype, index)

    def either(self, make: Callable[[int], Expr]) -> Expr:
        """``make`` of the direction at hand."""
        first = make(0)
        if len(self.reversed) == 1 or make(1) == first:
            return first
        return base.select(call("eq", ex.Axis(DIRECTION), base.integer(0)), first, make(1))

    def length(self) -> Expr:
        """Steps of the sample."""
        if "lens" not in self.operands:
            return base.size(self.steps)
        given = ex.Cast(dt.i64, ex.Load(self.numbers["lens"], (ex.Axis(SAMPLE),)))
        return call("max", call("min", given, base.size(self.steps)), base.integer(0))

    def live(self, step: Expr) -> Expr | None:
        """Whether the sample has that step; None when all have all."""
        return step < self.length() if "lens" in self.operands else None

    def time(self, step: Expr) -> Expr:
        """Position along the sequence of a step's operand and result; its own inverse."""

        def of(d: int) -> Expr:
            if not self.reversed[d]:
                return step
            turned = self.length() - base.integer(1) - step
            live = self.live(step)
            return turned if live is None else base.select(live, turned, step)

        return self.either(of)

    def first(self, stage: str, unit: Expr) -> Expr:
        """A state before the first step."""
        name = self.states[stage]
        place = [ex.Axis(DIRECTION), ex.Axis(SAMPLE), unit]
        return self.operand(name, place) if name in self.operands else self.zero

    def before(self, stage: str, unit: Expr) -> Expr:
        """A state before this step."""
        step = ex.Axis(STEP)
        last = call("max", step - base.integer(1), base.integer(0))
        stored = ex.Load(stage, (*self.here[:2], last, unit))
        return base.select(call("eq", step, base.integer(0)), self.first(stage, unit), stored)

    def now(self, stage: str, unit: Expr) -> Expr:
        """An element that a stage of the nest stored at this step."""
        return ex.Load(stage, (*self.here, unit))

    # ---- stages

    def input_sums(self) -> list[Stage]:
        """Stage ``sums`` [D, B, S, G H]: what feeds the gates at a position beside the state."""
        rows = self.gates * self.hidden
        row = Loop("q", rows)
        d, n, t = self.here
        total: Expr
        bias = self.bias(row.var, self.summed)
        if "w" not in self.operands:
            column = base.scale(d, rows) + row.var
            body = self.operand("x", [t, n, column])
            body = body if bias is None else body + bias
            return [Stage("sums", self.kind, (*self.axes, row), body)]
        k = Loop("k", self.operands["x"].shape[2])
        product = self.operand("x", [t, n, k.var]) * self.operand("w", [d, row.var, k.var])
        total = ex.Acc() if bias is None else ex.Acc() + bias
        return [
            Stage("sums", self.kind, (*self.axes, row), product, (k,), "add", self.zero, total)
        ]

    def bias(self, row: Expr, summed: Sequence[bool]) -> Expr | None:
        """The bias of a row of w plus, for gates in ``summed``, that of the row of r."""
        if "b" not in self.operands:
            return None
        d = ex.Axis(DIRECTION)
        rows = self.gates * self.hidden
        total = self.operand("b", [d, row])
        other = self.operand("b", [d, row + base.integer(rows)])
        if not all(summed):  # the last gate's is not
            other = base.select(row < base.integer(rows - self.hidden), other, self.zero)
        return total + other

    def sum_at(self, gate: int, unit: Expr) -> Expr:
        """The element of ``sums`` for this step."""
        d, n, step = self.here
        return ex.Load("sums", (d, n, self.time(step), _plus(unit, gate * self.hidden)))

    def product(
        self, name: str, gates: Sequence[int], source: Callable[[Expr], Expr], final: Expr | None = None
    ) -> None:
        """Adds a stage [.., len(gates) H] of products of a state with the rows of r of consecutive gates.

        Args:
            name: of the stage.
            gates: whose rows.
            source: element k of the state.
            final: over Acc, by default as it is.
        """
        k, row = Loop("k", self.hidden), Loop("q", len(gates) * self.hidden)
        weight = self.operand("r", [ex.Axis(DIRECTION), _plus(row.var, gates[0] * self.hidden), k.var])
        done = ex.Acc() if final is None else final
        body = source(k.var) * weight
        axes = (*self.axes, row)
        self.nest.append(Stage(name, self.kind, axes, body, (k,), "add", self.zero, done))

    def add(self, name: str, body: Expr) -> None:
        """Adds a stage [.., H] of the step."""
        if name in self.states:
            live = self.live(ex.Axis(STEP))
            if live is not None:
                body = base.select(live, body, self.before(name, self.unit))
        self.nest.append(
            Stage(name, self.kind, (*self.axes, Loop(UNIT, self.hidden)), body)
        )

    def program(self) -> Program:
        """The whole program; the first state's stage gives y."""
        unit = Loop(UNIT, self.hidden)
        d, n, step = self.here
        main = next(iter(self.states))
        axes = (Loop(STEP, self.steps), Loop(DIRECTION, self.directions), Loop(SAMPLE, self.samples), unit)
        value: Expr = ex.Load(main, (d, n, self.time(step), self.unit))
        live = self.live(step)
        if live is not None:
            value = base.select(live, value, self.zero)
        results = [Stage("out0", self.y.dtype, axes, base.cast(value, self.kind, self.y.dtype))]
        for number, stage in enumerate(self.states):
            last = base.size(sh.sub(self.steps, 1))
            end = ex.Load(stage, (d, n, last, self.unit)) if self.steps != 0 else self.first(stage, self.unit)
            body = base.cast(end, self.kind, self.y.dtype)
            results.append(Stage(f"out{number + 1}", self.y.dtype, (*self.axes[:2], unit), body))
        return Program((*self.input_sums(), Nest(self.axes, tuple(self.nest)), *results))


def _plus(index: Expr, offset: int) -> Expr:
    return index + base.integer(offset) if offset else index
