"""Checks and times candidates of a region in a worker process.

A candidate first runs on random operands, in buffers filled with NaNs between and around what it
may touch, and is compared with the oracle; one that may overwrite an operand also does that. Those
that are right are then timed in turns: before each run the caches are brought to the state that a
running network leaves them in, weights as far away as they will be, operands near. The fastest run
counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.random import default_rng

from strop.codegen import toolchain
from strop.codegen.c import Module
from strop.errors import ToolchainError
from strop.ir.op import Array
from strop.kernels import oracle
from strop.kernels.base import Candidate, Emitted, In, Out, Packed, Region, View
from strop.kernels.extent import at, extent
from strop.target.base import Target
from strop.tune.bench import Bench, Launch, Load, Lost, Ran, Space
from strop.tune.worker import PATTERN

#: Seconds that a run may take whatever its estimate, and how many times its estimate it may take.
PATIENCE, OVERDUE = 5.0, 20.0
#: Bytes before and after every operand and result that must stay untouched.
_GUARD = 256
#: Operations up to which the oracle computes whole results, and about how many it does for parts.
WHOLE, PART = 8_000_000_000, 2_000_000_000
_MIN_ROUNDS, _MAX_ROUNDS = 5, 15
#: Seconds after which a region's rounds end.
_ENOUGH = 0.25
#: After two rounds those slower than the best by this factor are given up.
_HOPELESS = 1.5
#: Bytes that are compared at once.
_CHUNK = 1 << 20


@dataclass(eq=False)
class Job:
    """A candidate to be measured.

    Attributes:
        region: what it does.
        candidate: kernel and parameters.
        emitted: its code; packed arrays are left out.
        packed: these arrays, by name.
        packed_names: the name for each Packed pointer, in order.
        estimate: seconds.
        kernel: its number in the library that it is compiled into.
        known: values of the region's symbols.
    """

    region: Region
    candidate: Candidate
    emitted: Emitted
    packed: dict[str, Array]
    packed_names: tuple[str, ...]
    estimate: float
    kernel: int = 0
    known: Mapping[str, int] = field(default_factory=dict)

    def launch(self) -> Launch:
        """What the worker is asked to run."""
        names = iter(self.packed_names)
        pointers: list[tuple[str, int | str]] = []
        for pointer in self.emitted.pointers:
            if isinstance(pointer, In):
                pointers.append(("operand", pointer.index))
            elif isinstance(pointer, Out):
                pointers.append(("out", pointer.index))
            else:
                pointers.append(("packed", next(names)))
        limit = max(PATIENCE, OVERDUE * self.estimate)
        return Launch(
            self.kernel,
            tuple(pointers),
            self.packed,
            at(self.emitted.tasks, self.known),
            self.emitted.scratch,
            limit,
            tuple(at(extent(dim), self.known) for dim in self.emitted.dims),
        )

    def elsewhere(self, known: Mapping[str, int]) -> Job:
        """The job where the symbols have other values."""
        return replace(self, known=known)


@dataclass(frozen=True)
class Outcome:
    """Nanoseconds of a candidate, or the verdict against it with its reason."""

    result: int | str
    detail: str = ""


@dataclass(eq=False)
class Store:
    """Packed arrays of many jobs, equal ones once."""

    arrays: dict[str, Array] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in self.arrays.values())

    def job(self, region: Region, candidate: Candidate, target: Target) -> Job:
        """Emits a candidate and keeps its packed arrays."""
        emitted = candidate.emit(region, target)
        names = []
        for pointer in emitted.pointers:
            if isinstance(pointer, Packed):
                names.append(self._name(np.ascontiguousarray(pointer.array).reshape(-1)))
        packed = {name: self.arrays[name] for name in names}
        slim = Emitted(
            emitted.body,
            tuple(
                p if not isinstance(p, Packed) else Packed(np.zeros(0)) for p in emitted.pointers
            ),
            emitted.tasks,
            emitted.scratch,
            emitted.helpers,
            emitted.dims,
        )
        estimate = candidate.cost(region, target)
        known = {s.name: s.opt for s in region.symbols}
        return Job(region, candidate, slim, packed, tuple(names), estimate, known=known)

    def _name(self, array: Array) -> str:
        """The name of an equal array, or a new one."""
        for name, held in self.arrays.items():
            if held.dtype == array.dtype and held.size == array.size and _same(held, array):
                return name
        name = f"w{len(self.arrays)}"
        self.arrays[name] = array
        return name


def _same(a: Array, b: Array) -> bool:
    """True when two flat arrays of one size and dtype hold the same bytes."""
    a, b = a.view(np.uint8), b.view(np.uint8)
    return all(
        np.array_equal(a[at : at + _CHUNK], b[at : at + _CHUNK]) for at in range(0, a.size, _CHUNK)
    )


def compile_jobs(jobs: Sequence[Job], target: Target) -> Path:
    """One library with all candidates and the clock. Raises ToolchainError."""
    module = Module(target)
    for job in jobs:
        job.kernel = module.add(job.emitted, job.candidate.label, job.region.name)
    clock = (Path(__file__).parent / "clock.c").read_text(encoding="utf-8")
    libs = ("-lm", "-ldl") if any("dlopen(" in job.emitted.body for job in jobs) else ("-lm",)
    used = module.used
    return toolchain.link_shared(toolchain.compile_all([*module.units(), clock], used), used, libs)


def ready(bench: Bench, jobs: Sequence[Job], target: Target) -> str | None:
    """Compiles candidates and opens them in the worker; answers why that fails, or None."""
    try:
        library = compile_jobs(jobs, target)
    except ToolchainError as error:
        return str(error)
    return bench.open(library)


class Problem:
    """A region with random operands, and what its results must be."""

    def __init__(self, region: Region, flush: int) -> None:
        self.region = region
        self._rng = default_rng(int(region.digest(), 16))
        self._arrays = oracle.random_operands(region, self._rng)
        self._trusted: tuple[Job, list[Array]] | None = None
        operands = []
        for operand, array in zip(region.operands, self._arrays, strict=True):
            constant = operand is not None and operand.const is not None
            content = operand.logical if operand is not None and constant else array
            operands.append(None if operand is None or content is None else _space(operand.view, content, constant))
        self.load = Load(tuple(operands), tuple(_space(view, None) for view in region.outs), flush)
        self._parts = self._choose_parts()
        self._wanted = [
            oracle.expected(region, self._arrays, low, high) for low, high in self._parts
        ]
        self._slack = oracle.slack(region, self._arrays, self._wanted[0])

    def _choose_parts(self) -> list[tuple[int, int | None]]:
        """All of the result, or for a large problem its first, some middle and its last rows."""
        size = oracle.work(self.region)
        axis = oracle.rows(self.region)
        extent = self.region.out.shape[axis] if axis is not None else 0
        rows = max(1, int(PART / 3 / max(1, size // max(1, extent))))
        if size <= WHOLE or 3 * rows >= extent:
            return [(0, None)]
        middle = int(self._rng.integers(rows, extent - 2 * rows + 1))
        return [(0, rows), (middle, middle + rows), (extent - rows, extent)]

    def over(self, candidate: Candidate) -> int | None:
        """The operand that the candidate's result may overwrite, or None."""
        if not candidate.kernel.in_place or len(self.region.outs) != 1:
            return None
        for index in range(self.region.anchors, len(self.region.operands) - self.region.prologues):
            operand = self.region.operands[index]
            if operand is not None and operand.const is None and operand.view == self.region.out:
                return index
        return None

    def judge(self, job: Job, ran: Ran) -> dict[Job, str]:
        """What is wrong with a job's results, in words; nothing when they are right. Where only
        parts of the results are known, they are compared with those of an earlier job, and the
        oracle decides between the two: the answer may be about the earlier one."""
        if ran.overrun:
            return {job: "it writes past its scratch memory"}
        outs = []
        for view, flat in zip(self.region.outs, ran.outs, strict=True):
            outs.append(_extract(view, flat))
            if not _untouched(view, flat):
                return {job: "it writes outside its result"}
        for (low, high), wanted in zip(self._parts, self._wanted, strict=True):
            found = self._compare(outs, wanted, low, high)
            if found:
                return {job: found}
        if self._parts[0][1] is None:
            return {}
        return self._settle(job, outs)

    def _compare(
        self, outs: list[Array], wanted: list[Array], low: int, high: int | None
    ) -> str | None:
        axis = oracle.rows(self.region)
        for index, (got, want) in enumerate(zip(outs, wanted, strict=True)):
            part = got if high is None or axis is None else np.take(got, range(low, high), axis)
            extra = None if self._slack is None else self._slack[index]
            found = oracle.difference(self.region, index, part, want, extra)
            if found:
                return found
        return None

    def _settle(self, job: Job, outs: list[Array]) -> dict[Job, str]:
        if self._trusted is None:
            self._trusted = job, outs
            return {}
        earlier, theirs = self._trusted
        if self._compare(outs, theirs, 0, None) is None:
            return {}
        axis = oracle.rows(self.region)
        assert axis is not None
        with np.errstate(all="ignore"):
            gap = np.nan_to_num(
                np.abs(outs[0].astype(np.float64) - theirs[0].astype(np.float64)), nan=np.inf
            )
        row = int(np.unravel_index(int(gap.argmax()), gap.shape)[axis])
        wanted = oracle.expected(self.region, self._arrays, row, row + 1)
        found = {
            j: self._compare(o, wanted, row, row + 1) for j, o in ((earlier, theirs), (job, outs))
        }
        if found[earlier] is not None:
            self._trusted = None if found[job] is not None else (job, outs)
        return {j: text for j, text in found.items() if text is not None}


