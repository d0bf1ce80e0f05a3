"""PyTorch as its users have it, eager, in its environment: a peer for ``bench/best.py``. A script: nothing of Strop is imported here.

    python best_torch.py outputs NET.npz SAMPLES.npz OUT.npz     the output of every sample, by the sample's key
    python best_torch.py resnet50 FOLDER                         writes resnet50.onnx of resnet50.npz
    python best_torch.py tagger FOLDER                           trains the tagger: tagger.onnx, tagger.npz and sentences tagger.samples.npz

A net is a file of weights by the names of its state dict; the file's name says which module they belong to. The tagger restores capitals and
punctuation: it reads words in lower case and says of each whether it begins with a capital, and what follows it. Its text is Python's own language reference
(``pydoc_data.topics``), cut into stretches of ``LENGTH`` words; one half trains it, sentences are taken of the other.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

here = str(Path(__file__).resolve().parent)
sys.path[:] = [p for p in sys.path if p != here]

import torch  # noqa: E402  only behind the line above is it the package
from torch import nn  # noqa: E402

#: Words of a sentence, words that are known, and the tagger's sizes: those that PyTorch's tutorial on taggers calls usual.
LENGTH, WORDS, SIZE = 20, 4000, 64
#: Passes over the text, and sentences of a step.
EPOCHS, BATCH = 4, 32
#: What batch norms of the trained ResNet-50 add to variances.
EPSILON = 1e-3
#: What may follow a word: nothing, a comma, the end of a sentence, another mark.
_MARKS = ("", ",", ".")


class LeNet(nn.Module):
    """Digits [N, 1, 28, 28] to scores [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x: Any) -> Any:
        pool = nn.functional.max_pool2d
        x = pool(self.conv2(pool(self.conv1(x), 2)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class Tagger(nn.Module):
    """Words i64[1, T] to scores [1, T, 8]: a table, two bidirectional LSTMs, a layer per word."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, SIZE)
        self.lstm = nn.LSTM(SIZE, SIZE, 2, batch_first=True, bidirectional=True)
        self.tags = nn.Linear(2 * SIZE, 2 * (len(_MARKS) + 1))

    def forward(self, words: Any) -> Any:
        return self.tags(self.lstm(self.words(words))[0])


def resnet50() -> nn.Module:
    """ResNet-50 with its strides in the first convolutions of blocks, as the trained weights expect (``trained_resnet.py``)."""
    import torchvision

    net: nn.Module = torchvision.models.resnet50(weights=None)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = EPSILON
        elif isinstance(part, torchvision.models.resnet.Bottleneck):
            part.conv1.stride, part.conv2.stride = part.conv2.stride, part.conv1.stride
    return net


def module(file: str) -> nn.Module:
    """The net of a file of weights, in inference mode.

    Raises:
        LookupError: the weights are not those of the net.
    """
    name = Path(file).stem
    own: dict[str, Callable[[], nn.Module]] = {"lenet": LeNet, "tagger": Tagger, "resnet50": resnet50}
    if name in own:
        net = own[name]()
    else:
        import torchvision

        net = getattr(torchvision.models, name)(weights=None)
    with np.load(file, allow_pickle=False) as stored:
        state = {key: torch.from_numpy(stored[key]) for key in stored.files}
    told = net.load_state_dict(state, strict=False)
    missing = [key for key in told.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or told.unexpected_keys:
        raise LookupError(f"the weights are not {name}'s: without {missing[:3]}, besides {told.unexpected_keys[:3]}")
    return net.eval()


class Net:
    """A module and its input."""

    def __init__(self, task: Any) -> None:
        torch.set_num_threads(task.threads)
        torch.set_num_interop_threads(1)
        self._module = module(str(task.model))
        self._inputs = [torch.from_numpy(array) for array in task.inputs.values()]
        self._result: Any = None
        self.version = torch.__version__
        self.notes: list[str] = []
        self.calls: dict[str, Callable[[], object]] = {"eager": self._run}

    def _run(self) -> None:
        with torch.inference_mode():
            self._result = self._module(*self._inputs)

    def outputs(self) -> list[Any]:
        """Of the last inference."""
        return [self._result.numpy()]


def load(task: Any) -> Net:
    """The module of a file of weights."""
    return Net(task)


def outputs(net: str, samples: str, out: str) -> None:
    """Writes the output of every sample."""
    torch.set_num_threads(1)
    found = module(net)
    with np.load(samples, allow_pickle=False) as stored, torch.inference_mode():
        np.savez(out, **{key: found(torch.from_numpy(stored[key])).numpy() for key in stored.files})


def export_resnet50(folder: str) -> None:
    """Writes the ONNX file of the weights there."""
    place = Path(folder)
    example = (torch.zeros(1, 3, 224, 224),)
    net = module(str(place / "resnet50.npz"))
    torch.onnx.export(net, example, str(place / "resnet50.onnx"), opset_version=17, input_names=["picture"], output_names=["scores"], dynamo=False)


# ---- the tagger


def tagged_words() -> tuple[list[str], list[int]]:
    """All words of the text in lower case, and what there is to be said of each: 4 if it begins with a capital, and the place of what follows in _MARKS."""
    from pydoc_data.topics import topics

    words, tags = [], []
    for name in sorted(topics):
        for word, mark in re.findall(r"([A-Za-z]+)([^A-Za-z\s]*)", topics[name]):
            first = mark[:1].replace("!", ".").replace("?", ".")
            words.append(word.lower())
            tags.append((len(_MARKS) + 1) * word[0].isupper() + (_MARKS.index(first) if first in _MARKS else len(_MARKS)))
    return words, tags


def sentences() -> tuple[Any, Any]:
    """Words and tags i64[N, LENGTH]; word 0 is any that is not known."""
    words, tags = tagged_words()
    known = {word: k + 1 for k, (word, _) in enumerate(sorted(Counter(words).items(), key=lambda w: (-w[1], w[0]))[: WORDS - 1])}
    count = len(words) // LENGTH
    numbers = np.array([known.get(word, 0) for word in words[: count * LENGTH]], np.int64)
    return numbers.reshape(count, LENGTH), np.array(tags[: count * LENGTH], np.int64).reshape(count, LENGTH)


def tagger(folder: str) -> None:
    """Trains the tagger and writes it, with sentences that it has not seen."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    words, tags = sentences()
    order = np.random.default_rng(0).permutation(len(words))
    mine, rest = order[: len(order) // 2], order[len(order) // 2 :]
    net = Tagger()
    steps = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(EPOCHS):
        for start in range(0, len(mine), BATCH):
            some = mine[start : start + BATCH]
            loss = nn.functional.cross_entropy(net(torch.from_numpy(words[some])).flatten(0, 1), torch.from_numpy(tags[some]).flatten())
            steps.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
            steps.step()
    net.eval()
    with torch.inference_mode():
        right = (net(torch.from_numpy(words[rest])).argmax(2).numpy() == tags[rest]).mean()
    usual = np.bincount(tags[rest].ravel()).max() / tags[rest].size
    print(f"{100 * right:.1f} % of the tags of other sentences are right; the most common tag is that of {100 * usual:.1f} %")
    place = Path(folder)
    np.savez(place / "tagger.npz", **{key: value.numpy() for key, value in net.state_dict().items()})
    np.savez(place / "tagger.samples.npz", words=words[rest])
    axes = {"words": {1: "length"}, "scores": {1: "length"}}
    example = (torch.from_numpy(words[:1]),)
    torch.onnx.export(net, example, str(place / "tagger.onnx"), opset_version=17, input_names=["words"], output_names=["scores"], dynamic_axes=axes, dynamo=False)


if __name__ == "__main__":
    {"outputs": outputs, "resnet50": export_resnet50, "tagger": tagger}[sys.argv[1]](*sys.argv[2:])
