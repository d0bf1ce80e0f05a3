"""Computes several products of one tensor at once.

Before:
    a = relu(conv(x, wa)); b = relu(conv(x, wb)); c = relu(conv(x, wc))     equal windows, one group
    q = add(matmul(x, wq), bq); k = ...; v = ...                            constant weights
After:
    a, b, c = split(relu(conv(x, concat(wa, wb, wc))))                      along the channels
    q, k, v = split(add(matmul(x, concat(wq, wk, wv)), concat(bq, bk, bv)))
    An elementwise tail that every branch has (a bias added per column, then one-operand functions)
    comes before the split; a further operation that only some have stays behind it.
Unless:
    the weights are not constant, windows, strides, pads, dilations or dtypes differ, the convolution is
    grouped, or one branch would lose the activation that follows it to the other side of the split.
    Depth is bounded: merged weights have at most ``MAX_CHANNELS`` output channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from strop.ir.graph import Graph, Node, Value
from strop.ir.match import New, Patch, apply
from strop.ir.op import Array, Op
from strop.ops.conv import Conv
from strop.ops.data import Concat, Split
from strop.ops.elementwise import Elementwise
from strop.ops.matmul import MatMul
from strop.optimize.base import Options, along_axis
from strop.trace import Trace

NAME = "merge_horizontal"
MAX_CHANNELS = 1 << 14


@dataclass
class _Branch:
    """A product and the elementwise nodes that follow it one after the other."""

    node: Node
    tail: list[Node] = field(default_factory=list)
    shifts: dict[int, Array] = field(default_factory=dict)  # place in tail -> constant per channel

    @property
    def kind(self) -> tuple[object, ...]:
        """What must agree for branches to be merged, beside the operand."""
        return (self.node.op, self.node.output.dtype, _rest(self.node), self.steps[:1])

    @property
    def steps(self) -> tuple[tuple[Op, bool, bool], ...]:
        """The tail in a form that may be compared."""
        return tuple(
            (n.op, at in self.shifts, _constant_first(n)) for at, n in enumerate(self.tail)
        )

    @property
    def end(self) -> Value:
        return self.tail[-1].output if self.tail else self.node.output


def _constant_first(node: Node) -> bool:
    return node.operand(0).const is not None


def _rest(node: Node) -> tuple[object, ...]:
    """The result's shape but for its channels, and the weights' but for their output channels."""
    w, shape = node.operand(1), node.output.shape
    axis = _axis(node)
    kernel = w.shape[1:] if isinstance(node.op, Conv) else w.shape[:-1]
    return (*shape[:axis], *shape[axis + 1 :], "w", *kernel)


def _axis(node: Node) -> int:
    """The channel axis of the result."""
    rank = len(node.output.shape)
    return node.op.channel_axis(rank) if isinstance(node.op, Conv) else rank - 1


def _channels(node: Node) -> int:
    w = node.operand(1).const
    assert w is not None
    return int(w.shape[0] if isinstance(node.op, Conv) else w.shape[-1])


def _candidate(graph: Graph, node: Node) -> _Branch | None:
    if isinstance(node.op, Conv):
        fits = node.op.groups == 1 and all(v.const is not None for v in node.operands[1:])
    elif isinstance(node.op, MatMul):
        w = node.operand(1)
        flags = node.op.transpose_a or node.op.transpose_b
        fits = w.const is not None and len(w.shape) == 2 and not flags
        fits = fits and len(node.operand(0).shape) >= 2
    else:
        fits = False
    if not fits or node.operand(0).const is not None:
        return None
    branch = _Branch(node)
    while True:
        value = branch.end
        if len(value.uses) != 1 or graph.is_output(value):
            return branch
        reader = value.users[0]
        if not isinstance(reader.op, Elementwise) or reader.output.type != value.type:
            return branch
        others = [v for v in reader.operands if v is not value]
        if len(others) > 1 or len(reader.operands) - len(others) != 1:
            return branch
        if others:
            array = others[0].const
            found = None if array is None else along_axis(array, value.shape, _axis(node))
            if found is None:
                return branch
            branch.shifts[len(branch.tail)] = found.astype(value.dtype.numpy)
        branch.tail.append(reader)


def _shorten(branches: Sequence[_Branch]) -> None:
    """Cuts every tail to what all branches have in common."""
    common = 0
    for steps in zip(*(b.steps for b in branches), strict=False):
        if len(set(steps)) != 1:
            break
        common += 1
    for branch in branches:
        branch.tail = branch.tail[:common]
        branch.shifts = {at: a for at, a in branch.shifts.items() if at < common}


def _starts_concat(value: Value) -> bool:
    """True when a Concat's first operand is the value. Such a branch comes last in the merged result, so that both can lie in one
    buffer: ``[others..., value][further operands...]``."""
    return any(isinstance(n.op, Concat) and index == 0 for n, index in value.uses)


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    queue = deque(graph.values.values())
    while queue:
        value = queue.popleft()
        groups: dict[tuple[object, ...], list[_Branch]] = {}
        place = {id(n): at for at, n in enumerate(graph.nodes)} if len(value.uses) > 1 else {}
        for node, index in sorted(value.uses, key=lambda use: place.get(id(use[0]), 0)):
            branch = _candidate(graph, node) if index == 0 else None
            if branch is not None:
                groups.setdefault(branch.kind, []).append(branch)
        for branches in groups.values():
            if len(branches) < 2 or sum(_channels(b.node) for b in branches) > MAX_CHANNELS:
                continue
            if not trace.may_patch():
                return
            _shorten(branches)
            branches.sort(key=lambda b: _starts_concat(b.end))  # stable
            added = apply(graph, _merged(graph, value, branches), trace, NAME, "merge")
            queue.extend(v for node in added for v in node.outputs)


def _merged(graph: Graph, x: Value, branches: Sequence[_Branch]) -> Patch:
    first = branches[0]
    node, patch = first.node, Patch(graph)
    axis, sizes = _axis(node), tuple(_channels(b.node) for b in branches)
    weights = [_array(b.node, 1) for b in branches]
    w_axis = 0 if isinstance(node.op, Conv) else 1
    operands = [patch.const(np.concatenate(weights, w_axis), node.operand(1).name)]
    if any(b.node.has(2) for b in branches):
        biases = [
            _array(b.node, 2) if b.node.has(2) else np.zeros(n, b.node.output.dtype.numpy)
            for b, n in zip(branches, sizes, strict=True)
        ]
        operands.append(patch.const(np.concatenate(biases), f"{node.name}.bias"))
    merged = patch.add(node.op, x, *operands, name=f"{node.name}.merged")
    for at, step in enumerate(first.tail):
        shifts = [b.shifts[at] for b in branches if at in b.shifts]
        merged = _step(patch, step, merged, shifts, axis)
    parts = patch.add_several(Split(axis, sizes), merged, name=f"{node.name}.parts")
    for branch, part in zip(branches, parts, strict=True):
        patch.replace(branch.end, part)
    return patch


def _step(patch: Patch, step: Node, merged: New, shifts: Sequence[Array], axis: int) -> New:
    """One elementwise node of the common tail over the merged result."""
    op: Op = step.op
    if not shifts:
        return patch.add(op, merged)
    shape = [1] * len(merged.shape)
    shape[axis] = -1
    other = next(v for v in step.operands if v.const is not None)
    constant = patch.const(np.concatenate(list(shifts)).reshape(shape), other.name)
    operands = (constant, merged) if _constant_first(step) else (merged, constant)
    return patch.add(op, *operands)


def _array(node: Node, index: int) -> Array:
    array = node.operand(index).const
    assert array is not None
    return array
