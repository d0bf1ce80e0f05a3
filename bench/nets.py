"""The nets that are measured: read from a folder, exported from torchvision where that is installed, or made here.

    python bench/nets.py --models DIR                    lists the nets in a folder with their input shapes
    python bench/nets.py --export DIR [--only a,b]       writes .onnx and .pt2 files of torchvision's nets
    python bench/nets.py --small DIR                     writes LeNet and nets under 1 MFLOP

Exported and small nets have random weights that depend on nothing but their names: they are for speed and for agreement
between runtimes, not for accuracy (LeNet is trained).
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from strop import demo_data
from strop.errors import ModelError, OptionError, StropError

OPSET = 17

#: torchvision's name and the side of its square images.
TORCHVISION = {
    "resnet18": 224,
    "resnet50": 224,
    "mobilenet_v2": 224,
    "mobilenet_v3_large": 224,
    "efficientnet_b0": 224,
    "squeezenet1_1": 224,
    "vgg16": 224,
    "googlenet": 224,
    "inception_v3": 299,
    "densenet121": 224,
    "shufflenet_v2_x1_0": 224,
    "vit_b_16": 224,
    "convnext_tiny": 224,
}


@dataclass(frozen=True)
class Net:
    """A net in a file.

    Attributes:
        name: the file's name without its ending.
        path: of the .onnx file.
        inputs: (name, shape) of each; a dim that is not fixed is 0.
    """

    name: str
    path: Path
    inputs: tuple[tuple[str, tuple[int, ...]], ...]

    def __str__(self) -> str:
        shapes = ", ".join(f"{name}: {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in self.inputs)
        return f"{self.name}  {shapes}"


def find(folder: Path, only: Sequence[str] = ()) -> list[Net]:
    """The nets in a folder, by name; ``only`` some of them, in the order asked for.

    Raises:
        OptionError: no nets there, or not those asked for.
        ModelError: a file that is no ONNX model.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.onnx"))}
    missing = [name for name in only if name not in paths]
    if missing or not paths:
        raise OptionError(
            "no such nets", where=str(folder), got=", ".join(missing) or "no .onnx files", expected=", ".join(paths) or None,
            hint="bench/nets.py --export DIR makes them where torchvision is installed",
        )  # fmt: skip
    return [Net(name, paths[name], _inputs(read(paths[name], weights=False))) for name in only or paths]


def read(path: Path, weights: bool = True) -> onnx.ModelProto:
    """The model in a file; ModelError when there is none."""
    try:
        return onnx.load(str(path), load_external_data=weights)
    except Exception as error:  # the reader of protobuf raises its own
        raise ModelError("cannot read the model", where=str(path), got=error, expected="an ONNX file") from None


def _inputs(model: onnx.ModelProto) -> tuple[tuple[str, tuple[int, ...]], ...]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        (value.name, tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim))
        for value in model.graph.input
        if value.name not in weights
    )


# ---- export


def export(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """Writes .onnx and .pt2 files of torchvision's nets.

    Raises:
        OptionError: torchvision is not installed, or has no such net.
    """
    try:
        import torch
        import torchvision
    except ImportError as error:
        raise OptionError(
            "nets are exported from torchvision", got=error, hint="pip install torch torchvision onnx, or --models DIR"
        ) from None
    unknown = [name for name in only if name not in TORCHVISION]
    if unknown:
        raise OptionError("no such nets", got=", ".join(unknown), expected=", ".join(TORCHVISION))
    folder.mkdir(parents=True, exist_ok=True)
    torch.backends.mha.set_fastpath_enabled(False)  # attention as ops that ONNX has
    written = []
    for name in only or TORCHVISION:
        side = TORCHVISION[name]
        torch.manual_seed(zlib.crc32(name.encode()))
        aux = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
        module = getattr(torchvision.models, name)(weights=None, **aux).eval()
        _draw_statistics(module, torch)
        example = torch.randn(1, 3, side, side)
        path = folder / f"{name}.onnx"
        with torch.no_grad():
            _whole(path, lambda out: _export_onnx(torch, module, example, out))  # noqa: B023  called at once
        pair, batch = torch.randn(2, 3, side, side), torch.export.Dim("n", max=512)
        program = torch.export.export(module, (pair,), dynamic_shapes=({0: batch},))
        _whole(path.with_suffix(".pt2"), lambda out: torch.export.save(program, out))  # noqa: B023  called at once
        written.append(path)
    return written


def _export_onnx(torch: Any, module: Any, example: Any, out: str) -> None:
    torch.onnx.export(
        module, (example,), out, opset_version=OPSET, input_names=["input"], output_names=["output"], dynamo=False
    )


def _draw_statistics(module: Any, torch: Any) -> None:
    """Batch norms of an untrained net do nothing; these are drawn so that they do, and stay tame."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.2, 0.2),
                (layer.running_mean, -0.2, 0.2),
                (layer.running_var, 0.5, 1.5),
            ):
                torch.nn.init.uniform_(tensor, low, high)


def _whole(path: Path, write: Callable[[str], object]) -> None:
    """Writes a file under another name first."""
    temporary = path.with_name(f".{secrets.token_hex(6)}{path.suffix}")
    try:
        write(str(temporary))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# ---- small nets


class _Maker:
    """A sequential net under construction."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self._name, self._shape, self._last = name, shape, "x"
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, op: str, *shapes: tuple[int, ...], **attributes: Any) -> _Maker:
        """Appends a node with weights of these shapes."""
        names = []
        for shape in shapes:
            name = f"w{len(self._weights)}"
            rng = np.random.default_rng(zlib.crc32(f"{self._name} {name}".encode()))
            scale = np.sqrt(2.0 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
            self._weights.append(numpy_helper.from_array((scale * rng.standard_normal(shape)).astype(np.float32), name))
            names.append(name)
        out = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, [self._last, *names], [out], name=f"{op.lower()}{len(self._nodes)}", **attributes))
        self._last = out
        return self

    def finish(self, shape: tuple[int, ...]) -> onnx.ModelProto:
        """The checked model with one output."""
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self._shape)],
            [helper.make_tensor_value_info(self._last, TensorProto.FLOAT, shape)],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 9
        onnx.checker.check_model(model, full_check=True)
        return model


