"""Compares two runs of a network layer by layer and names the first layer that departs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from strop.engine.build import Shapes, build
from strop.engine.engine import Array, Engine, load, random_arrays
from strop.engine.format import MAGIC
from strop.engine.values import Layer, Run, of_engine, of_graph, of_onnxruntime
from strop.errors import InputError, OptionError
from strop.frontend.table import read
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Graph

#: What may stand before a model's path.
RUNTIMES = ("oracle", "onnxruntime")
#: Largest difference relative to the largest magnitude of a value, by dtype, that is no departure.
TOLERANCE = {"f64": 1e-6, "f32": 1e-3, "f16": 2e-2, "bf16": 1e-1, "f8e4m3": 2.6e-1}


@dataclass(frozen=True)
class Row:
    """One value in both runs.

    Attributes:
        value, node: its name, and the model's node that it is the result of.
        a, b: what computed it in each run; or why it is not there: ``fused into STEP``, ``absent``.
        shape: in A.
        max_abs: largest difference of finite elements; None when it is not in both.
        max_rel: that, by the largest magnitude in B.
        sqnr: decibels of B's power over the difference's; None when nothing differs or is to be compared.
        nan, inf: how many elements of A and of B are NaN, and infinite.
        departs: why the values are not the same, or empty.
        output: True for an output of the network.
    """

    value: str
    node: str
    a: str
    b: str
    shape: tuple[int, ...]
    max_abs: float | None = None
    max_rel: float | None = None
    sqnr: float | None = None
    nan: tuple[int, int] = (0, 0)
    inf: tuple[int, int] = (0, 0)
    departs: str = ""
    output: bool = False


@dataclass
class Diff:
    """Attributes:
    a, b: what was compared.
    rows: values in B's order of execution, then the outputs.
    """

    a: str
    b: str
    rows: list[Row] = field(default_factory=list)

    @property
    def first(self) -> Row | None:
        """The first value that departs."""
        return next((row for row in self.rows if row.departs), None)

    @property
    def compared(self) -> int:
        """Values that are in both."""
        return sum(row.max_abs is not None or bool(row.departs) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        first = self.first
        rows = [asdict(row) for row in self.rows]
        return {"a": self.a, "b": self.b, "compared": self.compared, "first": None if first is None else asdict(first), "rows": rows}


class Side:
    """An engine file, a model to build, ``oracle:MODEL`` or ``onnxruntime:MODEL``."""

    def __init__(self, text: str, level: int, shapes: Shapes | None) -> None:
        """Opens or builds it.

        Raises:
            OptionError: there is no such file or runtime.
            StropError: the engine or model cannot be used.
        """
        self.label = text
        head, _, rest = text.partition(":")
        self.runtime = head if rest and head in RUNTIMES else ""
        if rest and not self.runtime and not Path(text).exists():
            raise OptionError("unknown runtime", where=text, got=head, expected=", ".join(RUNTIMES))
        self.path = Path(rest if self.runtime else text)
        if not self.path.is_file():
            raise OptionError("there is no such file", where=text, expected="an engine file, an ONNX model, oracle:MODEL or onnxruntime:MODEL")
        self.engine: Engine | None = None
        self.graph: Graph | None = None
        if self.runtime:
            self.graph = read(self.path, shapes)
        else:
            with self.path.open("rb") as file:
                engine = file.read(len(MAGIC)) == MAGIC or self.path.suffix == ".strop"
            self.engine = load(self.path, threads=1) if engine else build(self.path, level=level, threads=1, shapes=shapes)

    def tensors(self) -> list[tuple[str, DType, tuple[int, ...]]] | None:
        """Names, dtypes and shapes of its inputs; None when a size is free and nothing says what it is."""
        if self.engine is not None:
            return [(t.name, t.dtype, t.shape) for t in self.engine.inputs]
        assert self.graph is not None
        found = self.graph.inputs
        if not all(sh.is_static(v.shape) or all(s.max < sh.Sym("").max for s in sh.symbols(v.shape)) for v in found):
            return None
        known = {s.name: s.opt for v in found for s in sh.symbols(v.shape)}
        return [(v.name, v.dtype, v.type.at(known).static_shape) for v in found]

    def run(self, inputs: Mapping[str, Array]) -> Run:
        """One inference."""
        if self.engine is not None:
            return of_engine(self.engine, inputs, self.label)
        assert self.graph is not None
        if self.runtime == "oracle":
            return of_graph(self.graph, inputs, self.label)
        return of_onnxruntime(self.path, self.graph, inputs, self.label)


def diff(
    a: str, b: str, *, inputs: Mapping[str, Array] | None = None, seed: int = 0, level: int = 0, shapes: Shapes | None = None,
    tolerance: float | None = None,
) -> Diff:  # fmt: skip
    """Runs A and B on the same inputs and compares what they compute.

    Args:
        a, b: see ``Side``.
        inputs: arrays by name; those that are missing are random.
        seed: of the random arrays.
        level: at which models are built.
        shapes: of models' inputs.
        tolerance: relative to the largest magnitude of each value; None for ``TOLERANCE``.

    Raises:
        OptionError, InputError, StropError: a side cannot be had, or the inputs do not fit it.
    """
    sides = Side(a, level, shapes), Side(b, level, shapes)
    feed = _inputs(sides, dict(inputs or {}), seed)
    return compare(sides[0].run(feed), sides[1].run(feed), tolerance)


def _inputs(sides: tuple[Side, Side], given: dict[str, Array], seed: int) -> dict[str, Array]:
    tensors = next((t for t in (side.tensors() for side in sides) if t is not None), None)
    if tensors is None:
        names = sorted({v.name for side in sides if side.graph is not None for v in side.graph.inputs} - given.keys())
        if names:
            raise InputError("the size of an input is free", where=", ".join(names), hint="pass --shape, or the array with --input")
        return given
    return {**random_arrays(tensors, seed), **given}


def compare(a: Run, b: Run, tolerance: float | None = None) -> Diff:
    """Every value of B beside the one of A that it is, then the outputs."""
    found = Diff(a.label, b.label)
    for name, layer in b.layers.items():
        other = a.layers.get(name)
        if name in b.outputs:
            continue
        if other is not None and layer.node and other.node and layer.node != other.node:
            other = None  # the name is the same, what it names is not
        if other is None:
            why = f"fused into {a.fused[layer.node]}" if layer.node in a.fused else a.missing
            found.rows.append(Row(name, layer.node, why, layer.by, layer.array.shape))
        else:
            found.rows.append(_row(other, layer, tolerance))
    for name, layer in a.layers.items():
        if name not in b.layers and name not in b.outputs:
            why = f"fused into {b.fused[layer.node]}" if layer.node in b.fused else b.missing
            found.rows.append(Row(name, layer.node, layer.by, why, layer.array.shape))
    for name, array in b.outputs.items():
        if name not in a.outputs:
            found.rows.append(Row(name, "", "absent", "", array.shape, departs="A has no such output", output=True))
            continue
        layers = [run.layers.get(name) or Layer(name, "", run.outputs[name]) for run in (a, b)]
        mine = Layer(name, layers[1].node or layers[0].node, a.outputs[name], layers[0].by)
        found.rows.append(_row(mine, Layer(name, mine.node, array, layers[1].by), tolerance, output=True))
    return found


def _row(a: Layer, b: Layer, tolerance: float | None, output: bool = False) -> Row:
    x, y = a.array, b.array
    if x.shape != y.shape or x.dtype != y.dtype:
        what = f"{x.dtype}{list(x.shape)} and {y.dtype}{list(y.shape)}"
        return Row(a.name, b.node, a.by, b.by, x.shape, departs=f"other types: {what}", output=output)
    p, q = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(p) & np.isfinite(q)
    with np.errstate(all="ignore"):
        gap = np.abs(p[finite] - q[finite])
        scale = float(np.abs(q[finite]).max(initial=0.0))
        worst = float(gap.max(initial=0.0))
        power, noise = float(np.square(q[finite]).sum()), float(np.square(gap).sum())
    nan = int(np.isnan(p).sum()), int(np.isnan(q).sum())
    inf = int(np.isinf(p).sum()), int(np.isinf(q).sum())
    kind = dt.from_numpy(x.dtype)
    limit = (TOLERANCE[kind.name] if tolerance is None else tolerance) * scale if kind.is_float else 0.0
    departs = ""
    same = (p == q) | (np.isnan(p) & np.isnan(q))
    if not same[~finite].all():
        departs = "NaN or infinite elsewhere"
    elif worst > limit:
        at = [int(k) for k in np.unravel_index(int(np.where(finite, np.abs(p - q), -1.0).argmax()), p.shape)]
        departs = f"{int((gap > limit).sum())} of {p.size} elements, most at {at}: {p[tuple(at)]:.6g} and {q[tuple(at)]:.6g}"
    sqnr = 10 * float(np.log10(power / noise)) if noise > 0 and power > 0 else None
    relative = worst / scale if scale > 0 else (0.0 if worst == 0 else None)
    return Row(a.name, b.node, a.by, b.by, x.shape, worst, relative, sqnr, nan, inf, departs, output)
