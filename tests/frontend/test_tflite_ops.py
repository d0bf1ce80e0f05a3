"""Every builtin operator that is read, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from strop.frontend.table import read
from strop.frontend.tflite import supported_operators
from strop.ir.interp import run
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests.frontend.tflite_cases import CASES, names

#: Operators with state: ``test_tflite_recurrent``; and those that take more than one operator, or a subgraph, to try: ``test_tflite_nets``.
RECURRENT = {
    "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
}  # fmt: skip
ELSEWHERE = RECURRENT | {"ASSIGN_VARIABLE", "CALL_ONCE", "DENSIFY", "DEQUANTIZE", "IF", "READ_VARIABLE", "STABLEHLO_COMPOSITE", "VAR_HANDLE", "WHILE"}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    graph = read(case.file)
    verify(graph, "imported")
    feeds = {value.name: array for value, array in zip(graph.inputs, case.inputs, strict=True)}
    for form in (graph, optimize(graph, Trace())):
        found = run(form, feeds)
        for got, wanted in zip(found.values(), case.results, strict=True):
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(got, wanted, 1e-5, 1e-5)


def test_every_operator_is_tried() -> None:
    assert set(names()) | ELSEWHERE == set(supported_operators())
