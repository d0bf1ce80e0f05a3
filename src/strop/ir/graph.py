"""SSA graph of typed values with use lists. Unsafe edits are refused and the remaining users are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from strop.errors import GraphError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.op import Array, Op, Type
from strop.ir.shape import Dim, Shape


class Value:
    """A typed value: a graph input, a constant (``const`` is its array) or a node's result.

    Attributes:
        name: unique within the graph.
        type: dtype and shape.
        producer: the node whose result it is, or None.
        const: the array of a constant, or None. Never written to.
        uses: (node, operand number) pairs; a graph output is not a use, see ``Graph.outputs``.
    """

    __slots__ = ("const", "name", "producer", "type", "uses")

    def __init__(self, name: str, type: Type, producer: Node | None = None, const: Array | None = None) -> None:
        self.name = name
        self.type = type
        self.producer = producer
        self.const = const
        self.uses: list[tuple[Node, int]] = []

    @property
    def dtype(self) -> dt.DType:
        """Element type."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """Logical shape."""
        return self.type.shape

    @property
    def users(self) -> list[Node]:
        """Distinct nodes that read it, by first use."""
        return list(dict.fromkeys(node for node, _ in self.uses))

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


class Node:
    """An op applied to values.

    Attributes:
        op: the op with its attributes.
        inputs: operands; None marks an optional operand left out.
        outputs: results.
        name: unique within the graph.
        source: names of the model's own nodes that it stands for (provenance), in order.
    """

    __slots__ = ("inputs", "name", "op", "outputs", "source")

    def __init__(self, op: Op, inputs: Sequence[Value | None], name: str, source: tuple[str, ...]) -> None:
        self.op = op
        self.inputs: list[Value | None] = list(inputs)
        self.outputs: list[Value] = []
        self.name = name
        self.source = source

    @property
    def output(self) -> Value:
        """The only result."""
        if len(self.outputs) != 1:
            raise GraphError(f"node {self.name} ({self.op.label}) has {len(self.outputs)} results, not one")
        return self.outputs[0]

    def operand(self, index: int) -> Value:
        """A present operand; GraphError when it was left out."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise GraphError(f"node {self.name} ({self.op.label}) has no operand {index}")
        return value

    def has(self, index: int) -> bool:
        """True when operand ``index`` is present."""
        return index < len(self.inputs) and self.inputs[index] is not None

    @property
    def operands(self) -> list[Value]:
        """The operands that are present."""
        return [v for v in self.inputs if v is not None]

    def __repr__(self) -> str:
        args = ", ".join("none" if v is None else f"%{v.name}" for v in self.inputs)
        return f"{', '.join(map(repr, self.outputs))} = {self.op.label}({args})"


