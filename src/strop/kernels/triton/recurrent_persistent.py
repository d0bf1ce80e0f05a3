"""Recurrent layers by one launch whose programs keep the recurrent weights of their units on chip for all steps.

All programs are resident at once: the launch is cooperative, and there are no more of them than the smallest card of the capability holds.
A program walks all steps for its samples, units and direction. Weights are loaded before the first step and stay in registers or, as factors of
tensor cores, in shared memory; cells and what else only their program reads are variables. States of other units come from the second-level cache.

Programs of the same samples and direction wait for each other behind every pass of a step, those of others do not: a counter per such group
says how many passes its programs are done with, and the last program that leaves sets it to zero again.

Where states are of 16 bits and programs have one sample, they may be ``marked`` instead: a word holds a state and the number of its step, and
is read until that is the step at hand.

Products are made in one of three ways: for one sample per program, sums of elementwise products in f32; by tensor cores, a program's tile
as it is; or by tensor cores with the terms ``split`` among warps, whose sums are added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as combinations

from strop.ir import dtype as dt
from strop.kernels.base import Region
from strop.kernels.recurrence import Pass, passes_of
from strop.kernels.triton.emit import (
    VALUE,
    GpuEmitted,
    Launch,
    Writer,
    ceil_div,
    masked,
    power_of_two,
    stored,
)
from strop.kernels.triton.parts import LAUNCH, GpuKernel, dot, traffic
from strop.kernels.triton.product import SHARED
from strop.kernels.triton.recurrent_cell import Tiles, Unit, op_of, refusal, within
from strop.target.base import Target
from strop.target.cuda import capability, fewest_multiprocessors

#: Reads a counter, and lets nothing that follows be read before.
ACQUIRE = "ld.acquire.gpu.global.u32 $0, [$1];"
#: Counters are this many apart, so that groups do not share a line of the cache.
_APART = 32
#: Most samples whose products are made one by one.
_FEW = 8
#: Threads of a multiprocessor whose registers are as many as there may be per thread.
_THREADS = 65536 // 256
#: Most of a thread's registers that hold weights, or that a tile of states passes through.
_HELD = 128
#: A number that no step has, above 15 bits.
_NEVER = 1 << 15
#: Terms of a tile whose products are made one by one: 16 bytes of every thread of a warp; half as many where they are marked.
_ROW = 256
#: Fewest steps.
_STEPS = 4
#: Samples of a tile from which on it is large.
_MANY = 64
#: Seconds from a state's store until the last program has read it, by a counter; states with marks are left to measurements, as if they took longer.
_EXCHANGE, _MARKED = 1.7e-6, 1.8e-6


@dataclass(frozen=True)
class Params:
    """bm: samples per program, 1 for sums of elementwise products; bn: units per program; bk: most terms of a tile; split, marked: see the
    module's text."""

    bm: int
    bn: int
    bk: int
    warps: int
    split: bool = False
    marked: bool = False


def pieces(hidden: int, least: int, most: int = 1 << 16) -> list[tuple[int, int]]:
    """(start, size) of the tiles that the terms of a product are, sizes being powers of two from ``least`` to ``most``; the last may reach further."""
    found, start = [], 0
    while start < hidden:
        rest = hidden - start
        size = min(most, max(least, power_of_two(rest)))
        if size > least and 4 * rest <= 3 * size:
            size //= 2
        found.append((start, size))
        start += size
    return found


