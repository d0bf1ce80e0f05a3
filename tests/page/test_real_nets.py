"""The pages of whole networks."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from strop.engine.build import build
from strop.engine.report import report
from tests.page.pages import opened

pytestmark = pytest.mark.slow
LARGEST = 3_000_000


def check(model: Path, tmp_path: Path, **options: object) -> None:
    """Every node of the file is on its page, once, and the page complains about nothing and asks for nothing."""
    engine = build(model, level=0, threads=1, **options)  # type: ignore[arg-type]
    path = tmp_path / "page.html"
    report(engine, seconds=0.2, roofline=False).save(path)
    assert path.stat().st_size < LARGEST
    seen = opened(path, tmp_path)
    assert seen.console == [] and seen.requests == set()
    assert len(seen.sources) == len(set(seen.sources))
    names = [node.name for node in onnx.load(model, load_external_data=False).graph.node]
    assert len(seen.sources) == len(names) and {name for name in names if name} <= set(seen.sources)  # nodes without a name are given one


@pytest.mark.models
def test_resnet50(models_dir: Path, tmp_path: Path) -> None:
    check(models_dir / "resnet50.onnx", tmp_path)


def test_ppocr_det(suite_dir: Path, tmp_path: Path) -> None:
    model = suite_dir / "rapidocr-onnxruntime/rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"
    check(model, tmp_path, shapes={"x": "1x3x640x640"})
