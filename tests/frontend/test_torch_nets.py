"""Whole PyTorch networks: layers, free dims, names, files, and engines against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'")

from torch import Tensor, nn  # noqa: E402
from torch.export import Dim  # noqa: E402

from strop.engine.build import build  # noqa: E402
from strop.engine.check import check as check_nodes  # noqa: E402
from strop.frontend.torch.reader import read  # noqa: E402
from strop.ir.shape import Sym  # noqa: E402
from tests.errors.command import run as command  # noqa: E402
from tests.frontend.torch_models import check, compare, leaves  # noqa: E402


class Block(nn.Module):
    """A convolution with a norm, and a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)) + x)


class Pictures(nn.Module):
    """A small classifier that gives its features too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> dict[str, Any]:
        features = self.blocks(self.stem(x))
        return {"scores": self.head(features.mean((2, 3))).softmax(-1), "features": [features, features.amax((2, 3))]}


class Tagger(nn.Module):
    """Embeddings, two bidirectional LSTM layers, scores per word."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.rnn = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
        self.scores = nn.Linear(12, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.scores(self.rnn(self.words(words))[0])  # type: ignore[no-any-return]


class Translator(nn.Module):
    """A transformer: encoder, decoder with a causal mask, learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Embedding(12, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True, norm_first=True), 2)

    def forward(self, source: Tensor, target: Tensor, padding: Tensor) -> Tensor:
        encoded = self.encoder(self._embed(source), src_key_padding_mask=padding)
        length = target.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        decoded = self.decoder(self._embed(target), encoded, tgt_mask=mask, memory_key_padding_mask=padding, tgt_is_causal=True)
        return decoded @ self.words.weight.t()

    def _embed(self, words: Tensor) -> Tensor:
        return self.words(words) + self.places(torch.arange(words.shape[1]))  # type: ignore[no-any-return]


def translated(batch: int, source: int, target: int) -> tuple[Tensor, ...]:
    padding = torch.zeros(batch, source, dtype=torch.bool)
    padding[0, -2:] = True
    return torch.randint(0, 20, (batch, source)), torch.randint(0, 20, (batch, target)), padding


def seeded(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    module = kind()
    for buffer in module.buffers():
        if buffer.dtype is torch.float32:
            buffer.uniform_(0.5, 1.5)
    return module.eval()


def test_nested_results_and_layers() -> None:
    graph = check(seeded(Pictures), (torch.randn(2, 3, 16, 16),))
    assert [v.name for v in graph.inputs] == ["x"] and len(graph.outputs) == 3
    sources = [s for node in graph.nodes for s in node.source]
    assert "stem/conv2d" in sources and any(s.startswith("blocks.1.norm/") for s in sources) and "head/linear" in sources


def test_weights_are_not_copied() -> None:
    module = seeded(Pictures)
    graph = read(module, example_inputs=(torch.randn(2, 3, 16, 16),))
    found = graph.values["blocks.0.conv.weight"].const
    assert found is not None and found.ctypes.data == module.blocks[0].conv.weight.data_ptr()  # type: ignore[index,union-attr,operator]


def test_free_batch_and_size() -> None:
    module = seeded(Pictures)
    free = {"x": {0: Dim("batch", min=1, max=4), 2: 4 * Dim("rows", min=2, max=8), 3: 4 * Dim("columns", min=2, max=8)}}
    graph = check(module, (torch.randn(2, 3, 16, 12),), dynamic_shapes=free)
    assert str(graph.inputs[0].type) == "f32[batch,3,(rows*4),(columns*4)]"
    assert graph.inputs[0].shape[0] == Sym("batch", 1, 2, 4)
    for shape in ((1, 3, 8, 32), (4, 3, 24, 8)):
        inputs = (torch.randn(shape),)
        compare(graph, inputs, leaves(module, inputs), 1e-5, 1e-5)


def test_ranges_that_the_caller_gives() -> None:
    free = {"x": {0: Dim.AUTO, 2: 4 * Dim("rows", min=2, max=80)}}
    example = (torch.randn(2, 3, 16, 16),)
    graph = read(seeded(Pictures), {"x": "1..8(4)x3x16..64(32)%16x16"}, example, free)
    assert str(graph.inputs[0].type) == "f32[x_0,3,(x_2*16),16]" or "*16" in str(graph.inputs[0].type)
    assert graph.inputs[0].shape[0] == Sym("x_0", 1, 4, 8)
    fixed = read(seeded(Pictures), {"x": "3x3x8x16"}, example, free)
    assert fixed.inputs[0].shape == (3, 3, 8, 16)
    named = read(seeded(Pictures), {"x_0": "2..6"}, example, free)
    assert named.inputs[0].shape[0] == Sym("x_0", 2, 6, 6)


def test_names_of_dims_belong_to_their_inputs() -> None:
    source, target, padding = translated(2, 6, 5)
    batch, length, more = Dim("batch", min=1, max=4), Dim("length", min=2, max=12), Dim("more", min=3, max=12)
    free = {"padding": {1: length, 0: batch}, "target": (batch, more), "source": {0: batch, 1: length}}
    example = {"source": source, "target": target, "padding": padding}
    for inputs in (tuple(example.values()), example):
        graph = read(seeded(Translator), example_inputs=inputs, dynamic_shapes=free)
        assert [str(v.type) for v in graph.inputs] == ["i64[batch,length]", "i64[batch,more]", "bool[batch,length]"]
        assert graph.inputs[1].shape[1] == Sym("more", 3, 5, 12)


def test_a_tagger_of_free_length() -> None:
    module = seeded(Tagger)
    free = {"words": {0: Dim("batch", min=1, max=4), 1: Dim("length", min=1, max=20)}}
    graph = check(module, (torch.randint(0, 30, (2, 7)),), dynamic_shapes=free)
    assert [n.op.label for n in graph.nodes].count("lstm") == 2
    for shape in ((1, 1), (3, 12)):
        inputs = (torch.randint(0, 30, shape),)
        compare(graph, inputs, leaves(module, inputs), 1e-5, 1e-5)


def test_a_transformer() -> None:
    module = seeded(Translator)
    graph = check(module, translated(2, 6, 5), 1e-4, 1e-4)
    assert [n.op.label for n in graph.nodes].count("attention") == 6


def test_a_transformer_of_free_length() -> None:
    module = seeded(Translator)
    batch, length, more = Dim("batch", min=1, max=4), Dim("length", min=2, max=12), Dim("more", min=2, max=12)
    free = {"source": {0: batch, 1: length}, "target": {0: batch, 1: more}, "padding": {0: batch, 1: length}}
    graph = check(module, translated(2, 6, 5), 1e-4, 1e-4, dynamic_shapes=free)
    for shape in ((1, 3, 4), (3, 12, 2)):
        inputs = translated(*shape)
        compare(graph, inputs, leaves(module, inputs), 1e-4, 1e-4)


def test_keyword_arguments() -> None:
    source, target, padding = translated(1, 4, 3)
    graph = read(seeded(Translator), example_inputs={"source": source, "target": target, "padding": padding})
    assert [v.name for v in graph.inputs] == ["source", "target", "padding"]


def test_files_and_programs(tmp_path: Path) -> None:
    module, inputs = seeded(Tagger), (torch.randint(0, 30, (2, 7)),)
    program = torch.export.export(module, inputs)
    torch.export.save(program, tmp_path / "tagger.pt2")
    want = leaves(module, inputs)
    for model in (program, tmp_path / "tagger.pt2", str(tmp_path / "tagger.pt2")):
        compare(read(model), inputs, want, 1e-5, 1e-5)
    again = torch.export.export(module, inputs)
    assert [str(n.target) for n in program.graph.nodes] == [str(n.target) for n in again.graph.nodes]  # left as it was


def test_the_command(tmp_path: Path) -> None:
    module, inputs = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (torch.randn(2, 4),)
    net, engine, x = tmp_path / "net.pt2", tmp_path / "net.strop", tmp_path / "x.npy"
    torch.export.save(torch.export.export(module, inputs), net)
    np.save(x, inputs[0].numpy())
    done = command("check", net)
    assert done.code == 0 and "0/linear" in done.out and "aten.linear.default" in done.out
    assert "matmul" in command("dump", net).out
    assert command("build", net, "-o", engine, "--level", "0").code == 0
    assert command("run", engine, "--input", f"input={x}", "--output", tmp_path / "y.npz").code == 0
    (got,) = np.load(tmp_path / "y.npz").values()
    np.testing.assert_allclose(got, leaves(module, inputs)[0][1], 1e-5, 1e-5)


def test_an_engine_of_free_size() -> None:
    module = seeded(Pictures)
    free = {"x": {0: Dim("batch", min=1, max=4), 2: 4 * Dim("rows", min=2, max=8)}}
    engine = build(module, example_inputs=(torch.randn(2, 3, 16, 16),), dynamic_shapes=free, level=0, threads=1)
    for shape in ((2, 3, 16, 16), (1, 3, 32, 16)):
        inputs = (torch.randn(shape),)
        got = engine.run({"x": inputs[0].numpy()})
        for (path, want), have in zip(leaves(module, inputs), got.values(), strict=True):
            np.testing.assert_allclose(have, want, 1e-4, 1e-5, err_msg=path)


def test_every_node_has_a_fate() -> None:
    report = check_nodes(seeded(Pictures), example_inputs=(torch.randn(1, 3, 16, 16),))
    fates = {node.name: node.fate for node in report.nodes}
    assert fates["stem/conv2d"] in ("kernel", "fused") and "unsupported" not in fates.values() and "unknown" not in fates.values()


def torchvision_net(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network of torchvision with random weights, and inputs."""
    vision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    models = vision.models
    kinds: dict[str, Callable[[], nn.Module]] = {
        "vit": lambda: models.VisionTransformer(64, 16, 2, 4, 64, 128),
        "swin": lambda: models.SwinTransformer([4, 4], 24, [2, 2], [3, 6], [4, 4], num_classes=10),
        "swin_v2": lambda: models.SwinTransformer(
            [4, 4], 24, [2, 2], [3, 6], [4, 4], num_classes=10, block=models.swin_transformer.SwinTransformerBlockV2,
            downsample_layer=models.swin_transformer.PatchMergingV2,
        ),
        "maxvit": lambda: models.MaxVit((64, 64), 16, 2, [16, 32], [1, 1], 8, 0.0, num_classes=10),
        "lraspp": lambda: models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
        "deeplab": lambda: models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None),
        "ssdlite": lambda: models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).backbone,
        "retinanet": lambda: models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None).backbone,
        "raft": lambda: models.optical_flow.raft_small(weights=None),
        "googlenet": lambda: models.googlenet(weights=None, init_weights=False, aux_logits=False),
        "r3d": lambda: models.video.r3d_18(weights=None),
    }  # fmt: skip
    torch.manual_seed(0)
    net = kinds[name]() if name in kinds else getattr(models, name)(weights=None)
    size = (1, 3, 4, 32, 32) if name == "r3d" else (1, 3, 128, 128) if name == "raft" else (1, 3, 64, 64)
    return net.eval(), tuple(torch.randn(size) for _ in range(2 if name == "raft" else 1))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "swin"])
def test_torchvision(name: str) -> None:
    check(*torchvision_net(name), 1e-3, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "squeezenet1_1", "densenet121", "googlenet", "regnet_y_400mf",
        "mnasnet0_5", "convnext_tiny", "vit", "swin_v2", "maxvit", "lraspp", "deeplab", "ssdlite", "retinanet", "raft", "r3d",
    ],
)  # fmt: skip
def test_more_of_torchvision(name: str) -> None:
    check(*torchvision_net(name), 1e-3, 1e-3)
