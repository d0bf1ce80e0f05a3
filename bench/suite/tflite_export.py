"""Writes every .onnx and .tflite file of a folder as .tflite and tells whether LiteRT computes from it what the model computes.

    python -m bench.suite.tflite_export DIR --peers ENVIRONMENT [--precisions fp32,fp16,dynamic,int8,int16x8] [--only a,b] [--table docs/tflite.md]

Per file and precision: size, operators, transpositions inside and at the ends, and how far LiteRT's outputs lie from ONNX Runtime's on the
model (from LiteRT's on a .tflite file), relative to the largest. The outputs of integer files are also compared with Strop's on the same file: how many are
equal, and within 1 of the last place. ``itself`` is how far the outputs move when the inputs move by one in the last place: nets with random weights magnify any rounding, and may
differ by that much. Inputs are random, so agreement with the float model says little of the accuracy of integers.
``--table`` writes the table into a page between two marks. Exits with 1 when a file in floats does not agree, or integers differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import strop
from bench.suite.tflite_agreement import RESPONSE, agreement, apart, nudged, peer_outputs
from strop.cli.output import size, table
from strop.engine.convert import Converted, conversion
from strop.engine.peer_process import PeerError
from strop.errors import StropError
from strop.frontend.tflite.model import load
from strop.frontend.tflite.reader import initial_state

Array = NDArray[Any]
#: Largest difference of floats relative to the largest output: of f32, and of weights of fewer bits, which only has to be sane.
TOLERANCE = {"fp32": 1e-5, "fp16": 3e-2}
#: As ``RESPONSE``, for the mean difference of integers.
INTEGER_RESPONSE = 2.0
#: Units of 16 bits that outputs may be apart.
WITHIN_16 = 8
MARKS = ("<!-- written by python -m bench.suite.tflite_export -->", "<!-- end -->")
COLUMNS = ("net", "precision", "size", "operators", "transposes inside / at ends", "to the model", "to Strop", "verdict")
#: Samples that integers are calibrated with.
SAMPLES = 4


@dataclass(frozen=True)
class Row:
    """How one file went in one precision; the columns of the table."""

    net: str
    precision: str
    size: str = ""
    operators: str = ""
    turns: str = ""
    to_model: str = ""
    to_own: str = ""
    verdict: str = "failed"

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of the columns."""
        return (self.net, self.precision, self.size, self.operators, self.turns, self.to_model, self.to_own, self.verdict)


def _inputs(path: Path, steps: int) -> dict[str, Array]:
    """Random arrays by the names of a written file's inputs, with the steps as a further first axis."""
    main = load(path).subgraphs[0]
    rng = np.random.default_rng(3)
    found = {}
    for index in main.inputs:
        tensor = main.tensors[index]
        assert tensor.dtype is not None
        shape = (steps, *tensor.shape)
        if tensor.dtype.is_float:
            found[tensor.name] = rng.standard_normal(shape).astype(tensor.dtype.numpy)
        else:
            limit = 2 if tensor.dtype.name == "bool" else 8000 if tensor.dtype.name == "i16" else 100
            found[tensor.name] = rng.integers(0 if limit == 2 else -limit if tensor.dtype.size < 4 else 0, limit, shape).astype(tensor.dtype.numpy)
    return found


def _model_outputs(model: Path, inputs: dict[str, Array], environment: Path | None) -> list[Array]:
    """What the model itself computes, with the steps as first axis."""
    if model.suffix == ".tflite" and initial_state(model):  # in a written file state is inputs and outputs
        return _own_outputs(model, inputs)
    if model.suffix == ".tflite":
        return peer_outputs(model, list(inputs), list(inputs.values()), environment)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    steps = len(next(iter(inputs.values())))
    rows = [session.run(None, {name: array[step] for name, array in inputs.items()}) for step in range(steps)]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def _own_outputs(file: Path, inputs: dict[str, Array]) -> list[Array]:
    engine = strop.build(file, level=0, threads=1, shapes={name: array.shape[1:] for name, array in inputs.items()})
    steps = len(next(iter(inputs.values())))
    rows = [engine.run({t.name: array[step] for t, array in zip(engine.inputs, inputs.values(), strict=True)}) for step in range(steps)]
    return [np.stack([row[t.name] for row in rows]) for t in engine.outputs]


