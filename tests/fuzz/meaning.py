"""What a graph's outputs must be, and how exactly: its numpy meaning beside runs in which every float is off by a rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.interp import ABSENT, bind_symbols
from strop.ir.op import Array
from strop.kernels.oracle import TOLERANCE

#: Rounding of one operation per dtype, relative to the element; a third of it relative to the largest element.
ROUNDING = {"f64": 1e-15, "f32": 3e-7, "f16": 6e-4, "bf16": 5e-3}
#: How many of their measured effects may add up.
EFFECTS = 32.0


class Undefined(Exception):
    """A result has another shape than its type says at these values of the symbols: the types hold only for others."""


@dataclass
class Meaning:
    """Attributes:
    wanted: an array per output.
    slack: per output how much more than the tolerance an element may be off; infinite where a rounding decides.
    """

    wanted: dict[str, Array]
    slack: dict[str, Array]


def evaluate(graph: Graph, feed: Mapping[str, Array], rng: np.random.Generator | None = None) -> dict[str, Array]:
    """The outputs; with ``rng`` every float value, constants included, is moved by up to a rounding."""
    symbols = bind_symbols(graph, feed)
    arrays: dict[Value, Array] = {v: moved(feed[v.name], rng) for v in graph.inputs}
    arrays.update((v, moved(v.const, rng)) for v in graph.constants() if v.const is not None)
    for node in graph.nodes:
        op = node.op.at(symbols) if symbols else node.op
        with np.errstate(all="ignore"):
            results = op.reference(*(ABSENT if v is None else arrays[v] for v in node.inputs))
        for value, result in zip(node.outputs, map(np.asarray, results), strict=True):
            if result.shape != value.type.at(symbols).static_shape:
                raise Undefined(f"{node.name} gives {result.shape} where {value} has {symbols}")
            arrays[value] = moved(result, rng)
    return {n: arrays[v] for n, v in zip(graph.output_names, graph.outputs, strict=True)}


def moved(array: Array, rng: np.random.Generator | None) -> Array:
    """Floats with a random rounding each; others as they are."""
    kind = dt.from_numpy(array.dtype)
    if rng is None or not kind.is_float or not array.size:
        return array
    wide = array.astype(np.float64)
    finite = np.isfinite(wide)
    scale = float(np.abs(wide[finite]).max(initial=0.0))
    size = ROUNDING[kind.name] * (np.abs(wide) + scale / 3)
    with np.errstate(all="ignore"):
        return np.where(finite, wide + size * rng.choice((-1.0, 1.0), wide.shape), wide).astype(array.dtype)


def meaning(graph: Graph, feed: Mapping[str, Array], runs: int = 3) -> Meaning:
    """The outputs and their slack, measured in ``runs`` runs with roundings."""
    wanted = evaluate(graph, feed)
    slack = {n: np.zeros(a.shape) for n, a in wanted.items()}
    rng = np.random.default_rng(runs)
    for _ in range(runs):
        try:
            others = evaluate(graph, feed, rng)
        except (IndexError, ValueError, ZeroDivisionError):  # an index decided by a rounding
            others = {n: np.full(a.shape, np.nan) for n, a in wanted.items()}
        for name, array in wanted.items():
            a, b = array.astype(np.float64), others[name].astype(np.float64)
            with np.errstate(all="ignore"):
                gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
            gap[~np.isfinite(gap)] = np.inf
            if not dt.from_numpy(array.dtype).is_float:
                gap[gap > 0] = np.inf
            slack[name] = np.maximum(slack[name], EFFECTS * gap)
    return Meaning(wanted, slack)


def difference(got: Mapping[str, Array], meant: Meaning) -> str | None:
    """None when all outputs are as exact as they must be, else the worst of the first that is not, in words."""
    for name, want in meant.wanted.items():
        have, slack = got[name], meant.slack[name]
        if have.dtype != want.dtype or have.shape != want.shape:
            return f"{name} is {have.dtype}{list(have.shape)}, not {want.dtype}{list(want.shape)}"
        if not want.size:
            continue
        kind = dt.from_numpy(want.dtype)
        a, b = have.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(b)
        scale = max(1e-6, float(np.abs(b[finite]).max(initial=0.0)))
        limit = TOLERANCE[kind.name] * (np.abs(b) + scale) if kind.is_float else np.zeros(b.shape)
        with np.errstate(all="ignore"):
            error = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
            error[np.isnan(error)] = np.inf
            wrong = (error > limit + slack) & np.isfinite(slack) & (finite | kind.is_int | (slack == 0))
        if wrong.any():
            at = tuple(int(k) for k in np.unravel_index(int(np.where(wrong, error, -1.0).argmax()), b.shape))
            return f"{name}: {int(wrong.sum())} of {b.size} elements differ, most at {list(at)}: got {have[at]}, expected {want[at]}"
    return None
