"""An engine against other runtimes on the same model: agreement first, then time, in turns.

    engine = build("net.onnx")
    row = compare(engine, Path("net.onnx"), find_peers(["onnxruntime"]), python_of(None))
    row.ratio.median

All processes are alive at once and one runs at a time: A B C, then B C A, and so on, so that whatever the machine does
meets all of them alike. A turn is a warm-up and then as many inferences as fit its time; its result is their median.
A ratio is taken per round, and the median of these is reported with the least and the greatest.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.engine.engine import Engine
from strop.engine.peer_process import LOAD_TIMEOUT, OWN, Peer, PeerError, PeerProcess
from strop.engine.ratios import Ratio, ratio
from strop.errors import OptionError

Array = NDArray[Any]

#: Seconds between two turns, in which spinning threads of the runtime that was measured last go to sleep.
PAUSE = 0.03
#: Inferences of a turn: at least, and at most.
LEAST_RUNS, MOST_RUNS = 3, 20_000
#: Largest error that counts as agreement, max |theirs - reference| / max |reference|, by the precision that may be computed in. In 16 bits the
#: reference has rounded at other places itself.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.3, "fp16": 0.04}
TOLERANCE = TOLERANCES["fp32"]
#: Share of its turns' time in which a ready thread had no core, from which a runtime counts as disturbed.
DISTURBED = 0.02


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        threads: of every runtime.
        rounds: turns of each.
        seconds: inferences of a turn together.
        cpus: cores to stay on; None to leave that to the system.
        avx2: limit the others to AVX2, and leave out those that cannot be.
        profile: runs of a profile of the engine's steps after the measurement; 0 for none.
        tolerance: largest error that counts as agreement; None for that of the precision.
        precision: that the others may compute in: fp32, bf16 or fp16; those that do not know it are left out.
    """

    threads: int = 1
    rounds: int = 9
    seconds: float = 0.3
    cpus: tuple[int, ...] | None = None
    avx2: bool = False
    profile: int = 0
    tolerance: float | None = None
    precision: str = "fp32"

    @property
    def limit(self) -> float:
        """The tolerance in force."""
        return TOLERANCES[self.precision] if self.tolerance is None else self.tolerance

    def __post_init__(self) -> None:
        if self.precision not in TOLERANCES:
            raise OptionError("unknown precision to compare in", got=self.precision, expected=", ".join(TOLERANCES))
        for name, value, low, high in (
            ("threads", self.threads, 1, 256),
            ("rounds", self.rounds, 1, 1000),
            ("seconds", self.seconds, 0.001, 60),
            ("profile", self.profile, 0, 100_000),
        ):
            if not low <= value <= high:
                raise OptionError(f"unusable number of {name}", got=value, expected=f"{low} to {high}")


