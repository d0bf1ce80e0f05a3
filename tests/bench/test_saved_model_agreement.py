"""How SavedModels and Keras files are compared with their twins."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from bench.suite.saved_model_agreement import PACKAGES, _fields, _float


def test_outputs_are_matched_and_compared_with_the_largest() -> None:
    a, b = np.array([1.0, 100.0], np.float32), np.array([3.0], np.float32)
    assert _float("x", "y", [a, b], [b, a + np.float32(0.005)])[2] == "agrees"
    assert _float("x", "y", [a, b], [b, a + np.float32(0.05)])[2] == "differs"
    assert _float("x", "y", [a], [b, a])[2] == "differs"


def test_fields_fill_the_range() -> None:
    x = _fields(np.random.default_rng(0), (4, 50, 10, 1), -2.0, 6.0)
    assert x.shape == (4, 50, 10, 1) and -2 <= x.min() < -1 and 5 < x.max() <= 6


def test_packages_are_pinned() -> None:
    assert all(len(p.sha256) == 64 and p.take for p in PACKAGES)