class RecurrentPersistent(GpuKernel[Params]):
    """See the module's text."""

    name = "recurrent_persistent"

    def takes(self, region: Region, target: Target) -> str | None:
        reason = refusal(region)
        if reason is None and region.out.shape[0] < _STEPS:
            return "so few steps read the weights hardly more often"
        if reason is None and not self.space(region, target):
            return "its weights do not fit on the chip"
        return reason

    def space(self, region: Region, target: Target) -> list[Params]:
        samples = region.out.shape[2]
        every = (Params(*values) for values in combinations((1, 16, 32, 64, 128), (4, 8, 16, 32, 64), (128, 256, 512, 1024), (2, 4, 8), (False, True), (False, True)))
        found = [p for p in every if _sensible(region, p, samples) and _fits(region, p, target)]
        return sorted(found, key=lambda p: self.cost(region, p, target))[:16]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        op, p, (steps, directions, samples, hidden), size = op_of(region), params, region.out.shape, region.out.dtype.size
        programs = ceil_div(hidden, p.bn) * ceil_div(samples, p.bm) * directions
        clock, tiles = target.ghz * 1e9 / ceil_div(programs, target.cores), _terms(hidden, p)
        state = p.bm * hidden * (4 * p.warps if p.marked else size)
        seconds = 0.0
        for each in passes_of(op):
            columns = len(each.gates) * p.bn
            products = p.bm * columns * sum(count for _, count in tiles)
            if p.bm == 1:
                cycles = products / 64.0
            else:
                rate = target.fma_lanes * (0.5 if p.bm >= _MANY and not p.split else 0.33)
                cycles = products * (1 if size == 2 else 6) / rate + 250.0 * (len(tiles) - 1)
            if p.split:
                cycles += p.warps * p.bm * columns / 16.0
            cycles += 130.0 * ceil_div(p.bm * p.bn, 32 * p.warps)
            read = max(state / 48.0 / clock, programs * state / (2.5 * target.bandwidth))
            seconds += cycles / clock + read + (_MARKED if p.marked else _EXCHANGE)
        return max(steps * seconds + 2 * LAUNCH, traffic(region, target))

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        return (_Marked if params.marked else _Walk)(region, params, target).emitted()


def _terms(hidden: int, p: Params) -> list[tuple[int, int]]:
    """The tiles of the terms of a product."""
    return pieces(hidden, 16 * p.warps if p.split else 16, p.bk)


