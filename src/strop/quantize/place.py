"""Where integers flow: which values are stored as 8-bit integers, who reads them so, and which share a scale.

A value is quantized when an int8 layer reads it, or an op that only moves, joins or compares values and whose result is
quantized. All of its readers in the integer part of the network read the integers, so that it is stored once. What lives
inside one kernel, from a layer to the last elementwise op behind it, stays in registers and is never quantized.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Op
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Concat, Pad, Reshape, Slice, Split, Tile, Transpose
from strop.ops.elementwise import Elementwise
from strop.ops.matmul import MatMul
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.ops.resize import Resize
from strop.quantize.precision import INTEGERS, Decisions, is_layer

#: Results are among the operands' elements: operands and results share one grid, and integers pass unchanged.
SAME_GRID: tuple[type[Op], ...] = (MaxPool, Concat, Split, Reshape, Transpose, Slice, Tile)
#: Results are means of the operand's elements: narrower than it, so they have a grid of their own; dividing rescales anyway. Integers only: floats of 8
#: bits are too coarse to be averaged.
OWN_GRID: tuple[type[Op], ...] = (AveragePool, Reduce)


@dataclass
class Placement:
    """What to quantize.

    Attributes:
        layers: nodes that compute in integers, in order.
        readers: per quantized value the (node, operand number) pairs that read the integers, in the order of values.
        groups: quantized values that share a grid, in the order of their first members.
    """

    layers: list[Node]
    readers: dict[Value, list[tuple[Node, int]]] = field(default_factory=dict)
    groups: list[list[Value]] = field(default_factory=list)


def place(graph: Graph, decisions: Decisions) -> Placement:
    """Decides what is quantized where some layers compute in int8."""
    layers = [n for n in graph.nodes if is_layer(n) and decisions.of(n) in INTEGERS]
    walk = _Walk(graph, decisions, {id(n) for n in layers})
    for node in layers:
        walk.demand(node.operand(0))
    walk.run()
    found = Placement(layers)
    for value in (*graph.inputs, *(v for n in graph.nodes for v in n.outputs)):
        if value in walk.wanted:
            found.readers[value] = [(node, index) for node, index in value.uses if walk.reads_integers(node, index)]
    found.groups = walk.groups(list(found.readers))
    return found


class _Walk:
    """Demands that spread from int8 layers to what feeds them."""

    def __init__(self, graph: Graph, decisions: Decisions, layers: set[int]) -> None:
        self._graph, self._decisions, self._layers = graph, decisions, layers
        self._means = all(decisions.of(n) != "fp8" for n in graph.nodes if id(n) in layers)
        self._position = {id(n): k for k, n in enumerate(graph.nodes)}
        self.wanted: dict[Value, None] = {}
        self._todo: list[Value] = []
        self._through: dict[int, Node] = {}

    def demand(self, value: Value) -> None:
        """Asks for a value in integers; constants and what is no f32 are left alone."""
        if value.dtype is dt.f32 and value.const is None and value not in self.wanted:
            self.wanted[value] = None
            self._todo.append(value)

    def run(self) -> None:
        """Spreads until nothing more is asked for."""
        while self._todo:
            node = self._todo.pop().producer
            if node is None or self._is_float(node):
                continue
            if self._passes(node):
                self._through[id(node)] = node
                for operand in _data(node):
                    self.demand(operand)
                for result in node.outputs:
                    self.demand(result)
            elif isinstance(node.op, Elementwise):
                self._elementwise(node)

    def _is_float(self, node: Node) -> bool:
        """True for a node that the user wants in floats."""
        return self._decisions.named(node) and self._decisions.nodes[node.name] not in INTEGERS

    def _passes(self, node: Node) -> bool:
        return passes(node) and (self._means or not isinstance(node.op, OWN_GRID))

    def _elementwise(self, node: Node) -> None:
        """Asks for the other large operands of a chain that ends in a stored integer: a residual addition's second branch."""
        if self._is_float(node):
            return
        kept = self._accumulated(node)
        for operand in dict.fromkeys(node.operands):
            if operand.const is not None or operand.shape != node.output.shape:
                continue
            if operand is kept or (len(operand.uses) == 1 and _is_elementwise(operand.producer)):
                if operand.producer is not None and _is_elementwise(operand.producer):
                    self._elementwise(operand.producer)
            elif self._is_integer(operand):
                self.demand(operand)

    def _is_integer(self, value: Value) -> bool:
        """True when an int8 layer or an op between integers makes the value, so that nothing more is lost than rounding."""
        node = value.producer
        seen = 0
        while node is not None and isinstance(node.op, Elementwise) and seen < 32:
            inner = next((v for v in node.operands if v.const is None and v.shape == node.output.shape), None)
            node, seen = (None if inner is None else inner.producer), seen + 1
        return node is not None and (id(node) in self._layers or id(node) in self._through)

    def _accumulated(self, node: Node) -> Value | None:
        """The operand that stays in registers: of those that only this node reads, the one whose anchor comes last."""
        best, chosen = -1, None
        for operand in node.operands:
            anchor = self._anchor(operand)
            if anchor is not None and self._position[id(anchor)] > best:
                best, chosen = self._position[id(anchor)], operand
        return chosen

    def _anchor(self, value: Value) -> Node | None:
        """The product at the start of the chain of elementwise ops, each read once, that ends in a value."""
        node = value.producer
        while node is not None and len(node.outputs) == 1 and len(value.uses) == 1 and not self._graph.is_output(value) and value.shape == node.output.shape:
            if isinstance(node.op, (Conv, ConvTranspose, MatMul)):
                return node
            if not isinstance(node.op, Elementwise):
                return None
            inner = [v for v in node.operands if v.const is None and v.shape == node.output.shape]
            found = [a for v in inner if (a := self._anchor(v)) is not None]
            return max(found, key=lambda a: self._position[id(a)]) if found else None
        return None

    def reads_integers(self, node: Node, index: int) -> bool:
        """True when a reader of a quantized value reads its integers."""
        if is_layer(node):
            return index == 0 and id(node) in self._layers
        if self._is_float(node):
            return False
        if self._passes(node):
            return any(v in self.wanted for v in node.outputs)
        return isinstance(node.op, Elementwise)

    def groups(self, values: list[Value]) -> list[list[Value]]:
        """Values joined by ops that pass integers unchanged."""
        leader: dict[Value, Value] = {v: v for v in values}

        def find(value: Value) -> Value:
            while leader[value] is not value:
                value = leader[value]
            return value

        for node in self._through.values():
            if isinstance(node.op, OWN_GRID):
                continue
            members = [v for v in (*_data(node), *node.outputs) if v in leader]
            for other in members[1:]:
                leader[find(other)] = find(members[0])
        found: dict[Value, list[Value]] = {}
        for value in values:
            found.setdefault(find(value), []).append(value)
        return list(found.values())


def _is_elementwise(node: Node | None) -> bool:
    return node is not None and isinstance(node.op, Elementwise)


def passes(node: Node) -> bool:
    """True for ops between integers: those that move, join, compare or average."""
    op = node.op
    if isinstance(op, Reduce):
        return op.kind in ("mean", "max", "min")
    if isinstance(op, Resize):
        return op.mode == "nearest" and len(node.operands) == 1
    if isinstance(op, Pad):
        return _pads_with_zero(node)
    return isinstance(op, (*SAME_GRID, *OWN_GRID))


def _pads_with_zero(node: Node) -> bool:
    return isinstance(node.op, Pad) and node.op.attributes().get("value", 0.0) == 0.0 and len(node.operands) == 1


def _data(node: Node) -> list[Value]:
    """The operands whose elements are moved."""
    return [v for v in node.operands if v.dtype is dt.f32]