def _space(view: View, array: Array | None, constant: bool = False) -> Space:
    """Guarded memory for a view, the pattern wherever ``array`` is not."""
    size = view.nbytes + 2 * _GUARD
    if array is None:
        return Space(size, _GUARD)
    flat = np.full(size, PATTERN, np.uint8)
    if view.count:
        kept = tuple(slice(0, 1) if s == 0 else slice(None) for s in view.strides)
        _logical(flat, view)[kept] = np.broadcast_to(array, view.shape)[kept]
    return Space(size, _GUARD, flat, constant)


def _logical(flat: Array, view: View, dtype: np.dtype[Any] | None = None) -> Array:
    """The view's array in guarded memory, its elements taken as ``dtype`` (default: the view's)."""
    elements = flat[_GUARD : _GUARD + view.nbytes].view(dtype or view.dtype.numpy)
    return as_strided(elements, view.shape, [s * view.dtype.size for s in view.strides])


def _extract(view: View, flat: Array) -> Array:
    return _logical(flat, view).copy() if view.count else np.zeros(view.shape, view.dtype.numpy)


def _untouched(view: View, flat: Array) -> bool:
    """True when everything but the view's elements still holds the pattern."""
    rest = flat.copy()
    if view.count:
        bits = np.full(view.dtype.size, PATTERN, np.uint8).view(f"u{view.dtype.size}")
        _logical(rest, view, bits.dtype)[...] = bits
    return bool((rest == PATTERN).all())


