"""``strop demo``: builds a LeNet, shows what was fused, how many digits it names and how long one takes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from strop import demo_data
from strop.cli.inspect import steps_table
from strop.cli.output import StageBar, pairs, show_json, size
from strop.engine.bench import Report, bench, wilson
from strop.engine.build import build
from strop.engine.describe import Description, describe
from strop.engine.engine import Engine
from strop.engine.per_op import median_ms as per_op_ms
from strop.frontend.onnx import read_onnx
from strop.ir.graph import Graph

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Accuracy:
    """Digits named right, with the 95 % Wilson interval of the share."""

    right: int
    digits: int
    top1: float
    low: float
    high: float


def command(
    level: Annotated[int, typer.Option(min=0, max=5, help="Effort of choosing kernels.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="Time of each measurement.")] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Builds the packaged LeNet and shows what became of it: fused layers, accuracy, latency."""
    started = time.perf_counter()
    model = demo_data.lenet_path()
    images, labels = demo_data.held_back_digits()
    graph = read_onnx(model)
    with StageBar(quiet=json) as bar:
        engine = build(model, level=level, threads=1, progress=bar)
    built = time.perf_counter() - started
    found = describe(engine, engine.profile({engine.inputs[0].name: images[:1]}))
    accuracy = classify(engine, images, labels)
    report = bench(engine, {engine.inputs[0].name: images[:1]}, seconds=seconds)
    per_op = per_op_ms(model, seconds)
    if json:
        show_json(_json(found, accuracy, report, per_op, built))
        return
    _show(graph, found, accuracy, report, per_op, built)


def classify(engine: Engine, images: Images, labels: NDArray[np.int64]) -> Accuracy:
    """Runs images [N, 1, 28, 28] one by one and counts the labels met."""
    right = sum(int(np.argmax(engine(image[None]))) == int(label) for image, label in zip(images, labels, strict=True))
    low, high = wilson(right, len(labels))
    return Accuracy(right, len(labels), right / len(labels), low, high)


def _json(found: Description, accuracy: Accuracy, report: Report, per_op: float, built: float) -> dict[str, Any]:
    return {
        "build_s": built,
        "engine": found.to_json(),
        "accuracy": asdict(accuracy),
        "bench": report.to_json(),
        "per_op_fp32_ms": per_op,
        "ratio": per_op / report.latency.p50,
    }


def _show(
    graph: Graph, found: Description, accuracy: Accuracy, report: Report, per_op: float, built: float
) -> None:
    totals, memory = found.totals, found.memory
    print(f"LeNet, trained on MNIST digits: {len(graph.nodes)} ops as read, {totals.steps} steps after fusion\n")
    steps_table(found)
    print()
    share = f"{100 * accuracy.top1:.2f} %, 95 % Wilson interval {100 * accuracy.low:.2f} to {100 * accuracy.high:.2f} %"
    pairs(
        [
            ("built in", f"{built:.1f} s for {found.target}"),
            ("accuracy", f"{accuracy.right} of {accuracy.digits} held-back digits, {share}"),
            ("memory", f"weights {size(memory.weights)}, arena {size(memory.arena)}"),
            ("latency", f"{report.latency.p50:.4f} ms for one image (median of {report.runs} runs, 1 thread)"),
            ("per-op FP32", f"{per_op:.4f} ms: the same graph, unfused, op after op in numpy with BLAS, 1 thread"),
            ("ratio", f"{per_op / report.latency.p50:.1f} x"),
        ]
    )
