"""Concats are flat, share their beginnings, and do not rejoin what was split."""

from __future__ import annotations

from itertools import pairwise

from strop.ir.graph import Value
from strop.ops.data import Concat, Slice, Split
from strop.optimize import eliminate_concat
from tests.optimize.harness import Case, labels, only


def join(b: Case, *values: Value, axis: int = 1) -> Value:
    return b.add(Concat(axis), *values)


def values(b: Case, count: int) -> list[Value]:
    return [b.fn(fn, b.x) for fn in ("sin", "cos", "tanh", "relu", "abs", "neg")[:count]]


def test_nested_concats_become_flat() -> None:
    b = Case(2, 3)
    a, c, d, e = values(b, 4)
    graph = b.after(eliminate_concat, join(b, join(b, a, c), join(b, d, join(b, e, a))))
    node = only(graph, "concat")
    assert [v.name for v in node.operands] == ["sin", "cos", "tanh", "relu", "sin"]


def test_unless_axes_differ_or_the_inner_one_is_read() -> None:
    b = Case(2, 3)
    a, c = values(b, 2)
    graph = b.after(eliminate_concat, join(b, join(b, a, c, axis=0), join(b, c, a, axis=0)))
    assert labels(graph).count("concat") == 3
    d = Case(2, 3)
    a, c = values(d, 2)
    inner = join(d, a, c)
    assert labels(d.after(eliminate_concat, join(d, c, inner), inner)).count("concat") == 2


def test_a_dense_block_becomes_a_chain() -> None:
    b = Case(1, 2, 3, 3)
    features = [b.x]
    joined: list[Value] = []
    for fn in ("sin", "cos", "tanh", "relu"):
        features.append(b.fn(fn, joined[-1] if joined else b.x))
        features[-1] = b.add(Slice((0,), (2,), (1,), (1,)), features[-1])
        joined.append(join(b, *features))
    graph = b.after(eliminate_concat, joined[-1])
    concats = [n for n in graph.nodes if n.op.label == "concat"]
    assert [len(n.inputs) for n in concats] == [2, 2, 2, 2]
    for before, after in pairwise(concats):
        assert after.operand(0) is before.output


def test_the_longest_beginning_is_shared() -> None:
    b = Case(2, 3)
    a, c, d, e = values(b, 4)
    outputs = [join(b, a, c, d, e), join(b, a, c, d), join(b, a, c), join(b, c, a, d)]
    graph = b.after(eliminate_concat, *outputs)
    assert sorted(len(n.inputs) for n in graph.nodes if n.op.label == "concat") == [2, 2, 2, 3]


def test_parts_of_a_split() -> None:
    b = Case(2, 6)
    y = b.fn("sin", b.x)
    parts = b.add_several(Split(1, (1, 2, 3)), y)
    graph = b.after(
        eliminate_concat, join(b, *parts), join(b, *parts[1:]), join(b, parts[0], parts[2])
    )
    assert labels(graph).count("concat") == 1
    assert only(graph, "slice").op == Slice((1,), (6,), (1,), (1,))
    assert graph.outputs[0].name == "sin"


def test_parts_among_others() -> None:
    b = Case(2, 6)
    parts = b.add_several(Split(1, (2, 2, 2)), b.x)
    graph = b.after(eliminate_concat, join(b, b.fn("neg", b.x), parts[1], parts[2], parts[0]))
    assert sorted(labels(graph)) == ["concat", "neg", "slice", "split"]
    assert len(only(graph, "concat").inputs) == 3


def test_neighbouring_slices() -> None:
    b = Case(2, 6)
    one = b.add(Slice((1,), (3,), (1,), (1,)), b.x)
    two = b.add(Slice((3,), (5,), (1,), (1,)), b.x)
    graph = b.after(eliminate_concat, join(b, one, two))
    assert labels(graph) == ["slice"]
    assert only(graph, "slice").op == Slice((1,), (5,), (1,), (1,))


def test_unless_parts_have_gaps_steps_or_other_axes() -> None:
    b = Case(6, 6)
    cases = [
        (((0,), (2,), (1,), (1,)), ((3,), (5,), (1,), (1,))),
        (((0,), (4,), (1,), (2,)), ((4,), (6,), (1,), (1,))),
        (((0,), (2,), (0,), (1,)), ((2,), (4,), (0,), (1,))),
    ]
    outputs = [join(b, *(b.add(Slice(*part), b.x) for part in case)) for case in cases]
    assert labels(b.after(eliminate_concat, *outputs)).count("concat") == 3
