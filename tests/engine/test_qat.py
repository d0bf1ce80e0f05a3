"""Quantization-aware training: the module rounds as the engine does, and the engine has its scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'")

from torch import nn  # noqa: E402

import strop  # noqa: E402
from strop.engine.build import on_this_machine, portable  # noqa: E402
from strop.ops.quantize import Quantize  # noqa: E402
from strop.quantize import prepare_qat  # noqa: E402
from strop.quantize.pipeline import quantize  # noqa: E402
from strop.quantize.precision import decide  # noqa: E402
from strop.trace import Trace  # noqa: E402


class Net(nn.Module):
    """What integers flow through: batch norms, a residual, depthwise, a concatenation of two grids, pools, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.deep_norm = nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8)
        self.point = nn.Conv2d(8, 8, 1)
        self.side = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.norm(self.stem(x)))
        y = nn.functional.hardswish(self.deep_norm(self.deep(x)))
        x = torch.relu(self.point(y) + x)
        x = torch.cat([nn.functional.max_pool2d(x, 2), nn.functional.avg_pool2d(self.side(x), 2)], 1)
        return self.head(x.mean((2, 3)))


def trained(observer: str, steps: int = 6, **options: Any) -> tuple[Any, Any]:
    """A module after a few steps, and inputs."""
    torch.manual_seed(0)
    net = Net()
    for norm in (net.norm, net.deep_norm):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
    x = torch.randn(16, 3, 16, 16)
    target = torch.randint(0, 5, (16,))
    qat = prepare_qat(net, (x[:1],), observer=observer, **options)
    optimizer = torch.optim.SGD(qat.parameters(), 0.05)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(qat(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    return qat.eval(), x


@pytest.mark.parametrize("observer", ["moving_average", "learned"])
def test_the_engine_computes_what_was_trained(observer: str, tmp_path: Path) -> None:
    qat, x = trained(observer)
    with torch.no_grad():
        wanted = qat(x[:1]).numpy()
    engine = strop.build(qat, level=0, threads=1, precision="int8")
    assert [len(names) for names in engine.manifest["precision"]["layers"].values()] == [5]
    assert np.abs(engine(x[:1].numpy()) - wanted).max() <= 0.02 * np.abs(wanted).max()
    qat.ranges.save(tmp_path / "net.ranges")
    again = strop.build(qat.to_graph(), level=0, threads=1, precision="int8", ranges=tmp_path / "net.ranges")
    np.testing.assert_array_equal(engine(x[:1].numpy()), again(x[:1].numpy()))


@pytest.mark.parametrize("observer", ["moving_average", "learned"])
def test_every_value_is_within_a_step_and_on_the_trained_grid(observer: str) -> None:
    qat, x = trained(observer)
    graph = quantize(portable(qat, None, Trace()), decide(qat.to_graph(), "int8"), qat.ranges)
    stored = [n for n in graph.nodes if isinstance(n.op, Quantize)]
    by_name = {v.name: v for v in qat._numbers}
    assert {n.operand(0).name for n in stored} == set(by_name) and len(stored) >= 6
    for node in stored:
        grid = qat.grid(by_name[node.operand(0).name])
        zero = node.operand(2).const if node.has(2) else 0
        assert float(np.asarray(node.operand(1).const)) == grid.scale and int(np.asarray(zero)) == grid.zero
    graph.set_outputs([n.output for n in stored], [f"q{k}" for k in range(len(stored))])
    graph.prune()
    engine = on_this_machine(graph)
    compared = 0
    for image in x[:4]:
        got = engine.run({engine.inputs[0].name: image[None].numpy()})
        seen: dict[str, Any] = {}
        inner = qat._rounded
        qat._rounded = lambda value, array, inner=inner, seen=seen: seen.setdefault(value.name, inner(value, array))
        with torch.no_grad():
            qat(image[None])
        del qat._rounded
        for k, node in enumerate(stored):
            name = node.operand(0).name
            grid = qat.grid(by_name[name])
            integers = np.rint(seen[name].numpy() / np.float32(grid.scale)).astype(int) + grid.zero
            far = np.abs(integers - got[f"q{k}"].astype(int))
            assert far.max() <= 1, (name, far.max())
            assert (far > 0).mean() < 0.03, name
            compared += far.size
    assert compared > 4000


def test_plain_floats_and_layers_that_stay_floats() -> None:
    qat, x = trained("moving_average", layer_precision={"head*": "fp32"})
    engine = strop.build(qat, level=0, threads=1, precision="int8")
    assert [k for k, names in engine.manifest["precision"]["layers"].items() if any("head" in n or "linear" in n for n in names)] == ["fp32"]
    floats = strop.build(qat, level=0, threads=1)
    with torch.no_grad(), qat.plain():
        plain = qat(x[:1]).numpy()
    np.testing.assert_allclose(floats(x[:1].numpy()), plain, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert np.abs(qat(x[:1]).numpy() - plain).max() > 1e-4
    assert len(strop.build(qat.to_graph(batch=3), level=0, threads=1)(x[:3].numpy())) == 3


def test_a_table_is_a_start() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    x = torch.randn(8, 3, 16, 16)
    ranges = strop.calibrate(net, x.numpy(), example_inputs=(x[:1],))
    for observer in ("moving_average", "learned"):
        qat = prepare_qat(net, (x[:1],), ranges=ranges, observer=observer).eval()
        qat(x)
        engine = strop.build(qat, level=0, threads=1, precision="int8")
        plain = strop.build(net, example_inputs=(x[:1],), level=0, threads=1, precision="int8", ranges=ranges)
        wanted = plain(x[:1].numpy())
        assert np.abs(engine(x[:1].numpy()) - wanted).max() <= 0.03 * np.abs(wanted).max()
