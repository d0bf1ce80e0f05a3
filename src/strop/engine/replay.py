"""Variants of a graph in numpy, reusing what the original computed: what a network answers if only some of its layers are quantized.

A variant has the original's nodes, under their names, and further ones between them. Only what depends on a change is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from strop.engine.per_op import function_of
from strop.ir import interp
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array

_Function = Callable[..., tuple[Array, ...]]


class Replay:
    """The original's values for one batch, all of them in memory."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Array]) -> None:
        """Runs the original; InputError when an input does not fit."""
        self._graph = graph
        self._known = interp.bind_symbols(graph, inputs)
        self._nodes = {node.name: node for node in graph.nodes}
        self.values: dict[str, Array] = {v.name: v.const for v in graph.constants() if v.const is not None}
        self.values.update((v.name, np.asarray(inputs[v.name])) for v in graph.inputs)
        for node in graph.nodes:
            operands = [interp.ABSENT if v is None else self.values[v.name] for v in node.inputs]
            self.values.update(zip((v.name for v in node.outputs), self._run(node, operands), strict=True))
        self.outputs = {n: self.values[v.name] for n, v in zip(graph.output_names, graph.outputs, strict=True)}

    def _run(self, node: Node, operands: list[Array]) -> tuple[Array, ...]:
        if self._known:
            return node.op.at(self._known).reference(*operands)
        with np.errstate(all="ignore"):
            return function_of(node)(*operands)

    def run(self, variant: Graph) -> dict[str, Array]:
        """Outputs of a variant by name, for the batch."""
        changed: dict[Value, Array] = {}
        for _, after, _ in self._walk(variant):
            changed = after
        return {n: self._operand(v, changed) for n, v in zip(variant.output_names, variant.outputs, strict=True)}

    def cut(self, variant: Graph, points: Collection[str]) -> dict[str, Array] | None:
        """What a variant adds to the original's values at a place behind which both are the same network.

        Args:
            points: names of values at which the network may be cut.

        Returns:
            The difference by name, of all values that differ and are read later; None where there is no such place.
        """
        done = 0
        for done, changed, left in self._walk(variant):
            live = [v for v in changed if left[v] > 0 or variant.is_output(v)]
            if live and all(v.name in points for v in live) and self._ends(variant.nodes[done:]):
                return {v.name: changed[v] - self.values[v.name] for v in live}
        return None

    def _walk(self, variant: Graph) -> Iterator[tuple[int, dict[Value, Array], Mapping[Value, int]]]:
        """After each node that is computed anew: how many nodes are done, the values that changed, and how often each value will yet be read."""
        changed: dict[Value, Array] = {}
        left = {value: len(value.uses) for value in variant.values.values()}
        for number, node in enumerate(variant.nodes, 1):
            original = self._nodes.get(node.name)
            anew = original is None or any(v in changed for v in node.operands) or not self._is_same(node, original)
            if anew:
                operands = [interp.ABSENT if v is None else self._operand(v, changed) for v in node.inputs]
                changed.update(zip(node.outputs, self._run(node, operands), strict=True))
            for operand in node.operands:
                left[operand] -= 1
                if left[operand] == 0 and not variant.is_output(operand):
                    changed.pop(operand, None)
            if anew:
                yield number, changed, left

    def _ends(self, nodes: Sequence[Node]) -> bool:
        """True when all nodes are the original's."""
        return all(node.name in self._nodes and self._is_same(node, self._nodes[node.name]) for node in nodes)

    def _is_same(self, node: Node, original: Node) -> bool:
        """True when a node whose operands are not changed is the original's: the same op on the same values."""
        if node.op != original.op or len(node.inputs) != len(original.inputs):
            return False
        return all(
            (a is None and b is None)
            or (a is not None and b is not None and a.name == b.name and a.const is b.const)
            for a, b in zip(node.inputs, original.inputs, strict=True)
        )

    def _operand(self, value: Value, changed: Mapping[Value, Array]) -> Array:
        if value in changed:
            return changed[value]
        return value.const if value.const is not None else self.values[value.name]