class Graph:
    """A program: inputs, constants, nodes in a topological order, outputs.

    Attributes:
        origins: (name, op type) of every node of the model that a frontend read it from, in order, those that left no node here too.
    """

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.origins: tuple[tuple[str, str], ...] = ()
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.output_names: list[str] = []
        #: Bytes by name that engines keep for the API that the model belongs to; no stage reads them.
        self.carried: dict[str, bytes] = {}
        self._node_names: set[str] = set()

    # ---- building

    def _fresh(self, wanted: str, taken: Iterable[str]) -> str:
        wanted = wanted or "v"
        if wanted not in taken:
            return wanted
        number = 1
        while f"{wanted}.{number}" in taken:
            number += 1
        return f"{wanted}.{number}"

    def _value(self, name: str, type: Type, producer: Node | None = None, const: Array | None = None) -> Value:
        value = Value(self._fresh(name, self.values), type, producer, const)
        self.values[value.name] = value
        return value

    def add_input(self, name: str, type: Type) -> Value:
        """Declares a graph input; its name must be new."""
        if name in self.values:
            raise GraphError("graph input name is taken", where=name)
        value = self._value(name, type)
        self.inputs.append(value)
        return value

    def add_const(self, array: Array, name: str = "const") -> Value:
        """A constant; the array is kept, not copied, and must not be written to afterwards."""
        array = np.asarray(array)
        return self._value(name, Type(dt.from_numpy(array.dtype), array.shape), const=array)

    def add(
        self,
        op: Op,
        inputs: Sequence[Value | None],
        *,
        name: str = "",
        source: Sequence[str] = (),
        outputs: Sequence[str] = (),
        before: Node | None = None,
    ) -> Node:
        """Appends a node (or inserts it before another) and infers its result types.

        Args:
            op: the op.
            inputs: operands; None for an optional one left out. Trailing Nones are dropped.
            name: wanted node name; made unique.
            source: names of source nodes it stands for.
            outputs: wanted result names; by default the node's name.
            before: node in front of which it is inserted.

        Raises:
            ShapeError: the operands do not fit the op.
        """
        operands = list(inputs)
        while operands and operands[-1] is None:
            operands.pop()
        for value in operands:
            if value is not None and self.values.get(value.name) is not value:
                raise GraphError("operand belongs to another graph", where=name or op.label, got=value)
        types = op.infer([v.type for v in operands if v is not None] if None not in operands else self._types(operands))
        node = Node(op, operands, self._fresh(name or op.label, self._node_names), tuple(dict.fromkeys(source)))
        self._node_names.add(node.name)
        for index, type in enumerate(types):
            wanted = outputs[index] if index < len(outputs) else node.name if index == 0 else f"{node.name}.{index}"
            node.outputs.append(self._value(wanted, type, node))
        for index, value in enumerate(operands):
            if value is not None:
                value.uses.append((node, index))
        if before is None:
            self.nodes.append(node)
        else:
            self.nodes.insert(self.nodes.index(before), node)
        return node

    @staticmethod
    def _types(operands: Sequence[Value | None]) -> list[Type]:
        """Operand types with f32[0] standing for one that was left out in the middle."""
        return [Type(dt.f32, (0,)) if v is None else v.type for v in operands]

    def set_outputs(self, values: Sequence[Value], names: Sequence[str] = ()) -> None:
        """Declares the graph's outputs in order; names default to the values' own."""
        self.outputs = list(values)
        self.output_names = [names[i] if i < len(names) else v.name for i, v in enumerate(values)]

    def rename(self, value: Value, name: str) -> None:
        """Gives a value another name; GraphError when it is taken."""
        if self.values.get(name, value) is not value:
            raise GraphError("value name is taken", where=value.name, got=name)
        del self.values[value.name]
        value.name = name
        self.values[name] = value

    # ---- editing

    def set_operand(self, node: Node, index: int, value: Value) -> None:
        """Makes a node read another value of the same type."""
        old = node.inputs[index]
        if old is not None:
            if old.type != value.type:
                raise GraphError("operand would change its type", where=node.name, got=value, expected=old)
            old.uses.remove((node, index))
        node.inputs[index] = value
        value.uses.append((node, index))

    def replace_uses(self, old: Value, new: Value) -> None:
        """Every reader of ``old``, graph outputs included, reads ``new``; types must agree."""
        if old is new:
            return
        if old.type != new.type:
            raise GraphError("replacement changes dtype or shape", where=old.name, got=new, expected=old)
        for node, index in list(old.uses):
            self.set_operand(node, index, new)
        self.outputs = [new if v is old else v for v in self.outputs]

    def has_node(self, name: str) -> bool:
        """True when a node has this name."""
        return name in self._node_names

    def rename_node(self, node: Node, name: str) -> None:
        """Gives a node another name; GraphError when it is taken."""
        if name != node.name and name in self._node_names:
            raise GraphError("node name is taken", where=node.name, got=name)
        self._node_names.discard(node.name)
        node.name = name
        self._node_names.add(name)

    def users_of(self, value: Value) -> list[str]:
        """Names of what reads a value: nodes and graph outputs."""
        names = [node.name for node in value.users]
        return names + [f"output {n}" for v, n in zip(self.outputs, self.output_names, strict=True) if v is value]

    def is_output(self, value: Value) -> bool:
        """True when the value is a graph output."""
        return any(v is value for v in self.outputs)

    def remove(self, node: Node) -> None:
        """Removes a node whose results nothing reads; GraphError names the readers otherwise."""
        for value in node.outputs:
            users = self.users_of(value)
            if users:
                raise GraphError("node is still used", where=node.name, got=", ".join(users))
        self.nodes.remove(node)
        self._drop(node)

    def _drop(self, node: Node) -> None:
        for index, operand in enumerate(node.inputs):
            if operand is not None:
                operand.uses.remove((node, index))
        for value in node.outputs:
            del self.values[value.name]
        self._node_names.discard(node.name)

    def live(self) -> set[int]:
        """Ids of the nodes that an output or an impure op needs, and of these ops."""
        live: set[int] = set()
        setters = self.setters()
        stack = [v.producer for v in self.outputs if v.producer is not None]
        stack += [n for n in self.nodes if not n.op.pure]
        stack.extend(node for v in self.outputs for node in setting(v.shape, setters))
        while stack:
            node = stack.pop()
            if id(node) not in live:
                live.add(id(node))
                stack.extend(needed(node, setters))
        return live

    def prune(self) -> int:
        """Removes every node and constant that no output needs; returns how many nodes went."""
        live = self.live()
        dead = [n for n in self.nodes if id(n) not in live]
        for node in reversed(dead):
            self._drop(node)
        if dead:
            self.nodes = [n for n in self.nodes if id(n) in live]
        for value in list(self.values.values()):
            if value.const is not None and not value.uses and not self.is_output(value):
                del self.values[value.name]
        return len(dead)

    def toposort(self) -> None:
        """Orders nodes so that operands come before readers, and computed sizes before what has them; stable; GraphError on a
        cycle."""
        position = {id(n): i for i, n in enumerate(self.nodes)}
        setters = self.setters()
        needs = {id(n): {id(p): p for p in needed(n, setters)} for n in self.nodes}
        waiting = {key: len(found) for key, found in needs.items()}
        followers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for key in needs[id(node)]:
                followers.setdefault(key, []).append(node)
        first = [position[id(n)] for n in self.nodes if waiting[id(n)] == 0]
        order: list[Node] = []
        nodes = self.nodes
        ready = sorted(first, reverse=True)
        while ready:
            node = nodes[ready.pop()]
            order.append(node)
            for follower in followers.get(id(node), ()):
                key = id(follower)
                waiting[key] -= 1
                if waiting[key] == 0:
                    ready.append(position[key])
                    ready.sort(reverse=True)
        if len(order) != len(nodes):
            stuck = next(n.name for n in nodes if waiting[id(n)] > 0)
            raise GraphError("the graph has a cycle", where=stuck)
        self.nodes = order

    # ---- reading

    def setters(self) -> dict[str, Node]:
        """The node that finds each computed size, by the symbol's name."""
        return {symbol.name: node for node in self.nodes for symbol in node.op.computed}

    def constants(self) -> Iterator[Value]:
        """Constant values."""
        return (v for v in self.values.values() if v.const is not None)

    def clone(self, change: Callable[[Value], Type] | None = None) -> Graph:
        """A copy that shares constant arrays; ``change`` may give graph inputs other types (results are inferred anew)."""
        copy = Graph(self.name)
        copy.carried = dict(self.carried)
        mapped: dict[Value, Value] = {}
        for value in self.inputs:
            mapped[value] = copy.add_input(value.name, change(value) if change else value.type)
        for value in self.values.values():
            if value.const is not None:
                mapped[value] = copy.add_const(value.const, value.name)
        for node in self.nodes:
            operands = [None if v is None else mapped[v] for v in node.inputs]
            new = copy.add(
                node.op, operands, name=node.name, source=node.source, outputs=[v.name for v in node.outputs]
            )
            mapped.update(zip(node.outputs, new.outputs, strict=True))
        copy.set_outputs([mapped[v] for v in self.outputs], self.output_names)
        return copy

    def __repr__(self) -> str:
        return f"Graph({self.name}: {len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs)"


def setting(dims: Iterable[Dim], setters: Mapping[str, Node]) -> Iterator[Node]:
    """The nodes that find the computed sizes among the dims' symbols."""
    if setters:
        yield from (setters[s.name] for s in sh.symbols(dims) if s.name in setters)


def needed(node: Node, setters: Mapping[str, Node]) -> Iterator[Node]:
    """The nodes that must run before a node: those that make its operands, and those that find sizes it has."""
    yield from (v.producer for v in node.operands if v.producer is not None)
    if setters:
        dims = [*node.op.symbols, *(d for v in node.outputs for d in v.shape)]
        yield from (other for other in setting(dims, setters) if other is not node)


def scalar_of(value: Value) -> Any | None:
    """The Python number of a constant with one element, else None."""
    if value.const is None or value.const.size != 1:
        return None
    return value.const.reshape(()).item()
