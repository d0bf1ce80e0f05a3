"""How good a network is on samples: metrics over labels, or over what a reference network answers.

    evaluate(engine, samples, ["top1", "top5"])
    evaluate(engine, samples, ["agreement", "psnr"], reference=other)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from strop.engine.bench import wilson
from strop.errors import InputError, OptionError
from strop.quantize.data import Samples

Array = NDArray[Any]
#: Runs one batch: arrays by input name to arrays by output name.
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
#: A metric of one's own, called as function(outputs, labels, reference) for each batch with the outputs by name, the labels or None, and
#: the reference's outputs or None; answers one number per sample, of which the mean is reported. More is better.
Plugin = Callable[[Mapping[str, Array], Union[Array, None], Union[Mapping[str, Array], None]], Any]
#: Bytes of outputs that are kept between walks over the same samples.
_REMEMBERED = 256 << 20


@dataclass(frozen=True)
class Metric:
    """One row of METRICS.

    Attributes:
        needs: ``labels`` or ``reference``.
        share: True when each sample counts as right or wrong.
        higher: True when more is better.
    """

    name: str
    needs: str
    share: bool
    higher: bool


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("top1", "labels", True, True),
        Metric("top5", "labels", True, True),
        Metric("agreement", "reference", True, True),
        Metric("mse", "reference", False, False),
        Metric("error", "reference", False, False),
        Metric("psnr", "reference", False, True),
        Metric("sqnr", "reference", False, True),
        Metric("closeness", "reference", False, True),
    )
}


@dataclass(frozen=True)
class Score:
    """A metric's value.

    Attributes:
        metric: its name.
        value: a share from 0 to 1 of a metric that counts, dB of psnr and sqnr, points of closeness, the mean of others.
        samples: how many were looked at.
        right: samples that count, or None.
        low, high: 95 % Wilson interval of a share, or None.
        higher: True when more is better.
    """

    metric: str
    value: float
    samples: int
    right: int | None = None
    low: float | None = None
    high: float | None = None
    higher: bool = True

    def __str__(self) -> str:
        if self.right is None:
            return f"{self.value:.6g} over {self.samples} samples"
        assert self.low is not None and self.high is not None
        interval = f"95 % Wilson interval {100 * self.low:.2f} to {100 * self.high:.2f} %"
        return f"{100 * self.value:.2f} % ({self.right} of {self.samples}), {interval}"

    def drop(self, other: Score) -> float:
        """How much worse ``other`` is: percentage points of a share, else the metric's unit; negative where it is better, infinite where it is no number."""
        loss = self.value - other.value if self.higher else other.value - self.value
        if math.isnan(other.value):
            return math.inf
        return 100.0 * loss if self.right is not None else loss

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


@dataclass
class _Away:
    """How far one output lies from the reference's, over batches."""

    total: float = 0.0
    elements: int = 0
    low: float = math.inf
    high: float = -math.inf

    def add(self, got: Array, wanted: Array) -> None:
        a, b = got.astype(np.float64), wanted.astype(np.float64)
        self.total += float(np.abs(a - b).sum())
        self.elements += b.size
        self.low, self.high = min(self.low, float(b.min(initial=math.inf))), max(self.high, float(b.max(initial=-math.inf)))

    def closeness(self) -> float:
        """100 without any difference; 0 where the mean difference is the span of the reference's values, or their magnitude where they are all alike."""
        if self.total == 0.0:
            return 100.0
        span = self.high - self.low or abs(self.high)
        mean = self.total / self.elements
        return 100.0 - 100.0 * mean / span if span and math.isfinite(mean) else -math.inf


