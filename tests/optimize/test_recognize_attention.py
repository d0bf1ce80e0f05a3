"""Attention spelled out, with its scales and masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from strop.ir.graph import Value
from strop.ops.attention import Attention
from strop.ops.data import Transpose
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.softmax import Softmax
from strop.optimize import canonicalize, recognize_attention
from tests.optimize.harness import Case, constant, labels, only

S, T, D, E = 4, 4, 3, 5
SWAP = Transpose((0, 1, 3, 2))


class Heads(Case):
    """q, k and v as inputs."""

    def __init__(self) -> None:
        super().__init__(1, 2, S, D)
        self.q = self.x
        self.k = self.input(self.rng.standard_normal((1, 2, T, D)).astype(np.float32))
        self.v = self.input(self.rng.standard_normal((1, 2, T, E)).astype(np.float32))

    def scores(self) -> Value:
        return self.add(MatMul(), self.q, self.add(SWAP, self.k))

    def mix(self, scores: Value) -> Value:
        return self.add(MatMul(), self.add(Softmax(-1), scores), self.v)


def both_scaled(b: Heads) -> Value:
    keys = b.fn("mul", b.add(SWAP, b.k), 0.5)
    return b.add(MatMul(), b.fn("mul", b.q, 0.5), keys)


def hidden(above: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.triu(np.full((S, T), above, np.float32), 1)


FOUND: dict[str, tuple[Callable[[Heads], Value], float, bool, bool]] = {
    # scores, scale, causal, mask
    "plain": (lambda b: b.scores(), 1.0, False, False),
    "divided": (lambda b: b.fn("div", b.scores(), 2.0), 0.5, False, False),
    "scaled": (lambda b: b.fn("mul", 0.25, b.scores()), 0.25, False, False),
    "both scaled": (both_scaled, 0.25, False, False),
    "query scaled": (
        lambda b: b.add(MatMul(False, True), b.fn("mul", b.q, 0.5), b.k),
        0.5,
        False,
        False,
    ),
    "masked": (
        lambda b: b.fn("add", b.fn("div", b.scores(), 2.0), b.normal(S, T)),
        0.5,
        False,
        True,
    ),
    "mask first": (lambda b: b.fn("add", b.normal(T), b.scores()), 1.0, False, True),
    "causal": (lambda b: b.fn("add", b.scores(), b.const(hidden(-np.inf))), 1.0, True, False),
    "large negative": (
        lambda b: b.fn("add", b.scores(), b.const(hidden(-1e9)[None, None])),
        1.0,
        True,
        False,
    ),
    "hidden by choice": (
        lambda b: b.add(
            make("where"), b.const(np.tri(S, T, dtype=bool)), b.scores(), b.const(-np.inf)
        ),
        1.0,
        False,
        True,
    ),
}


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("case", FOUND)
def test_is_found(case: str, canonical: bool) -> None:
    build, scale, causal, mask = FOUND[case]
    b = Heads()
    outputs = [b.mix(build(b))]
    if canonical or case in ("divided", "masked", "scaled"):
        b.graph = b.after(canonicalize, *outputs)
        outputs = b.graph.outputs
    node = only(b.after(recognize_attention, *outputs), "attention")
    assert isinstance(node.op, Attention)
    assert node.op.scale == pytest.approx(scale) and node.op.causal == causal
    assert len(node.inputs) == (4 if mask else 3)
    assert node.operand(0).name == "x0" and node.operand(2).name == "x2"


def test_the_export_of_a_vision_transformer() -> None:
    b = Case(1, 4, 2, 3)  # batch, positions, heads, depth
    q, v = (b.add(Transpose((0, 2, 1, 3)), b.fn(f, b.x)) for f in ("sin", "cos"))
    k = b.add(Transpose((0, 2, 3, 1)), b.fn("tanh", b.x))
    scores = b.add(MatMul(), b.fn("mul", q, 0.7), b.fn("mul", k, 0.7))
    graph = b.after(recognize_attention, b.add(MatMul(), b.add(Softmax(3), scores), v))
    assert sorted(set(labels(graph))) == ["attention", "cos", "sin", "tanh", "transpose"]
    assert labels(graph).count("transpose") == 3
    node = only(graph, "attention")
    assert node.op == Attention(pytest.approx(0.49), False)  # type: ignore[arg-type]
    perms = {n.op.attributes()["perm"] for n in graph.nodes if n.op.label == "transpose"}
    assert perms == {(0, 2, 1, 3)}


def test_values_stored_transposed() -> None:
    b = Heads()
    turned = b.add(SWAP, b.v)
    y = b.add(MatMul(False, True), b.add(Softmax(-1), b.scores()), turned)
    node = only(b.after(recognize_attention, y), "attention")
    assert node.operand(2).name == "x2"


def test_a_chosen_mask_keeps_its_values() -> None:
    b = Heads()
    shown = b.const(np.tri(S, T, dtype=bool))
    y = b.mix(b.add(make("where"), shown, b.scores(), b.const(-1e10)))
    node = only(b.after(recognize_attention, y), "where")
    assert constant(node, 1) == 0 and constant(node, 2) == np.float32(-1e10)


STAYS: dict[str, Callable[[Heads], Value]] = {
    "another axis": lambda b: b.add(MatMul(), b.add(Softmax(2), b.scores()), b.v),
    "a scaled mask": lambda b: b.mix(b.fn("mul", b.fn("add", b.scores(), b.normal(S, T)), 0.5)),
    "a scale per key": lambda b: b.mix(b.fn("mul", b.scores(), b.normal(T))),
    "a wider mask": lambda b: b.add(
        MatMul(),
        b.add(Softmax(-1), b.fn("add", b.scores(), b.normal(3, 2, S, T))),
        b.normal(3, 2, T, E),
    ),
    "a small fill": lambda b: b.mix(
        b.add(make("where"), b.const(np.tri(S, T, dtype=bool)), b.scores(), b.const(-5.0))
    ),
    "shared values": lambda b: b.add(MatMul(), b.add(Softmax(-1), b.scores()), b.normal(T, E)),
}


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    b = Heads()
    assert "attention" not in labels(b.after(recognize_attention, STAYS[case](b)))


def test_unless_the_probabilities_are_read_elsewhere() -> None:
    b = Heads()
    probabilities = b.add(Softmax(-1), b.scores())
    y = b.add(MatMul(), probabilities, b.v)
    assert "attention" not in labels(b.after(recognize_attention, y, probabilities))
    c = Heads()
    scores = c.scores()
    assert "attention" not in labels(c.after(recognize_attention, c.mix(scores), scores))
