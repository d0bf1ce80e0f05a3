"""What is left of real networks: counts of ops after the pipeline, and that they mean the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx.backend.test
import pytest

from strop.frontend.onnx.reader import read_onnx
from strop.ir import interp
from strop.ir.graph import Graph
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests import golden
from tests.graphs import assert_same

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"

#: What must hold whatever else changes, by the net's file name; ``total`` counts all nodes.
PROMISES: dict[str, dict[str, int]] = {
    "convnext_tiny": {"transpose": 1, "gelu": 18, "layer_norm": 23, "conv": 22, "mul": 0, "erf": 0},
    "densenet121": {"batch_norm": 0, "conv": 120, "mul": 62, "concat": 58},
    "efficientnet_b0": {"silu": 49, "batch_norm": 0, "conv": 81},
    "googlenet": {"conv": 39, "split": 9, "batch_norm": 0},
    "inception_v3": {"conv": 75, "batch_norm": 0},
    "mobilenet_v2": {"conv": 52, "clip": 35, "batch_norm": 0, "add": 11},
    "mobilenet_v3_large": {"hard_swish": 21, "hard_sigmoid": 8, "batch_norm": 0, "conv": 62},
    "resnet18": {"conv": 20, "relu": 17, "add": 9, "batch_norm": 0},
    "resnet50": {"conv": 53, "relu": 49, "add": 17, "batch_norm": 0},  # 16 residuals, 1 bias
    "shufflenet_v2_x1_0": {"conv": 56, "split": 13, "slice": 0, "transpose": 16, "gather": 0},
    "squeezenet1_1": {"conv": 26, "concat": 8, "identity": 0},
    "vgg16": {"conv": 13, "relu": 15, "total": 40},
    "vit_b_16": {
        "attention": 12,
        "layer_norm": 25,
        "gelu": 12,
        "softmax": 0,
        "gather": 0,
        "mul": 0,
    },
    "light_densenet121": {"conv": 121, "mul": 62, "batch_norm": 0},
    "light_inception_v1": {"conv": 39, "split": 9, "average_pool": 0},
    "light_inception_v2": {"conv": 51, "mul": 0, "batch_norm": 0, "split": 10},
    "light_resnet50": {"conv": 53, "relu": 49, "add": 17, "batch_norm": 0},
}


def counts(graph: Graph) -> Counter[str]:
    found = Counter(node.op.label for node in graph.nodes)
    found["total"] = len(graph.nodes)
    return found


def line(name: str, graph: Graph) -> str:
    parts = sorted(counts(graph).items(), key=lambda item: (-item[1], item[0]))
    return f"{name}: " + ", ".join(f"{label} {count}" for label, count in parts)


def check(name: str, graph: Graph) -> str:
    found = counts(graph)
    for label, wanted in PROMISES.get(name, {}).items():
        assert found[label] == wanted, f"{name} has {found[label]} {label}, not {wanted}"
    return line(name, graph)


def test_light_nets(request: pytest.FixtureRequest) -> None:
    lines = []
    for path in sorted(LIGHT.glob("*.onnx")):
        lines.append(check(path.stem, optimize(read_onnx(path), Trace())))
    assert len(lines) == 9
    golden.check("ir/light_nets.txt", "\n".join(lines) + "\n", request.config)


@pytest.mark.models
def test_nets(models_dir: Path, request: pytest.FixtureRequest) -> None:
    lines = []
    for path in sorted(models_dir.glob("*.onnx")):
        lines.append(check(path.stem, optimize(read_onnx(path), Trace())))
    golden.check("ir/nets.txt", "\n".join(lines) + "\n", request.config)


@pytest.mark.models
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_large", "shufflenet_v2_x1_0", "squeezenet1_1", "googlenet"]
)
def test_nets_mean_the_same(models_dir: Path, name: str) -> None:
    graph = read_onnx(models_dir / f"{name}.onnx")
    rng = np.random.default_rng(0)
    feed = {
        v.name: rng.standard_normal(v.type.static_shape).astype(v.dtype.numpy) for v in graph.inputs
    }
    wanted = interp.run(graph, feed)
    assert_same(interp.run(optimize(graph, Trace()), feed), wanted, 1e-5)