def _calibration(model: Path) -> Any:
    if model.suffix == ".tflite":
        main = load(model).subgraphs[0]
        shapes = {main.tensors[i].name: main.tensors[i].shape for i in main.inputs}
    else:
        import onnx

        graph = onnx.load(model, load_external_data=False).graph
        known = {i.name for i in graph.initializer}
        shapes = {v.name: tuple(max(d.dim_value, 1) for d in v.type.tensor_type.shape.dim) for v in graph.input if v.name not in known}
    rng = np.random.default_rng(7)
    return [{name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(SAMPLES)]


def examine(model: Path, precision: str, environment: Path | None, steps: int) -> Row:
    """Writes one model in one precision and runs it."""
    integers = precision in ("int8", "int16x8")
    try:
        found = conversion(model, precision=precision, calibration=_calibration(model) if integers else None, **_ends(precision))
    except StropError as error:
        return Row(model.stem, precision, verdict=f"refused: {' '.join(str(error).split())[:120]}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.tflite"
        file.write_bytes(found.data)
        inputs = _inputs(file, steps)
        try:
            theirs = peer_outputs(file, list(inputs), list(inputs.values()), environment)
        except PeerError as error:
            return _row(model, precision, found, "", "", f"LiteRT: {' '.join(str(error).split())[:120]}")
        if integers:
            own, upper = _own_outputs(file, inputs), {name: np.where(a < np.iinfo(a.dtype).max, a + 1, a).astype(a.dtype) for name, a in inputs.items()}
            agrees, told = agreement(own, theirs)
            if precision == "int16x8" and not agrees:  # kernels of 16 bits have multipliers and tables of fewer bits
                agrees = all(np.max(np.abs(a.astype(np.int64) - b)) <= WITHIN_16 for a, b in zip(own, theirs, strict=True))
            if not agrees:
                moved = peer_outputs(file, list(inputs), list(upper.values()), environment)
                response = _typical(moved, theirs)
                agrees, told = _typical(own, theirs) <= INTEGER_RESPONSE * response, f"{told}; apart {_typical(own, theirs):.2f}, itself {response:.2f}"
            return _row(model, precision, found, "", told, "agrees" if agrees else "differs")
        wanted = _model_outputs(model, inputs, environment)
        response = _apart(_model_outputs(model, {name: nudged(a) for name, a in inputs.items()}, environment), wanted)
    worst, allowed = _apart(theirs, wanted), TOLERANCE.get(precision, np.inf)
    told = f"{worst:.1e}" if worst <= allowed else f"{worst:.1e}, itself {response:.1e}"
    return _row(model, precision, found, told, "", "agrees" if worst <= max(allowed, RESPONSE * response) else "differs")


def _apart(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """The largest difference relative to the largest number."""
    return max(apart(a, b) for a, b in zip(found, wanted, strict=True))


def _typical(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """The mean difference of integers."""
    return float(np.mean([np.mean(np.abs(a.astype(np.int64) - b.astype(np.int64))) for a, b in zip(found, wanted, strict=True)]))


def _ends(precision: str) -> dict[str, str]:
    """Integer ends, so that outputs are compared as integers."""
    kind = {"int8": "i8", "int16x8": "i16"}.get(precision)
    return {} if kind is None else {"input_dtype": kind, "output_dtype": kind}


def _row(model: Path, precision: str, found: Converted, to_model: str, to_own: str, verdict: str) -> Row:
    told = found.summary
    turns = f"{told['transposes_inside']} / {told['transposes_at_edges']}"
    return Row(model.stem, precision, size(len(found.data)), str(sum(told["operators"].values())), turns, to_model, to_own, verdict)


def write_table(page: Path, rows: Sequence[Row]) -> None:
    """Puts the rows between the marks of a page, beside those of other nets and precisions that are there."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(MARKS[0])
    inside, _, tail = rest.partition(MARKS[1])
    known = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in inside.splitlines() if line.startswith("| ")][1:]
    cells = {(row[0], row[1]): row for row in (*known, *(row.cells for row in rows))}
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), *("| " + " | ".join(cells[key]) + " |" for key in sorted(cells))]
    page.write_text(f"{head}{MARKS[0]}\n\n" + "\n".join(lines) + f"\n\n{MARKS[1]}{tail}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.suite.tflite_export", description="Every model of a folder as .tflite, run by LiteRT.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--peers", type=Path, metavar="ENVIRONMENT", help="virtual environment with ai-edge-litert (bench/setup_peers.sh)")
    parser.add_argument("--precisions", default="fp32", help="comma-separated (default fp32)")
    parser.add_argument("--only", default="", metavar="NAMES", help="comma-separated names of files")
    parser.add_argument("--steps", type=int, default=2, help="inputs per network (default 2)")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="page whose table is written anew")
    given = parser.parse_args(arguments)
    only = set(filter(None, given.only.split(",")))
    paths = sorted(p for p in given.folder.rglob("*") if p.suffix in (".onnx", ".tflite") and (not only or p.stem in only))
    rows = []
    for path in paths:
        for precision in given.precisions.split(","):
            rows.append(examine(path, precision, given.peers, given.steps))
            print(" ".join(rows[-1].cells), file=sys.stderr, flush=True)
    table(COLUMNS, [row.cells for row in rows])
    if given.table is not None:
        write_table(given.table, rows)
    return int(any(row.verdict != "agrees" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
