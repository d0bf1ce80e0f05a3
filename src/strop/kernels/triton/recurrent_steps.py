"""Recurrent layers: RNN, GRU and LSTM over inputs that were multiplied with their weights before.

Programs share samples, units and directions; a program has all gates of its units, so that activations follow its products at once. States
lie in the workspace twice, and every step reads one and writes the other. Steps wait for each other in one of two ways:

- a launch per pass of a step, all of the same code: a counter of programs that are done tells a program which step it is in;
- ``whole``: a program has all units of its samples and walks all steps, with a barrier between them.

A single step of one pass is one launch that reads the first states where they are.

Products of one sample are sums of elementwise products in f32, others are those of tensor cores. Sums, cells and the states that are not
factors of products are f32.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as combinations

from strop.kernels.base import Region
from strop.kernels.recurrence import Pass, operands_of, passes_of
from strop.kernels.triton.emit import GpuEmitted, Launch, Writer, ceil_div, masked, power_of_two
from strop.kernels.triton.parts import LAUNCH, GpuKernel, dot, traffic
from strop.kernels.triton.recurrent_cell import FEW, Tiles, Unit, op_of, refusal
from strop.target.base import Target

#: Most units of a program that walks all steps.
_WHOLE = 128
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
        return refusal(region)

    def space(self, region: Region, target: Target) -> list[Params]:
        _, _, samples, hidden = region.out.shape
        wide, depth = power_of_two(max(16, hidden)), power_of_two(max(16, hidden))
        size = region.out.dtype.size
        gates = len(passes_of(op_of(region))[0].gates)
        found = []
        for bm, bn, bk, warps in combinations((1, 16, 32, 64), (4, 8, 16, 32, 64, 128), (32, 64, 128, 256), (2, 4, 8)):
            if bk > max(32, depth) or (bm > 1 and (bn < 16 or bk > 128)) or (bm == 1 and samples > FEW) or bm > max(16, power_of_two(samples)):
                continue
            held = gates * bn * (bk if bm == 1 else bm) // (32 * warps)
            stages = 3 if bm > 1 else 1
            if held > 96 or stages * bk * (bm + gates * bn) * size > 96 * 1024 or (bm == 1 and held < 4):
                continue
            if bn <= wide and bn <= 64:
                found.append(Params(bm, bn, bk, warps, stages))
            if bn == wide <= _WHOLE and not _once(region):
                found.append(Params(bm, bn, bk, warps, stages, True))
        return sorted(found, key=lambda p: self.cost(region, p, target))[:10]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        op = op_of(region)
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
            seconds += max(cycles / (target.ghz * 1e9), read) + _LATENCY + (0.0 if p.whole or _once(region) else LAUNCH)
        return max(steps * seconds + LAUNCH, traffic(region, target))

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        return _Steps(region, params, target).emitted()


class _Steps(Tiles):
    """The launches of one choice of parameters."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.once = _once(region)
        super().__init__(region, params.bm, params.bn, target, ("state", "exact", "cell") if self.once else ())
        self.params = params

    # ---- the launches

    def emitted(self) -> GpuEmitted:
        pointers = self.pointers()
        if self.once:
            return pointers.emitted([self._only()])
        if self.params.whole:
            return pointers.emitted([self._walk()], self.workspace)
        first = Writer()
        self.place(first)
        self.starts(first)
        start = Launch(first.text(), self.grid, self.params.warps, 1)
        every = [self._step(number) for number in range(len(passes_of(self.op)))]
        return pointers.emitted([start, *every * self.steps], self.workspace, 1)

    def _walk(self) -> Launch:
        """All steps by one launch."""
        w = Writer()
        self.place(w)
        self.starts(w)
        w("tl.debug_barrier()")
        with w.block(f"for s in tl.range(0, {self.steps}, num_stages=1)"):
            self.ends(w)
            self.time(w)
            for number in range(len(passes_of(self.op))):
                self._pass(w, number)
                w("tl.debug_barrier()")
        return Launch(w.text(), self.grid, self.params.warps, self.params.stages)

    def _only(self) -> Launch:
        """The only step, of first states where they are."""
        w = Writer()
        self.place(w)
        self.starts(w)
        w("s = 0")
        self.ends(w)
        self.time(w)
        self._pass(w, 0)
        return Launch(w.text(), self.grid, self.params.warps, self.params.stages)

    def _step(self, number: int) -> Launch:
        """A pass of any step. While it runs, the programs that are done are those of the passes before and some of its own, so that all find
        the same step."""
        w = Writer()
        programs, passes = self.grid[0] * self.grid[1] * self.grid[2], len(passes_of(self.op))
        self.place(w)
        w(f"s = tl.load(locks, volatile=True) // {programs * passes}")
        self.ends(w)
        self.time(w)
        self._pass(w, number)
        w("tl.debug_barrier()", 'done = tl.atomic_add(locks, 1, sem="relaxed")')
        if number == passes - 1:
            with w.block(f"if done == {programs * passes * self.steps - 1}"):
                w("tl.store(locks, 0)")
        return Launch(w.text(), self.grid, self.params.warps, self.params.stages)

    # ---- one pass of a step

    def _pass(self, w: Writer, number: int) -> None:
        each = passes_of(self.op)[number]
        self._products(w, each)
        Unit(self, w, number).write()

    def _products(self, w: Writer, each: Pass) -> None:
        """Sums ``a0``, ``a1``, ... of the products of a state with the weights of each gate."""
        p, hidden = self.params, self.hidden
        few = p.bm == 1
        shape = f"({p.bn}, {p.bk})" if few else f"({p.bm}, {p.bn})"
        for gate in each.gates:
            w(f"a{gate} = tl.zeros({shape}, tl.float32)")
        depth = hidden % p.bk != 0
        with w.block(f"for start in range(0, {hidden}, {p.bk})"):
            w(f"k = start + tl.arange(0, {p.bk})")
            checks = [f"(m < {self.samples})[:, None]"] * self.rows_checked + [f"(k < {hidden})[None, :]"] * depth
            w(f"h = tl.load({self._source(each)}{masked(checks)})")
            if few:
                w("h = h.to(tl.float32)")
            u, v = ("[:, None]", "[None, :]") if few else ("[None, :]", "[:, None]")
            checks = [f"(j < {hidden}){u}"] * self.units_checked + [f"(k < {hidden}){v}"] * depth
            for gate in each.gates:
                at = self.weights_at(gate, u, f"k{v}")
                if few:
                    w(f"a{gate} += tl.load(r + {at}{masked(checks)}).to(tl.float32) * h")
                else:
                    w(f"w{gate} = tl.load(r + {at}{masked(checks)})", f"a{gate} = {dot('h', f'w{gate}', f'a{gate}', self.dtype, self.target)}")
        if few:
            for gate in each.gates:
                w(f"a{gate} = tl.sum(a{gate}, 1)[None, :]")


    def _source(self, each: Pass) -> str:
        """Text of the places of the factors ``k`` of a pass."""
        if self.once:
            a, b, c = self.operands["h0"][1].view.strides
            return f"h0 + d * {a} + m[:, None] * {b} + k[None, :] * {c}"
        old = " + old" if each.source == "state" else ""
        return f"{self.buffers[each.source]}{old} + (d * {self.samples} + m[:, None]) * {self.hidden} + k[None, :]"


def _once(region: Region) -> bool:
    """Whether there is one step of one pass, so that no program reads what another has stored."""
    return region.out.shape[0] == 1 and len(passes_of(op_of(region))) == 1 and "h0" in operands_of(region)


KERNEL = RecurrentSteps()
