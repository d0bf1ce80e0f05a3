"""Recurrent layers by one launch whose programs keep the recurrent weights of their units on chip for all steps.

All programs are resident at once: the launch is cooperative, and there are no more of them than the smallest card of the capability holds.
A program walks all steps for its samples, units and direction. Weights are loaded before the first step and stay in registers or, as factors of
tensor cores, in shared memory; cells and what else only their program reads are variables. States of other units come from the second-level cache.

Programs of the same samples and direction wait for each other behind every pass of a step, those of others do not: a counter per such group
says how many passes its programs are done with, and the last program that leaves sets it to zero again.

Products are made in one of three ways: for one sample per program, sums of elementwise products in f32; by tensor cores, a program's tile
as it is; or by tensor cores with the terms ``split`` among warps, whose sums are added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as combinations

from strop.kernels.base import Region
from strop.kernels.recurrence import Pass, passes_of
from strop.kernels.triton.emit import GpuEmitted, Launch, Writer, ceil_div, masked, power_of_two
from strop.kernels.triton.parts import LAUNCH, GpuKernel, dot, traffic
from strop.kernels.triton.product import SHARED
from strop.kernels.triton.recurrent_cell import FEW, Tiles, Unit, op_of, refusal
from strop.target.base import Target
from strop.target.cuda import capability, fewest_multiprocessors

#: Reads a counter, and lets nothing that follows be read before.
ACQUIRE = "ld.acquire.gpu.global.u32 $0, [$1];"
#: Counters are this many apart, so that groups do not share a line of the cache.
_APART = 32
#: Most of a thread's registers that hold weights, or that a tile of states passes through.
_HELD = 128
#: Fewest steps.
_STEPS = 4
#: Samples of a tile from which on it is large.
_MANY = 64
#: Seconds from a state's store until the last program has read it.
_EXCHANGE = 1.6e-6


@dataclass(frozen=True)
class Params:
    """bm: samples per program, 1 for sums of elementwise products; bn: units per program; bk: most terms of a tile; split: see the module's text."""

    bm: int
    bn: int
    bk: int
    warps: int
    split: bool = False


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
        every = (Params(*values) for values in combinations((1, 16, 32, 64, 128), (4, 8, 16, 32, 64), (128, 256, 512, 1024), (2, 4, 8), (False, True)))
        found = [p for p in every if _sensible(region, p, samples) and _fits(region, p, target)]
        return sorted(found, key=lambda p: self.cost(region, p, target))[:16]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        op, p, (steps, directions, samples, hidden), size = op_of(region), params, region.out.shape, region.out.dtype.size
        programs = ceil_div(hidden, p.bn) * ceil_div(samples, p.bm) * directions
        together = ceil_div(programs, target.cores)
        terms = sum(count for _, count in _terms(hidden, p))
        cycles = 0.0
        for each in passes_of(op):
            products = len(each.gates) * p.bn * terms
            if p.bm == 1:
                multiply = products / 64.0
            else:
                rate = target.fma_lanes * (0.4 if p.bm >= _MANY else 0.2)
                multiply = p.bm * products * (1 if size == 2 else 6) / rate + products * size / 100.0
            follow = 20.0 * len(each.gates) * p.bm * p.bn / (128.0 if not p.split else 128.0 / max(1, p.warps / 4))
            cycles += p.bm * hidden * size / 48.0 + multiply + follow
        seconds = together * cycles / (target.ghz * 1e9) + len(passes_of(op)) * _EXCHANGE
        return max(steps * seconds + 2 * LAUNCH, traffic(region, target))

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        return _Walk(region, params, target).emitted()


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
    if p.bm == 1:
        return samples <= FEW and not p.split and p.bk >= min(512, hidden)
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
    each = min(_REGISTERS // (32 * p.warps), SHARED[capability(target)] // (shared + 1024))
    programs = ceil_div(hidden, p.bn) * ceil_div(samples, p.bm) * directions
    return programs <= fewest_multiprocessors(target) * each


#: Threads of a multiprocessor's register file where each takes all that it may.
_REGISTERS = 65536 // 256


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
        w(f"group = locks + (d * {self.grid[1]} + tl.program_id(1)) * {_APART}")
        self.handed(w)
        w("goal = 0")
        with w.block(f"for s in tl.range(0, {self.steps}, num_stages=1)"):
            self.time(w)
            for each, unit in zip(passes, units, strict=True):
                unit.fetch(each.gates)
                if self.bm < _MANY:  # moved to where they are needed while others are waited for; many would take registers meanwhile
                    for gate in each.gates:
                        unit.fed(gate)
                self._wait(w)
                self._products(w, each)
                unit.write()
        with w.block(f'if tl.atomic_add(group, 1, sem="relaxed", scope="gpu") == {self.grid[0] * (self.steps * len(passes) + 2) - 1}'):
            w("tl.store(group, 0)")
        groups = self.grid[1] * self.grid[2]
        return self.pointers().emitted([Launch(w.text(), self.grid, self.params.warps, 1, cooperative=True)], self.workspace, _APART * groups)

    # ---- waiting

    def handed(self, w: Writer) -> None:
        w("tl.debug_barrier()", 'tl.atomic_add(group, 1, sem="release", scope="gpu")')

    def _wait(self, w: Writer) -> None:
        """Until all programs of the group are done with the pass before."""
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
            count = 1 if self.bm == 1 else min(4, 1 << (len(rest).bit_length() - 1))
            found.append(rest[:count])
            rest = rest[count:]
        return found

    def _columns(self, w: Writer, count: int) -> None:
        """Units ``j{count}`` and numbers ``g{count}`` of gates of columns: the lowest bit of the number is that of the column, the other the
        highest, so that a thread has all gates of its units."""
        n, j = self.bn, f"tl.program_id(0) * {self.bn}"
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
        if p.split:
            w(f"c = tl.arange(0, {p.warps})")
        axes, axis = (3, 1) if p.split else (2, 1 if p.bm == 1 else 0)
        across = "[None, None, :]" if p.split else "[:, None]" if p.bm == 1 else "[None, :]"
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
        source = self.buffers[each.source] + (" + old" if each.source == "state" else "")
        axes, row = (3, "[None, :, None]") if p.split else (2, "[:, None]")
        for number in range(len(self.terms)):
            term = self._along(number, axes, axes - 1)
            checks = [f"(m < {self.samples}){row}"] * self.rows_checked + self._checks(number, term)
            text = f'tl.load({source} + (d * {self.samples} + m{row}) * {self.hidden} + {term}{masked(checks)}, cache_modifier=".cg")'
            w(f"h = {text}{'.to(tl.float32)' if few else ''}")
            for run in runs:
                name, factor = f"a{run[0]}", f"w{run[0]}_{number}"
                before = name if number else f"tl.zeros(({f'{p.warps}, ' if p.split else ''}{p.bm}, {p.bn * len(run)}), tl.float32)"
                product = f"{before} + tl.sum({factor} * h, 1)[None, :]" if few else dot("h", factor, before, self.dtype, self.target)
                w(f"{name} = {product}")
        for run in runs:
            if p.split:
                w(f"a{run[0]} = tl.sum(a{run[0]}, 0)")
            self._part(w, run)

    def _part(self, w: Writer, run: tuple[int, ...]) -> None:
        """The sums of each gate of a run, see ``_columns``."""
        names, p = [f"a{gate}" for gate in run], self.params
        if len(run) == 2:
            w(f"{names[0]}, {names[1]} = tl.split(tl.reshape({names[0]}, ({p.bm}, {p.bn}, 2)))")
        elif len(run) == 4:
            w(f"even, odd = tl.split(tl.reshape({names[0]}, ({p.bm}, 2, {p.bn}, 2)))")
            w(f"{names[0]}, {names[2]} = tl.split(tl.permute(even, (0, 2, 1)))", f"{names[1]}, {names[3]} = tl.split(tl.permute(odd, (0, 2, 1)))")


KERNEL = RecurrentPersistent()
