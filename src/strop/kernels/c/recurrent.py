"""Recurrent layers: all steps of RNN, GRU or LSTM in one kernel, over inputs that were multiplied with their weights before.

Recurrent weights are packed into panels [panel][k][gate][vectors of units], in the order in which a step reads them. A step
multiplies the state, ``mr`` samples at a time, with a panel; all gates of its units are then in registers, activations follow at
once, and the new state goes to the second of two buffers in scratch. A GRU whose reset gate applies before the product takes two
passes over panels per step. Directions and blocks of samples are tasks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.ir.op import Array
from strop.kernels.base import (
    Emitted,
    In,
    Kernel,
    Operand,
    Out,
    Packed,
    Pointer,
    Region,
    View,
    memory_seconds,
)
from strop.kernels.c.panels import Panels, balanced, tile_cycles, with_tail
from strop.kernels.c.recurrent_unit import Rows, Unit
from strop.kernels.c.rows import Track, address, vectors
from strop.kernels.c.tile import Tile, shorter
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer
from strop.kernels.extent import constants_of, is_symbolic, lesser, typical
from strop.kernels.recurrence import Pass, operands_of, passes_of
from strop.ops.recurrent import LSTM, Recurrent
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


class RecurrentKernel(Kernel[Params]):
    """See the module's text."""

    name = "recurrent"
    symbolic = True

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
        x, y = self.operands["x"][1].view.strides[2], region.out.strides[3]
        self.lie = Rows(op, self.hidden, self.padded, tuple(self.slots), x, y)
        mr = params.mr
        pieces = -(-target.cores // self.directions)
        share = -(-typical(self.samples) // pieces // mr) * mr
        self.rows = lesser(self.samples, share) if pieces > 1 else self.samples
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
        """[D, H] each; names as in ``Rows``. Biases that are zero are left out."""
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
        self.row, self.count = row, rows
        self._starts(w)
        w("float *state = first, *fresh = second;")
        with w.loop("s", self.steps):
            if any(sum(run.number for run, _ in self._runs(p)) > 1 for p in passes_of(self.op)):
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
        with w.loop("r", self.count):
            if self.lens:
                view = self.operands["lens"][1].view
                at = address("lens", view.strides, (self._sum(self.row, "r"),))
                w(f"const int64_t end = *({at});")
                w(f"ends[r] = end < 0 ? 0 : end < {self.steps} ? end : {self.steps};")
            for name in self.op.states:
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
        return address(self._of(name, view.strides[0]), view.strides[1:2], (self._sum(self.row, "r"),))

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
        base = self._of("weights", whole) + (f" + {before}" if before else "")
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
                        w(f"const int64_t j = back ? {last} - n * {wide} : {f'{first} + ' if first else ''}n * {wide};")
                    else:
                        inner.enter_context(w.block(""))
                        w(f"const int64_t j = {panels.start};")
                    w(f"const float *panel = {base} + j * {depth};")
                    self._rows(w, number, panels.nv, tail)

    def _rows(self, w: Writer, number: int, nu: int, tail: int) -> None:
        """All samples against one panel."""
        mr = self.params.mr
        full, rest = divmod(self.samples, mr)
        if is_symbolic(rest):
            self._any_rows(w, number, nu, tail)
            return
        w("int64_t r = 0;" if full + bool(rest) > 1 else "const int64_t r = 0;")
        if full and (self.blocks > 1 or rest or full > 1):
            with w.block(f"for (; r + {mr} <= {self.count}; r += {mr})"):
                self._call(w, number, mr, nu, tail)
        elif full:
            self._call(w, number, mr, nu, tail)
        if rest:
            with w.block(f"if (r < {self.count})" if self.blocks > 1 else ""):
                self._call(w, number, rest, nu, tail)

    def _any_rows(self, w: Writer, number: int, nu: int, tail: int) -> None:
        """``_rows`` of samples whose number only a run knows."""
        mr = self.params.mr
        w("int64_t r = 0;")
        with w.block(f"for (; r + {mr} <= {self.count}; r += {mr})"):
            self._call(w, number, mr, nu, tail)
        for height in shorter(mr):
            with w.block(f"if (r + {height} <= {self.count})"):
                self._call(w, number, height, nu, tail)
                w(f"r += {height};")

    def _call(self, w: Writer, number: int, mr: int, nu: int, tail: int) -> None:
        """Calls the function for a tile; one per direction where they differ."""
        calls = [self._tile(number, mr, nu, tail, d) for d in range(self.directions)]
        if len(set(calls)) == 1:
            w(f"{calls[0]};")
            return
        w(f"if (d == 0) {calls[0]};", f"else {calls[1]};")

    def _parameters(self, source: str) -> list[tuple[str, str, str]]:
        """C type, name and argument of what the function of a tile may use; pointers are to the tile's first sample and unit."""
        found = [
            ("const float *", "panel", "panel"),
            ("const float *", "source", f"{source} + r * {self.padded}"),
            ("const float *", "state", f"state + r * {self.padded} + j"),
            *(("float *", name, f"{name} + r * {self.padded} + j") for name in ("fresh", *self.buffers[2:])),
        ]
        row = self._sum(self.row, "r")
        x, y = self.operands["x"][1].view, self.region.out
        time = () if self.lens else ("t",)
        block = self.op.gates * self.hidden * x.strides[2]
        places = (*x.strides[: len(time)], *x.strides[1:])
        found.append(("const float *", "x", address(self._of("x", block), places, (*time, row, "j"))))
        places = (*y.strides[: len(time)], *y.strides[2:])
        found.append(("float *", "y", address(self._of("y", y.strides[1]), places, (*time, row, "j"))))
        found.append(("const float *", "added", f"{self._of('added', len(self.slots) * self.padded)} + j"))
        return [*found, ("const int64_t *", "ends", "ends + r"), ("int64_t ", "s", "s"), ("int64_t ", "d", "d")]

    def _of(self, name: str, step: int) -> str:
        """C text of the part of direction ``d``, ``step`` elements each."""
        return f"{name} + d * {step}" if self.directions > 1 else name

    def _tile(self, number: int, mr: int, nu: int, tail: int, d: int) -> str:
        """Defines the function of a tile once and returns its call."""
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
        body = w.text()
        used = [p for p in self._parameters(each.source) if re.search(rf"\b{p[1]}\b", body)]
        declared, sizes = constants_of(body)
        parameters = ", ".join([*(f"{kind}{name}" for kind, name, _ in used), *declared])
        text = f"({parameters}) {{\n{body}\n}}"
        name = f"{self.op.name}_{mr}x{nu}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        helper = f"/* gates {', '.join(map(str, each.gates))} of {nu} vectors of units, {mr} samples */\nstatic void {name}{text}\n"
        if helper not in self.helpers:
            self.helpers.append(helper)
        return f"{name}({', '.join([*(argument for _, _, argument in used), *sizes])})"

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
                        w(f"vstore({self.lie.at('fresh', at)}, vload({self.lie.at('state', at)}));")
                        w(Track("y_row", y.strides[3]).store(at, "vzero()", rest))
                w("continue;" if sums[0].startswith("vload") else "return;")
            w(f"const int64_t t = {self._turned('ends[r]')};")
        time = ("t",) if self.lens else ()
        w(f"const float *x_row = {address('x', (*x.strides[: len(time)], x.strides[1]), (*time, 'r'))};")
        if last:
            w(f"float *y_row = {address('y', (*y.strides[: len(time)], y.strides[2]), (*time, 'r'))};")
        for u, (at, rest) in enumerate(lengths):
            with w.block(""):
                products = {gate: sums[k * nu + u] for k, gate in enumerate(each.gates)}
                Unit(self.lie, w, at, rest, products).write(d, number)


KERNEL = RecurrentKernel()
