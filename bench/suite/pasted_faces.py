"""Faces of scikit-image's ``lfw_subset`` pasted at known places on textures, and how many of them a detector finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.suite.pictures import open_picture
from bench.suite.silero import area
from bench.suite.task import Array

_SKIMAGE = "scikit-image/skimage/data"


def pasted(folder: Path, sizes: Sequence[tuple[int, int]], sides: Sequence[int]) -> Iterator[tuple[Array, tuple[int, int, int], bool]]:
    """(f32[H, W] from 0 to 255, (top, left, side) of the patch, whether it is a face); sizes (H, W) and sides take turns."""
    from PIL import Image

    patches = np.load(folder / _SKIMAGE / "lfw_subset.npy", allow_pickle=False)
    textures = [open_picture(folder / _SKIMAGE / f"{name}.png").convert("L") for name in ("brick", "grass", "gravel")]
    rng = np.random.default_rng(0)
    for number, patch in enumerate(patches):
        height, width = sizes[number % len(sizes)]
        side = sides[number % len(sides)]
        ground = np.array(textures[number % len(textures)].resize((width, height)), np.float32)
        top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        gray = Image.fromarray(np.uint8(np.clip(patch, 0, 1) * 255)).resize((side, side), Image.Resampling.BICUBIC)
        ground[top : top + side, left : left + side] = np.array(gray, np.float32)
        yield ground, (top, left, side), number < len(patches) // 2


def shares(peaks: Sequence[float], truth: Sequence[bool], threshold: float) -> dict[str, float]:
    """Share of faces with a peak above a threshold, of other patches with none, and the AUC."""
    p, t = np.array(peaks), np.array(truth)
    return {"found": float((p[t] > threshold).mean()), "quiet": float((p[~t] <= threshold).mean()), "AUC": area(p, t)}
