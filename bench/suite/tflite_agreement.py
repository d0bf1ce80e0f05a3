"""Runs every .tflite file of a folder on Strop and on LiteRT and tells how far their outputs lie apart.

    python -m bench.suite.tflite_agreement DIR --peers ENVIRONMENT [--steps 4] [--streaming-steps 1000] [--only TEXT]

Inputs are random. Networks with variables run for many steps, each runtime with its own state. Float outputs are compared by the
largest difference relative to the largest output, integer outputs by the share that is equal and the share that is within 1; how many distinct values there are tells
whether that says anything. Floats that are farther apart are compared with ``itself``: how far LiteRT's own outputs move when every input moves by one in the
last place. An output agrees that is at most ``RESPONSE`` times that far away, since no order of roundings is more right than another there. ``without
XNNPACK`` tells how far LiteRT is from itself on its other kernels.
Exits with 1 when a network that is read does not run or does not agree.
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
from bench.suite.steps import steps as run_steps
from strop.cli.output import table
from strop.engine.engine import Engine
from strop.engine.peer_process import Peer, PeerError, PeerProcess, python_of
from strop.errors import StropError
from strop.frontend.tflite.model import Subgraph, load
from strop.frontend.tflite.reader import initial_state
from strop.ir.dtype import BY_NAME

Array = NDArray[Any]
LITERT = Peer("litert", Path(__file__).parent / "litert_steps.py", "ai-edge-litert", None, "")
#: Largest relative difference of floats; smallest share of integers within 1.
FLOAT, WITHIN = 1e-4, 0.999
#: Nets that magnify rounding may be apart by so many times what the peer's outputs change where its inputs change in the last place.
RESPONSE = 10.0
#: Size of free axes other than the first.
FREE = 16000


@dataclass(frozen=True)
class Outcome:
    """How one file went.

    Attributes:
        file: its name.
        verdict: agrees, differs, refused or failed.
        detail: figures, or the error.
    """

    file: str
    verdict: str
    detail: str


def free_sizes(subgraph: Subgraph) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs by name, with sizes for what is free."""
    tensors = [subgraph.tensors[index] for index in subgraph.inputs]
    return {t.name: tuple(FREE if k in t.free and k else d for k, d in enumerate(t.shape)) for t in tensors}


