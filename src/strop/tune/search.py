"""Chooses among the candidates of every region by time, measured on this machine in a child
process, and remembers it.

Levels are how many candidates of a region are measured, see LEVELS; 0 measures nothing and takes
the favourite of the cost model. Regions of equal signature are measured once, those with the
largest share of the estimated total time first. Times are those of one core, also for an engine of
several threads: all candidates divide their work into tasks alike.

What has been measured is in the records file after each region, so that a build that is
interrupted, or whose budget ends, loses nothing: it goes on with the best choices known, and the
next one measures the rest. A choice depends on records and level alone: the same records give the
same engine. Candidates that are wrong, crash or hang are noted, recorded and never chosen. For a
target that this machine does not run nothing is measured: records brought from a machine that does
decide, and estimates where there are none.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from strop.errors import KernelError, OptionError
from strop.kernels.base import Candidate, Region
from strop.lower.pipeline import Lowered, Step, Tried
from strop.target.base import Target
from strop.target.cuda import is_gpu
from strop.target.detect import runs_here
from strop.trace import Trace
from strop.tune import gpu
from strop.tune.bench import Bench
from strop.tune.measure import Job, Outcome, Store, measure_all
from strop.tune.records import Key, Records, code_of, code_of_verdicts, cpu_of, path_of

#: Level: (candidates measured per distinct region, None for all; seconds that measuring may take).
LEVELS: dict[int, tuple[int | None, float]] = {
    1: (2, 30.0),
    2: (4, 60.0),
    3: (6, 90.0),
    4: (12, 180.0),
    5: (None, 600.0),
}
#: From this level on regions that leave no choice are measured too: their kernels are checked,
#: their times known.
_CHECKS_ALL = 3
#: The best candidate of a kernel is tried early when its estimate is within this factor of the
#: favourite's.
_RIVAL = 3.0
#: Candidates and bytes of packed arrays that are compiled and measured together.
_BATCH, _BATCH_BYTES = 48, 1 << 30
_MOST_FLUSHED = 128 << 20
#: Candidates of a step that an engine file tells about.
_MOST_TRIED = 12


def tune(lowered: Lowered, level: int, budget: float | None, trace: Trace, every: bool = False, settled: bool = False) -> None:
    """Sets ``chosen``, ``seconds`` and ``candidates`` of every step; candidates that do not work
    are taken off.

    Args:
        lowered: the program. Its steps' candidates are ordered by estimate. Those of a GPU and of the processor beside it are tuned apart.
        level: 0 to 5.
        budget: seconds that measuring may take, None for the level's own; the region being measured
            when it ends is finished.
        trace: told about progress, candidates (STROP_DEBUG=2), and what the user should know.
            Ctrl-C while measuring ends the measuring only.
        every: regions that leave no choice are measured at every level above 0.
        settled: an earlier call has measured what its budget allowed, and on a processor no more is measured.

    Raises:
        KernelError: no candidate of a region works.
        OptionError: unusable level or budget.
        ToolchainError: there is no C compiler, or no Python to start.
    """
    if level not in (0, *LEVELS):
        raise OptionError("unusable level", got=level, expected="0..5")
    if budget is not None and not budget >= 0:
        raise OptionError("unusable budget", got=budget, expected="seconds, 0 or more")
    if is_gpu(lowered.target) and lowered.fallbacks:
        for side in lowered.sides():
            tune(side, level, budget, trace, every, settled)
        return
    tasks = _tasks(lowered)
    if level > 0:
        depth, usual = LEVELS[level]
        if is_gpu(lowered.target):
            return _tune_gpu(lowered, tasks, level, usual if budget is None else budget, trace)
        book = _Book(lowered, trace)
        search = _Search(lowered.target, tasks, book, depth, every or level >= _CHECKS_ALL, trace)
        if runs_here(lowered.target) and settled:
            search.note_left(f"the budget of {usual if budget is None else budget:g} s ended")
        elif runs_here(lowered.target):
            search.measure(usual if budget is None else budget)
        else:
            search.note_foreign()
        for task in tasks:
            _choose(task, book, trace)
    for task in tasks:
        _note_tried(task, lowered.target)
    text = _show(tasks, lowered.target)
    trace.log(2, f"tune: candidates by estimate and measured time\n{text}")
    trace.dump("tune.choices.txt", lambda: text)


def _tune_gpu(lowered: Lowered, tasks: list[Task], level: int, budget: float, trace: Trace) -> None:
    """The same for a GPU: measured where this machine has one, else by records, those of other models of GPU too, and estimates."""
    here = gpu.runs_here(lowered.target)
    book = _Book(lowered, trace, gpu.model() if here else None)
    for task in tasks:
        book.look_up(task)
    depth = gpu.DEPTHS[level]
    if here:
        every = {gpu.Task(t.region, t.candidates, t.results): t for t in tasks}
        own = {g: t for g, t in every.items() if t.pending(depth, level >= _CHECKS_ALL) or g.calls(depth)}

        def report(task: gpu.Task, candidate: Candidate, result: int | str, why: str) -> None:
            book.put(own[task], candidate, result)
            if isinstance(result, str):
                trace.log(1, f"tune: {candidate.label} on {task.region.name}: {result}: {why}")

        gpu.measure(list(own), lowered.target, depth, budget, book.weights == "memory", report)
        book.save()
        left = sum(1 for t in own.values() if t.fastest() is None)
        for task in tasks:
            book.borrow(task)
        if left:
            trace.note(f"tune: the budget of {budget:g} s ended with {left} of {len(tasks)} distinct regions not measured")
    else:
        for task in tasks:
            book.borrow(task)
        unknown = sum(1 for t in tasks if t.fastest() is None)
        if unknown:
            trace.note(
                f"tune: {unknown} of {len(tasks)} distinct regions are chosen by estimate, because this machine has no GPU for {lowered.target} "
                "and the records do not cover them"
            )
    for task in tasks:
        _choose(task, book, trace)
    trace.dump("tune.choices.txt", lambda: _show(tasks, lowered.target))


@dataclass(eq=False)
class Task:
    """Steps that the same choice serves.

    Attributes:
        region: that of the first of these steps.
        steps: these steps.
        candidates: in the order in which they are tried.
        seconds: estimated total time of the steps.
        digest: the region's.
        results: what is known about candidates by label: nanoseconds, or a verdict.
    """

    region: Region
    steps: list[Step]
    candidates: list[Candidate]
    seconds: float
    digest: str
    results: dict[str, int | str] = field(default_factory=dict)

    def pending(self, depth: int | None, alone: bool) -> list[Candidate]:
        """Candidates to be measured: those not known among the first ``depth`` that work, and the
        fastest known for comparison.

        Args:
            depth: None for all.
            alone: True when a region with a single candidate is measured too.
        """
        if self.region.op is not None and self.region.op.computed:
            return []  # what it takes depends on the data, and its results' sizes do
        working = [c for c in self.candidates if not isinstance(self.results.get(c.label), str)]
        missing = [c for c in working[:depth] if c.label not in self.results]
        if not missing or (len(self.candidates) == 1 and not alone):
            return []
        best = self.fastest()
        return missing if best is None else [best, *missing]

    def fastest(self) -> Candidate | None:
        """The candidate with the least known time; the earlier one of equals."""
        known = [
            (ns, k)
            for k, c in enumerate(self.candidates)
            if isinstance(ns := self.results.get(c.label), int)
        ]
        return self.candidates[min(known)[1]] if known else None


def _tasks(lowered: Lowered) -> list[Task]:
    """Steps grouped by signature, the largest share of the total time first; those without a choice
    last."""
    groups: dict[str, list[Step]] = {}
    for step in lowered.steps:
        if not step.chosen.kernel.measured:
            continue
        groups.setdefault(step.region.signature(), []).append(step)
    tasks = []
    for steps in groups.values():
        first = steps[0]
        costs = [c.cost(first.region, lowered.target) for c in first.candidates]
        order = _order(first.candidates, costs)
        tasks.append(
            Task(first.region, steps, order, min(costs) * len(steps), first.region.digest())
        )
    return sorted(tasks, key=lambda t: (len(t.candidates) == 1, -t.seconds))


def _order(candidates: list[Candidate], costs: list[float]) -> list[Candidate]:
    """The best of every kernel that is near the favourite, then the others; each by estimate."""
    ranked = sorted(range(len(candidates)), key=lambda k: costs[k])
    leaders: dict[str, int] = {}
    for k in ranked:
        if costs[k] <= _RIVAL * costs[ranked[0]]:
            leaders.setdefault(candidates[k].kernel.name, k)
    first = list(leaders.values())
    return [candidates[k] for k in [*first, *(k for k in ranked if k not in first)]]


class _Book:
    """The records of one target, seen from one program."""

    def __init__(self, lowered: Lowered, trace: Trace, cpu: str | None = None) -> None:
        target = self._target = lowered.target
        self.path: Path = path_of(target)
        self.weights, self.flush = _weights_from(lowered)
        self._threads = target.cores
        self._records = Records.read(self.path, trace.note)
        self._cpu = cpu or (cpu_of(target) if runs_here(target) else self._usual_cpu())
        self._new = Records()

    def _usual_cpu(self) -> str:
        """For a target that this machine cannot run: the processor with most lines."""
        counts: dict[str, int] = {}
        for key in sorted(self._records):
            counts[key.cpu] = counts.get(key.cpu, 0) + 1
        return max(counts, key=lambda cpu: counts[cpu], default="unknown")

    def look_up(self, task: Task) -> None:
        """Fills ``task.results``."""
        for candidate in task.candidates:
            for verdict in (True, False):
                found = self._records.results.get(self._key(task, candidate, verdict))
                if found is not None:
                    task.results[candidate.label] = found
                    break

    def borrow(self, task: Task) -> None:
        """Fills ``task.results`` with times from other processors when none is known from this one."""
        if task.fastest() is not None:
            return
        labels = {(c.label, code_of(c.kernel)) for c in task.candidates}
        for key in self._records:
            result = self._records.results[key]
            same = (key.digest, key.threads, key.weights) == (task.digest, self._threads, self.weights)
            known = task.results.get(key.candidate, result)
            if same and isinstance(result, int) and isinstance(known, int) and (key.candidate, key.code) in labels:
                task.results[key.candidate] = min(result, known)

    def put(self, task: Task, candidate: Candidate, result: int | str) -> None:
        """Remembers a result."""
        one = Records()
        one.put(self._key(task, candidate, isinstance(result, str)), result)
        for records in (self._new, self._records):
            records.merge(one)

    def save(self) -> None:
        """Writes what is new."""
        self._new.write(self.path)

    def _key(self, task: Task, candidate: Candidate, verdict: bool) -> Key:
        code = code_of_verdicts() if verdict and not is_gpu(self._target) else code_of(candidate.kernel)
        return Key(task.digest, self._cpu, self._threads, self.weights, candidate.label, code)


def _weights_from(lowered: Lowered) -> tuple[str, int]:
    """The nearest memory level that all weights fit in, and the bytes that push them out of the
    nearer ones."""
    target = lowered.target
    consts = {
        id(o.const): o.const
        for s in lowered.steps
        for o in s.region.operands
        if o is not None and o.const is not None
    }
    size = sum(array.nbytes for array in consts.values())
    if size <= target.l2 // 2:
        return "l2", 0
    if size <= target.l3 // 2:
        return "l3", min(2 * target.l2, _MOST_FLUSHED)
    return "memory", min(target.l3 * 5 // 4, _MOST_FLUSHED)


@contextmanager
def _noticed() -> Iterator[threading.Event]:
    """An event that tells whether Ctrl-C was pressed, also when code that was running then has
    swallowed the exception."""
    pressed = threading.Event()
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield pressed
        return

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            previous(number, frame)
        except KeyboardInterrupt:
            pressed.set()
            raise

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)


class _Search:
    """Measures what is not known yet."""

    def __init__(
        self,
        target: Target,
        tasks: list[Task],
        book: _Book,
        depth: int | None,
        alone: bool,
        trace: Trace,
    ) -> None:
        self._target, self._tasks, self._book, self._trace = target, tasks, book, trace
        self._depth, self._alone = depth, alone
        self._by_region = {task.region: task for task in tasks}
        self._deadline = 0.0
        self._interrupted = threading.Event()
        for task in tasks:
            book.look_up(task)
        self._total = len(self._unknown())

    def _unknown(self) -> list[Task]:
        return [task for task in self._tasks if task.pending(self._depth, self._alone)]

    def measure(self, budget: float) -> None:
        """Measures for ``budget`` seconds at most."""
        if not self._total:
            return
        self._deadline = time.monotonic() + budget
        ending = f"the budget of {budget:g} s ended"
        try:
            with _noticed() as self._interrupted, Bench(self._interrupted.is_set) as bench:
                self._trace.report("tune", 0, self._total)
                while self._more() and (jobs := self._batch()):
                    measure_all(
                        bench, jobs, self._target, self._book.flush, self._more, self._report
                    )
        except KeyboardInterrupt:
            ending = "measuring was interrupted"
        self.note_left(ending)

    def note_left(self, ending: str) -> None:
        """Tells what is not measured, and why."""
        left = len(self._unknown())
        if left:
            self._trace.note(
                f"tune: {ending} with {left} of {len(self._tasks)} distinct regions not fully "
                "measured; they keep the fastest candidate known, or the estimate's favourite"
            )

    def note_foreign(self) -> None:
        """Tells that this machine cannot measure."""
        left = len(self._unknown())
        if left:
            self._trace.note(
                f"tune: {left} of {len(self._tasks)} distinct regions are chosen by estimate, "
                f"because this machine does not run {self._target} and the records do not cover them"
            )

    def _more(self) -> bool:
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        return time.monotonic() < self._deadline

    def _batch(self) -> list[Job]:
        """The next candidates, emitted. Equal packed arrays are held once."""
        store = Store()
        jobs: list[Job] = []
        for task in self._unknown():
            for candidate in task.pending(self._depth, self._alone):
                jobs.append(store.job(task.region, candidate, self._target))
                if store.nbytes > _BATCH_BYTES:
                    return jobs
            if len(jobs) >= _BATCH:
                break
        return jobs

    def _report(self, region: Region, outcomes: dict[Job, Outcome]) -> None:
        task = self._by_region[region]
        for job, outcome in outcomes.items():
            self._book.put(task, job.candidate, outcome.result)
            if isinstance(outcome.result, str):
                reason = f"{outcome.result}: {outcome.detail}"
                self._trace.log(1, f"tune: {job.candidate.label} on {region.name}: {reason}")
        self._book.save()
        self._book.look_up(task)
        self._trace.report("tune", self._total - len(self._unknown()), self._total)


def _choose(task: Task, book: _Book, trace: Trace) -> None:
    """Puts the best candidate known in force in a task's steps."""
    failed = {
        c.label: r for c in task.candidates if isinstance(r := task.results.get(c.label), str)
    }
    for label, verdict in failed.items():
        trace.note(f"tune: {label} is not used for {task.region.name}: {_MEANING[verdict]}")
    if len(failed) == len(task.candidates):
        raise KernelError(
            f"no kernel for {task.region.kind} works",
            where=task.region.name,
            got="; ".join(f"{label}: {_MEANING[verdict]}" for label, verdict in failed.items()),
            expected="a kernel that agrees with the reference",
            hint=f"report this; STROP_DEBUG=1 shows details, and records are in {book.path}",
        )
    best = task.fastest()
    for step in task.steps:
        step.candidates = [c for c in step.candidates if c.label not in failed]
        known = [c for c in step.candidates if best is not None and c.label == best.label]
        own = [c for c in step.candidates if isinstance(task.results.get(c.label), int)]  # where a step lies may leave it fewer candidates
        step.chosen = known[0] if known else min(own, key=lambda c: int(task.results[c.label]), default=step.candidates[0])
        result = task.results.get(step.chosen.label)
        step.seconds = result / 1e9 if isinstance(result, int) else None


