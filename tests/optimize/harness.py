"""Runs one pass on a small graph and checks that it still means the same."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from strop.ir import interp
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array
from strop.ir.verify import verify
from strop.optimize.base import Options
from strop.trace import Trace
from tests.graphs import Builder, assert_same


class Case(Builder):
    """A small graph with an input ``x`` of normal numbers."""

    def __init__(self, *shape: int, dtype: type[np.generic] = np.float32) -> None:
        super().__init__(1)
        self.x = self.input(self.rng.standard_normal(shape).astype(dtype))

    def after(
        self, module: ModuleType, *outputs: Value, strict: bool = False, exact: bool = False
    ) -> Graph:
        """The graph after a pass, verified and compared with the oracle.

        Args:
            module: the pass.
            outputs: the graph's outputs.
            strict: the option ``strict_nans``.
            exact: outputs must be equal bit for bit.
        """
        self.graph.set_outputs(outputs)
        verify(self.graph, "imported")
        wanted = interp.run(self.graph, self.feed)
        copy = self.graph.clone()
        self.trace = Trace()
        module.run(copy, self.trace, Options(strict_nans=strict))
        verify(copy, "imported")
        got = interp.run(copy, self.feed)
        assert_same(got, wanted, 1e-6 if not exact else 0.0)
        if exact:
            for name, array in wanted.items():
                assert got[name].tobytes() == array.tobytes(), name
        return copy


def labels(graph: Graph) -> list[str]:
    """Op labels in order."""
    return [node.op.label for node in graph.nodes]


def only(graph: Graph, label: str) -> Node:
    """The one node with a label."""
    (node,) = (n for n in graph.nodes if n.op.label == label)
    return node


def constant(node: Node, index: int) -> Array:
    """The array of a constant operand."""
    array = node.operand(index).const
    assert array is not None
    return array