def measure(bench: Bench, region: Region, flush: int, jobs: Sequence[Job]) -> dict[Job, Outcome]:
    """Checks all jobs of one region, times those that are right, and tells about each. Jobs over
    symbolic sizes are timed at their optimum, and checked at another shape, too."""
    outcomes: dict[Job, Outcome] = {}
    for known in _others(region):
        problem = Problem(region.at(known), flush)
        bench.load(problem.load)
        moved = {job.elsewhere(known): job for job in jobs if job not in outcomes}
        found: dict[Job, Outcome] = {}
        for job in moved:
            _check(bench, problem, job, found)
        outcomes.update({moved[job]: outcome for job, outcome in found.items()})
    problem = Problem(region.typical(), flush)
    bench.load(problem.load)
    for job in jobs:
        if job not in outcomes:
            _check(bench, problem, job, outcomes)
    running = [job for job in jobs if job not in outcomes]
    outcomes.update(_race(bench, running))
    return outcomes


def _others(region: Region) -> list[dict[str, int]]:
    """Values of the symbols, other than the optimum, at which code is checked: odd where the range has odd ones, and not large."""
    symbols = region.symbols
    if not symbols:
        return []
    return [{s.name: min(s.max, s.min + 2 + (s.min + k) % 2) for k, s in enumerate(symbols)}]