def relu_of_one() -> onnx.ModelProto:
    """One element, one step: what remains is the call."""
    return _Maker("relu1", (1, 1)).add("Relu").finish((1, 1))


def sine() -> onnx.ModelProto:
    """1 to 16 to 16 to 1: the regression with which microcontroller tutorials begin; 0.6 kFLOP."""
    net = _Maker("sine", (1, 1))
    net.add("Gemm", (16, 1), (16,), transB=1).add("Relu").add("Gemm", (16, 16), (16,), transB=1).add("Relu")
    return net.add("Gemm", (1, 16), (1,), transB=1).finish((1, 1))


def perceptron() -> onnx.ModelProto:
    """784 to 128 to 64 to 10; 0.2 MFLOP."""
    net = _Maker("perceptron", (1, 784))
    net.add("Gemm", (128, 784), (128,), transB=1).add("Relu").add("Gemm", (64, 128), (64,), transB=1).add("Relu")
    return net.add("Gemm", (10, 64), (10,), transB=1).add("Softmax", axis=1).finish((1, 10))


def keywords() -> onnx.ModelProto:
    """A separable convolutional net over 49 frames of 10 coefficients to 12 words, narrow; 0.5 MFLOP."""
    net = _Maker("keywords", (1, 1, 49, 10))
    net.add("Conv", (16, 1, 10, 4), (16,), strides=[2, 2], pads=[4, 1, 5, 1]).add("Relu")
    for _ in range(3):
        net.add("Conv", (16, 1, 3, 3), (16,), group=16, pads=[1] * 4).add("Relu")
        net.add("Conv", (16, 16, 1, 1), (16,)).add("Relu")
    net.add("GlobalAveragePool").add("Flatten", axis=1)
    return net.add("Gemm", (12, 16), (12,), transB=1).add("Softmax", axis=1).finish((1, 12))


SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    "relu1": relu_of_one,
    "sine": sine,
    "perceptron": perceptron,
    "keywords": keywords,
}


def write_small(folder: Path) -> list[Path]:
    """Writes LeNet and the nets under 1 MFLOP."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "lenet.onnx"]
    _whole(written[0], lambda out: shutil.copyfile(demo_data.lenet_path(), out))
    for name, make in SMALL.items():
        written.append(folder / f"{name}.onnx")
        _whole(written[-1], lambda out: onnx.save(make(), out))  # noqa: B023  called at once
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description="The nets that are measured.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--models", type=Path, metavar="DIR", help="list the .onnx files of a folder")
    what.add_argument("--export", type=Path, metavar="DIR", help="export torchvision's nets")
    what.add_argument("--small", type=Path, metavar="DIR", help="write LeNet and nets under 1 MFLOP")
    parser.add_argument("--only", default="", metavar="NAMES", help="some of them, separated by commas")
    given = parser.parse_args(arguments)
    only = [name for name in given.only.split(",") if name]
    try:
        if given.models is not None:
            print("\n".join(map(str, find(given.models, only))))
        else:
            paths = export(given.export, only) if given.export is not None else write_small(given.small)
            print("\n".join(map(str, paths)))
    except StropError as error:
        print(f"nets.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
