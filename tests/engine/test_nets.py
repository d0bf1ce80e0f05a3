"""Real networks, built and run, against ONNX Runtime: within 1e-4 of the largest output magnitude, no layout transposes, no concat copies.

The light nets of the ``onnx`` package: two always, all with ``--slow``. A folder of further nets: ``--models DIR``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import onnxruntime
import pytest

from strop.engine.build import build

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
QUICK = ("light_squeezenet", "light_shufflenet")
#: Nets whose channel shuffles, or whose class token, have to be copied.
COPIES = ("shufflenet", "vit")


def without_softmax(path: Path) -> onnx.ModelProto:
    """The model up to the scores that a last Softmax reads. The light nets' weights are all alike, their scores alike and above 1e9: which
    of them a softmax takes for the largest is decided by the last bit."""
    model = onnx.load(path)
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        model.graph.node.remove(last)
        model.graph.output[0].name = last.input[0]
        model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def agrees(path: Path, threads: int) -> None:
    model = without_softmax(path)
    engine = build(model, level=0, threads=threads)
    inputs = engine.random_inputs()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = session.run(None, inputs)
    for name, expected in zip((o.name for o in session.get_outputs()), wanted, strict=True):
        got = engine.run(inputs)[name]
        assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max(), name
    memory = engine.manifest["memory"]
    assert memory["arena"] <= 1.15 * memory["live_peak"]
    if not any(word in path.name for word in COPIES):
        assert not [s["name"] for s in engine.manifest["steps"] if s["copy"]]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(p.stem for p in LIGHT.glob("*.onnx"))]
)
def test_light_net(name):
    agrees(LIGHT / f"{name}.onnx", threads=2)


@pytest.mark.models
@pytest.mark.timeout(3600)
def test_nets_of_a_folder(models_dir):
    paths = sorted(models_dir.glob("*.onnx"))
    assert paths, f"no .onnx files in {models_dir}"
    for path in paths:
        agrees(path, threads=1)
