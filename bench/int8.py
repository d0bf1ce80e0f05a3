"""Comparisons in int8: all runtimes are calibrated on the same samples, and how often each names the class that the net names in f32 is counted.

ONNX Runtime's quantizer makes a QDQ model of the net; ONNX Runtime and OpenVINO run it. LiteRT runs ``NAME.int8.tflite`` beside the net, or where there is
none, what ``strop convert`` writes of it, channels last. Strop calibrates by itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strop.engine.convert import convert
from strop.engine.engine import Engine
from strop.errors import OptionError, StropError
from strop.quantize.data import samples

#: Of Strop's engines; for the others both are int8.
PRECISIONS = ("int8", "int8x7")
SCRIPT = Path(__file__).with_name("int8_peers.py")
#: Samples that calibrate, and others on which agreement is counted.
CALIBRATION, TESTS = 32, 256
#: Seconds that quantizing, or running all tests, may take.
TIMEOUT = 3600
#: Strop's.
CALIBRATOR = "best"
#: Runtimes that run the QDQ model.
QDQ = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Prepared:
    """A net in int8.

    Attributes:
        model: the QDQ file, beside which other forms are looked for; ``None`` where it could not be made.
        calibration: samples in Strop's form.
        tests: input name to [tests, *shape].
        floats: the class of every test in f32.
        reason: why there is no QDQ file.
    """

    model: Path | None
    calibration: list[dict[str, Any]]
    tests: dict[str, Any]
    floats: list[int]
    reason: str = ""


def _smooth(shape: Sequence[int], rng: np.random.Generator) -> Any:
    """A picture of random waves, of about zero mean and unit variance: neighbours are alike, as in photographs."""
    *lead, height, width = shape
    down, across = np.arange(height)[:, None] / height, np.arange(width)[None, :] / width
    total = np.zeros(shape, np.float32)
    for _ in range(12):
        f, g, phase = [*rng.uniform(0, 12, 2).tolist(), rng.uniform(0, 6.3)]
        total += rng.standard_normal((*lead, 1, 1)).astype(np.float32) * np.sin(2 * np.pi * (f * down + g * across) + phase).astype(np.float32)
    return (total / 2.5).astype(np.float32)


def samples_of(model: Path, engine: Engine, data: Path | None, preprocess: str) -> list[dict[str, Any]]:
    """Calibration and test samples: of a folder or file, or random pictures."""
    if data is not None:
        found = [dict(batch.inputs) for batch, _ in zip(samples(data, engine.inputs, preprocess=preprocess), range(CALIBRATION + TESTS), strict=False)]
        if len(found) < 4:
            raise OptionError("too few samples", where=str(data), got=len(found), expected="4 or more; those after the first third are tests")
        return found
    rng = np.random.default_rng(0)
    shapes = {t.name: tuple(int(d) for d in t.shape) for t in engine.inputs}
    if any(len(s) < 3 or t.dtype.name != "f32" for t, s in zip(engine.inputs, shapes.values(), strict=True)):
        raise OptionError("random samples are pictures", where=model.stem, got=engine.inputs, hint="give samples: --calibrate")
    return [{name: _smooth(shape, rng) for name, shape in shapes.items()} for _ in range(CALIBRATION + TESTS)]


def split(found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Samples that calibrate, and those on which agreement is counted."""
    cut = min(CALIBRATION, len(found) // 3)
    return found[:cut], found[cut:]


def prepare(model: Path, engine: Engine, data: Path | None, preprocess: str, python: Path, folder: Path) -> Prepared:
    """Makes samples, the QDQ model, and the classes in f32.

    Args:
        model: the net in f32.
        engine: made of it, in f32.
        data: samples, as ``strop calibrate --data`` takes them; None for random pictures.
        preprocess: of pictures.
        python: of the environment with the other runtimes.
        folder: for what is made.
    """
    calibration, tests = split(samples_of(model, engine, data, preprocess))
    for name, part in (("calibration", calibration), ("tests", tests)):
        np.savez(folder / f"{model.stem}.{name}.npz", **{key: np.stack([s[key] for s in part]) for key in part[0]})
    floats = [int(np.argmax(next(iter(engine.run(inputs).values())))) for inputs in tests]
    out = folder / f"{model.stem}.int8.onnx"
    reason = _script(python, "quantize", str(model), str(folder / f"{model.stem}.calibration.npz"), str(out))
    _tflite(model, calibration, folder)
    stacked = {key: np.stack([s[key] for s in tests]) for key in tests[0]}
    return Prepared(None if reason else out, calibration, stacked, floats, reason)


def _tflite(model: Path, calibration: Sequence[dict[str, Any]], folder: Path) -> None:
    """LiteRT's file of the net in int8: the one beside it, or one written here; none of nets that the writer refuses."""
    beside = model.with_suffix(".int8.tflite")
    last = [{key: np.ascontiguousarray(np.moveaxis(a, 1, -1)) if a.ndim == 4 else a for key, a in sample.items()} for sample in calibration]
    try:
        data = beside.read_bytes() if beside.exists() else convert(model, precision="int8", calibration=last, layout="channels_last")
    except StropError as error:
        print(f"{model.stem}: no .tflite file in int8: {error}", file=sys.stderr)
        return
    (folder / beside.name).write_bytes(data)


def agreement(prepared: Prepared, engine: Engine, runtimes: Sequence[str], python: Path, folder: Path, name: str) -> dict[str, float]:
    """The share of tests in which each runtime, in int8, names the class of f32; runtimes that do not run it are left out."""
    count = len(prepared.floats)
    own = [int(np.argmax(next(iter(engine.run({k: a[n] for k, a in prepared.tests.items()}).values())))) for n in range(count)]
    found = {"strop": float(np.mean(np.asarray(own) == prepared.floats))}
    for runtime in runtimes:
        file = prepared.model if runtime in QDQ else folder / f"{name}.int8.tflite"
        out = folder / f"{name}.{runtime}.npy"
        if file is None or not file.exists() or runtime not in (*QDQ, "litert"):
            continue
        if not _script(python, "outputs", runtime, str(file), str(folder / f"{name}.tests.npz"), str(out)):
            classes = np.load(out, allow_pickle=False).reshape(count, -1).argmax(1)
            found[runtime] = float(np.mean(classes == prepared.floats))
    return found


def _script(python: Path, *arguments: str) -> str:
    """Runs a verb of the script; the last line of what it says when it fails, else nothing."""
    try:
        done = subprocess.run([str(python), str(SCRIPT), *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    lines = done.stderr.strip().splitlines() or ["it failed"]
    return lines[-1] if done.returncode else ""
