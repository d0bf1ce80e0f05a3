"""The trained ResNet-50: its package's files, and what its weights are called."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import trained_resnet
from strop.errors import ModelError

RNG = np.random.default_rng(0)
ARRAYS: dict[str, Any] = {
    name: RNG.random(shape, np.float32)
    for name, shape in {
        "conv1/kernel": (7, 7, 3, 4), "conv1/bias": (4,), "bn_conv1/gamma": (4,), "bn_conv1/beta": (4,), "bn_conv1/moving_mean": (4,),
        "bn_conv1/moving_variance": (4,), "res4f_branch2b/kernel": (3, 3, 2, 5), "res3a_branch1/kernel": (1, 1, 4, 8), "bn3a_branch1/gamma": (8,),
        "fc1000/kernel": (6, 9), "fc1000/bias": (9,),
    }.items()
}  # fmt: skip


def _write(folder: Path, arrays: dict[str, Any], **more: object) -> None:
    data = b"".join(array.tobytes() for array in arrays.values())
    names = ["one.bin", "two.bin"]
    for name, part in zip(names, (data[:101], data[101:]), strict=True):
        (folder / name).write_bytes(part)
    weights = [{"name": name, "shape": list(array.shape), "dtype": "float32", **more} for name, array in arrays.items()]
    (folder / "model.json").write_text(json.dumps({"weightsManifest": [{"paths": names, "weights": weights}]}), encoding="utf-8")


def test_a_layers_model_is_read_across_its_shards(tmp_path: Path) -> None:
    _write(tmp_path, ARRAYS)
    found = trained_resnet.read(tmp_path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_files_that_are_not_of_this_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the layers model"):
        trained_resnet.read(tmp_path)
    _write(tmp_path, ARRAYS, quantization={"scale": 1.0})
    with pytest.raises(ModelError, match="not stored in float32"):
        trained_resnet.read(tmp_path)
    _write(tmp_path, ARRAYS)
    (tmp_path / "two.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot read the layers model"):
        trained_resnet.read(tmp_path)


def test_weights_have_the_names_and_the_order_of_torchvision() -> None:
    found = trained_resnet.state_dict(ARRAYS)
    assert found["conv1.weight"].shape == (4, 3, 7, 7) and found["conv1.weight"][1, 2, 3, 4] == ARRAYS["conv1/kernel"][3, 4, 2, 1]
    np.testing.assert_array_equal(found["bn1.running_mean"], ARRAYS["bn_conv1/moving_mean"] - ARRAYS["conv1/bias"])
    np.testing.assert_array_equal(found["bn1.running_var"], ARRAYS["bn_conv1/moving_variance"])
    assert found["layer3.5.conv2.weight"].shape == (5, 2, 3, 3) and found["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1)
    assert "layer2.0.downsample.1.weight" in found and "conv1.bias" not in found
    np.testing.assert_array_equal(found["fc.weight"], ARRAYS["fc1000/kernel"].T)
    with pytest.raises(ModelError, match="not one of ResNet-50's"):
        trained_resnet.state_dict({"dense/kernel": np.zeros((2, 2), np.float32)})


def test_pictures_have_blue_first_and_their_mean_taken_away() -> None:
    found = trained_resnet.picture(np.full((4, 5, 3), (200, 100, 50), np.uint8))
    assert found.shape == (1, 3, 4, 5) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, :, 0, 0], np.array([50, 100, 200]) - trained_resnet.MEAN)


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision has the module")
def test_the_module_halves_pictures_in_the_first_convolution_of_a_block() -> None:
    from bench import best_torch

    net: Any = best_torch.resnet50()
    block = net.layer2[0]
    assert block.conv1.stride == (2, 2) and block.conv2.stride == (1, 1) and block.bn1.eps == best_torch.EPSILON
    assert net.layer2[1].conv1.stride == (1, 1)