@dataclass
class _Tally:
    """Sums over batches of one metric."""

    metric: Metric | None
    plugin: Plugin | None
    name: str
    total: float = 0.0
    samples: int = 0
    powers: dict[str, list[float]] = field(default_factory=dict)  # of noise and of signal, by output
    elements: int = 0
    span: list[float] = field(default_factory=lambda: [math.inf, -math.inf])
    away: dict[str, _Away] = field(default_factory=dict)

    def add(self, outputs: Mapping[str, Array], labels: Array | None, reference: Mapping[str, Array] | None) -> None:
        if self.plugin is not None:
            values = np.atleast_1d(np.asarray(self.plugin(outputs, labels, reference), np.float64))
            self.total += float(values.sum())
            self.samples += values.size
            return
        assert self.metric is not None
        if self.metric.needs == "labels":
            if labels is None:
                raise InputError("the metric needs labels", where=self.name, expected="folders named after classes, an array 'labels' in the .npz file, or --labels FILE.csv")
            self._hits(_hits(_first(outputs), labels, 5 if self.name == "top5" else 1))
        elif reference is None:
            raise OptionError("the metric compares with another network", where=self.name, expected="a reference", hint="strop eval NET --against MODEL")
        elif self.name == "agreement":
            self._hits(_best(_first(outputs)) == _best(_first(reference)))
        else:
            for key, wanted in reference.items():
                if self.name == "closeness":
                    self.away.setdefault(key, _Away()).add(outputs[key], wanted)
                else:
                    self._difference(key, outputs[key], wanted)
            self.samples += len(_first(outputs))

    def _hits(self, hits: Array) -> None:
        self.total += int(hits.sum())
        self.samples += hits.size

    def _difference(self, key: str, got: Array, wanted: Array) -> None:
        a, b = got.astype(np.float64), wanted.astype(np.float64)
        powers = self.powers.setdefault(key, [0.0, 0.0])
        powers[0] += float(((a - b) ** 2).sum())
        powers[1] += float((b * b).sum())
        self.elements += b.size
        self.span = [min(self.span[0], float(b.min(initial=math.inf))), max(self.span[1], float(b.max(initial=-math.inf)))]

    def score(self) -> Score:
        """The metric over all batches."""
        if self.metric is None:
            return Score(self.name, self.total / max(1, self.samples), self.samples)
        if self.metric.share:
            low, high = wilson(int(self.total), self.samples)
            return Score(self.name, self.total / self.samples, self.samples, int(self.total), low, high)
        if self.name == "closeness":
            return Score(self.name, min((each.closeness() for each in self.away.values()), default=100.0), self.samples)
        noise, signal = (sum(powers[k] for powers in self.powers.values()) for k in (0, 1))
        mean = noise / max(1, self.elements)
        if self.name == "mse":
            return Score(self.name, mean, self.samples, higher=False)
        if self.name == "error":
            errors = [math.sqrt(n / s) if s > 0.0 else math.inf if n else 0.0 for n, s in self.powers.values()]
            return Score(self.name, math.nan if any(map(math.isnan, errors)) else max(errors, default=0.0), self.samples, higher=False)
        power = signal / max(1, self.elements) if self.name == "sqnr" else (self.span[1] - self.span[0]) ** 2
        return Score(self.name, decibels(power, mean), self.samples)


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise) of two powers; infinite without noise, minus infinity without signal or where noise is no number."""
    if noise == 0.0:
        return math.inf
    if not math.isfinite(noise):
        return -math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


class Remembered:
    """A network whose outputs for the same samples are wanted again and again: those for the first ones are kept."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._answers: list[Mapping[str, Array]] = []
        self._bytes = 0

    def walk(self) -> Run:
        """It, for a walk over the samples from their beginning."""
        numbers = count()

        def answer(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            number = next(numbers)
            if number < len(self._answers):
                return self._answers[number]
            found = {name: array.copy() for name, array in self.run(inputs).items()}
            self._bytes += sum(array.nbytes for array in found.values())
            if number == len(self._answers) and self._bytes <= _REMEMBERED:
                self._answers.append(found)
            return found

        return answer


def evaluate(run: Run, samples: Samples, metrics: Sequence[str | Plugin], reference: Run | None = None) -> tuple[Score, ...]:
    """Scores of a network, one per metric.

    Args:
        run: the network, e.g. ``engine.run``.
        samples: with labels where a metric needs them; the first dim of every output counts them.
        metrics: names of METRICS, or functions (``Plugin``). top1, top5 and agreement look at the first output, the other
            built-in ones at all: mse is the mean squared difference from the reference, psnr the square of the span of the
            reference's values over it, sqnr the mean square of the reference over it, both in dB; error is the norm of the difference over that of the
            reference, closeness 100 less the mean difference in hundredths of the span of the reference's values, both of the output that is worst.
        reference: what ``agreement`` and the metrics after it compare with.

    Raises:
        OptionError: an unknown metric, or one whose reference is missing.
        InputError: a sample does not fit, or has no label.
    """
    tallies = [_tally(metric) for metric in metrics]
    for batch in samples:
        outputs = run(batch.inputs)
        wanted = None if reference is None else reference(batch.inputs)
        for tally in tallies:
            tally.add(outputs, batch.labels, wanted)
    return tuple(tally.score() for tally in tallies)


def _tally(metric: str | Plugin) -> _Tally:
    if not isinstance(metric, str):
        return _Tally(None, metric, getattr(metric, "__name__", "plug-in"))
    if metric not in METRICS:
        raise OptionError("unknown metric", got=metric, expected=f"{', '.join(METRICS)}, or module:function")
    return _Tally(METRICS[metric], None, metric)


def _first(outputs: Mapping[str, Array]) -> Array:
    return next(iter(outputs.values()))


def _scores(array: Array) -> Array:
    """One row of class scores per sample, however many axes of size 1 there are."""
    rows = array.reshape(len(array), -1) if array.ndim > 1 else array[None]
    return np.asarray(rows)


def _best(array: Array) -> Array:
    return np.asarray(_scores(array).argmax(axis=1))


def _hits(array: Array, labels: Array, k: int) -> Array:
    """Per sample whether its label is among its k largest scores."""
    rows = _scores(array)
    if len(rows) != len(labels):
        raise InputError("there are not as many labels as rows of the first output", got=f"{len(labels)} labels", expected=f"{len(rows)}")
    best = np.argsort(-rows, axis=1, kind="stable")[:, :k]
    return np.asarray((best == np.asarray(labels).reshape(-1, 1)).any(axis=1))


def usual_metric(samples: Samples, run: Run) -> str:
    """By which a drop of accuracy is told: top1 of samples with labels, agreement of a network that gives several scores, of which the best names a class,
    else closeness.

    Args:
        samples: that can be walked more than once.
        run: the network.
    """
    first = next(iter(samples))
    if first.labels is not None:
        return "top1"
    return "agreement" if _scores(_first(run(first.inputs))).shape[1] > 1 else "closeness"


def usual_metrics(samples: Samples, reference: Run | None) -> list[str | Plugin]:
    """What is worth asking when nothing is asked for: top1 and top5 of samples with labels, agreement and SQNR beside a reference."""
    labelled = not samples.once and next((b.labels is not None for b in samples), False)
    return [*(("top1", "top5") if labelled else ()), *(("agreement", "sqnr") if reference is not None else ())]
