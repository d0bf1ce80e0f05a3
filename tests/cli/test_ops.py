"""strop ops."""

from __future__ import annotations

import json

from strop.frontend.onnx import supported_op_types
from strop.frontend.torch import supported_overloads
from strop.kernels.table import KERNELS
from tests.cli.conftest import Strop


def test_every_op_with_its_opsets(strop: Strop) -> None:
    assert json.loads(strop("ops", "--json").out) == supported_op_types()
    text = strop("ops").out
    assert "Conv " in text and text.rstrip().endswith(f"{len(supported_op_types())} ops")


def test_every_overload_of_pytorch(strop: Strop) -> None:
    found = json.loads(strop("ops", "--torch", "--json").out)
    assert found == supported_overloads() and len(found) > 300
    assert found["aten.conv2d.default"] == "ops_nn" and found["aten.relu.default"] == "ops_math"


def test_every_kernel_with_a_sentence(strop: Strop) -> None:
    found = json.loads(strop("ops", "--kernels", "--json").out)
    assert list(found) == [kernel.name for kernel in KERNELS]
    assert all(len(sentence.split()) > 2 for sentence in found.values())
