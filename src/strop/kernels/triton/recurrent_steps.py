"""Recurrent layers: RNN, GRU and LSTM over inputs that were multiplied with their weights before.

Programs share samples, units and directions; a program has all gates of its units, so that activations follow its products at once. States
lie in the workspace twice, and every step reads one and writes the other. Steps wait for each other in one of two ways:

- a launch per pass of a step, all of the same code: a counter of programs that are done tells a program which step it is in;
- ``whole``: a program has all units of its samples and walks all steps, with a barrier between them.

Products of one sample are sums of elementwise products in f32, others are those of tensor cores. Sums, cells and the states that are not
factors of products are f32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as combinations

from strop.ir import dtype as dt
from strop.ir.expr import Expr, Input
from strop.kernels.base import In, Out, Region, View
from strop.kernels.recurrence import Pass, operands_of, passes_of
from strop.kernels.triton.emit import (
    VALUE,
    GpuEmitted,
    Launch,
    Printer,
    Writer,
    ceil_div,
    loaded,
    masked,
    power_of_two,
    printable,
    stored,
    wide_of,
)
from strop.kernels.triton.parts import LAUNCH, GpuKernel, Pointers, dot, is_float, traffic
from strop.ops.base import select
from strop.ops.recurrent import GRU, LSTM, RNN, Recurrent
from strop.target.base import Target

#: Most units of a program that walks all steps.
_WHOLE = 128
#: Most samples whose products are made one by one.
_FEW = 8
#: Seconds from a state's store to the end of the products that need it, beside reading weights.
_LATENCY = 1.5e-6


@dataclass(frozen=True)
class Params:
    """bm: samples per program, 1 for sums of elementwise products; bn: units per program; bk: terms per round; whole: see the module's text."""

    bm: int
    bn: int
    bk: int
    warps: int
    stages: int
    whole: bool = False


class RecurrentSteps(GpuKernel[Params]):
    """See the module's text."""

    name = "recurrent_steps"

    def takes(self, region: Region, target: Target) -> str | None:
        op = region.op
        if not isinstance(op, Recurrent):
            return "it is no recurrent layer"
        if not op.projected:
            return "x is not multiplied with its weights yet"
        operands = operands_of(region)
        floats = [o.view for name, (_, o) in operands.items() if name != "lens"] + list(region.outs)
        if not is_float(*floats) or len({v.dtype for v in floats}) > 1:
            return "it is not of f32, f16 or bf16"
        if region.out.count == 0:
            return "the result is empty"
        if region.has_epilogue:
            return "it has no epilogue"
        if wide_of(operands["r"][1].view) or 2 * region.outs[1].count >= 1 << 31:
            return "weights or states are too large"
        every = [op.activate(d, k, Input(0)) for d in range(op.directions) for k in range(op.functions)]
        return next((reason for e in every if (reason := printable(e, [dt.f32]))), None)

    def space(self, region: Region, target: Target) -> list[Params]:
        _, _, samples, hidden = region.out.shape
        wide, depth = power_of_two(max(16, hidden)), power_of_two(max(16, hidden))
        size = region.out.dtype.size
        gates = len(passes_of(_op(region))[0].gates)
        found = []
        for bm, bn, bk, warps in combinations((1, 16, 32, 64), (4, 8, 16, 32, 64, 128), (32, 64, 128, 256), (2, 4, 8)):
            if bk > max(32, depth) or (bm > 1 and (bn < 16 or bk > 128)) or (bm == 1 and samples > _FEW) or bm > max(16, power_of_two(samples)):
                continue
            held = gates * bn * (bk if bm == 1 else bm) // (32 * warps)
            stages = 3 if bm > 1 else 1
            if held > 96 or stages * bk * (bm + gates * bn) * size > 96 * 1024 or (bm == 1 and held < 4):
                continue
            if bn <= wide and bn <= 64:
                found.append(Params(bm, bn, bk, warps, stages))
            if bn == wide <= _WHOLE:
                found.append(Params(bm, bn, bk, warps, stages, True))
        return sorted(found, key=lambda p: self.cost(region, p, target))[:10]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        op = _op(region)
        p, (steps, directions, samples, hidden), size = params, region.out.shape, region.out.dtype.size
        tiles = ceil_div(hidden, p.bn) * ceil_div(samples, p.bm) * directions
        waves = ceil_div(tiles, target.cores)
        rounds = ceil_div(hidden, p.bk)
        seconds = 0.0
        for each in passes_of(op):
            load = len(each.gates) * p.bn * p.bk * size / (8.0 * p.warps)
            slow = 1 if size == 2 else 6
            multiply = (
                len(each.gates) * p.bn * p.bk / (32.0 * min(4, p.warps))
                if p.bm == 1
                else len(each.gates) * p.bm * p.bn * p.bk * slow / (target.fma_lanes * 0.25)
            )
            cycles = waves * rounds * (max(load, multiply) + (100.0 if p.bm > 1 else 40.0))
            read = tiles * len(each.gates) * p.bn * hidden * size / (2.0 * target.bandwidth)
            seconds += max(cycles / (target.ghz * 1e9), read) + _LATENCY + (0.0 if p.whole else LAUNCH)
        return max(steps * seconds + LAUNCH, traffic(region, target))

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        return _Emitter(region, params, target).emitted()