def _note_tried(task: Task, target: Target) -> None:
    """Tells a task's steps what is known about its candidates: all that were measured, and the estimate's favourites."""
    found = []
    for candidate in task.candidates:
        result = task.results.get(candidate.label)
        seconds, verdict = (result / 1e9, "") if isinstance(result, int) else (None, result or "")
        found.append(Tried(candidate.label, candidate.cost(task.region, target), seconds, verdict))
    found.sort(key=lambda t: (bool(t.verdict), t.measured is None, t.measured or t.estimated))
    for step in task.steps:
        chosen = [t for t in found if t.label == step.chosen.label]
        step.tried = (*chosen, *(t for t in found if t.label != step.chosen.label))[:_MOST_TRIED]


_MEANING = {
    "wrong": "its result is wrong",
    "crashed": "it crashes",
    "hung": "it does not end",
    "broken": "it does not compile",
}


def _show(tasks: list[Task], target: Target) -> str:
    """A paragraph per distinct region: its candidates with estimate and time, the chosen one
    marked."""
    lines = []
    for task in tasks:
        step = task.steps[0]
        more = f" and {len(task.steps) - 1} more" if len(task.steps) > 1 else ""
        lines.append(f"{task.region.name}{more}: {task.region.kind} {task.region.out}")
        for candidate in task.candidates:
            result = task.results.get(candidate.label)
            if result is None and candidate.label != step.chosen.label:
                continue
            mark = "*" if candidate.label == step.chosen.label else " "
            time_text = (
                f"{result / 1e3:.1f} us" if isinstance(result, int) else result or "not measured"
            )
            estimate = candidate.cost(task.region, target) * 1e6
            lines.append(f"  {mark} {candidate.label}: {time_text}, estimated {estimate:.1f} us")
    return "\n".join(lines)
