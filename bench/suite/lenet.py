"""Handwritten digits: the LeNet of Strop's demonstration on MNIST digits that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.suite.task import Net, Run, Task, share
from strop import demo_data

NET = Net("lenet", str(demo_data.lenet_path()))


def score(folder: Path, run: Run) -> dict[str, float]:
    """The share of digits named rightly."""
    images, labels = demo_data.held_back_digits()
    named = [int(run(NET, {"input": image[None]})["logits"].argmax()) for image in images]
    return {"top-1": float(np.mean(np.asarray(named) == labels))}


TASK = Task(
    "lenet", "digits that the network was not trained on, of the demonstration's data", (), (NET,), score,
    {"top-1": share(1870, 1882, "onnxruntime 1.32 on the same 1,882 digits")},
)  # fmt: skip
