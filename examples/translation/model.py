"""A translator as a Strop network: a bidirectional LSTM encoder, and an LSTM decoder with attention in a loop of beam search.

The shape of OpenNMT's default model (Klein et al. 2017): the decoder reads the last word and its own last output ("input feeding"), attends
to the encoder's states by a general product (Luong et al. 2015, equations 5 and 8) and ends when every hypothesis has ended.
Encoder, search and the choice of the next words are one network, so that one call of one engine translates a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import strop
from strop import layers

Weights = dict[str, NDArray[np.float32]]
Tensor = layers.Tensor

#: Words with a meaning of their own: what the decoder starts from, and what ends a sentence.
BOS, EOS = 2, 3
#: Score of what must not be chosen.
NEVER = -1e9
#: What layers' names begin with that compute scores: sums over whole sentences, for which 16 bits are too few (``layer_precision``).
SCORE = "score"
#: Gates of an LSTM in the order in which PyTorch stacks them.
GATES = ("input", "forget", "cell", "output")


@dataclass(frozen=True)
class Sizes:
    """What fixes the weights.

    Attributes:
        source, target: words of the two languages.
        embedding: numbers per word.
        hidden: state of a decoder layer; each direction of the encoder has half of it. Even.
        layers: of the encoder and of the decoder.
    """

    source: int = 32_000
    target: int = 32_000
    embedding: int = 512
    hidden: int = 512
    layers: int = 2


def random_weights(sizes: Sizes, seed: int = 0) -> Weights:
    """Weights under PyTorch's names (``weight_ih`` [4 H, I], gates in the order of GATES), uniform as PyTorch draws them."""
    rng = np.random.default_rng(seed)
    h, half = sizes.hidden, sizes.hidden // 2
    found: Weights = {}

    def draw(name: str, *shape: int, scale: float = h**-0.5) -> None:
        found[name] = rng.uniform(-scale, scale, shape).astype(np.float32)

    draw("source.weight", sizes.source, sizes.embedding, scale=1.0)
    draw("target.weight", sizes.target, sizes.embedding, scale=1.0)
    for layer in range(sizes.layers):
        for suffix in ("", "_reverse"):
            _draw_lstm(draw, "encoder", f"l{layer}{suffix}", half, sizes.embedding if layer == 0 else h)
        _draw_lstm(draw, "decoder", f"l{layer}", h, sizes.embedding + h if layer == 0 else h)
    draw("attend.weight", h, h)
    draw("combine.weight", h, 2 * h)
    draw("words.weight", sizes.target, h, scale=4 * h**-0.5)  # wide enough that words differ clearly
    draw("words.bias", sizes.target)
    return found


def _draw_lstm(draw, name: str, suffix: str, hidden: int, size: int) -> None:
    draw(f"{name}.weight_ih_{suffix}", 4 * hidden, size)
    draw(f"{name}.weight_hh_{suffix}", 4 * hidden, hidden)
    draw(f"{name}.bias_ih_{suffix}", 4 * hidden)
    draw(f"{name}.bias_hh_{suffix}", 4 * hidden)


def translator(weights: Weights, sizes: Sizes, *, batch: int, length: int, steps: int, beam: int = 1, straight: bool = False) -> strop.Network:
    """The network.

    With ``straight`` all steps are made, one after the other without a loop, as GPUs need it: a run is then one CUDA graph.

    Inputs: ``source`` i32 [batch, length], words, anything behind a sentence's end; ``lengths`` i32 [batch].
    Outputs: ``words`` and ``parents`` i32 [steps, batch, beam], for each step the words chosen and the hypotheses of the step before that they
    continue (zeros where the search ended earlier; EOS if ``straight``); ``scores`` f32 [batch, beam], sums of log probabilities, best first.
    ``search.sentences`` reads sentences out of them.
    """
    return _Builder(weights, sizes, batch, length, steps, beam).build(straight)


