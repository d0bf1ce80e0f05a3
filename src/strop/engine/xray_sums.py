"""What an X-ray adds up for each layer, and where a reduced engine keeps the layers' results."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strop.engine.engine import Engine
from strop.engine.evaluate import decibels
from strop.engine.values import Reader
from strop.ir.graph import Graph, Value
from strop.ir.op import Array
from strop.ops.quantize import Quantize
from strop.quantize.grid import Grid
from strop.quantize.narrow import F16_MAX
from strop.runtime.context import Context

#: Channels that are named per layer.
_WORST = 3
#: Names of a value's integers, and of the numbers that these stand for.
_FORM = re.compile(r"(.*)\.(?:quantized|dequantized)(?:\.\d+)?", re.DOTALL)


@dataclass
class Sums:
    """Powers of signal and noise per channel, and counts.

    Attributes:
        axis: of the channels.
        bounds: what integers can tell, or None.
        saturated: wanted values beyond the bounds.
        overflows: wanted values beyond the range of f16.
    """

    axis: int
    bounds: tuple[float, float] | None
    signal: Array | None = None
    noise: Array | None = None
    saturated: int = 0
    overflows: int = 0
    elements: int = 0

    def add(self, wanted: Array, got: Array) -> None:
        """Takes in a value of one batch in both networks."""
        wide, other = wanted.astype(np.float64), got.astype(np.float64)
        axes = tuple(k for k in range(wide.ndim) if k != self.axis)
        with np.errstate(all="ignore"):
            signal, noise = (wide * wide).sum(axis=axes), ((wide - other) ** 2).sum(axis=axes)
        self.signal = signal if self.signal is None else self.signal + signal
        self.noise = noise if self.noise is None else self.noise + noise
        self.overflows += int(np.count_nonzero(np.abs(wide) > F16_MAX))
        self.elements += wide.size
        if self.bounds is not None:
            self.saturated += int(np.count_nonzero((wide < self.bounds[0]) | (wide > self.bounds[1])))

    def sqnr(self) -> float:
        """In dB."""
        if self.signal is None or self.noise is None:
            return math.inf
        return decibels(float(self.signal.sum()), float(self.noise.sum()))

    def worst(self) -> tuple[tuple[int, float], ...]:
        """Channels of least SQNR, with it."""
        if self.signal is None or self.noise is None or self.signal.ndim == 0:
            return ()
        with np.errstate(all="ignore"):
            each = 10 * np.log10(self.signal / self.noise)
        each = np.where(self.noise == 0, np.inf, np.where(self.signal == 0, -np.inf, each))
        chosen = np.argsort(each, kind="stable")[:_WORST]
        return tuple((int(k), float(each[k])) for k in chosen if np.isfinite(each[k]) or self.noise[k] > 0)


def channel_axis(value: Value) -> int:
    """The axis of a layer's result that counts channels."""
    return 1 if len(value.shape) > 2 else max(0, len(value.shape) - 1)


def limits(reduced: Graph, value: Value) -> tuple[float, float] | None:
    """The range of the integers that a value is stored as; None when it stays a float."""
    grid = grid_of(reduced, value)
    return None if grid is None else (grid.low - grid.half, grid.high + grid.half)


def grid_of(reduced: Graph, value: Value) -> Grid | None:
    """The grid of the integers that a value of the float graph is stored as in the reduced one; None when it stays a float."""
    other = reduced.values.get(value.name)
    found = next((n for n in other.users if isinstance(n.op, Quantize)), None) if other is not None else None
    if found is None:
        return None
    assert isinstance(found.op, Quantize)
    scale, zero = found.operand(1).const, found.operand(2).const if found.has(2) else np.zeros(())
    assert scale is not None and zero is not None
    return Grid(found.op.to, float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]))


class Stored:
    """Reads between the steps of a reduced engine what it stores of the float graph's values: as they are, or integers read back.

    Attributes:
        missing: values that it does not have in memory in either form.
    """

    def __init__(self, reduced: Graph, values: Sequence[Value], engine: Engine) -> None:
        self._reader = Reader(engine)
        self._places: dict[str, tuple[Value, Grid | None]] = {}
        self.missing: list[Value] = []
        forms: dict[str, list[str]] = {}
        for name in sorted(self._reader.names):
            if (found := _FORM.fullmatch(name)) is not None:
                forms.setdefault(found[1], []).append(name)
        for value in values:
            grid = grid_of(reduced, value)
            names = [n for n in (value.name, *forms.get(value.name, ())) if n in self._reader.names and (grid is not None or n == value.name)]
            if not names:
                self.missing.append(value)
                continue
            name = next((n for n in names if n != value.name), names[0])
            self._places[name] = (value, grid if ".quantized" in name[len(value.name) :] else None)

    def run(self, context: Context, inputs: Mapping[str, Array], look: Callable[[Value, Array], object]) -> dict[str, Array]:
        """Runs once and shows every value that is not missing, as real numbers; answers the outputs."""

        def show(name: str, array: Array) -> None:
            value, grid = self._places[name]
            look(value, array if grid is None else grid.real(array))

        return self._reader.run(context, inputs, self._places.keys(), show)