def _op(region: Region) -> Recurrent:
    assert isinstance(region.op, Recurrent)
    return region.op


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region, self.params, self.target = region, params, target
        self.op = _op(region)
        self.operands = operands_of(region)
        self.steps, self.directions, self.samples, self.hidden = region.out.shape
        self.dtype = region.out.dtype
        self.lens = "lens" in self.operands
        p = params
        self.grid = (ceil_div(self.hidden, p.bn), ceil_div(self.samples, p.bm), self.directions)
        self.rows_checked, self.units_checked = self.samples % p.bm != 0, self.hidden % p.bn != 0
        self.count = self.directions * self.samples * self.hidden
        self.workspace = 0
        #: Text of the pointer of each buffer in the workspace, [D, B, H].
        self.buffers: dict[str, str] = {}
        self._buffer("state", 2, self.dtype)
        if isinstance(self.op, GRU) or self.lens:
            self._buffer("exact", 2, dt.f32)
        if isinstance(self.op, LSTM):
            self._buffer("cell", 2, dt.f32)
        if len(passes_of(self.op)) > 1:
            self._buffer("reset", 1, self.dtype)
            self._buffer("update", 1, dt.f32)

    def _buffer(self, name: str, copies: int, dtype: dt.DType) -> None:
        at = f"work + {self.workspace // 4}" if self.workspace else "work"
        self.buffers[name] = at if dtype is dt.f32 else f"({at}).to(tl.pointer_type({VALUE[dtype.name]}))"
        self.workspace += ceil_div(copies * self.count * dtype.size, 256) * 256

    # ---- the launches

    def emitted(self) -> GpuEmitted:
        pointers = Pointers.none()
        for name, (number, operand) in self.operands.items():
            pointers.add(name, operand.view.dtype, In(number))
        for number, view in enumerate(self.region.outs):
            pointers.add(("y", "y_h", "y_c")[number], view.dtype, Out(number))
        if self.params.whole:
            return pointers.emitted([self._walk()], self.workspace)
        first = Writer()
        self._place(first)
        self._starts(first)
        start = Launch(first.text(), self.grid, self.params.warps, 1)
        every = [self._step(number) for number in range(len(passes_of(self.op)))]
        return pointers.emitted([start, *every * self.steps], self.workspace, 1)

    def _walk(self) -> Launch:
        """All steps by one launch."""
        w = Writer()
        self._place(w)
        self._starts(w)
        w("tl.debug_barrier()")
        with w.block(f"for s in tl.range(0, {self.steps}, num_stages=1)"):
            self._time(w)
            for number in range(len(passes_of(self.op))):
                self._pass(w, number)
                w("tl.debug_barrier()")
        return Launch(w.text(), self.grid, self.params.warps, self.params.stages)

    def _step(self, number: int) -> Launch:
        """A pass of any step. While it runs, the programs that are done are those of the passes before and some of its own, so that all find
        the same step."""
        w = Writer()
        programs, passes = self.grid[0] * self.grid[1] * self.grid[2], len(passes_of(self.op))
        self._place(w)
        w(f"s = tl.load(locks, volatile=True) // {programs * passes}")
        self._time(w)
        self._pass(w, number)
        w("tl.debug_barrier()", 'done = tl.atomic_add(locks, 1, sem="relaxed")')
        if number == passes - 1:
            with w.block(f"if done == {programs * passes * self.steps - 1}"):
                w("tl.store(locks, 0)")
        return Launch(w.text(), self.grid, self.params.warps, self.params.stages)

    # ---- places

    def _place(self, w: Writer) -> None:
        """Samples ``m``, units ``j``, the direction ``d``, and where the tile's elements are in a buffer."""
        p = self.params
        w(f"j = tl.program_id(0) * {p.bn} + tl.arange(0, {p.bn})", f"m = tl.program_id(1) * {p.bm} + tl.arange(0, {p.bm})")
        w("d = tl.program_id(2)" if self.directions > 1 else "d = 0")
        w(f"own = (d * {self.samples} + m[:, None]) * {self.hidden} + j[None, :]")
        inside = [f"(m < {self.samples})[:, None]"] * self.rows_checked + [f"(j < {self.hidden})[None, :]"] * self.units_checked
        if inside:
            w(f"inside = {' & '.join(inside)}")
        self.inside = ["inside"] if inside else []

    def _time(self, w: Writer) -> None:
        """The place ``t`` of step ``s``, which samples are ``live``, and where a step's states come from and go to."""
        w(f"old = s % 2 * {self.count}", f"new = {self.count} - old")
        both = self.directions > 1
        backwards = both or self.op.reversed(0)
        if not self.lens:
            turned = f"{self.steps - 1} - s"
            w(f"t = {f'tl.where(d == 1, {turned}, s)' if both else turned if backwards else 's'}")
            return
        view = self.operands["lens"][1].view
        mask = f", mask=m < {self.samples}, other=0" if self.rows_checked else ""
        w(f"ends = tl.minimum(tl.maximum(tl.load(lens + m * {view.strides[0]}{mask}), 0), {self.steps})", "live = (s < ends)[:, None]")
        turn = "live & (d == 1)" if both else "live"
        w(f"t = tl.where({turn}, ends[:, None] - 1 - s, s)" if backwards else "t = s")

    def _load(self, pointer: str, offset: str, dtype: dt.DType, checks: Sequence[str]) -> str:
        """Text of a load in registers' type."""
        return loaded(f"tl.load({pointer} + {offset}{masked(checks)})", dtype)

    def _at_time(self, view: View, unit: str, direction: int, samples: int) -> str:
        """Text of the tile's offset in a value per step: ``unit`` is the index along the last axis."""
        t = "(t + tl.zeros((), tl.int64))" if wide_of(view) else "t"
        terms = [f"{t} * {view.strides[0]}", f"m[:, None] * {view.strides[samples]}", f"({unit})[None, :] * {view.strides[-1]}"]
        return " + ".join([*terms, *([f"d * {view.strides[1]}"] if direction else [])])

    def _state_at(self, view: View) -> str:
        """Text of the tile's offset in a [D, B, H] operand or result."""
        a, b, c = view.strides
        return f"d * {a} + m[:, None] * {b} + j[None, :] * {c}"

    def _starts(self, w: Writer) -> None:
        """States before the first step."""
        for name, buffers in zip(self.op.states, (("state", "exact"), ("cell",)), strict=False):
            value = f"tl.zeros(({self.params.bm}, {self.params.bn}), tl.float32)"
            if name in self.operands:
                view = self.operands[name][1].view
                value = self._load(name, self._state_at(view), view.dtype, self.inside)
            w(f"{name}_first = {value}")
            for buffer in buffers:
                self._keep(w, buffer, f"{name}_first", "own")

    def _keep(self, w: Writer, buffer: str, value: str, at: str) -> None:
        """Stores the tile in a buffer that is there."""
        if buffer in self.buffers:
            dtype = self.dtype if buffer in ("state", "reset") else dt.f32
            w(f"tl.store({self.buffers[buffer]} + {at}, {stored(value, dtype)}{_within(self.inside)})")

    # ---- one pass of a step

    def _pass(self, w: Writer, number: int) -> None:
        each = passes_of(self.op)[number]
        self._products(w, each)
        _Unit(self, w, number).write()

    def _products(self, w: Writer, each: Pass) -> None:
        """Sums ``a0``, ``a1``, ... of the products of a state with the weights of each gate."""
        p, hidden = self.params, self.hidden
        view = self.operands["r"][1].view
        few = p.bm == 1
        shape = f"({p.bn}, {p.bk})" if few else f"({p.bm}, {p.bn})"
        for gate in each.gates:
            w(f"a{gate} = tl.zeros({shape}, tl.float32)")
        source = self.buffers[each.source] + (" + old" if each.source == "state" else "")
        depth = hidden % p.bk != 0
        with w.block(f"for start in range(0, {hidden}, {p.bk})"):
            w(f"k = start + tl.arange(0, {p.bk})")
            checks = [f"(m < {self.samples})[:, None]"] * self.rows_checked + [f"(k < {hidden})[None, :]"] * depth
            w(f"h = tl.load({source} + (d * {self.samples} + m[:, None]) * {hidden} + k[None, :]{masked(checks)})")
            if few:
                w("h = h.to(tl.float32)")
            u, v = ("[:, None]", "[None, :]") if few else ("[None, :]", "[:, None]")
            checks = [f"(j < {hidden}){u}"] * self.units_checked + [f"(k < {hidden}){v}"] * depth
            for gate in each.gates:
                at = f"d * {view.strides[0]} + (j{f' + {gate * hidden}' if gate else ''}){u} * {view.strides[1]} + k{v} * {view.strides[2]}"
                if few:
                    w(f"a{gate} += tl.load(r + {at}{masked(checks)}).to(tl.float32) * h")
                else:
                    w(f"w{gate} = tl.load(r + {at}{masked(checks)})", f"a{gate} = {dot('h', f'w{gate}', f'a{gate}', self.dtype, self.target)}")
        if few:
            for gate in each.gates:
                w(f"a{gate} = tl.sum(a{gate}, 1)[None, :]")


