"""Calibration needs little more memory than one inference, however many images there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.calibration_memory import MOST, main, peak
from strop import demo_data


def test_both_are_measured() -> None:
    lenet = demo_data.lenet_path()
    assert 10e6 < peak(lenet, True, 3) < 3 * peak(lenet, False)
    with pytest.raises(RuntimeError, match="nowhere"):
        peak(Path("nowhere.onnx"), False)


@pytest.mark.slow
@pytest.mark.models
def test_two_thousand_images_of_resnet50(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(models_dir / "resnet50.onnx"), "--images", "2000"]) == 0, f"more than {MOST} times: {capsys.readouterr().out}"
