"""Graphs as .tflite files: read back they compute what they did, and the files are as small as they can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop import demo_data
from strop.engine.convert import conversion
from strop.frontend.table import read
from strop.ir.interp import run

LENET = Path(demo_data.__file__).parent / "lenet.onnx"


def test_lenet_has_no_ops_that_only_shape() -> None:
    """Flattening is part of the product; images of one channel need no transposition."""
    found = conversion(LENET, layout="channels_last")
    assert found.summary["operators"] == {"CONV_2D": 2, "FULLY_CONNECTED": 2, "MAX_POOL_2D": 2}
    rng = np.random.default_rng(0)
    image = rng.random((1, 1, 28, 28), np.float32)
    (want,) = run(read(LENET), {"input": image}).values()
    (got,) = run(read(found.data), {"input": image.reshape(1, 28, 28, 1)}).values()
    np.testing.assert_allclose(got, want, atol=1e-5 * float(np.abs(want).max()))


def test_bytes_are_the_same_every_time() -> None:
    assert strop.convert(LENET) == strop.convert(LENET)


def test_ends_keep_the_models_order() -> None:
    graph: Any = read(strop.convert(LENET))
    assert [(v.name, v.shape) for v in graph.inputs] == [("input", (1, 1, 28, 28))]
    assert graph.output_names == ["logits"]
