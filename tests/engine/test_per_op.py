"""The per-op executor computes what the graph means, in f32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from strop import demo_data
from strop.engine.per_op import PerOp, function_of, median_ms
from strop.errors import InputError, RuntimeFailure, UnsupportedError
from strop.frontend.onnx import read_onnx
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Op, Sample, Type
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul
from tests import tiny_net


@pytest.mark.parametrize("kind", [Conv, MatMul])
def test_every_sample(kind: type[Op]) -> None:
    done = 0
    rng = np.random.default_rng(5)
    for sample, _ in zip(kind.samples(rng), range(60)):
        done += check(sample)
    assert done >= 10


def check(sample: Sample) -> int:
    """Compares a sample in f32 with its reference; 0 when it has no f32 form of its own."""
    graph = Graph()
    values = [graph.add_input(f"x{k}", Type(dt.from_numpy(a.dtype), a.shape)) for k, a in enumerate(sample.inputs)]
    node = graph.add(sample.op, values)
    graph.set_outputs(node.outputs)
    if function_of(node) == node.op.reference:
        return 0
    inputs = {f"x{k}": a for k, a in enumerate(sample.inputs)}
    (got,) = PerOp(graph).run(inputs).values()
    (want,) = interp.run(graph, inputs).values()
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    return 1


@pytest.mark.parametrize("path", [demo_data.lenet_path(), None], ids=["lenet", "tiny"])
def test_networks(path: object) -> None:
    graph = read_onnx(path or tiny_net.model_file())  # type: ignore[arg-type]
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].type.static_shape).astype(np.float32)
    inputs = {graph.inputs[0].name: x}
    got, want = PerOp(graph).run(inputs), interp.run(graph, inputs)
    assert list(got) == list(want)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4)


def test_time_in_a_child_process(tmp_path: Path) -> None:
    assert 0 < median_ms(tiny_net.model_file(), 0.01) < 1000
    with pytest.raises(RuntimeFailure, match="per-op") as error:
        median_ms(tmp_path / "none.onnx", 0.01)
    assert "none.onnx" in str(error.value)


def test_bad_arguments() -> None:
    with pytest.raises(UnsupportedError, match="symbolic"):
        PerOp(read_onnx(tiny_net.model(batch="N")))
    with pytest.raises(InputError):
        PerOp(read_onnx(tiny_net.model())).run({})