@dataclass(frozen=True)
class Entry:
    """One runtime on one net.

    Attributes:
        name: of the runtime.
        status: ``timed``; ``cannot`` for a known limit; ``failed``; ``wrong`` when its output differs; ``not timed`` when
            nothing was left to set it against.
        reason: why it is not timed.
        version: of the runtime.
        call: the way it was called, the fastest of those it has.
        error: max |its output - the reference's| / max |the reference's|; None for the reference itself.
        ms: median of the turns' medians.
        low: the least of the turns' medians.
        high: the greatest.
        rounds: the turns' medians in order, in ms.
        runs: timed inferences of all turns.
        waited: share of a turn in which one of its threads was ready but had no core, median of the turns.
        peak: bytes of resident memory at the process's peak, or None.
        notes: what else should be known.
    """

    name: str
    status: str
    reason: str = ""
    version: str = ""
    call: str = ""
    error: float | None = None
    ms: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: tuple[float, ...] = ()
    runs: int = 0
    waited: float = 0.0
    peak: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """What was found on one net.

    Attributes:
        net: its name.
        threads: of every runtime.
        status: ``compared``; ``wrong`` when Strop's output differs; ``failed`` when Strop failed; ``alone`` when no other
            runtime ran it.
        reason: why it was not compared.
        entries: Strop, then the others in the order asked for.
        best: the runtime with the least median besides Strop.
        ratio: its time by Strop's; above 1 Strop is faster.
        ratios: the same for every runtime that was timed.
        steps: (step of the engine, least nanoseconds), when a profile was asked for.
    """

    net: str
    threads: int
    status: str
    reason: str
    entries: tuple[Entry, ...]
    best: str | None = None
    ratio: Ratio | None = None
    ratios: dict[str, Ratio] = field(default_factory=dict)
    steps: tuple[tuple[str, int], ...] = ()

    def entry(self, name: str) -> Entry | None:
        """The entry of a runtime, if there is one."""
        return next((e for e in self.entries if e.name == name), None)

    @property
    def disturbed(self) -> float:
        """The largest ``waited`` of all entries."""
        return max((e.waited for e in self.entries), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return asdict(self)


def choose_cpus(threads: int) -> tuple[int, ...] | None:
    """The last cores this process may use, one per thread; None when there are not as many, or the system cannot pin."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(allowed[-threads:]) if threads <= len(allowed) else None


def compare(
    engine: Engine,
    model: Path,
    peers: Sequence[Peer],
    python: Path,
    settings: Settings | None = None,
    *,
    name: str | None = None,
    original: Path | None = None,
    inputs: Mapping[str, Array] | None = None,
    state: Mapping[str, str] | None = None,
    work: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Row:
    """Measures an engine against other runtimes.

    Args:
        engine: built of ``model`` for this machine.
        model: the ONNX file that the others load.
        peers: the others; the first that loads it gives the reference output.
        python: interpreter of the environment they are installed in.
        settings: how to measure; None for the defaults.
        name: of the net; None for the file's.
        original: the model file before its batch was changed: other forms of the net are looked for beside it.
        inputs: arrays by name in the model's order, also of those that the engine has compiled in; None for random ones.
        state: inputs of the engine that are variables, by name the output that holds the next value: the engine carries them from run to run, the others
            have variables of their own. ``inputs`` has the first values.
        work: folder for converted models, kept between calls; None for one that is deleted at the end.
        progress: told what is done, in a few words.

    Returns:
        The figures, or why there are none. A runtime that cannot run the net, or fails, has an entry that says so.

    Raises:
        OptionError: an unusable setting.
    """
    settings = settings or Settings()
    tell = progress or (lambda text: None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strop-versus-")))
        task = {
            "original": str((original or model).resolve()),
            "threads": settings.threads,
            "cpus": None if settings.cpus is None else list(settings.cpus),
            "work": str(work or folder),
            "precision": settings.precision,
        }
        written = _write_inputs(engine.random_inputs() if inputs is None else inputs, folder)
        own_names, carried = {tensor.name for tensor in engine.inputs}, dict(state or {})
        sides = [_Side(peer) for peer in (OWN, *peers)]
        for side in sides:
            tell(f"{side.peer.name} loads")
            if side.peer is OWN:
                file, given = engine.path, [entry for entry in written if entry[0] in own_names]
            else:
                file, given = model, [entry for entry in written if entry[0] not in carried]
            side.start(stack, python, settings, {**task, "model": str(file.resolve()), "inputs": given, "state": carried})
        own, others = sides[0], sides[1:]
        _check_agreement(own, others, folder / "before", settings.limit)
        if own.ready and any(s.ready for s in others):
            _measure(sides, settings, tell)
            _check_agreement(own, others, folder / "after", settings.limit)
        steps = own.profile(settings.profile) if settings.profile and own.ready else ()
        for side in sides:
            side.weigh()
        return _row(name or model.stem, settings, sides, steps)


def engines_in_turns(engines: Sequence[Engine], settings: Settings) -> list[tuple[float, ...]]:
    """Milliseconds of every turn of several engines of one network, each in a process of its own, on the same random inputs.

    Raises:
        PeerError: a process fails.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strop-versus-")))
        inputs = _write_inputs(engines[0].random_inputs(), folder)
        sides = [_Side(OWN) for _ in engines]
        for side, engine in zip(sides, engines, strict=True):
            file = str(engine.path.resolve())
            cpus = None if settings.cpus is None else list(settings.cpus)
            side.start(
                stack, Path(sys.executable), settings,
                {"original": file, "model": file, "threads": settings.threads, "cpus": cpus, "work": str(folder), "precision": "fp32", "inputs": inputs},
            )  # fmt: skip
        if all(side.ready for side in sides):
            _measure(sides, settings, lambda text: None)
        for side in sides:
            if not side.ready:
                raise PeerError(side.status, side.reason)
        return [tuple(side.rounds) for side in sides]


class _Side:
    """A runtime while it is measured."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.status, self.reason = "ready", ""
        self.facts: dict[str, Any] = {}
        self.error: float | None = None
        self.rounds: list[float] = []
        self.runs = 0
        self.waited: list[float] = []
        self.peak: int | None = None
        self.limits: tuple[str, ...] = ()
        self._process: PeerProcess | None = None

    @property
    def ready(self) -> bool:
        return self.status == "ready"

    def drop(self, status: str, reason: str) -> None:
        """Takes it out of the comparison."""
        self.status, self.reason = status, reason
        self.rounds.clear()
        if self._process is not None:
            self._process.close()

    def start(self, stack: ExitStack, python: Path, settings: Settings, task: dict[str, Any]) -> None:
        """Starts the process and loads the model."""
        environment = {"OMP_NUM_THREADS": str(settings.threads)}
        if settings.avx2:
            if self.peer.avx2 is None:
                self.drop("cannot", f"cannot be limited to AVX2: {self.peer.avx2_note}")
                return
            environment.update(self.peer.avx2)
            self.limits = (f"limited to AVX2: {self.peer.avx2_note}",) if self.peer.avx2 else ()
        own = self.peer is OWN
        if settings.precision not in self.peer.precisions:
            self.drop("cannot", f"does not compute in {settings.precision}")
            return
        try:
            self._process = stack.enter_context(PeerProcess(self.peer, Path(sys.executable) if own else python, environment))
            self.facts = self._process.ask("load", timeout=LOAD_TIMEOUT, **task)
        except PeerError as error:
            self.drop(error.kind, str(error))

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """A reply, or an empty one when it fails, which takes it out of the comparison."""
        assert self._process is not None
        try:
            return self._process.ask(do, **fields)
        except PeerError as error:
            self.drop(error.kind, str(error))
            return {}

    def outputs(self, folder: Path) -> list[Array]:
        """What it computes; empty when it fails."""
        place = folder / self.peer.name
        place.mkdir(parents=True)
        files = self.ask("output", folder=str(place)).get("files", [])
        return [np.load(file, allow_pickle=False) for file in files]

    def turn(self, seconds: float) -> None:
        """One turn: a warm-up and the timed inferences."""
        wanted = round(seconds * 1e9 / max(1, self.facts["ns"]))
        reply = self.ask("run", n=min(max(wanted, LEAST_RUNS), MOST_RUNS))
        if reply:
            self.rounds.append(median(reply["ns"]) / 1e6)
            self.runs += len(reply["ns"])
            self.waited.append(reply["waited"])

    def profile(self, runs: int) -> tuple[tuple[str, int], ...]:
        """The least time of every step."""
        return tuple((str(step), int(ns)) for step, ns in self.ask("profile", runs=runs).get("steps", ()))

    def weigh(self) -> None:
        """Notes how much memory it has taken."""
        if self.ready:
            self.peak = self.ask("memory").get("peak")

    def entry(self) -> Entry:
        """What was found."""
        timed = self.ready and bool(self.rounds)
        return Entry(
            name=self.peer.name,
            status="timed" if timed else "not timed" if self.ready else self.status,
            reason=self.reason,
            version=self.facts.get("version", ""),
            call=self.facts.get("call", ""),
            error=self.error,
            ms=median(self.rounds) if timed else None,
            low=min(self.rounds) if timed else None,
            high=max(self.rounds) if timed else None,
            rounds=tuple(self.rounds),
            runs=self.runs,
            waited=median(self.waited) if self.waited else 0.0,
            peak=self.peak,
            notes=(*self.limits, *self.facts.get("notes", ())),
        )


def _write_inputs(inputs: Mapping[str, Array], folder: Path) -> list[list[str]]:
    """(name, file) of every input."""
    found = []
    for index, (name, array) in enumerate(inputs.items()):
        path = folder / f"input{index}.npy"
        np.save(path, array, allow_pickle=False)
        found.append([name, str(path)])
    return found


def _check_agreement(own: _Side, others: Sequence[_Side], folder: Path, tolerance: float) -> None:
    """Drops every side whose output differs from that of the first of the others."""
    reference: list[Array] = []
    referee = ""
    for side in (*others, own):
        arrays = side.outputs(folder) if side.ready else []
        if not side.ready:
            continue
        if not reference:
            reference, referee = arrays, side.peer.name
            continue
        side.error = max(side.error or 0.0, output_error(arrays, reference))
        if not side.error <= tolerance:
            side.drop("wrong", f"differs from {referee} by {side.error:.1e} of its largest value")


def output_error(arrays: Sequence[Array], reference: Sequence[Array]) -> float:
    """The largest max |a - r| / max |r| over the outputs; infinite when they cannot be compared or are not finite.

    A result may lack dims of 1, or have its channels last where the reference has them second.
    """
    if len(arrays) != len(reference):
        return float("inf")
    worst = 0.0
    for array, right in zip(arrays, reference):
        found = _shaped(array, right)
        if found is None:
            return float("inf")
        a, r = found.astype(np.float64), right.astype(np.float64)
        if not (np.isfinite(a).all() and np.isfinite(r).all()):
            return float("inf")
        if a.size:
            worst = max(worst, float(np.abs(a - r).max()) / (float(np.abs(r).max()) or 1.0))
    return worst


def _shaped(array: Array, like: Array) -> Array | None:
    """The array in the reference's shape, or None."""
    if array.shape == like.shape:
        return array
    if [d for d in array.shape if d != 1] == [d for d in like.shape if d != 1]:
        return array.reshape(like.shape)
    if array.ndim == like.ndim > 2 and np.moveaxis(array, -1, 1).shape == like.shape:
        return np.moveaxis(array, -1, 1)
    return None


def _measure(sides: Sequence[_Side], settings: Settings, tell: Callable[[str], None]) -> None:
    """The rounds. A side that fails leaves; the others go on."""
    for number in range(settings.rounds):
        tell(f"round {number + 1} of {settings.rounds}")
        first = number % len(sides)
        for side in (*sides[first:], *sides[:first]):
            if side.ready:
                time.sleep(PAUSE)
                side.turn(settings.seconds)


def _row(net: str, settings: Settings, sides: Sequence[_Side], steps: tuple[tuple[str, int], ...]) -> Row:
    entries = tuple(side.entry() for side in sides)
    own = entries[0]
    status, reason = "compared", ""
    ratios: dict[str, Ratio] = {}
    if own.status in ("wrong", "failed", "cannot"):
        status, reason = ("wrong" if own.status == "wrong" else "failed"), own.reason
    else:
        ratios = {e.name: ratio(e.rounds, own.rounds) for e in entries[1:] if e.status == "timed"}
    if not ratios and not reason:
        status, reason = "alone", "no other runtime ran it"
    times = {e.name: e.ms for e in entries if e.ms is not None}
    best = min(ratios, key=lambda name: times[name], default=None)
    return Row(
        net, settings.threads, status, reason, entries, best, None if best is None else ratios[best], ratios, steps
    )