class _Builder:
    """Layer calls with the sizes at hand; K is the beam, N the batch."""

    def __init__(self, weights: Weights, sizes: Sizes, batch: int, length: int, steps: int, beam: int) -> None:
        self.weights, self.sizes = weights, sizes
        self.n, self.s, self.steps, self.k = batch, length, steps, beam
        self.net = strop.Network("translator")

    def build(self, straight: bool) -> strop.Network:
        net, n, h = self.net, self.n, self.sizes.hidden
        source = net.add_input("source", "i32", (n, self.s))
        lengths = net.add_input("lengths", "i32", (n,))
        memory, state, cell = self.encode(source, lengths)
        # the product of memory and weights is the same in every step
        keys = self.times(self.reshape(memory, n * self.s, h), "attend.weight", turned=False)
        self.keys, self.memory = self.reshape(keys, n, self.s, h), memory
        inside = self.binary("less", self.constant(np.arange(self.s, dtype=np.int32)[None]), self.reshape(lengths, n, 1))
        zero, never = self.constant(np.zeros((1, 1), np.float32)), self.constant(np.full((1, 1), NEVER, np.float32))
        self.mask = self.reshape(self.add(layers.Select(), inside, zero, never), n, 1, self.s)
        (self.walk if straight else self.search)(state, cell)
        return net

    # ---- encoder

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States of all words [N, S, H]; first states and cells of the decoder [N, L, H]."""
        words = self.add(layers.Gather(), self.constant(self.weights["source.weight"]), source)
        rnn = layers.RNN(self.sizes.layers, self.sizes.hidden // 2, self.s, "lstm", bidirectional=True)
        self.net.add(rnn, words, lengths, name="encoder")
        self.fill(rnn, "encoder", ("", "_reverse"))
        shape = (self.n, self.sizes.layers, self.sizes.hidden)  # the two directions of a layer side by side
        return rnn.outputs[0], self.reshape(rnn.outputs[1], *shape), self.reshape(rnn.outputs[2], *shape)

    def fill(self, rnn: layers.RNN, name: str, suffixes: tuple[str, ...]) -> None:
        """Gives a recurrent layer its weights."""
        for number in range(self.sizes.layers * len(suffixes)):
            suffix = f"l{number // len(suffixes)}{suffixes[number % len(suffixes)]}"
            for is_input, kind in ((True, "ih"), (False, "hh")):
                matrices = np.split(self.weights[f"{name}.weight_{kind}_{suffix}"], 4)
                biases = np.split(self.weights[f"{name}.bias_{kind}_{suffix}"], 4)
                for gate, matrix, bias in zip(GATES, matrices, biases, strict=True):
                    rnn.set_weights(number, gate, is_input, matrix)
                    rnn.set_bias(number, gate, is_input, bias)

    # ---- search

    def first(self, state: Tensor, cell: Tensor) -> list[Tensor]:
        """Words, scores, feed, states and cells before the first step."""
        n, k, h, depth = self.n, self.k, self.sizes.hidden, self.sizes.layers
        scores = np.full((n, k), NEVER, np.float32)
        scores[:, 0] = 0.0  # all hypotheses are the same one at first
        constants = (np.full((n, k), BOS, np.int32), scores, np.zeros((n, k, h), np.float32))
        return [*map(self.constant, constants), *(self.repeated(self.reshape(x, n, 1, depth * h)) for x in (state, cell))]

    def step(self, word: Tensor, score: Tensor, feed: Tensor, state: Tensor, cell: Tensor) -> tuple[list[Tensor], Tensor]:
        """The same after one more step, and the parents of the words."""
        made = self.decode(word, feed, state, cell)
        words, parents, scores = self.choose(made[0], word, score)
        return [words, scores, *(self.continued(value, parents) for value in made[1:])], parents

    def walk(self, state: Tensor, cell: Tensor) -> None:
        """All steps in a row."""
        now, words, parents = self.first(state, cell), [], []
        for _ in range(self.steps):
            now, parent = self.step(*now)
            words.append(self.reshape(now[0], 1, self.n, self.k))
            parents.append(self.reshape(parent, 1, self.n, self.k))
        for tensors, name in ((words, "words"), (parents, "parents")):
            self.net.mark_output(self.add(layers.Concatenation(0), *tensors), name)
        self.net.mark_output(now[1], "scores")

    def search(self, state: Tensor, cell: Tensor) -> None:
        """The loop over words."""
        net = self.net
        loop = layers.Loop(net, "search")
        loop.trip_limit(self.constant(np.int32(self.steps)), "count")
        carried = [loop.recurrence(value) for value in self.first(state, cell)]
        word, score = carried[:2]
        ended = self.add(layers.Cast("i32"), self.binary("equal", word.output, self.constant(np.full((1, 1), EOS, np.int32))))
        all_ended = self.add(layers.Reduce("min", 0b11), ended)
        loop.trip_limit(self.binary("less", all_ended, self.constant(np.int32(1))), "while")
        after, parents = self.step(*(recurrence.output for recurrence in carried))
        for recurrence, value in zip(carried, after, strict=True):
            recurrence.set_input(1, value)
        count = self.constant(np.array([self.steps], np.int32))
        for tensor, name in ((after[0], "words"), (parents, "parents")):
            result = loop.result(tensor, "concatenate")
            result.set_input(1, count)
            net.mark_output(result.output, name)
        net.mark_output(loop.result(score.output).output, "scores")

    def decode(self, word: Tensor, feed: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step: logits [N K, V], and what the next step is fed [N, K, H], its states and cells [N, K, L H]."""
        n, k, h, depth, rows = self.n, self.k, self.sizes.hidden, self.sizes.layers, self.n * self.k
        embedded = self.add(layers.Gather(), self.constant(self.weights["target.weight"]), self.reshape(word, rows))
        x = self.add(layers.Concatenation(1), embedded, self.reshape(feed, rows, h))
        rnn = layers.RNN(depth, h, 1, "lstm")
        x = self.reshape(x, rows, 1, self.sizes.embedding + h)
        self.net.add(rnn, x, None, self.reshape(state, rows, depth, h), self.reshape(cell, rows, depth, h), name="decoder")
        self.fill(rnn, "decoder", ("",))
        y = self.reshape(rnn.outputs[0], n, k, h)
        affinity = self.binary("sum", self.add(layers.MatrixMultiply("none", "transpose"), y, self.keys), self.mask)
        context = self.add(layers.MatrixMultiply(), self.add(layers.Softmax(0b100), affinity), self.memory)
        joined = self.reshape(self.add(layers.Concatenation(2), context, y), rows, 2 * h)
        out = self.add(layers.Activation("tanh"), self.times(joined, "combine.weight"))
        logits = self.binary("sum", self.times(out, "words.weight"), self.constant(self.weights["words.bias"][None]))
        flat = (n, k, depth * h)
        return logits, self.reshape(out, n, k, h), self.reshape(rnn.outputs[1], *flat), self.reshape(rnn.outputs[2], *flat)

    def choose(self, logits: Tensor, word: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Words, parents and scores [N, K] of the best continuations; a hypothesis that has ended continues with EOS alone, for nothing."""
        n, k = self.n, self.k
        best = self.net.add(layers.TopK("max", k, 0b10), logits)
        largest = self.add(layers.Slice((0, 0), (n * k, 1), (1, 1)), best.outputs[0])
        total = self.add(layers.Reduce("sum", 0b10, True), self.add(layers.Unary("exp"), self.binary("sub", logits, largest)))
        gain = self.scored("sub", self.scored("sub", best.outputs[0], largest), self.add(layers.Unary("log"), total))
        gain, words = self.reshape(gain, n, k, k, name=f"{SCORE}.gain"), self.reshape(best.outputs[1], n, k, k)
        ended = self.reshape(self.binary("equal", word, self.constant(np.full((1, 1), EOS, np.int32))), n, k, 1)
        only = np.full((1, 1, k), NEVER, np.float32)
        only[..., 0] = 0.0
        gain = self.net.add(layers.Select(), ended, self.constant(only), gain, name=f"{SCORE}.ended").output
        words = self.add(layers.Select(), ended, self.constant(np.full((1, 1, 1), EOS, np.int32)), words)
        if k == 1:
            return self.reshape(words, n, k), self.constant(np.zeros((n, k), np.int32)), self.scored("sum", score, self.reshape(gain, n, k, name=f"{SCORE}.only"))
        sums = self.scored("sum", self.reshape(score, n, k, 1, name=f"{SCORE}.so_far"), gain)
        sums = self.reshape(sums, n, k * k, name=f"{SCORE}.all")
        top = self.net.add(layers.TopK("max", k, 0b10), sums, name=f"{SCORE}.best")
        parents = self.binary("div", top.outputs[1], self.constant(np.full((1, 1), k, np.int32)))
        chosen = self.add(layers.Gather("element", 1), self.reshape(words, n, k * k), top.outputs[1])
        return chosen, parents, top.outputs[0]

    def continued(self, value: Tensor, parents: Tensor) -> Tensor:
        """Rows of [N, K, ..] of the hypotheses that are continued."""
        return value if self.k == 1 else self.add(layers.Gather(axis=1, batch_axes=1), value, parents)

    # ---- words of the notation

    def add(self, layer: layers.Layer, *operands: Tensor) -> Tensor:
        return self.net.add(layer, *operands).output

    def binary(self, op: str, a: Tensor, b: Tensor) -> Tensor:
        return self.add(layers.Elementwise(op), a, b)

    def scored(self, op: str, a: Tensor, b: Tensor) -> Tensor:
        """The same of scores."""
        return self.net.add(layers.Elementwise(op), a, b, name=f"{SCORE}.{op}").output

    def constant(self, array: NDArray) -> Tensor:
        return self.add(layers.Constant(array))

    def reshape(self, x: Tensor, *shape: int, name: str = "") -> Tensor:
        return self.net.add(layers.Shuffle(reshape=shape), x, name=name).output

    def repeated(self, x: Tensor) -> Tensor:
        """[N, 1, ..] for every hypothesis."""
        return x if self.k == 1 else self.add(layers.Concatenation(1), *[x] * self.k)

    def times(self, x: Tensor, name: str, turned: bool = True) -> Tensor:
        """x W^T, or x W."""
        return self.add(layers.MatrixMultiply("none", "transpose" if turned else "none"), x, self.constant(self.weights[name]))
