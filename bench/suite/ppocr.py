"""PP-OCRv4: where text is (det), which way up it stands (cls), what it says (rec). Rendered text in all DejaVu faces.

Preprocessing of all three: pixels by 255, less 0.5, by 0.5; rec and cls: scaled to a height of 48, padded with zeros at the right.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx

from bench.suite import pictures
from bench.suite.task import Array, Net, Reference, Run, Task, share, wilson

_MODELS = "rapidocr-onnxruntime/rapidocr_onnxruntime/models"
DET = Net("ppocr_det", f"{_MODELS}/ch_PP-OCRv4_det_infer.onnx", {"x": "1x3x32..960(640)%32x32..960(640)%32"})
REC = Net("ppocr_rec", f"{_MODELS}/ch_PP-OCRv4_rec_infer.onnx", {"x": "1..8(1)x3x48x32..1280(320)"})
CLS = Net("ppocr_cls", f"{_MODELS}/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": "1..8(1)x3x48x192"})
#: Height and width of the pages in turn.
PAGES = ((640, 640), (320, 480), (416, 640), (736, 544), (640, 640), (256, 864))
LINES = 150


def _scaled(picture: Array, width: int, fill: bool = True) -> Array:
    """f32[3, 48, width]."""
    wide = min(width, -(-48 * picture.shape[1] // picture.shape[0]))
    found = np.zeros((48, width), np.float32)
    found[:, :wide] = pictures.resize(picture, 48, wide).astype(np.float32) / 127.5 - 1
    return np.repeat(found[None], 3, axis=0)


@cache
def characters(path: Path) -> list[str]:
    """The classes of rec: a blank, what the file lists, a space."""
    model = onnx.load(str(path))
    listed = next(entry.value for entry in model.metadata_props if entry.key == "character")
    return ["", *listed.splitlines(), " "]


def read_lines(folder: Path, run: Run) -> dict[str, float]:
    """rec: exact lines, and edits per character with and without spaces; batches of lines of like width, as its users make them."""
    data = sorted(pictures.lines(LINES, seed=1), key=lambda item: item[1].shape[1] / item[1].shape[0])
    table = characters(folder / REC.file)
    exact = wrong = length = wrong_dense = dense = start = 0
    size = 1
    while start < len(data):
        part = data[start : start + size]
        width = max(320, *(int(48 * p.shape[1] / p.shape[0]) for _, p in part))
        p = run(REC, {"x": np.stack([_scaled(picture, min(width, 1280)) for _, picture in part])})
        for (text, _), found in zip(part, pictures.greedy_ctc(next(iter(p.values())), table)):
            exact += found == text
            wrong, length = wrong + pictures.edits(found, text), length + len(text)
            solid = text.replace(" ", "")
            wrong_dense, dense = wrong_dense + pictures.edits(found.replace(" ", ""), solid), dense + len(solid)
        start, size = start + size, size % 6 + 1
    return {"rec exact": exact / len(data), "rec CER": wrong / length, "rec CER less spaces": wrong_dense / dense}


def turn_lines(run: Run) -> dict[str, float]:
    """cls: share of lines, every second upside down, whose side it tells."""
    data = [(k % 2, p[::-1, ::-1] if k % 2 else p) for k, (_, p) in enumerate(pictures.lines(LINES, seed=2))]
    hits = start = 0
    size = 1
    while start < len(data):
        part = data[start : start + size]
        p = next(iter(run(CLS, {"x": np.stack([_scaled(np.ascontiguousarray(picture), 192) for _, picture in part])}).values()))
        hits += int((p.argmax(1) == [side for side, _ in part]).sum())
        start, size = start + size, size % 6 + 1
    return {"cls": hits / len(data)}


def page(number: int) -> tuple[Array, list[tuple[int, int, int, int]]]:
    """(f32[1, 3, H, W], boxes (top, left, bottom, right)): lines of text under each other."""
    rng = np.random.default_rng(100 + number)
    height, width = PAGES[number % len(PAGES)]
    faces = pictures.fonts()
    paper = rng.normal(235, 6, (height, width))
    boxes, top = [], 16
    while True:
        size = int(rng.integers(16, 34))
        picture = pictures.line(pictures.sentence(rng, 2, 6), faces[int(rng.integers(len(faces)))], size, rng)[:, : width - 32]
        if top + len(picture) + 8 > height:
            break
        left = int(rng.integers(8, width - picture.shape[1] - 7))
        paper[top : top + len(picture), left : left + picture.shape[1]] = picture
        boxes.append((top, left, top + len(picture), left + picture.shape[1]))
        top += len(picture) + int(rng.integers(12, 40))
    gray = np.clip(paper, 0, 255).astype(np.float32) / 127.5 - 1
    return np.repeat(gray[None, None], 3, axis=1), boxes


def find_lines(run: Run, count: int = 12) -> dict[str, float]:
    """det: share of lines of which text is seen over most of their width, and share of text pixels that lie in a line.

    The network marks the core of a line, so a line counts when at least 60 % of the columns between its margins hold a mark.
    """
    found = lines = inside = marks = 0
    for number in range(count):
        x, boxes = page(number)
        text = next(iter(run(DET, {"x": x}).values()))[0, 0] > 0.3
        covered = np.zeros_like(text)
        for top, left, bottom, right in boxes:
            margin = (bottom - top) // 2
            columns = text[top:bottom, left + margin : right - margin].any(0)
            found += bool(columns.mean() >= 0.6)
            covered[top:bottom, left:right] = True
        lines += len(boxes)
        inside, marks = inside + int((text & covered).sum()), marks + int(text.sum())
    return {"det lines": found / lines, "det pixel precision": inside / marks}


def score(folder: Path, run: Run) -> dict[str, float]:
    """All three."""
    return {**find_lines(run), **turn_lines(run), **read_lines(folder, run)}


_SOURCE = "onnxruntime 1.32 on rendered text: {}"
TASK = Task(
    "ppocr",
    "lines found, their side, and their text; rendered text, sizes that change from call to call",
    ("rapidocr-onnxruntime",),
    (DET, REC, CLS),
    score,
    {
        "det lines": Reference(96 / 111, wilson(96, 111)[0], 1, _SOURCE.format("96 of 111 lines")),
        "det pixel precision": Reference(1.0, 0.97, 1, _SOURCE.format("no pixel beside a line")),
        "cls": share(149, 150, _SOURCE.format("149 of 150")),
        "rec exact": Reference(106 / 150, wilson(106, 150)[0], 1, _SOURCE.format("106 of 150 lines")),
        "rec CER": Reference(0.025, 0, 0.05, _SOURCE.format("0.025")),
        "rec CER less spaces": Reference(0.0018, 0, 0.01, _SOURCE.format("0.0018")),
    },
)
