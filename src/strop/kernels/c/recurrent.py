"""Recurrent layers: all steps of RNN, GRU or LSTM in one kernel, over inputs that were multiplied with their weights before.

Recurrent weights are packed into panels [panel][k][gate][vectors of units], in the order in which a step reads them. A step
multiplies the state, ``mr`` samples at a time, with a panel; all gates of its units are then in registers, activations follow at
once, and the new state goes to the second of two buffers in scratch. A GRU whose reset gate applies before the product takes two
passes over panels per step. Directions and blocks of samples are tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Expr, Input
from strop.ir.op import Array
from strop.kernels.base import Emitted, In, Kernel, Operand, Out, Packed, Pointer, Region, View, memory_seconds
from strop.kernels.c.panels import Panels, balanced, tile_cycles, with_tail
from strop.kernels.c.rows import Track, address, vectors
from strop.kernels.c.tile import Tile
from strop.kernels.c.vector import VectorC, vectorizable
from strop.kernels.c.writer import Writer
from strop.ops.recurrent import GRU, LSTM, RNN, Recurrent
from strop.target.base import Target
from strop.target.isa.base import Isa
from strop.target.isa.table import ISAS

#: Rows per tile and vectors of units per panel worth trying.
_MR = (1, 2, 3, 4, 5, 6, 8)
_NU = (1, 2, 3, 4, 6, 8)
#: Estimated cycles per vector and activation.
_ACTIVATION = 16.0


@dataclass(frozen=True)
class Params:
    """mr: samples per tile; nu: vectors of units per panel of the pass with the most gates."""

    mr: int
    nu: int


@dataclass(frozen=True)
class Pass:
    """One walk over panels within a step.

    Attributes:
        gates: whose rows of the weights.
        source: which buffer is multiplied with them, ``state`` or ``reset``.
    """

    gates: tuple[int, ...]
    source: str


def passes_of(op: Recurrent) -> tuple[Pass, ...]:
    """The passes of a step, in order."""
    if isinstance(op, GRU) and not op.linear_before_reset:
        return (Pass((0, 1), "state"), Pass((2,), "reset"))
    return (Pass(tuple(range(op.gates)), "state"),)


def operands_of(region: Region) -> dict[str, tuple[int, Operand]]:
    """Number and operand of those that are present, by name."""
    assert isinstance(region.op, Recurrent)
    pairs = zip(region.op.operand_names, region.operands, strict=False)
    return {
        name: (number, operand)
        for number, (name, operand) in enumerate(pairs)
        if operand is not None and operand.view.shape != (0,)
    }


class RecurrentKernel(Kernel[Params]):
    """See the module's text."""

    name = "recurrent"

    def accepts(self, region: Region, target: Target) -> str | None:
        op = region.op
        if not isinstance(op, Recurrent):
            return "the anchor is no recurrent layer"
        if not op.projected:
            return "x is not multiplied with its weights yet"
        operands = operands_of(region)
        if any((n == "lens") != (o.view.dtype is dt.i32) or not _is_f32(n, o) for n, (_, o) in operands.items()):
            return "not f32"
        if region.out.count == 0:
            return "the result is empty"
        if any(name in operands and operands[name][1].const is None for name in ("r", "b", "p")):
            return "weights are no constants"
        sample = op.activate(0, 0, Input(0))
        every = [op.activate(d, k, sample) for d in range(op.directions) for k in range(op.functions)]
        if not all(vectorizable(e, [dt.f32]) for e in every):
            return "an activation has no vector form"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        op = region.op
        assert isinstance(op, Recurrent)
        isa = ISAS[target.isa]
        _, _, samples, hidden = region.out.shape
        widest = -(-hidden // isa.lanes)
        gates = len(passes_of(op)[0].gates)
        found = [
            Params(mr, nu)
            for mr in _MR
            for nu in _NU
            if mr <= samples and nu <= widest and (nu == 1 or _fits(mr, gates * nu, isa))
        ]
        found = [p for p in found if p.mr == 1 or _fits(p.mr, gates * p.nu, isa)]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:6]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        op = region.op
        assert isinstance(op, Recurrent)
        isa = ISAS[target.isa]
        steps, directions, samples, hidden = region.out.shape
        width = -(-hidden // isa.lanes)
        weights = 4 * op.gates * hidden * width * isa.lanes
        cycles = 0.0
        for each in passes_of(op):
            for panels in balanced(width, _width(op, params, each), isa.lanes):
                nv = len(each.gates) * panels.nv
                for number, mr in ((samples // params.mr, params.mr), (1, samples % params.mr)):
                    if number and mr:
                        cycles += number * panels.number * (tile_cycles(mr, nv, hidden, weights, isa, target) + 20.0)
        cycles += samples * width * _ACTIVATION * (op.gates + op.functions - 1) * isa.lanes / target.fma_lanes
        seconds = directions * steps * cycles / (target.ghz * 1e9)
        return max(seconds, memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _is_f32(name: str, operand: Operand) -> bool:
    return name == "lens" or operand.view.dtype is dt.f32


def _fits(mr: int, nv: int, isa: Isa) -> bool:
    """True when accumulators and what a step needs beside them stay in registers; a single row's weights are read by the
    multiply-add itself."""
    spare = 4 if isa.name == "portable" else 0
    return mr * nv + (nv if mr > 1 else 1) + 1 <= isa.registers - spare


def _width(op: Recurrent, params: Params, each: Pass) -> int:
    """Vectors of units per panel of a pass."""
    return max(1, params.nu * len(passes_of(op)[0].gates) // len(each.gates))


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        op = region.op
        assert isinstance(op, Recurrent)
        self.op = op
        self.region = region
        self.params = params
        self.lanes = ISAS[target.isa].lanes
        self.operands = operands_of(region)
        self.steps, self.directions, self.samples, self.hidden = region.out.shape
        self.padded = -(-self.hidden // self.lanes) * self.lanes
        self.lens = "lens" in self.operands
        self.helpers: list[str] = []
        mr = params.mr
        pieces = -(-target.cores // self.directions)
        self.rows = min(self.samples, -(-self.samples // pieces // mr) * mr) if pieces > 1 else self.samples
        self.blocks = -(-self.samples // self.rows)

    # ---- constants

    @cached_property
    def weights(self) -> Array:
        """[direction][pass][panel][k][gate][units of the panel], flat."""
        given = self._const("r").reshape(self.directions, self.op.gates, self.hidden, self.hidden)
        wide = np.zeros((self.directions, self.op.gates, self.padded, self.hidden), np.float32)
        wide[:, :, : self.hidden] = given
        parts = []
        for d in range(self.directions):
            for each in passes_of(self.op):
                for panels, _ in self._runs(each):
                    size = panels.nv * self.lanes
                    for start in range(panels.start, panels.start + size * panels.number, size):
                        block = wide[d, list(each.gates), start : start + size]
                        parts.append(block.transpose(2, 0, 1).reshape(-1))
        return np.concatenate(parts)

    @cached_property
    def slots(self) -> dict[str, Array]:
        """[D, H] each: what is added to the sum of gate i, ``b{i}``, and to its product only, ``r{i}``; peephole weights ``p{i}``.
        Biases that are zero are left out."""
        shape = (self.directions, -1, self.hidden)
        found: dict[str, Array] = {}
        if "b" in self.operands:
            both = self._const("b").reshape(shape)
            for gate in range(self.op.gates):
                own, recurrent = both[:, gate], both[:, self.op.gates + gate]
                together = self.op.bias_in_sum(gate)
                found[f"b{gate}"] = own + recurrent if together else own
                if not together:
                    found[f"r{gate}"] = recurrent
        found = {name: array for name, array in found.items() if array.any()}
        if "p" in self.operands:
            found |= {f"p{i}": a for i, a in enumerate(np.moveaxis(self._const("p").reshape(shape), 1, 0))}
        return found

    def _const(self, name: str) -> Array:
        array = self.operands[name][1].logical
        assert array is not None
        return array

    def _runs(self, each: Pass) -> Iterator[tuple[Panels, int]]:
        width = _width(self.op, self.params, each)
        panels = balanced(self.padded // self.lanes, width, self.lanes)
        return with_tail(panels, self.hidden % self.lanes, self.lanes)

    # ---- the whole

    def emitted(self) -> Emitted:
        w = Writer()
        pointers: list[Pointer] = []
        self._pointers(w, pointers)
        at = self._scratch(w)
        with w.block("for (int64_t task = begin; task < end; task++)"):
            self._task(w)
        tasks = self.directions * self.blocks
        return Emitted(w.text(), tuple(pointers), tasks, 4 * at, tuple(self.helpers))

    def _pointers(self, w: Writer, pointers: list[Pointer]) -> None:
        def declare(kind: str, name: str, pointer: Pointer) -> None:
            w(f"{kind} *{name} = a->p[{len(pointers)}];")
            pointers.append(pointer)

        for number, name in enumerate(("y", "y_h", "y_c")[: len(self.region.outs)]):
            declare("float", name, Out(number))
        for name in ("x", "lens", "h0", "c0"):
            if name in self.operands:
                kind = "const int32_t" if name == "lens" else "const float"
                declare(kind, name, In(self.operands[name][0]))
        declare("const float", "weights", Packed(self.weights))
        if self.slots:
            wide = np.zeros((self.directions, len(self.slots), self.padded), np.float32)
            wide[:, :, : self.hidden] = np.stack(list(self.slots.values()), 1)
            declare("const float", "added", Packed(wide))

    def _scratch(self, w: Writer) -> int:
        """Declares the buffers of a task, [rows][padded units] each; returns how many floats they take."""
        self.buffers = ["first", "second"]
        if isinstance(self.op, LSTM):
            self.buffers.append("cell")
        if len(passes_of(self.op)) > 1:
            self.buffers += ["update", "reset"]
        size = -(-self.rows * self.padded // 16) * 16
        for number, name in enumerate(self.buffers):
            offset = f" + {number * size}" if number else ""
            w(f"float *{name} = (float *)a->scratch{offset};")
        at = len(self.buffers) * size
        if self.lens:
            w(f"int64_t *ends = (int64_t *)((float *)a->scratch + {at});")
            at += 2 * self.rows
        return at

    def _task(self, w: Writer) -> None:
        blocks, many = self.blocks, self.directions > 1
        if many:
            w(f"const int64_t d = task / {blocks};" if blocks > 1 else "const int64_t d = task;")
        row = "0"
        rows = str(self.samples)
        if blocks > 1:
            block = f"task % {blocks}" if many else "task"
            w(f"const int64_t from = {block} * {self.rows};")
            w(f"const int64_t rows = {self.samples} - from < {self.rows} ? {self.samples} - from : {self.rows};")
            row, rows = "from", "rows"
        self.d, self.row, self.count = ("d" if many else "0"), row, rows
        self._starts(w)
        w("float *state = first, *fresh = second;")
        with w.loop("s", self.steps):
            w("const int64_t back = s & 1;")
            if not self.lens:
                w(f"const int64_t t = {self._turned(str(self.steps))};")
            for number in range(len(passes_of(self.op))):
                self._pass(w, number)
            w("float *const last = state;", "state = fresh;", "fresh = last;")
        self._ends(w)

    def _turned(self, length: str) -> str:
        """C text of the position of step ``s`` of ``length``."""
        turned = f"{length} - 1 - s"
        if self.directions > 1:
            return f"d == 1 ? {turned} : s"
        return turned if self.op.reversed(0) else "s"

    def _starts(self, w: Writer) -> None:
        """First states, and the end of every sample."""
        views = {"h0": "first", "c0": "cell"}
        names = [n for n in self.op.states]
        with w.loop("r", self.count):
            if self.lens:
                view = self.operands["lens"][1].view
                at = address("lens", view.strides, (self._sum(self.row, "r"),))
                w(f"const int64_t end = *({at});")
                w(f"ends[r] = end < 0 ? 0 : end < {self.steps} ? end : {self.steps};")
            for name in names:
                buffer = views[name]
                track = None
                if name in self.operands:
                    view = self.operands[name][1].view
                    w(f"const float *{name}_row = {self._state(name, view)};")
                    track = Track(f"{name}_row", view.strides[2])
                for at, tail, _ in vectors(w, self.hidden, self.lanes):
                    value = "vzero()" if track is None else track.load(at, tail)
                    w(f"vstore({buffer} + r * {self.padded} + {at}, {value});")

    def _ends(self, w: Writer) -> None:
        """Last states to the results."""
        pairs = [("y_h", "state"), ("y_c", "cell")][: len(self.op.states)]
        with w.loop("r", self.count):
            for (name, buffer), view in zip(pairs, self.region.outs[1:], strict=True):
                w(f"float *{name}_row = {self._state(name, view)};")
                for at, tail, _ in vectors(w, self.hidden, self.lanes):
                    value = f"vload({buffer} + r * {self.padded} + {at})"
                    w(Track(f"{name}_row", view.strides[2]).store(at, value, tail))

    def _state(self, name: str, view: View) -> str:
        """C text of the address of row ``r`` of a [D, B, H] operand or result."""
        return address(name, view.strides[:2], (self.d, self._sum(self.row, "r")))

    @staticmethod
    def _sum(a: str, b: str) -> str:
        return b if a == "0" else f"({a} + {b})"

    # ---- one pass of a step

    def _pass(self, w: Writer, number: int) -> None:
        every = passes_of(self.op)
        each = every[number]
        before = sum(len(p.gates) for p in every[:number]) * self.padded * self.hidden
        whole = self.op.gates * self.padded * self.hidden
        depth = len(each.gates) * self.hidden  # floats per unit
        base = address("weights", (whole, 1), (self.d, str(before))) if self.d != "0" else f"weights + {before}"
        runs = list(self._runs(each))
        with ExitStack() as scope:
            if len(runs) > 1:
                scope.enter_context(w.loop("i", len(runs)))
            for place, (panels, tail) in enumerate(runs):
                wide = panels.nv * self.lanes
                with ExitStack() as inner:
                    if len(runs) > 1:
                        turn = f"if (i == (back ? {len(runs) - 1 - place} : {place}))"
                        inner.enter_context(w.block(turn))
                    if panels.number > 1:
                        inner.enter_context(w.loop("n", panels.number))
                        first, last = panels.start, panels.start + (panels.number - 1) * wide
                        w(f"const int64_t j = back ? {last} - n * {wide} : {first} + n * {wide};")
                    else:
                        inner.enter_context(w.block(""))
                        w(f"const int64_t j = {panels.start};")
                    w(f"const float *panel = {base} + j * {depth};")
                    self._rows(w, number, panels.nv, tail)

    def _rows(self, w: Writer, number: int, nu: int, tail: int) -> None:
        """All samples against one panel."""
        mr = self.params.mr
        full, rest = divmod(self.samples, mr)
        w("int64_t r = 0;" if full + bool(rest) > 1 else "const int64_t r = 0;")
        if full and (self.blocks > 1 or rest or full > 1):
            with w.block(f"for (; r + {mr} <= {self.count}; r += {mr})"):
                self._call(w, number, mr, nu, tail)
        elif full:
            self._call(w, number, mr, nu, tail)
        if rest:
            with w.block(f"if (r < {self.count})" if self.blocks > 1 else ""):
                self._call(w, number, rest, nu, tail)

    def _call(self, w: Writer, number: int, mr: int, nu: int, tail: int) -> None:
        """Calls the function for a tile; one per direction where they differ."""
        names = [self._tile(number, mr, nu, tail, d) for d in range(self.directions)]
        arguments = ", ".join(self._arguments(number))
        if len(set(names)) == 1:
            w(f"{names[0]}({arguments});")
            return
        w(f"(d == 0 ? {names[0]} : {names[1]})({arguments});")

    def _parameters(self, number: int) -> list[tuple[str, str, str]]:
        """C type, name and argument of what a tile's function is given; pointers are to the tile's first sample and unit."""
        every = passes_of(self.op)
        each, last = every[number], number == len(every) - 1
        found = [("const float *", "panel", "panel")]

        def buffer(kind: str, name: str, unit: str = " + j") -> None:
            found.append((kind, name, f"{name} + r * {self.padded}{unit}"))

        found.append(("const float *", "source", f"{each.source} + r * {self.padded}"))
        if len(every) > 1 or isinstance(self.op, GRU) or self.lens:
            buffer("const float *", "state")
        if last:
            buffer("float *", "fresh")
        for name in self.buffers[2:]:
            if name == "cell" or name == "update" or not last:
                buffer("float *", name)
        row = self._sum(self.row, "r")
        x, y = self.operands["x"][1].view, self.region.out
        time = () if self.lens else ("t",)
        gates = self.op.gates * self.hidden
        column = f"({self.d} * {gates} + j)" if self.d != "0" else "j"
        strides = (*x.strides[: len(time)], *x.strides[1:])
        found.append(("const float *", "x", address("x", strides, (*time, row, column))))
        if last:
            strides = (*y.strides[: len(time)], *y.strides[1:])
            found.append(("float *", "y", address("y", strides, (*time, self.d, row, "j"))))
        if self.slots:
            block = f"{self.d} * {len(self.slots) * self.padded} + " if self.d != "0" else ""
            found.append(("const float *", "added", f"added + {block}j"))
        if self.lens:
            found += [("const int64_t *", "ends", "ends + r"), ("int64_t ", "s", "s")]
            if self.directions > 1:
                found.append(("int64_t ", "d", "d"))
        return found

    def _arguments(self, number: int) -> list[str]:
        return [argument for _, _, argument in self._parameters(number)]

    def _tile(self, number: int, mr: int, nu: int, tail: int, d: int) -> str:
        """Defines the function of a tile once and returns its name."""
        each = passes_of(self.op)[number]
        tile = Tile(mr, nu * len(each.gates))
        w = Writer()
        tile.declare(w)
        with w.block(f"for (int64_t k = 0; k < {self.hidden}; k++, panel += {tile.nv * self.lanes})"):
            tile.step(w, "panel", [f"source[k + {r * self.padded}]" if r else "source[k]" for r in range(mr)])
        if mr == 1:
            w("const int64_t r = 0;")
            self._row(w, number, nu, tail, d, [tile.acc(0, v) for v in range(tile.nv)])
        else:
            w(f"float sums[{mr * tile.nv * self.lanes}] __attribute__((aligned(64)));")
            for r in range(mr):
                for v in range(tile.nv):
                    w(f"vstore(sums + {(r * tile.nv + v) * self.lanes}, {tile.acc(r, v)});")
            with w.loop("r", mr):
                w(f"const float *sum = sums + r * {tile.nv * self.lanes};")
                self._row(w, number, nu, tail, d, [f"vload(sum + {v * self.lanes})" for v in range(tile.nv)])
        parameters = ", ".join(f"{kind}{name}" for kind, name, _ in self._parameters(number))
        text = f"({parameters}) {{\n{w.text()}\n}}"
        name = f"{self.op.name}_{mr}x{nu}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        helper = f"/* gates {', '.join(map(str, each.gates))} of {nu} vectors of units, {mr} samples */\nstatic void {name}{text}\n"
        if helper not in self.helpers:
            self.helpers.append(helper)
        return name

    def _row(self, w: Writer, number: int, nu: int, tail: int, d: int, sums: Sequence[str]) -> None:
        """Gates and state of row ``r``."""
        each, last = passes_of(self.op)[number], number == len(passes_of(self.op)) - 1
        x, y = self.operands["x"][1].view, self.region.out
        lengths = [(str(u * self.lanes), tail if u == nu - 1 else 0) for u in range(nu)]
        if self.lens:
            with w.block("if (s >= ends[r])"):
                if last:
                    w(f"float *y_row = {address('y', (y.strides[0], y.strides[2]), ('s', 'r'))};")
                    for at, rest in lengths:
                        w(f"vstore({self._at('fresh', at)}, vload({self._at('state', at)}));")
                        w(Track("y_row", y.strides[3]).store(at, "vzero()", rest))
                w("continue;" if sums[0].startswith("vload") else "return;")
            w(f"const int64_t t = {self._turned('ends[r]')};")
        time = ("t",) if self.lens else ()
        w(f"const float *x_row = {address('x', (*x.strides[: len(time)], x.strides[1]), (*time, 'r'))};")
        if last:
            w(f"float *y_row = {address('y', (*y.strides[: len(time)], y.strides[2]), (*time, 'r'))};")
        for u, (at, rest) in enumerate(lengths):
            with w.block(""):
                unit = _Unit(self, w, at, rest, {gate: sums[k * nu + u] for k, gate in enumerate(each.gates)})
                unit.write(d, number)

    def _at(self, buffer: str, at: str) -> str:
        return f"{buffer} + r * {self.padded}" + (f" + {at}" if at != "0" else "")


class _Unit:
    """Writes what happens to one vector of units of row ``r`` after the product."""

    def __init__(self, owner: _Emitter, w: Writer, at: str, tail: int, products: dict[int, str]) -> None:
        self.owner, self.w, self.at, self.tail, self.products = owner, w, at, tail, products
        self.texts: list[str] = []

    def input(self, text: str) -> Expr:
        """An operand of expressions, by its C text."""
        if text not in self.texts:
            self.texts.append(text)
        return Input(self.texts.index(text))

    def buffer(self, name: str) -> Expr:
        """A vector of a buffer in scratch."""
        return self.input(f"vload({self.owner._at(name, self.at)})")

    def slot(self, name: str) -> Expr | None:
        """A vector of ``added``."""
        names = list(self.owner.slots)
        if name not in names:
            return None
        offset = names.index(name) * self.owner.padded + int(self.at)
        return self.input(f"vload(added + {offset})" if offset else "vload(added)")

    def product(self, gate: int) -> Expr:
        """The state times the gate's weights, with the bias that belongs to this product only."""
        bias = self.slot(f"r{gate}")
        found = self.input(self.products[gate])
        return found if bias is None else found + bias

    def fed(self, gate: int) -> Expr:
        """What x adds to the gate's sum."""
        owner = self.owner
        step = owner.operands["x"][1].view.strides[2]
        offset = gate * owner.hidden + int(self.at)
        found = self.input(Track("x_row", step).load(str(offset), self.tail))
        bias = self.slot(f"b{gate}")
        return found if bias is None else found + bias

    def total(self, gate: int) -> Expr:
        """The gate's sum."""
        return self.product(gate) + self.fed(gate)

    def store(self, buffer: str, text: str) -> None:
        self.w(f"vstore({self.owner._at(buffer, self.at)}, {text});")

    def write(self, d: int, number: int) -> None:
        """Everything for a pass of direction ``d``."""
        op = self.owner.op
        first = number == 0
        if isinstance(op, LSTM):
            self._lstm(op, d)
            return
        if isinstance(op, GRU) and not op.linear_before_reset and first:
            self._gates(op, d)
            return
        if isinstance(op, GRU):
            if op.linear_before_reset:
                z = op.gate(d, self.total(0))
                new = op.gate(d, self.total(1)) * self.product(2) + self.fed(2)
            else:
                z, new = self.buffer("update"), self.total(2)
            state = op.hidden(d, z, new, self.buffer("state"))
        else:
            assert isinstance(op, RNN)
            state = op.hidden(d, self.total(0))
        self._finish(self._printed([("state_now", state)]))

    def _lstm(self, op: LSTM, d: int) -> None:
        sums = [self.total(gate) for gate in range(4)]
        peepholes = [p for p in (self.slot(f"p{i}") for i in range(3)) if p is not None]
        cell = op.cell(d, sums, self.buffer("cell"), peepholes)
        now = self.input("cell_now")
        state = op.hidden(d, sums[1], now, peepholes)
        text = self._printed([("cell_now", cell), ("state_now", state)])
        self.store("cell", "cell_now")
        self._finish(text)

    def _gates(self, op: GRU, d: int) -> None:
        """The first pass of a GRU that resets before the product."""
        z, r = op.gate(d, self.total(0)), op.gate(d, self.total(1)) * self.buffer("state")
        self._printed([("z", z), ("kept", r)])
        self.store("update", "z")
        self.store("reset", "kept")

    def _printed(self, values: Sequence[tuple[str, Expr]]) -> str:
        """Computes variables; returns the last one's name."""
        printer = VectorC([dt.f32] * len(self.texts), lambda i: self.texts[i], self.w)
        for name, value in values:
            text = printer.print(value)
            self.w(f"const vf {name} = {text};")
        return values[-1][0]

    def _finish(self, state: str) -> None:
        step = self.owner.region.out.strides[3]
        self.store("fresh", state)
        self.w(Track("y_row", step).store(self.at, state, self.tail))


KERNEL = RecurrentKernel()