class _Unit:
    """Writes what follows the products of a pass: gates, cell, state."""

    def __init__(self, emitter: _Emitter, w: Writer, number: int) -> None:
        self.all, self.w, self.number = emitter, w, number
        self.texts: list[str] = []
        self.types: list[dt.DType] = []
        self.known: dict[str, Expr] = {}

    def named(self, name: str, text: str = "", dtype: dt.DType = dt.f32) -> Expr:
        """An operand of expressions: a variable, defined once where a text is given."""
        if name not in self.known:
            if text:
                self.w(f"{name} = {text}")
            self.known[name] = Input(len(self.texts))
            self.texts.append(name)
            self.types.append(dtype)
        return self.known[name]

    def buffer(self, name: str) -> Expr:
        """The tile of an f32 buffer."""
        old = "" if name == "update" else "old + "
        return self.named(f"{name}_old", f"tl.load({self.all.buffers[name]} + {old}own{masked(self.all.inside)})")

    def row(self, name: str, start: int) -> Expr | None:
        """A vector of units of an operand [D, ..] from ``start`` on."""
        if name not in self.all.operands:
            return None
        view = self.all.operands[name][1].view
        at = f"d * {view.strides[0]} + (j{f' + {start}' if start else ''})[None, :] * {view.strides[1]}"
        checks = [f"(j < {self.all.hidden})[None, :]"] * self.all.units_checked
        return self.named(f"{name}_{start}", self.all._load(name, at, view.dtype, checks))

    def product(self, gate: int) -> Expr:
        """The state times the gate's weights, with the bias that belongs to this product only."""
        op, found = self.all.op, self.named(f"a{gate}")
        bias = None if op.bias_in_sum(gate) else self.row("b", (op.gates + gate) * self.all.hidden)
        return found if bias is None else found + bias

    def fed(self, gate: int) -> Expr:
        """What is added to the gate's sum beside the product."""
        every, op = self.all, self.all.op
        view = every.operands["x"][1].view
        unit = f"d * {op.gates * every.hidden} + {gate * every.hidden} + j"
        found = self.named(f"x{gate}", every._load("x", every._at_time(view, unit, 0, 1), view.dtype, every.inside))
        starts = [gate, *([op.gates + gate] if op.bias_in_sum(gate) else [])]
        for start in starts:
            bias = self.row("b", start * every.hidden)
            found = found if bias is None else found + bias
        return found

    def either(self, values: Sequence[Expr]) -> Expr:
        """The value of the direction at hand."""
        if len(values) == 1 or values[0] == values[1]:
            return values[0]
        return select(self.named("ahead", "d == 0", dt.boolean), *values)

    def let(self, name: str, values: Sequence[Expr]) -> Expr:
        """A variable, from its value per direction."""
        value = self.either(values)
        printer = Printer(self.types, lambda node, _: self.texts[node.index] if isinstance(node, Input) else "", self.w, prefix=f"{name}_")
        self.w(f"{name} = {printer.value(value, dt.f32)}")
        return self.named(name)

    def write(self) -> None:
        """Everything."""
        op, directions = self.all.op, range(self.all.directions)
        if isinstance(op, LSTM):
            sums = [self.product(gate) + self.fed(gate) for gate in range(4)]
            rows = [self.row("p", k * self.all.hidden) for k in range(3)]
            peepholes = [p for p in rows if p is not None]
            before = self.buffer("cell")
            cell = self.let("cell", [op.cell(d, sums, before, peepholes) for d in directions])
            self.let("hidden", [op.hidden(d, sums[1], cell, peepholes) for d in directions])
            if self.all.lens:
                self.w("cell = tl.where(live, cell, cell_old)")
            self.all._keep(self.w, "cell", "cell", "new + own")
        elif isinstance(op, GRU):
            if not self._gru(op):
                return
        else:
            assert isinstance(op, RNN)
            total = self.product(0) + self.fed(0)
            self.let("hidden", [op.hidden(d, total) for d in directions])
        self._finish()

    def _gru(self, op: GRU) -> bool:
        """Whether the state is there after the pass."""
        directions = range(self.all.directions)
        before = self.buffer("exact")
        if op.linear_before_reset:
            z = self.let("z", [op.gate(d, self.product(0) + self.fed(0)) for d in directions])
            r = self.let("opened", [op.gate(d, self.product(1) + self.fed(1)) for d in directions])
            total = r * self.product(2) + self.fed(2)
        elif self.number == 0:
            self.let("z", [op.gate(d, self.product(0) + self.fed(0)) for d in directions])
            self.let("kept", [op.gate(d, self.product(1) + self.fed(1)) * before for d in directions])
            self.all._keep(self.w, "update", "z", "own")
            self.all._keep(self.w, "reset", "kept", "own")
            return False
        else:
            z, total = self.buffer("update"), self.product(2) + self.fed(2)
        self.let("hidden", [op.hidden(d, z, total, before) for d in directions])
        return True

    def _finish(self) -> None:
        """Stores the state ``hidden``, and at the last step what is left."""
        every, w, outs = self.all, self.w, self.all.region.outs
        shown = "hidden"
        if every.lens:
            self.buffer("exact")
            w("shown = tl.where(live, hidden, 0.0)", "hidden = tl.where(live, hidden, exact_old)")
            shown = "shown"
        for buffer in ("state", "exact"):
            every._keep(w, buffer, "hidden", "new + own")
        mask = _within(every.inside)
        w(f"tl.store(y + {every._at_time(outs[0], 'j', 1, 2)}, {stored(shown, every.dtype)}{mask})")
        with w.block(f"if s == {every.steps - 1}"):
            for name, value, view in zip(("y_h", "y_c"), ("hidden", "cell"), outs[1:], strict=False):
                w(f"tl.store({name} + {every._state_at(view)}, {stored(value, every.dtype)}{mask})")


def _within(checks: Sequence[str]) -> str:
    """Arguments of a store."""
    return f", mask={' & '.join(checks)}" if checks else ""


KERNEL = RecurrentSteps()
