"""Random graphs as .tflite and ONNX files: read back they compute what they did, or are refused by name."""

from __future__ import annotations

import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.errors import StropError, UnsupportedError
from strop.frontend.table import read
from strop.ir.interp import run
from tests.fuzz.generate import Case, make_case
from tests.fuzz.meaning import Meaning, Undefined, difference, meaning


def _meant(case: Case) -> Meaning | None:
    if any(0 in array.shape for array in case.feed.values()):
        return None  # inputs have elements
    try:
        return meaning(case.graph, case.feed)
    except (Undefined, StropError, IndexError, ValueError, ZeroDivisionError):
        return None


def _check(to: str, seeds: range) -> None:
    agreed = 0
    for seed in seeds:
        case = make_case(seed)
        meant = _meant(case)
        if meant is None:
            continue
        try:
            data = strop.convert(case.graph, to)
        except UnsupportedError:
            continue
        shapes = {name: array.shape for name, array in case.feed.items()}
        found = difference(run(read(data, shapes), case.feed), meant)
        assert found is None, f"seed {seed}: {found}"
        agreed += 1
    assert agreed >= len(seeds) // 5


@pytest.mark.parametrize("to", ["tflite", "onnx"])
def test_random_graphs_are_written_as_they_are(to: str) -> None:
    _check(to, range(40))


@pytest.mark.slow
@pytest.mark.parametrize("to", ["tflite", "onnx"])
def test_many_random_graphs_are_written_as_they_are(to: str) -> None:
    _check(to, range(40, 1000))
