"""How outputs of TFLite files are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from bench.suite.tflite_agreement import FLOAT, RESPONSE, agreement, examine, explained, nudged
from tests.frontend.tflite_models import single


def test_floats_are_compared_with_the_largest() -> None:
    a = np.array([1.0, 100.0], np.float32)
    assert agreement([a], [a + np.float32(0.005)])[0]
    assert not agreement([a], [a + np.float32(0.05)])[0]


def test_floats_may_differ_by_what_the_last_place_of_the_inputs_does() -> None:
    a = np.array([1.0, 100.0], np.float32)
    far = a + np.float32(0.05)
    assert explained([far], [a], [a + np.float32(0.01)]) == (True, "itself 1.0e-04")
    assert not explained([far], [a], [a + np.float32(0.05 / RESPONSE / 2)])[0]
    assert not explained([a, far], [a, a], [far, a])[0]  # each output by its own response
    assert explained([a + np.float32(FLOAT * 50)], [a], [a])[0]
    assert nudged(a).dtype == np.float32 and np.array_equal(nudged(a) - a, np.spacing(a)) and np.array_equal(nudged(np.arange(3)), np.arange(3))


def test_integers_may_differ_by_one() -> None:
    a = np.arange(100, dtype=np.int8)
    good, told = agreement([a], [a + np.int8(1)])
    assert good and "equal 0.00%" in told
    b = a.copy()
    b[0] = 9
    assert not agreement([a], [b])[0]


def test_other_types_do_not_agree() -> None:
    assert not agreement([np.zeros(3, np.int8)], [np.zeros(3, np.uint8)])[0]


def test_files_that_are_not_read_are_told(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(single("CUSTOM", [((2,), "FLOAT32")], [((2,), "FLOAT32")], custom="Unheard"))
    outcome = examine(path, None, 0, 1, 1)
    assert outcome.verdict == "refused" and "custom op Unheard" in outcome.detail
