"""What rules that take ops apart share: steps in a node's place, and the walk that applies rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import cast_array
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Op
from strop.ir.shape import Dim
from strop.ops.data import Reshape
from strop.ops.elementwise import make
from strop.ops.reduce import Reduce


@dataclass
class Apart:
    """One node that is taken apart."""

    graph: Graph
    node: Node

    def step(self, op: Op, *operands: Value) -> Value:
        """Another op in the node's place."""
        made = self.graph.add(op, operands, name=f"{self.node.name}.{op.label}", source=self.node.source, before=self.node)
        return made.outputs[0]

    def apply(self, fn: str, *operands: Value | float, **params: float) -> Value:
        """An elementwise function; numbers are constants of the first value's type."""
        typed = next(v for v in operands if isinstance(v, Value) and v.dtype is not dt.boolean)
        values = [v if isinstance(v, Value) else self.number(v, typed.dtype) for v in operands]
        return self.step(make(fn, **params), *values)

    def apply_activation(self, value: Value, name: str, alpha: float, beta: float) -> Value:
        """An elementwise function with those of alpha and beta that it has."""
        given = {"alpha": alpha, "beta": beta}
        return self.apply(name, value, **{k: given[k] for k, _ in make(name).function.params})

    def number(self, number: float, dtype: DType) -> Value:
        """A scalar constant."""
        return self.const(cast_array(np.asarray(number), dtype))

    def const(self, array: Array) -> Value:
        """A constant."""
        return self.graph.add_const(array, f"{self.node.name}.const")

    def reshape(self, value: Value, shape: Sequence[Dim]) -> Value:
        """A value under another shape."""
        if value.const is not None and sh.is_static(tuple(shape)):
            return self.const(value.const.reshape(sh.static(tuple(shape))))
        return value if value.shape == tuple(shape) else self.step(Reshape(tuple(shape)), value)

    def reduce(self, kind: str, value: Value, axes: Sequence[int], keepdims: bool = True) -> Value:
        """A reduction."""
        return self.step(Reduce(kind, tuple(axes), keepdims), value)

    def standardized(self, x: Value, axes: Sequence[int], epsilon: float) -> Value:
        """Zero mean and unit variance over axes."""
        centred = self.apply("sub", x, self.reduce("mean", x, axes))
        variance = self.reduce("mean", self.apply("square", centred), axes)
        return self.apply("mul", centred, self.apply("rsqrt", self.apply("add", variance, epsilon)))

    def scaled(self, x: Value, scale: Value, bias: Value | None) -> Value:
        """x * scale + bias."""
        made = self.apply("mul", x, scale)
        return made if bias is None else self.apply("add", made, bias)

    def channels(self, index: int) -> Value:
        """An operand of one number per channel, aligned with x[N, C, ...]."""
        value, rank = self.node.operand(index), self.node.operand(0).type.rank
        return self.reshape(value, (*value.shape, *(1,) * (rank - 2)))


#: The values that take the place of a node's results, or None to leave it.
Rule = Callable[[Apart], "Sequence[Value] | Value | None"]


def apply(graph: Graph, rules: Mapping[type[Op], Rule]) -> None:
    """Takes every node apart that has a rule; edits the graph."""
    for node in list(graph.nodes):
        rule = rules.get(type(node.op))
        found = None if rule is None else rule(Apart(graph, node))
        if found is None:
            continue
        results = list(found) if isinstance(found, Sequence) else [found]
        names = [v.name for v in node.outputs]
        for old, new in zip(node.outputs, results, strict=True):
            graph.replace_uses(old, new)
        graph.remove(node)
        for name, new in zip(names, results, strict=True):
            if new.producer is not None:
                graph.rename(new, name)