def _check(bench: Bench, problem: Problem, job: Job, outcomes: dict[Job, Outcome]) -> None:
    """Runs a job and notes what is wrong with it, or with an earlier one."""
    launch = job.launch()
    try:
        for over in dict.fromkeys((None, problem.over(job.candidate))):
            found = problem.judge(job, _run(bench, launch, timed=False, over=over))
            outcomes.update({j: Outcome("wrong", text) for j, text in found.items()})
            if job in outcomes:
                return
    except Lost as lost:
        outcomes[job] = Outcome(lost.verdict, str(lost))


def _run(bench: Bench, launch: Launch, timed: bool, over: int | None = None) -> Ran:
    """Runs a kernel; when it crashes, once more in a fresh worker, because an earlier one may have
    left damage. Raises Lost."""
    try:
        return bench.run(launch, timed, over)
    except Lost as lost:
        if lost.verdict == "hung":
            raise
    return bench.run(launch, timed, over)


def _race(bench: Bench, jobs: list[Job]) -> dict[Job, Outcome]:
    """Times jobs in turns; the fastest run of each counts."""
    best: dict[Job, int] = {}
    outcomes: dict[Job, Outcome] = {}
    rounds, start = 0, time.monotonic()
    running = list(jobs)
    while (
        running
        and rounds < _MAX_ROUNDS
        and (rounds < _MIN_ROUNDS or time.monotonic() - start < _ENOUGH)
    ):
        for job in list(running):
            try:
                ns = _run(bench, job.launch(), timed=True).ns
            except Lost as lost:
                outcomes[job] = Outcome(lost.verdict, str(lost))
                running.remove(job)
                continue
            best[job] = max(1, min(ns, best.get(job, ns)))
        rounds += 1
        if rounds >= 2 and running:
            line = _HOPELESS * min(best[job] for job in running)
            running = [job for job in running if best[job] <= line]
    for job, ns in best.items():
        outcomes.setdefault(job, Outcome(ns))
    return outcomes


Report = Callable[[Region, dict[Job, Outcome]], None]


def measure_all(
    bench: Bench,
    jobs: Sequence[Job],
    target: Target,
    flush: int,
    more: Callable[[], bool],
    report: Report,
) -> None:
    """Measures jobs, those of one region following each other, in one library.

    Args:
        bench: the worker.
        jobs: what to measure.
        target: for which they are compiled; this machine must run its code.
        flush: bytes that push everything out of the caches that weights do not stay in.
        more: asked before each region; False ends it.
        report: told the outcomes of each region. A candidate that does not compile or link is
            reported alone.
    """
    failed = ready(bench, jobs, target)
    if failed is not None and len(jobs) == 1:
        report(jobs[0].region, {jobs[0]: Outcome("broken", failed)})
        return
    if failed is not None:
        half = len(jobs) // 2
        for part in (jobs[:half], jobs[half:]):
            if more():
                measure_all(bench, part, target, flush, more, report)
        return
    groups: dict[Region, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.region, []).append(job)
    for region, group in groups.items():
        if not more():
            return
        report(region, measure(bench, region, flush, group))
