"""SSD-MobileNetV2 for 24 classes of OpenImages: what is seen in ten photos of foolbox and scikit-image, each labelled as a whole.

The file lies in the packed assets of MediaPipe's Objectron, after the names of its classes. Photos go in whole, scaled to 300x300, from -1 to 1; a photo's
class is that of the strongest of 1,917 boxes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.suite.pictures import open_picture
from bench.suite.task import Array, Net, Run, Task, share

_PACKED = "mediapipe-objectron/objectron_solution_packed_assets.data"
#: Where the names end and the network begins.
_NAMES = 184
NET = Net("objectron_ssd", _PACKED, extract=lambda data: data[_NAMES:])
SIDE = 300
_PHOTOS, _SKIMAGE = "foolbox/foolbox/data", "scikit-image/skimage/data"
#: What is seen, by photo.
SEEN = {
    f"{_PHOTOS}/imagenet_00_243.jpg": "Dog",
    f"{_PHOTOS}/imagenet_16_251.jpg": "Dog",
    f"{_PHOTOS}/imagenet_01_559.jpg": "Chair",
    f"{_PHOTOS}/imagenet_06_609.jpg": "Car",
    f"{_PHOTOS}/imagenet_07_609.jpg": "Car",
    f"{_PHOTOS}/imagenet_11_630.jpg": "Footwear",
    f"{_SKIMAGE}/chelsea.png": "Cat",
    f"{_SKIMAGE}/coffee.png": "Coffee cup",
    f"{_SKIMAGE}/astronaut.png": "Person",
    f"{_SKIMAGE}/camera.png": "Person",
}


def names(folder: Path) -> list[str]:
    """Of the classes; the first stands for nothing."""
    return (folder / _PACKED).read_bytes()[:_NAMES].decode("ascii").splitlines()


def picture(path: Path) -> Array:
    """f32[1, 300, 300, 3]."""
    from PIL import Image

    scaled = open_picture(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.array(scaled, np.float32)[None] / 127.5 - 1


def score(folder: Path, run: Run) -> dict[str, float]:
    """Share of photos whose strongest box is of the right class."""
    known = names(folder)
    hits = 0
    for path, label in SEEN.items():
        logits = run(NET, {"normalized_input_image_tensor": picture(folder / path)})["raw_outputs/class_predictions"][0]
        hits += known[int(logits[:, 1:].max(0).argmax()) + 1] == label
    return {"top class": hits / len(SEEN)}


TASK = Task(
    "objectron_ssd",
    "what is seen in ten photos; an SSD as TFLite file with weights of 16 bits",
    ("@mediapipe/objectron", "foolbox", "scikit-image"),
    (NET,),
    score,
    {"top class": share(9, 10, "ai-edge-litert 2.3 on the same ten photos: 9; a loafer gets Bottle over Footwear")},
)
