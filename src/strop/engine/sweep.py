"""Builds a model in many ways, measures all of them, and says which to take.

    found = sweep("net.onnx", precisions=("fp32", "int8"), threads=(1, 2), batches=(1, 4))
    found.best, found.why, found.front

Engines are measured in turns, some rounds of all of them, so that what else the machine does meets all alike. How good a precision is does
not depend on threads and batch, so it is found once per precision and target, with labels or beside fp32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from strop import knobs
from strop.engine.bench import Latency, batch_of, time_calls
from strop.engine.build import build
from strop.engine.energy import Energy, Gauge
from strop.engine.engine import Engine
from strop.engine.evaluate import METRICS, Plugin, Score, evaluate
from strop.errors import OptionError, StropError
from strop.frontend.table import read
from strop.ir.graph import Graph
from strop.ir.text import show_dim
from strop.quantize.data import samples
from strop.quantize.precision import INTEGERS
from strop.target.base import host_cores
from strop.target.detect import parse, runs_here

ROUNDS = 5
PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int8x7", "auto")
#: Samples by which precisions are judged when nothing is said.
BATCHES = 64


@dataclass(frozen=True)
class Point:
    """One way to build the model, measured.

    Attributes:
        precision, threads, batch, target: how it was built.
        latency: of one run.
        samples_per_s: ``batch`` by the median.
        bytes: of the engine file.
        memory: bytes of arena and scratch.
        drop: points by which it is worse than fp32.
        score: how good it is.
        joules_per_sample: None without a meter.
        front: whether no other is at least as good in everything and better in something.
        build_s: seconds that the build took.
    """

    precision: str
    threads: int
    batch: int
    target: str
    latency: Latency
    samples_per_s: float
    bytes: int
    memory: int
    drop: float
    score: Score
    joules_per_sample: float | None
    build_s: float
    front: bool = False

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.precision} on {self.threads} thread{'s' * (self.threads != 1)} at batch {self.batch}"


#: What a recommendation may be best in: value of a point, whether more is better, words for the best.
GOALS: dict[str, tuple[Callable[[Point], float], bool, str]] = {
    "latency": (lambda p: p.latency.p50, False, "the least latency"),
    "throughput": (lambda p: p.samples_per_s, True, "the most samples per second"),
    "size": (lambda p: float(p.bytes), False, "the smallest engine"),
    "energy": (lambda p: p.joules_per_sample or 0.0, False, "the least energy per sample"),
}

@dataclass(frozen=True)
class Sweep:
    """What was found.

    Attributes:
        model: its name.
        goal: what ``best`` is best in.
        max_drop: points of accuracy that it may cost.
        points: in the order of the combinations.
        failed: (combination, reason) of those that could not be built or run.
        energy: the meter, or why there is none.
        best: number of the point to take; None when none is good enough.
        why: one line that says so.
        seconds: that all took.
    """

    model: str
    goal: str
    max_drop: float
    points: tuple[Point, ...]
    failed: tuple[tuple[str, str], ...]
    energy: Energy
    best: int | None
    why: str
    seconds: float = 0.0

    @property
    def front(self) -> tuple[Point, ...]:
        """The Pareto front."""
        return tuple(p for p in self.points if p.front)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        found = asdict(self)
        for record, point in zip(found["points"], self.points):
            record["latency_ms"], record["score"] = record.pop("latency"), point.score.to_json()
        return {**found, "energy": self.energy.to_json()}


@dataclass
class _Built:
    """An engine file in waiting, and what is known of it."""

    precision: str
    threads: int
    batch: int
    target: str
    path: Path
    build_s: float
    times: list[int] = field(default_factory=list)
    joules: float | None = 0.0
    per_run: int = 1
    memory: int = 0

    @property
    def name(self) -> str:
        return f"{self.precision}, {self.threads} thread{'s' * (self.threads != 1)}, batch {self.batch}, {self.target}"


def sweep(
    model: Any, *, precisions: Sequence[str] = ("fp32", "int8"), threads: Sequence[int] = (), batches: Sequence[int] = (1,),
    targets: Sequence[str] = ("host",), level: int = 0, shapes: Mapping[str, Any] | None = None, data: Any = None, preprocess: str = "unit",
    labels: str | Path | None = None, metric: str | Plugin | None = None, max_drop: float = 1.0, goal: str = "latency", seconds: float = 1.0,
    keep: str | Path | None = None, progress: Callable[[str], None] | None = None,
) -> Sweep:  # fmt: skip
    """Builds and measures all combinations.

    Args:
        threads: none for 1 and all cores.
        batches: numbers in place of the leading dim of every input.
        targets: that this machine runs.
        level: effort of the builds.
        shapes: as for ``build``; of inputs whose other dims are free.
        data: samples for calibration and accuracy; random inputs when None.
        metric: None for top1 where samples have labels, else agreement with fp32.
        max_drop: points of the metric that the recommendation may be worse than fp32.
        goal: one of GOALS.
        seconds: that every engine is measured.
        keep: where to save the recommended engine.
        progress: told what is being done.

    Raises:
        OptionError: an unknown precision, goal or target, or a target that this machine does not run.
        StropError: the model cannot be read, or its fp32 engine not be built.
    """
    began = time.perf_counter()
    tell = progress or (lambda text: None)
    counts = tuple(dict.fromkeys(threads or (1, host_cores())))
    _check(precisions, counts, batches, targets, goal, max_drop)
    graph = read(model, shapes)
    with TemporaryDirectory(prefix="sweep-", dir=knobs.cache_dir()) as folder:
        options = {"level": level, "data": data, "preprocess": preprocess}
        built, failed = _build_all(model, graph, shapes, (targets, precisions, batches, counts), Path(folder), options, tell)
        scores = _scores(built, data, preprocess, labels, metric, tell)
        wanted = [b for b in built if b.precision in precisions]
        energy = _measure(wanted, seconds, tell)
        points = _front([_point(b, *scores[b.precision, b.target]) for b in wanted])
        best = _best(points, goal, max_drop)
        if best is not None and keep is not None:
            Engine(wanted[best].path).save(keep)
    why = _why(points, best, goal, max_drop)
    return Sweep(_title(model, graph), goal, max_drop, points, failed, energy, best, why, time.perf_counter() - began)


def _build_all(
    model: Any, graph: Graph, shapes: Mapping[str, Any] | None, axes: tuple[Sequence[str], Sequence[str], Sequence[int], Sequence[int]],
    folder: Path, options: Mapping[str, Any], tell: Callable[[str], None],
) -> tuple[list[_Built], tuple[tuple[str, str], ...]]:  # fmt: skip
    """Engine files of all combinations of targets, precisions, batches and threads, and of one in fp32 to compare with; then which could
    not be built, and why."""
    targets, precisions, batches, counts = axes
    built: list[_Built] = []
    failed = []
    for target, precision, batch, count in product(targets, dict.fromkeys(("fp32", *precisions)), batches, counts):
        if precision not in precisions and (batch, count) != (batches[0], counts[0]):
            continue
        made = _Built(precision, count, batch, target, folder / f"{len(built)}.strop", 0.0)
        tell(f"building {made.name}")
        started = time.perf_counter()
        calibration = {"calibration": options["data"], "preprocess": options["preprocess"]} if precision in (*INTEGERS, "auto") else {}
        try:
            given = _shapes(graph, shapes, batch)
            build(model, target=target, threads=count, level=options["level"], shapes=given, precision=precision, **calibration).save(made.path)
        except StropError as error:
            if precision == "fp32" and batch == batches[0]:
                raise
            failed.append((made.name, error.what))
            continue
        built.append(replace(made, build_s=time.perf_counter() - started))
    return built, tuple(failed)


def _title(model: Any, graph: Graph) -> str:
    return Path(model).stem if isinstance(model, (str, Path)) else graph.name


def _check(precisions: Sequence[str], threads: Sequence[int], batches: Sequence[int], targets: Sequence[str], goal: str, max_drop: float) -> None:
    for name, values, known in (("precision", precisions, PRECISIONS), ("goal", (goal,), tuple(GOALS))):
        for value in values:
            if value not in known:
                raise OptionError(f"unknown {name}", got=value, expected=", ".join(known))
    for name, numbers in (("threads", threads), ("batch", batches)):
        for number in numbers:
            if not 1 <= number <= 4096:
                raise OptionError(f"unusable {name}", got=number, expected="1 to 4096")
    if not (precisions and batches and targets):
        raise OptionError("there is nothing to sweep", expected="at least one precision, batch and target")
    if not max_drop >= 0:
        raise OptionError("unusable max_drop", got=max_drop, expected="0 or more")
    for target in targets:
        if not runs_here(parse(target)):
            raise OptionError("this machine cannot measure the target", got=target, hint="sweep on a machine that runs it; strop check --target estimates")


def _shapes(graph: Graph, shapes: Mapping[str, Any] | None, batch: int) -> dict[str, Any] | None:
    """Shapes with another leading dim of every input; None where the model has this batch already."""
    leading = {show_dim(v.shape[0]) for v in graph.inputs if v.shape}
    if leading == {str(batch)}:
        return dict(shapes) if shapes else None
    changed = {v.name: "x".join((str(batch), *map(show_dim, v.shape[1:]))) for v in graph.inputs if v.shape}
    return {**(shapes or {}), **changed}


def _scores(
    built: Sequence[_Built], data: Any, preprocess: str, labels: str | Path | None, metric: str | Plugin | None, tell: Callable[[str], None]
) -> dict[tuple[str, str], tuple[Score, float]]:
    """Per precision and target its score and how many points it is worse than fp32."""
    found: dict[tuple[str, str], tuple[Score, float]] = {}
    base: tuple[Engine, Score] | None = None
    for one in built:  # fp32 of every target comes first
        key = one.precision, one.target
        if key in found:
            continue
        tell(f"judging {one.name}")
        engine = Engine(one.path)
        given = samples(data, engine.inputs, limit=BATCHES, preprocess=preprocess, labels=labels)
        labelled = data is not None and next((b.labels is not None for b in given), False)
        asked = metric or ("top1" if labelled else "agreement")
        if one.precision == "fp32":
            base = None
        reference = engine if base is None else base[0]
        score = evaluate(engine.run, given, [asked], reference.run)[0]
        if base is None:
            base = engine, score
        alone = isinstance(asked, str) and METRICS[asked].needs == "reference"
        drop = 100 * (1 - score.value) if asked == "agreement" else 0.0 if alone and one.precision == "fp32" else base[1].drop(score)
        found[key] = score, drop
    return found


def _measure(built: Sequence[_Built], seconds: float, tell: Callable[[str], None]) -> Energy:
    """Measures all engines in turns; what the meter said the last time."""
    last = Energy(None, 0.0)
    for number in range(ROUNDS):
        tell(f"measuring, round {number + 1} of {ROUNDS}")
        for one in built if number % 2 == 0 else reversed(built):
            engine = Engine(one.path)
            context = engine.context(threads=one.threads)
            call = context.bind(engine.random_inputs(), context.new_outputs())
            call()
            time_calls(call, seconds=0.1 * seconds / ROUNDS)
            with Gauge.of(engine.manifest.get("target")) as gauge:
                times = time_calls(call, seconds=seconds / ROUNDS)
            last, joules = gauge.found, gauge.found.joules
            one.joules = None if joules is None or one.joules is None else one.joules + joules
            one.times += times
            one.per_run, one.memory = batch_of(engine), context.memory.arena + context.memory.scratch
            context.close()
            engine.session.close()
    return last


def _point(one: _Built, score: Score, drop: float) -> Point:
    latency = Latency.of(one.times)
    joules = None if one.joules is None else one.joules / (len(one.times) * one.per_run)
    return Point(
        one.precision, one.threads, one.per_run, one.target, latency, one.per_run * 1e3 / latency.p50, one.path.stat().st_size, one.memory, drop,
        score, joules, one.build_s,
    )  # fmt: skip


def _front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points, those marked that no other dominates in latency, throughput, accuracy, size and energy."""
    costs = [(p.latency.p50, -p.samples_per_s, p.drop, float(p.bytes), p.joules_per_sample or 0.0) for p in points]

    def dominated(mine: tuple[float, ...]) -> bool:
        return any(other != mine and all(a <= b for a, b in zip(other, mine)) for other in costs)

    return tuple(replace(p, front=not dominated(cost)) for p, cost in zip(points, costs))


