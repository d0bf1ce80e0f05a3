"""The translator of examples/translation: its search against one written in numpy, and against PyTorch where that is installed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

import strop
from examples.translation import search
from examples.translation.model import BOS, EOS, SCORE, Sizes, Weights, random_weights, translator

SIZES = Sizes(source=40, target=30, embedding=12, hidden=16, layers=2)
LENGTH, STEPS = 7, 8


@dataclass
class Scorer:
    """The model for one sentence, word by word, in float64."""

    weights: Weights
    words: NDArray[np.int32]

    def __post_init__(self) -> None:
        w, h = self.weights, SIZES.hidden
        x = w["source.weight"][self.words].astype(float)
        self.state, self.cell = np.zeros((2, SIZES.layers, h))
        for layer in range(SIZES.layers):
            sides = []
            for number, (suffix, order) in enumerate((("", 1), ("_reverse", -1))):
                at, c, found = np.zeros(h // 2), np.zeros(h // 2), []
                for row in x[::order]:
                    at, c = self.cells("encoder", f"l{layer}{suffix}", row, at, c)
                    found.append(at)
                sides.append(np.array(found[::order]))
                half = slice(number * h // 2, (number + 1) * h // 2)
                self.state[layer, half], self.cell[layer, half] = at, c
            x = np.concatenate(sides, 1)
        self.memory, self.feed = x, np.zeros(h)

    def cells(self, name: str, suffix: str, x: NDArray, h: NDArray, c: NDArray) -> tuple[NDArray, NDArray]:
        """One step of an LSTM."""
        w = self.weights
        z = w[f"{name}.weight_ih_{suffix}"] @ x + w[f"{name}.bias_ih_{suffix}"] + w[f"{name}.weight_hh_{suffix}"] @ h + w[f"{name}.bias_hh_{suffix}"]
        i, f, g, o = np.split(z, 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        return np.tanh(c) / (1 + np.exp(-o)), c

    def next(self, word: int) -> NDArray:
        """Log probabilities of the words after ``word``."""
        w = self.weights
        x = np.concatenate([w["target.weight"][word], self.feed])
        for layer in range(SIZES.layers):
            x, self.cell[layer] = self.cells("decoder", f"l{layer}", x, self.state[layer], self.cell[layer])
            self.state[layer] = x
        affinity = self.memory @ (w["attend.weight"] @ x)
        share = np.exp(affinity - affinity.max())
        self.feed = np.tanh(w["combine.weight"] @ np.concatenate([share / share.sum() @ self.memory, x]))
        logits = w["words.weight"] @ self.feed + w["words.bias"]
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


def _run(beam: int, favour: float) -> tuple[Weights, dict[str, NDArray], dict[str, NDArray]]:
    """Weights whose sentences end more or less early, what is translated, and what comes out."""
    weights = random_weights(SIZES, seed=5)
    weights["words.bias"][EOS] += favour
    given = {"source": np.random.default_rng(2).integers(4, SIZES.source, (3, LENGTH)).astype(np.int32), "lengths": np.array([7, 4, 1], np.int32)}
    engine = strop.build(translator(weights, SIZES, batch=3, length=LENGTH, steps=STEPS, beam=beam), level=0, threads=1)
    return weights, given, engine.run(given)


@pytest.mark.parametrize(("beam", "favour"), [(1, 0.0), (4, 0.0), (4, 1.5), (1, 50.0)])
def test_scores_are_those_of_the_words(beam: int, favour: float) -> None:
    weights, given, out = _run(beam, favour)
    found = search.sentences(out["words"], out["parents"])
    for n, hypotheses in enumerate(found):
        assert len({tuple(h) for h in hypotheses}) == beam
        assert list(out["scores"][n]) == sorted(out["scores"][n], reverse=True)
        for words, score in zip(hypotheses, out["scores"][n], strict=True):
            scorer = Scorer(weights, given["source"][n, : given["lengths"][n]])
            total, last = 0.0, BOS
            for word in [*words, EOS][:STEPS]:
                chances = scorer.next(last)
                if beam == 1:
                    assert chances[word] == pytest.approx(chances.max(), abs=1e-5)
                total += chances[word]
                last = word
            assert score == pytest.approx(total, rel=1e-5)
    if favour == 50.0:
        assert found == [[[]]] * 3
        assert not out["words"][1:].any(), "the search goes on after every sentence has ended"


def test_a_beam_of_all_words_finds_the_best_sentence() -> None:
    """Two steps with a beam as wide as the vocabulary are an exhaustive search."""
    weights = random_weights(SIZES, seed=5)
    source = np.random.default_rng(2).integers(4, SIZES.source, (1, LENGTH)).astype(np.int32)
    net = translator(weights, SIZES, batch=1, length=LENGTH, steps=2, beam=SIZES.target)
    out = strop.build(net, level=0, threads=1).run({"source": source, "lengths": np.array([LENGTH], np.int32)})
    best = -np.inf
    for word in range(SIZES.target):
        scorer = Scorer(weights, source[0])
        first = scorer.next(BOS)[word]
        best = max(best, first if word == EOS else first + scorer.next(word).max())
    assert out["scores"][0, 0] == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("beam", [1, 4])
def test_steps_without_a_loop_give_the_same(beam: int) -> None:
    weights, given, out = _run(beam, 1.5)
    straight = strop.build(translator(weights, SIZES, batch=3, length=LENGTH, steps=STEPS, beam=beam, straight=True), level=0, threads=1).run(given)
    assert search.sentences(straight["words"], straight["parents"]) == search.sentences(out["words"], out["parents"])
    np.testing.assert_allclose(straight["scores"], out["scores"], rtol=1e-6)


def test_a_translation_on_a_gpu_has_kernels_of_its_own() -> None:
    """Built for a GPU without one: no step but the gathers falls to the kernel for all ops, and scores stay f32."""
    pytest.importorskip("triton", reason="the package triton is not installed")
    sizes = Sizes(source=40, target=40, embedding=16, hidden=32)
    net = translator(random_weights(sizes), sizes, batch=2, length=5, steps=2, beam=3, straight=True)
    engine = strop.build(net, target="cuda:sm_90", level=0, precision="fp16", layer_precision={f"{SCORE}*": "fp32"})
    steps = engine.manifest["steps"]
    assert all("Gather" in s["name"] for s in steps if s["kernel"].startswith("loops"))
    assert sum(s["kernel"].startswith("top_k_rows") for s in steps) == 4
    assert all(s["outputs"][0].startswith("f32") for s in steps if s["name"].startswith(f"{SCORE}.s"))


def test_agrees_with_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from examples.translation.twin import Translator

    weights, given, out = _run(4, 1.5)
    words, parents, scores = Translator(weights, SIZES)(torch.from_numpy(given["source"]).long(), torch.from_numpy(given["lengths"]).long(), STEPS, 4)
    np.testing.assert_array_equal(words.numpy(), out["words"][: len(words)])
    np.testing.assert_array_equal(parents.numpy(), out["parents"][: len(parents)])
    np.testing.assert_allclose(scores.numpy(), out["scores"], rtol=1e-5)
