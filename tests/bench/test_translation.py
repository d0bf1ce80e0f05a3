"""The translator's benchmark: what agrees, and its table. Its runs beside PyTorch are ``python -m bench.translation``."""

from __future__ import annotations

import numpy as np
import pytest

from bench import translation
from examples.translation.model import Sizes
from strop.errors import StropError

KNOWN = {"cpu.3": np.array([[5, 6, 7], [5, 3, -1], [8, 9, 9]]), "cpu.3.scores": np.array([-2.0, -4.0, -8.0])}


def test_scores_count_where_words_are_the_same() -> None:
    words = KNOWN["cpu.3"].copy()
    assert translation.agreement(words, np.array([-2.0, -4.0, -8.0]), KNOWN, 3) == (1.0, 0.0)
    words[2, 2] = 4
    share, error = translation.agreement(words, np.array([-2.0, -4.4, 8.0]), KNOWN, 3)
    assert share == pytest.approx(2 / 3) and error == pytest.approx(0.1)


def test_table_has_rates_ratios_and_what_failed() -> None:
    row = {"device": "gpu", "batch": 64, "torch": 0.008, "seconds": 0.004, "torch_same": 0.9, "same": 0.8, "score": 1e-3, "right": True}
    failed = {"device": "cpu", "batch": 1, "torch": 0.1, "torch_same": 1.0, "failed": "no compiler"}
    found = translation.table({"rows": [failed, row, {**row, "right": False}]}).rows
    assert found[0] == ["CPU", "1", "-", "-", "100.00", "10", "-", "-", "-", "1.00", "-"]
    assert found[1] == ["GPU", "64", "4.00", "16000", "8.00", "8000", "2.00", "1600", "0.80", "0.90", "1e-03"]
    assert found[2][8] == "0.80 WRONG"


def test_a_python_without_pytorch_is_told() -> None:
    with pytest.raises(StropError, match="PyTorch's translator did not run"):
        translation.peer({}, "/no/such/python")


def test_sentences_are_the_same_in_both_processes() -> None:
    found = translation.sources(Sizes(source=40), 3, 7)
    assert found.shape == (3, 7) and found.min() >= 4 and found.max() < 40
    np.testing.assert_array_equal(found, translation.sources(Sizes(source=40), 3, 7))
