"""Networks of layers as files: every kind of layer comes back, hostile files are refused, C++ writes the same format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import strop
from strop.demo_data import lenet_path
from strop.errors import ModelError, OptionError, ShapeError, StropError, UnsupportedError
from strop.frontend import network as nw
from strop.frontend.network import stored
from strop.frontend.onnx import read_onnx
from strop.frontend.table import judge, read
from strop.ir.interp import run
from tests.frontend.network_bench import filled
from tests.frontend.test_network_layers import LAYERS
from tests.frontend.test_network_other_layers import LAYERS as OTHERS


@pytest.mark.parametrize("layer", [*LAYERS, *OTHERS], ids=lambda f: f.__name__)
def test_every_layer_comes_back(layer: object) -> None:
    bench = filled(layer, 4)  # type: ignore[arg-type]
    data = stored.dumps(bench.net)
    network, batch = stored.load(data)
    assert batch == 1 and stored.dumps(network) == data
    bench.net = network
    bench.check()


def small() -> nw.Network:
    net = nw.Network("small")
    x = net.add_input("x", "f32", (-1, 3, 8, 8))
    conv = net.add(nw.Convolution(4, (3, 3), np.ones((4, 3, 3, 3), np.float32)), x, name="conv")
    net.mark_output(net.add(nw.Activation("relu"), conv.output).output, "y")
    return net


def test_files_build_as_other_models_do(tmp_path: Path) -> None:
    path = tmp_path / "small.layers"
    stored.save(small(), path)
    given = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    engine = strop.build(path, level=0, shapes={"x": "batch:1..4(2)x3x8x8"})
    (wanted,) = run(read(small(), {"x": "1..4(2)x3x8x8"}), {"x": given}).values()
    np.testing.assert_allclose(engine(given), wanted, rtol=1e-5, atol=1e-5)
    verdicts, graph = judge(path.read_bytes(), {"x": (1, 3, 8, 8)})
    assert all(v.supported for v in verdicts) and len(graph.nodes) == len(verdicts)
    with pytest.raises(OptionError, match="the network has no such input"):
        read(path, {"z": (1,)})
    with pytest.raises(OptionError, match="axes of layers are no multiples"):
        read(path, {"x": "2..4%2x3x8x8"})
    with pytest.raises(ShapeError, match="a range does not fit a fixed axis"):
        read(path, {"x": "1x3x8x9"})
    with pytest.raises(ModelError, match="an input with free axes has no range"):
        read(path)


def test_files_that_are_refused(tmp_path: Path) -> None:
    data = stored.dumps(small())
    with pytest.raises(ModelError, match="cannot be read"):
        stored.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="cannot be written"):
        stored.save(small(), tmp_path / "no folder" / "x")
    for cut in (4, 12, 40, len(data) - 100):
        with pytest.raises(StropError):
            stored.load(data[:cut])
    size = int.from_bytes(data[8:16], "little")
    facts, blob = json.loads(data[16 : 16 + size]), data[16 + size :]

    def changed(**more: object) -> bytes:
        text = json.dumps({**facts, **more}).encode()
        return stored.MAGIC + len(text).to_bytes(8, "little") + text + blob

    layers = facts["layers"]
    for bad, message in (
        ([{**layers[0], "kind": "Teleport"}], "unknown kind of layer"),
        ([{**layers[0], "inputs": ["z"]}], "no tensor has this name"),
        ([{**layers[0], "fields": {"wings": 2}}], "the network is inconsistent"),
        ([{**layers[0], "fields": {**layers[0]["fields"], "kernel": {"array": [1 << 40, "f32", [4]]}}}], "an array leaves the file"),
    ):
        with pytest.raises(ModelError, match=message):
            stored.load(changed(layers=bad))
    strange = changed(layers=[{**layers[0], "fields": {**layers[0]["fields"], "stride": "wide"}}, layers[1]])
    with pytest.raises(StropError):
        read(strange, {"x": (1, 3, 8, 8)})
    net = nw.Network()
    nw.import_graph(net, read_onnx(lenet_path()))
    with pytest.raises(UnsupportedError, match="this kind of layer cannot be stored"):
        stored.dumps(net)


def test_changed_bytes_are_read_or_refused() -> None:
    data, rng = stored.dumps(small()), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        changed = bytearray(data)
        for at in rng.integers(8, len(data) - 432, rng.integers(1, 4)):  # the kernel's 432 bytes may be any
            changed[at] = rng.integers(256) if rng.random() < 0.5 else ord(rng.choice(list('0123456789-",[]{}:')))
        try:
            read(bytes(changed), {"x": (1, 3, 8, 8)})
        except StropError:
            refused += 1
    assert refused > 100
