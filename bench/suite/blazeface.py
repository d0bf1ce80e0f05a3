"""BlazeFace, short range: faces of scikit-image's ``lfw_subset`` pasted at known places on textures, one picture of 128x128 each.

The network's anchors: two on every cell of a grid of 16x16, then six on every cell of 8x8, all of the size of the picture, so that only their middles
matter (MediaPipe's ``face_detection_short_range``). Boxes are offsets from them in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.suite.pasted_faces import pasted, shares
from bench.suite.task import Array, Net, Reference, Run, Task, wilson

NET = Net("blazeface_short", "mediapipe/mediapipe/modules/face_detection/face_detection_short_range.tflite")
SIDE = 128
#: Side of a pasted patch.
PATCHES = (48, 56, 64)
THRESHOLD = 0.5
_GRIDS = ((16, 2), (8, 6))


def anchors() -> Array:
    """f64[896, 2]: the middles, x and y from 0 to 1."""
    found = []
    for cells, each in _GRIDS:
        at = (np.arange(cells) + 0.5) / cells
        found.append(np.stack([np.tile(at, cells), np.repeat(at, cells)], axis=-1).repeat(each, axis=0))
    return np.concatenate(found)


def pictures(folder: Path) -> Iterator[tuple[Array, tuple[int, int, int], bool]]:
    """(f32[1, 128, 128, 3] from -1 to 1, (top, left, side) of the patch, whether it is a face)."""
    for ground, place, face in pasted(folder, ((SIDE, SIDE),), PATCHES):
        yield np.repeat(ground[None, :, :, None], 3, axis=3) / 127.5 - 1, place, face


def score(folder: Path, run: Run) -> dict[str, float]:
    """Share of faces that are found (a box of enough probability whose middle lies in the patch), of other patches that are not, and the AUC."""
    middles, peaks, truth = anchors() * SIDE, [], []
    for x, (top, left, side), face in pictures(folder):
        found = run(NET, {"input": x})
        at = middles + found["regressors"][0, :, :2]
        inside = ((at >= (left, top)) & (at <= (left + side, top + side))).all(1)
        scores = 1 / (1 + np.exp(-np.clip(found["classificators"][0, :, 0].astype(np.float64), -100, 100)))
        peaks.append(float(scores[inside].max(initial=0.0)))
        truth.append(face)
    return shares(peaks, truth, THRESHOLD)


_SOURCE = "ai-edge-litert 2.3 on 100 faces and 100 other patches pasted on textures: 100 found, 4 false, AUC at least 0.9997"
TASK = Task(
    "blazeface",
    "faces pasted on textures; a TFLite file with weights of 16 bits",
    ("mediapipe", "scikit-image"),
    (NET,),
    score,
    {
        "found": Reference(1.0, wilson(100, 100)[0], 1, _SOURCE),
        "quiet": Reference(0.96, wilson(96, 100)[0], 1, _SOURCE),
        "AUC": Reference(0.9997, 0.99, 1, _SOURCE),
    },
)
