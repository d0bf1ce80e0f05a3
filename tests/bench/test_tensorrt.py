"""The comparison of TensorRT's API with strop.build: equal outputs, as many steps, figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import tensorrt


def test_both_ways_make_the_same_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pairs.json"
    pairs = tensorrt.main(["--level", "0", "--seconds", "0", "--json", str(file)])
    assert [pair.net for pair in pairs] == ["LeNet by layers", "lenet"]
    assert all(pair.steps[0] == pair.steps[1] and pair.ratio > 0 for pair in pairs)
    assert len(json.loads(file.read_text())) == 2 and "ratio" in capsys.readouterr().out