def random_input(rng: np.random.Generator, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """An array whose first axis are steps."""
    if dtype.kind == "f":
        return rng.uniform(-1, 1, shape).astype(dtype)
    if dtype.itemsize == 1:
        info = np.iinfo(dtype)
        per_step = (shape[0], *(1,) * (len(shape) - 1))  # steps differ in level and contrast
        level, contrast = rng.uniform(info.min, info.max, per_step), 2.0 ** rng.uniform(0, 7, per_step)
        return np.clip(np.rint(level + contrast * rng.standard_normal(shape)), info.min, info.max).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


def _own(engine: Engine, state: dict[str, Array], steps: int) -> tuple[list[Array], list[Array]]:
    """Inputs and outputs of all steps."""
    rng = np.random.default_rng(1)
    given = [t for t in engine.inputs if t.name not in state]
    inputs = [random_input(rng, BY_NAME[str(t.dtype)].numpy, (steps, *t.shape)) for t in given]
    return inputs, list(run_steps(engine, state, dict(zip((t.name for t in given), inputs, strict=True))).values())


def peer_outputs(path: Path, names: Sequence[str], inputs: Sequence[Array], environment: Path | None, delegates: bool = True) -> list[Array]:
    """LiteRT's outputs, with XNNPACK or without; inputs, by position, and outputs have the steps as a further first axis."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for k, (name, array) in enumerate(zip(names, inputs, strict=True)):
            files.append([name, str(Path(folder) / f"in{k}.npy")])
            np.save(files[-1][1], array)
        with PeerProcess(LITERT, python_of(environment), {} if delegates else {"LITERT_DELEGATES": "none"}) as process:
            process.ask("load", model=str(path), original=str(path), threads=1, inputs=files, cpus=None, work=folder)
            reply = process.ask("output", folder=folder)
        return [np.load(file) for file in reply["files"]]


def apart(found: Array, wanted: Array) -> float:
    """The largest difference of floats relative to the largest number."""
    return float(np.max(np.abs(found - wanted), initial=0) / max(float(np.max(np.abs(wanted), initial=0)), 1e-12))


def nudged(array: Array) -> Array:
    """Floats one in the last place up; others as they are."""
    return np.nextafter(array, np.inf).astype(array.dtype) if array.dtype.kind == "f" else array


def explained(own: Sequence[Array], other: Sequence[Array], moved: Sequence[Array]) -> tuple[bool, str]:
    """Whether every output lies no farther away than ``FLOAT``, or than ``RESPONSE`` times what a nudge of the inputs does; and what it does.

    Args:
        own: Strop's outputs, all floats.
        other: the peer's, of the same shapes.
        moved: the peer's on nudged inputs.
    """
    responses = [apart(b, c) for b, c in zip(moved, other, strict=True)]
    fine = all(apart(a, b) <= max(FLOAT, RESPONSE * r) for a, b, r in zip(own, other, responses, strict=True))
    return fine, "itself " + "; ".join(f"{r:.1e}" for r in responses)


def agreement(own: Sequence[Array], other: Sequence[Array]) -> tuple[bool, str]:
    """Whether outputs agree, and figures."""
    if [(a.shape, a.dtype) for a in own] != [(b.shape, b.dtype) for b in other]:
        return False, f"types {[(a.shape, str(a.dtype)) for a in own]} against {[(b.shape, str(b.dtype)) for b in other]}"
    agrees, told = True, []
    for a, b in zip(own, other, strict=True):
        if a.dtype.kind == "f":
            worst = apart(a, b)
            agrees &= worst <= FLOAT
            told.append(f"{worst:.1e}, {len(np.unique(b))} distinct")
        else:
            steps = np.abs(a.astype(np.int64) - b.astype(np.int64))
            within = float(np.mean(steps <= 1)) if steps.size else 1.0
            agrees &= within >= WITHIN
            told.append(f"equal {np.mean(steps == 0):.2%}, within 1 {within:.2%}, worst {steps.max(initial=0)}, {len(np.unique(b))} distinct")
    return agrees, "; ".join(told)


def examine(path: Path, environment: Path | None, level: int, steps: int, streaming: int) -> Outcome:
    """Builds one file and runs it on both."""
    try:
        shapes = free_sizes(load(path).subgraphs[0])
        engine = strop.build(path, level=level, threads=1, shapes=shapes)
        return agree(path, engine, initial_state(path, shapes), environment, steps, streaming)
    except StropError as error:
        return Outcome(path.name, "refused", " ".join(str(error).split())[:160])


def agree(path: Path, engine: Engine, state: dict[str, Array], environment: Path | None, steps: int, streaming: int) -> Outcome:
    """Runs an engine and the file it was built of, for so many steps; ``streaming`` for one with state, whose first values these are."""
    subgraph = load(path).subgraphs[0]
    inputs, own = _own(engine, state, streaming if state else steps)
    names = [subgraph.tensors[index].name for index in subgraph.inputs]
    try:
        other = peer_outputs(path, names, inputs, environment)
        agrees, told = agreement(own, other)
        alike = [(a.shape, a.dtype) for a in own] == [(b.shape, b.dtype) for b in other] and all(a.dtype.kind == "f" for a in own)
        if not agrees and alike:
            agrees, response = explained(own, other, peer_outputs(path, names, [nudged(a) for a in inputs], environment))
            plain = peer_outputs(path, names, inputs, environment, delegates=False)
            told = f"{told}; {response}; without XNNPACK " + "; ".join(f"{apart(b, c):.1e}" for b, c in zip(plain, other, strict=True))
    except PeerError as error:
        return Outcome(path.name, "failed", f"LiteRT: {error}")
    integers = any("INT8" in t.type for t in subgraph.tensors)
    return Outcome(path.name, "agrees" if agrees else "differs", f"{'int8' if integers else 'float'} {told}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.suite.tflite_agreement", description="Every .tflite file of a folder on both runtimes.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--peers", type=Path, metavar="ENVIRONMENT", help="virtual environment with ai-edge-litert (bench/setup_peers.sh)")
    parser.add_argument("--steps", type=int, default=4, help="inputs per network (default 4)")
    parser.add_argument("--streaming-steps", type=int, default=1000, help="of networks with variables (default 1000)")
    parser.add_argument("--level", type=int, default=0, help="effort of Strop's builds (default 0)")
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose name has this text")
    given = parser.parse_args(arguments)
    outcomes = []
    for path in sorted(given.folder.rglob("*.tflite")):
        if given.only in path.name:
            outcomes.append(examine(path, given.peers, given.level, given.steps, given.streaming_steps))
            print(f"{outcomes[-1].verdict:8} {path.name}: {outcomes[-1].detail}", file=sys.stderr, flush=True)
    table(("file", "verdict", "figures"), [(o.file, o.verdict, o.detail) for o in outcomes])
    return int(any(o.verdict in ("differs", "failed") for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
