"""Loops as WHILE: what a round computes, and whether there is another one, as subgraphs.

A subgraph knows only what it is given: besides the flag and the carried values it takes, and hands on, all that the body reads from outside, and the
number of the round where something reads it. Constants are in each subgraph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from strop.frontend.tflite.emission import NodeWriter, Writing, sizes
from strop.frontend.tflite.records import OutGraph, OutOperator, OutTensor
from strop.ir import dtype as dt
from strop.ir.control import Loop
from strop.ir.graph import Node, Value
from strop.ops.control import LoopEnd

#: Writes nodes in order into a subgraph.
Walk = Callable[[Writing, Sequence[Node]], None]
#: Makes a tensor of its own of a value: copied(writing, value, name).
Copied = Callable[[Writing, Value, str], OutTensor]


@dataclass
class _Body:
    """A subgraph that is being written; ``given`` are its inputs."""

    writing: Writing
    given: list[OutTensor] = field(default_factory=list)

    def take(self, name: str, like: OutTensor, value: Value | None = None) -> OutTensor:
        """An input of the type of a tensor outside."""
        made = self.writing.made(name, like.dtype, like.shape, like.free, value="" if value is None else value.name)
        if value is not None:
            self.writing.tensors[value] = made
        self.given.append(made)
        return made

    def graph(self, name: str, results: Sequence[OutTensor]) -> OutGraph:
        """As a record."""
        outputs = {f"{k}": tensor for k, tensor in enumerate(results)}
        return OutGraph(name, {f"{k}": tensor for k, tensor in enumerate(self.given)}, outputs, self.writing.operators)


def write_loop(writing: Writing, loop: Loop, walk: Walk, copied: Copied) -> None:
    """Emits the operator of a loop.

    Raises:
        UnsupportedError: the loop collects a value per round.
    """
    w, begin, end = NodeWriter.of(writing, loop.end), loop.begin, loop.end
    op = end.op
    assert isinstance(op, LoopEnd)
    if op.scans:
        raise w.refused("loops that collect a value per round are not supported", got=f"{op.scans} values")
    carried = len(begin.inputs) - 1
    outer = _captured(loop)
    counts = any(user is not end for user, _ in begin.outputs[0].uses) or bool(end.outputs[-1].uses) or writing.graph.is_output(end.outputs[-1])
    operands = [writing.tensor(begin.operand(k)) for k in range(1 + carried)] + [writing.tensor(v) for v in outer]
    results = [w.temporary((), dt.boolean), *(writing.tensor(end.outputs[k]) for k in range(carried)), *(_like(w, v) for v in outer)]
    body, condition = (_Body(Writing(writing.graph)) for _ in range(2))
    body.take("again", operands[0])
    for value, tensor in zip((*begin.outputs[1:], *outer), operands[1:], strict=True):
        body.take(value.name, tensor, value)
    if counts:
        operands.append(w.const(np.asarray(0, np.int64), "round"))
        results.append(writing.tensor(end.outputs[-1]))
        body.take("round", operands[-1], begin.outputs[0])
    for tensor in operands:
        condition.take(tensor.name, tensor)
    walk(body.writing, loop.body)
    found: list[OutTensor] = []
    for value in (*(end.operand(k) for k in range(1, 2 + carried)), *outer):
        tensor = body.writing.tensor(value)
        if value.const is not None or tensor in found:
            tensor = copied(body.writing, value, f"{value.name}:next")
        found.append(tensor)
    if counts:
        found.append(_next(body.writing, body.given[-1], w.where))
    subgraphs = {
        "CondSubgraphIndex": condition.graph(f"{begin.name}_condition", condition.given[:1]), "BodySubgraphIndex": body.graph(f"{begin.name}_body", found),
    }  # fmt: skip
    w.emit("WHILE", operands, results, "WhileOptions", **subgraphs)


def _captured(loop: Loop) -> list[Value]:
    """What the body reads that is neither constant nor its own, in order."""
    own = {*loop.begin.outputs, *(v for node in loop.body for v in node.outputs)}
    read = [node.operand(k) for node in loop.body for k in range(len(node.inputs)) if node.has(k)]
    read += [loop.end.operand(k) for k in range(1, len(loop.end.inputs))]
    return [v for v in dict.fromkeys(read) if v not in own and v.const is None]


def _like(w: NodeWriter, value: Value) -> OutTensor:
    """A tensor for what a value outside is when the loop has ended: the same."""
    shape, free = sizes(value.shape)
    return w.writing.made(f"{w.node.name}:{value.name}", value.dtype, shape, free)


def _next(writing: Writing, number: OutTensor, layer: str) -> OutTensor:
    """The number of the next round."""
    one, made = writing.made("one", dt.i64, (), (), np.asarray(1, np.int64)), writing.made("next", dt.i64, ())
    writing.operators.append(OutOperator("ADD", [number, one], [made], "AddOptions", {}, layer))
    return made