def _sensible(region: Region, p: Params, samples: int) -> bool:
    """Whether a choice has the sizes of tiles that its way of making products is for."""
    hidden, gates = region.out.shape[3], op_of(region).gates
    if p.bk != 128 and p.bk // 2 >= hidden:
        return False
    if p.bn > max(8, power_of_two(hidden)) or p.bm > max(16, power_of_two(samples)):
        return False
    if p.marked and (p.bm > 1 or region.out.dtype.size != 2):
        return False
    if p.bm == 1:
        return samples <= _FEW and not p.split and p.bk == (_ROW // 2 if hidden <= _ROW // 2 or p.marked else _ROW) and (gates == 4 or p.bn >= p.warps)
    if p.split and p.bk < min(1024, hidden):
        return False
    if p.bm * p.bk * region.out.dtype.size > 4 * 32 * p.warps * _HELD:
        return False
    if p.split:
        return p.bm <= 32 and p.bn >= 8 and gates * p.bm * p.bn <= 32 * 96 and 16 * p.warps <= max(64, hidden) and p.warps >= 4
    return p.bm >= 32 and p.bn >= 8 and p.warps >= 4 and gates * p.bm * p.bn <= 32 * p.warps * 80


def _fits(region: Region, p: Params, target: Target) -> bool:
    """Whether weights fit, and all programs are resident at once on every card of the target's capability."""
    _, directions, samples, hidden = region.out.shape
    gates, size = op_of(region).gates, region.out.dtype.size
    terms = _terms(hidden, p)
    weights = gates * p.bn * sum(count for _, count in terms)
    if p.bm == 1:
        shared = 4 * 32 * gates * p.bn
        if weights > 32 * p.warps * _HELD:
            return False
    else:
        factor = 1 if size == 2 else 3  # products of f32 are made of parts
        states = p.bm * max(count for _, count in terms) * size
        shared = factor * (weights * size + states) + (4 * p.warps * p.bm * p.bn if p.split else 4 * p.bm * p.bn)
    each = min(_THREADS // (32 * p.warps), SHARED[capability(target)] // (shared + 1024))
    programs = ceil_div(hidden, p.bn) * ceil_div(samples, p.bm) * directions
    return programs <= fewest_multiprocessors(target) * each


class _Walk(Tiles):
    """The launch of one choice of parameters."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        super().__init__(region, params.bm, params.bn, target, private=("exact", "cell", "update"))
        self.params = params
        self.terms = _terms(self.hidden, params)

    def emitted(self) -> GpuEmitted:
        """The launch and its parameters."""
        w, passes = Writer(), passes_of(self.op)
        self.place(w)
        self._hold(w)
        units = [Unit(self, w, number) for number in range(len(passes))]
        for unit in units:
            unit.constants()
        self.ends(w)
        self.starts(w)
        self._open(w)
        with w.block(f"for s in tl.range(0, {self.steps}, num_stages=1)"):
            self.time(w)
            for each, unit in zip(passes, units, strict=True):
                unit.fetch(each.gates)
                if self.bm < _MANY:  # moved to where they are needed while others are waited for; many would take registers meanwhile
                    for gate in each.gates:
                        unit.fed(gate)
                self._wait(w, each)
                self._products(w, each)
                unit.write()
        with w.block(f'if tl.atomic_add(group, 1, sem="relaxed", scope="gpu") == {self.grid[0] * (self._handed() + 1) - 1}'):
            w("tl.store(group, 0)")
        groups = self.grid[1] * self.grid[2]
        return self.pointers().emitted([Launch(w.text(), self.grid, self.params.warps, 1, cooperative=True)], self.workspace, _APART * groups)

    # ---- waiting

    def _open(self, w: Writer) -> None:
        """Before the first step."""
        w(f"group = locks + (d * {self.grid[1]} + tl.program_id(1)) * {_APART}")
        self._count(w)
        w("goal = 0")

    def _handed(self) -> int:
        """How often a program counts itself."""
        return self.steps * len(passes_of(self.op)) + 1

    def handed(self, w: Writer) -> None:
        self._count(w)

    def _wait(self, w: Writer, each: Pass) -> None:
        """Until all programs of the group are done with the pass before ``each``."""
        self._meet(w)

    def _count(self, w: Writer) -> None:
        w("tl.debug_barrier()", 'tl.atomic_add(group, 1, sem="release", scope="gpu")')

    def _meet(self, w: Writer) -> None:
        """Until all programs of the group have counted themselves once more."""
        read = f'tl.inline_asm_elementwise("{ACQUIRE}", "=r,l", [group], dtype=tl.int32, is_pure=False, pack=1)'
        w(f"goal += {self.grid[0]}", f"seen = {read}")
        with w.block("while seen < goal"):
            w(f"seen = {read}")

    # ---- products

    def _along(self, number: int, axes: int, axis: int) -> str:
        """Text of the terms of a tile along the axis ``axis`` of ``axes``; where warps share them, along the first as well."""
        at = f"k{number}[{', '.join(':' if k == axis else 'None' for k in range(axes))}]"
        return f"({at} + c[:, None, None] * {self.terms[number][1] // self.params.warps})" if self.params.split else at

    def _checks(self, number: int, term: str) -> list[str]:
        start, size = self.terms[number]
        return [f"({term} < {self.hidden})"] * (start + size > self.hidden)

    def _runs(self, each: Pass) -> list[tuple[int, ...]]:
        """The gates of a pass whose products are one: 1, 2 or 4 for tensor cores."""
        found, rest = [], each.gates
        while rest:
            count = min(4, 1 << (len(rest).bit_length() - 1))
            found.append(rest[:count])
            rest = rest[count:]
        return found

    def _columns(self, w: Writer, count: int) -> None:
        """Units ``j{count}`` and numbers ``g{count}`` of gates of columns: the lowest bit of the number is that of the column, the other the
        highest, so that a thread has all gates of its units. Sums of elementwise products have two axes of them, the second that of warps,
        so that the terms of a column are all in one warp."""
        n, j, warps = self.bn, f"tl.program_id(0) * {self.bn}", self.params.warps
        if self.bm == 1:
            w(f"n{count} = tl.arange(0, {count * n // warps})[:, None] * {warps} + tl.arange(0, {warps})[None, :]")
        else:
            w(f"n{count} = tl.arange(0, {count * n})")
        if count == 1:
            w(f"j1 = {j} + n1", "g1 = 0")
        elif count == 2:
            w(f"j2 = {j} + n2 // 2", "g2 = n2 % 2")
        else:
            w(f"j4 = {j} + n4 // 2 % {n}", f"g4 = n4 % 2 + n4 // {2 * n} * 2")

    def _hold(self, w: Writer) -> None:
        """Weights ``w{gate}_{tile}`` of all runs of gates, by the first gate of a run."""
        p, view = self.params, self.operands["r"][1].view
        runs = [run for each in passes_of(self.op) for run in self._runs(each)]
        for count in sorted({len(run) for run in runs}):
            self._columns(w, count)
        if p.split or p.bm == 1:
            w(f"c = tl.arange(0, {p.warps})")
        axes, axis = (3, 1) if p.split else (3, 2) if p.bm == 1 else (2, 0)
        across = "[None, None, :]" if p.split else "[:, :, None]" if p.bm == 1 else "[None, :]"
        for number, (start, size) in enumerate(self.terms):
            w(f"k{number} = {start} + tl.arange(0, {size // (p.warps if p.split else 1)})")
            term = self._along(number, axes, axis)
            for run in runs:
                n = len(run)
                checks = [f"(j{n} < {self.hidden}){across}"] * self.units_checked + self._checks(number, term)
                row = f"(j{n} + (g{n} + {run[0]}) * {self.hidden}){across}"
                at = f"d * {view.strides[0]} + {row} * {view.strides[1]} + {term} * {view.strides[2]}"
                w(f"w{run[0]}_{number} = tl.load(r + {at}{masked(checks)}){'.to(tl.float32)' if p.bm == 1 else ''}")

    def _products(self, w: Writer, each: Pass) -> None:
        """Sums ``a0``, ``a1``, ... of the products of a state with the weights of each gate."""
        p, runs, few = self.params, self._runs(each), self.bm == 1
        sizes = sorted({size for _, size in self.terms})
        for number in range(len(self.terms)):
            w(f"h = {self._states(each, number)}{'.to(tl.float32)' if few else ''}")
            for run in runs:
                name, factor = f"a{run[0]}", f"w{run[0]}_{number}"
                if few:  # added up before warps and threads share their sums, where tiles are of one size
                    place = f"{name}_{self.terms[number][1]}"
                    w(f"{place} = {f'{place} + ' if self.terms[number][1] in [size for _, size in self.terms[:number]] else ''}{factor} * h")
                else:
                    before = name if number else f"tl.zeros(({f'{p.warps}, ' if p.split else ''}{p.bm}, {p.bn * len(run)}), tl.float32)"
                    w(f"{name} = {dot('h', factor, before, self.dtype, self.target)}")
        for run in runs:
            name = f"a{run[0]}"
            if few:
                total = " + ".join(f"tl.sum({name}_{size}, 2)" for size in sizes)
                w(f"{name} = tl.reshape({total}, (1, {p.bn * len(run)}))")
            elif p.split:
                n, rest = p.bn * len(run), p.warps // 2
                w(f"{name} = tl.permute({name}, (1, 2, 0))")
                while rest:  # by pairs of warps, so that threads share the sums: those of tl.sum would be in all warps
                    w(f"even, odd = tl.split(tl.reshape({name}, ({p.bm}, {n}, {f'{rest}, ' if rest > 1 else ''}2)))", f"{name} = even + odd")
                    rest //= 2
            self._part(w, run)

    def _place_of(self, each: Pass, number: int) -> tuple[str, list[str]]:
        """Texts of the pointers to a tile of the states that are factors of a pass, and of the conditions under which they are there."""
        p, few = self.params, self.bm == 1
        source = self.buffers[each.source] + (" + old" if each.source == "state" else "")
        axes, row = (3, "[None, :, None]") if p.split else (3, "[:, None, None]") if few else (2, "[:, None]")
        term = self._along(number, axes, axes - 1)
        copies = " + c[None, :, None] * 0" * few  # every warp has all
        checks = [f"(m < {self.samples}){row}"] * self.rows_checked + self._checks(number, term)
        return f"{source} + (d * {self.samples} + m{row}) * {self.hidden} + {term}{copies}", checks

    def _states(self, each: Pass, number: int) -> str:
        """Text of a tile of the states that are factors of a pass."""
        pointers, checks = self._place_of(each, number)
        return f'tl.load({pointers}{masked(checks)}, cache_modifier=".cg")'

    def _part(self, w: Writer, run: tuple[int, ...]) -> None:
        """The sums of each gate of a run, see ``_columns``."""
        names, p = [f"a{gate}" for gate in run], self.params
        if len(run) == 2:
            w(f"{names[0]}, {names[1]} = tl.split(tl.reshape({names[0]}, ({p.bm}, {p.bn}, 2)))")
        elif len(run) == 4:
            w(f"even, odd = tl.split(tl.reshape({names[0]}, ({p.bm}, 2, {p.bn}, 2)))")
            w(f"{names[0]}, {names[2]} = tl.split(tl.permute(even, (0, 2, 1)))", f"{names[1]}, {names[3]} = tl.split(tl.permute(odd, (0, 2, 1)))")


class _Marked(_Walk):
    """States that are read with the number of their step: reading them again until it is there is all the waiting.

    A program stores its states of a step when it has those of all programs of the step before, so that none still reads what it replaces.
    """

    #: States that others read; the number is above their 16 bits.
    READ = ("state", "reset")

    def _buffer(self, name: str, copies: int, dtype: dt.DType) -> None:
        super()._buffer(name, copies, dt.i32 if name in self.READ else dtype)

    def keep(self, w: Writer, buffer: str, value: str, at: str) -> None:
        if buffer not in self.READ or buffer not in self.buffers:
            super().keep(w, buffer, value, at)
            return
        mark = f"(s & {_NEVER - 1})" if buffer == "reset" else "0" if at == "own" else f"((s + 1) & {_NEVER - 1})"
        bits = f"{stored(value, self.dtype)}.to(tl.int16, bitcast=True).to(tl.int32) & 65535"
        w(f"tl.store({self.buffers[buffer]} + {at}, {bits} | {mark} << 16{within(self.inside)})")

    def _open(self, w: Writer) -> None:
        """Marks that are there from before would be those of a step: all are taken away first."""
        for buffer, at in (("state", f"{self.count} + own"), ("reset", "own")):
            if buffer in self.buffers:
                none = f"tl.full(({self.bm}, {self.bn}), {_NEVER}, tl.int32) << 16"
                w(f"tl.store({self.buffers[buffer]} + {at}, {none}{within(self.inside)})")
        super()._open(w)
        self._meet(w)

    def _handed(self) -> int:
        return 1

    def handed(self, w: Writer) -> None:
        """Nothing: what is stored says so itself."""

    def _wait(self, w: Writer, each: Pass) -> None:
        w(f"mark = s & {_NEVER - 1}")
        self._read(w, each)
        with w.block("while late > 0"):
            self._read(w, each)

    def _read(self, w: Writer, each: Pass) -> None:
        """Reads all tiles; ``late`` is 0 when they are of the step."""
        late: dict[int, str] = {}
        for number, (_, size) in enumerate(self.terms):
            pointers, checks = self._place_of(each, number)
            w(f"v{number} = tl.load({pointers}{masked(checks, 'mark << 16')}, volatile=True)")
            late[size] = f"{late[size]} | (v{number} >> 16 != mark)" if size in late else f"(v{number} >> 16 != mark)"
        parts = [f"tl.max(({text}).to(tl.int32), 2)" for text in late.values()]
        text = parts[0]
        for other in parts[1:]:
            text = f"tl.maximum({text}, {other})"
        w(f"late = tl.max(tl.max({text}, 1), 0)")

    def _states(self, each: Pass, number: int) -> str:
        return f"v{number}.to(tl.int16).to({VALUE[self.dtype.name]}, bitcast=True)"


KERNEL = RecurrentPersistent()
