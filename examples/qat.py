"""Quantization-aware training of a small depthwise network on MNIST digits.

    pip install 'strop[torch]' && python examples/qat.py

Trains in floats on most of the demonstration's digits, calibrates int8 engines, goes on training a little with ``prepare_qat``, and prints how many of
the digits that nothing was trained on each engine names. Of the engines ``minmax`` and ``mse`` are calibrated, ``trained`` has the ranges of the
training. Activations are unbounded and weights of depthwise layers differ much between channels, which is what rounding after training suffers from.
"""

import numpy as np
import torch
from torch import nn

import strop
from strop import demo_data
from strop.quantize import prepare_qat

TRAINED, FLOAT_EPOCHS, QAT_EPOCHS, BATCH = 1282, 40, 12, 32


class Block(nn.Sequential):
    """A depthwise and a 1x1 convolution, each with a batch norm and a ReLU."""

    def __init__(self, c: int, o: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(c, c, 3, stride, 1, groups=c, bias=False), nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()
        )


class Small(nn.Sequential):
    """Digits [N, 1, 28, 28] to logits [N, 10]."""

    def __init__(self) -> None:
        blocks = [Block(8, 16, 2), Block(16, 24, 1), Block(24, 32, 2), Block(32, 32, 1)]
        super().__init__(nn.Conv2d(1, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int, rate: float) -> None:
    """Adam, the rate falling as half a cosine."""
    optimizer = torch.optim.Adam(net.parameters(), rate)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


def spread(net: Small) -> None:
    """Makes channels between convolutions differ by factors of up to 30, which changes nothing in floats and is what trained networks often have."""
    for block in (m for m in net if isinstance(m, Block)):
        factor = torch.logspace(-0.75, 0.75, block[1].num_features)[torch.randperm(block[1].num_features)]
        block[1].weight.data *= factor
        block[1].bias.data *= factor
        block[3].weight.data /= factor.reshape(1, -1, 1, 1)


def right(engine: strop.Engine, images: np.ndarray, labels: np.ndarray) -> str:
    """The share of digits named rightly."""
    return f"{100 * np.mean([engine(x[None]).argmax() == y for x, y in zip(images, labels)]):.2f} %"


def main() -> None:
    torch.manual_seed(1)
    images, labels = demo_data.held_back_digits()
    x, y = torch.from_numpy(images[:TRAINED]), torch.from_numpy(labels[:TRAINED])
    rest = images[TRAINED:], labels[TRAINED:]
    net = Small()
    train(net, x, y, FLOAT_EPOCHS, 3e-3)
    spread(net)
    given = {"example_inputs": (x[:1],), "level": 0, "threads": 1}
    print(f"fp32: {right(strop.build(net, **given), *rest)} of {len(rest[0])} digits")
    for calibrator in ("minmax", "mse"):
        engine = strop.build(net, precision="int8", calibration=images[:256], calibrator=calibrator, **given)
        print(f"int8, {calibrator}: {right(engine, *rest)}")
    qat = prepare_qat(net, (x[:1],))
    train(qat, x, y, QAT_EPOCHS, 3e-4)
    print(f"int8, trained: {right(strop.build(qat, precision='int8', level=0, threads=1), *rest)}")


if __name__ == "__main__":
    main()
