"""Branches that are taken while an engine runs: each is the body of a loop of no round or of one, so that the other one does not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Op
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.data import Expand
from strop.ops.elementwise import make

#: Operations of a branch from which on it is jumped over rather than computed in vain.
DEAR = 100_000


@dataclass
class Branch:
    """A branch whose nodes are in the graph.

    Attributes:
        nodes: what it consists of, in order; nothing else reads their results, but for ``results``.
        results: its results.
    """

    nodes: list[Node]
    results: list[Value]

    @property
    def is_dear(self) -> bool:
        """Whether it is worth a jump not to compute it; what finds sizes or loops must not run where it is not wanted."""
        return any(n.op.computed or n.op.lasting for n in self.nodes) or sum(map(_work, self.nodes)) > DEAR


def _work(node: Node) -> int:
    """Operations of a node at the symbols' optimum."""
    known = {s.name: s.opt for s in sh.symbols(d for v in (*node.operands, *node.outputs) for d in v.shape)}
    types, results = ([v.type.at(known) for v in values] for values in (node.operands, node.outputs))
    return node.op.at(known).cost(types, results).flops


@dataclass
class Chooser:
    """Puts branches behind jumps.

    Attributes:
        graph: that they are part of.
        name: of the node that chooses, and its source.
        fresh: answers a free name for a wanted one.
    """

    graph: Graph
    name: str
    fresh: Callable[[str], str]

    def choose(self, flag: Value, yes: Branch, no: Branch) -> list[Value]:
        """The results of ``yes`` where the bool scalar holds, else of ``no``; the nodes of the other one do not run."""
        blank = [self._node(Expand(v.type.shape), self._zero(v)) for v in yes.results]
        results = self._guarded(self._node(make("not"), flag), no, self._guarded(flag, yes, blank))
        self.graph.toposort()
        return list(results)

    def _node(self, op: Op, *inputs: Value) -> Value:
        return self.graph.add(op, inputs, name=self.name, source=(self.name,)).outputs[0]

    def _zero(self, like: Value) -> Value:
        return self.graph.add_const(np.zeros((), like.dtype.numpy), self.fresh(f"{self.name}:zero"))

    def _guarded(self, go: Value, branch: Branch, before: Sequence[Value]) -> Sequence[Value]:
        """The branch's results where ``go`` holds, else ``before``."""
        graph, members = self.graph, {id(n) for n in branch.nodes}
        read = dict.fromkeys(v for n in branch.nodes for v in n.operands) | dict.fromkeys(branch.results)
        captured = [v for v in read if v.const is None and (v.producer is None or id(v.producer) not in members)]
        name = self.fresh(f"{self.name}:round")
        begin = graph.add(LoopBegin(name), [go, *before, *captured], name=self.name, source=(self.name,), outputs=[name])
        inner = dict(zip(captured, begin.outputs[1 + len(before) :], strict=True))
        for member in branch.nodes:
            for index, value in enumerate(member.inputs):
                if value is not None and value in inner:
                    graph.set_operand(member, index, inner[value])
        results = [inner.get(v, v) for v in branch.results]
        never = graph.add_const(np.asarray(False), self.fresh(f"{self.name}:never"))
        end = graph.add(LoopEnd(name, 0, 1, False), [begin.outputs[0], never, *results, *inner.values()], name=self.name, source=(self.name,))
        return end.outputs[: len(before)]