def _best(points: Sequence[Point], goal: str, max_drop: float) -> int | None:
    value, more, _ = GOALS[goal]
    if goal == "energy" and any(p.joules_per_sample is None for p in points):
        raise OptionError("no meter tells the energy", where="goal", got=goal, expected=", ".join(g for g in GOALS if g != goal))
    good = [k for k, p in enumerate(points) if p.drop <= max_drop]
    return min(good, key=lambda k: -value(points[k]) if more else value(points[k]), default=None)


def _why(points: Sequence[Point], best: int | None, goal: str, max_drop: float) -> str:
    """The recommendation in one line."""
    if best is None:
        least = min(points, key=lambda p: p.drop, default=None)
        nearest = "" if least is None else f"; the best, {least.name}, loses {least.drop:.2f}"
        return f"none: no combination loses at most {max_drop:g} points of accuracy{nearest}"
    it = points[best]
    good = [p for p in points if p.drop <= max_drop]
    _, _, words = GOALS[goal]
    text = f"{it.name}: {it.latency.p50:.3f} ms, {it.samples_per_s:.1f} samples/s, {it.bytes / 2**20:.1f} MiB; {words} of {len(good)} combinations"
    text += f" that lose at most {max_drop:g} points of {it.score.metric}" + (f" (it loses {it.drop:.2f})" if it.precision != "fp32" else "")
    plain = next((p for p in points if (p.precision, p.threads, p.batch, p.target) == ("fp32", it.threads, it.batch, it.target)), None)
    if plain is not None and it.precision != "fp32":
        text += f"; fp32 takes {plain.latency.p50:.3f} ms and {plain.bytes / 2**20:.1f} MiB"
    beaten = sorted({p.precision for p in points if p.drop > max_drop})
    if beaten:
        text += f"; {', '.join(beaten)} {'lose' if len(beaten) > 1 else 'loses'} more"
    if it.threads > 1 and (one := next((p for p in points if (p.precision, p.threads, p.batch) == (it.precision, 1, it.batch)), None)):
        text += f"; 1 thread takes {one.latency.p50:.3f} ms"
    return text
