"""Patches: descriptions of an edit, and ``apply``, which carries one out or refuses it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from strop.errors import GraphError
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node, Value, needed
from strop.ir.op import Array, Op, Type
from strop.ir.shape import Shape
from strop.trace import Trace

#: Stands for the type of an optional operand that was left out in the middle, as in ``Graph.add``.
ABSENT = Type(dt.f32, (0,))


@dataclass(frozen=True, eq=False)
class New:
    """A result of a node that a Patch will add, or a constant that it brings."""

    type: Type
    maker: _NewNode | None = None
    index: int = 0
    const: Array | None = None
    name: str = ""

    @property
    def shape(self) -> Shape:
        """Logical shape."""
        return self.type.shape


@dataclass(eq=False)
class _NewNode:
    op: Op
    operands: list[Value | New | None]
    name: str
    source: tuple[str, ...] | None
    results: list[New] = field(default_factory=list)


class Patch:
    """New nodes and the values that they replace. Nothing happens to the graph until ``apply``."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[_NewNode] = []
        self.replaced: list[tuple[Value, Value | New]] = []

    def const(self, array: Array, name: str = "const") -> New:
        """A constant to use as an operand or replacement."""
        array = np.asarray(array)
        return New(Graph().add_const(array).type, const=array, name=name)

    def add(
        self,
        op: Op,
        *operands: Value | New | None,
        name: str = "",
        source: tuple[str, ...] | None = None,
    ) -> New:
        """A new node with one result.

        Args:
            op: the op.
            operands: present or new values; None for an optional one left out.
            name: wanted name; by default that of the node it replaces, else the op's label.
            source: provenance, where it is not that of all that the patch makes superfluous.

        Raises:
            ShapeError: the operands do not fit the op.
        """
        results = self.add_several(op, *operands, name=name, source=source)
        if len(results) != 1:
            raise GraphError("op has several results, not one", where=op.label, got=len(results))
        return results[0]

    def add_several(
        self,
        op: Op,
        *operands: Value | New | None,
        name: str = "",
        source: tuple[str, ...] | None = None,
    ) -> list[New]:
        """As ``add``, for a node with any number of results."""
        present = list(operands)
        while present and present[-1] is None:
            present.pop()
        types = op.infer([ABSENT if v is None else v.type for v in present])
        node = _NewNode(op, present, name, source)
        node.results = [New(type, node, index) for index, type in enumerate(types)]
        self.nodes.append(node)
        return node.results

    def replace(self, old: Value, new: Value | New) -> Patch:
        """Makes every reader of ``old`` read ``new``; GraphError when dtype or shape differ."""
        if old.type != new.type:
            raise GraphError(
                "replacement changes dtype or shape",
                where=old.name,
                got=new.type,
                expected=old.type,
            )
        self.replaced.append((old, new))
        return self

    def replace_if_same(self, old: Value, new: Value | New) -> Patch | None:
        """As ``replace``, but answers None when dtype or shape differ."""
        return self.replace(old, new) if old.type == new.type else None


def apply(graph: Graph, patch: Patch, trace: Trace, pass_name: str, rule_name: str) -> list[Node]:
    """Carries out a Patch.

    New nodes get the union of the sources of the nodes that they make superfluous, and a new value that
    takes the place of a removed one takes its name too.

    Args:
        graph: the graph the Patch was made for.
        patch: the edit.
        trace: records it.
        pass_name, rule_name: who made it.

    Returns:
        The nodes that were added, in order.

    Raises:
        GraphError: the Patch replaces nothing, or replaces a value by one of another dtype or shape.
    """
    if patch.graph is not graph or not patch.replaced:
        raise GraphError("a patch must replace something in its own graph", where=rule_name)
    for old, new in patch.replaced:
        if old.type != new.type:
            raise GraphError(
                f"{rule_name} changes dtype or shape",
                where=old.name,
                got=new.type,
                expected=old.type,
            )
    producers = {id(p): p for old, _ in patch.replaced if (p := old.producer) is not None}
    before = next(iter(producers.values()), None)
    made = _Builder(graph, before)
    targets = [(old, made.value(new)) for old, new in patch.replaced]
    added = [made.node(node) for node in patch.nodes]
    for old, target in targets:
        graph.replace_uses(old, target)
    place = {id(node): at for at, node in enumerate(graph.nodes)}
    readers = [node for _, target in targets for node in target.users]
    setters = graph.setters()
    ordered = all(place[id(n)] < place[id(node)] for node in (*added, *readers) for n in needed(node, setters))
    removed, source = _remove_dead(graph, producers, place)
    if not ordered:
        graph.toposort()
    for item, node in zip(patch.nodes, added, strict=True):
        node.source = source if item.source is None else item.source
    _take_names(graph, made, targets, removed)
    note = f"{patch.replaced[0][0].name}: " + (
        ", ".join(n.op.label for n in added) or f"%{targets[0][1].name}"
    )
    trace.patched(pass_name, rule_name, note)
    return added


class _Builder:
    """Turns a Patch's descriptions into nodes and constants of the graph, each once."""

    def __init__(self, graph: Graph, before: Node | None) -> None:
        self.graph = graph
        self.before = before
        self.items: list[_NewNode] = []
        self.nodes: dict[int, Node] = {}
        self.consts: dict[int, tuple[New, Value]] = {}

    def value(self, item: Value | New) -> Value:
        if isinstance(item, Value):
            return item
        if item.const is not None:
            if id(item) not in self.consts:
                self.consts[id(item)] = (item, self.graph.add_const(item.const, item.name))
            return self.consts[id(item)][1]
        assert item.maker is not None
        return self.node(item.maker).outputs[item.index]

    def node(self, item: _NewNode) -> Node:
        if id(item) not in self.nodes:
            self.items.append(item)
            operands = [None if v is None else self.value(v) for v in item.operands]
            self.nodes[id(item)] = self.graph.add(
                item.op, operands, name=item.name, before=self.before
            )
        return self.nodes[id(item)]


def _take_names(
    graph: Graph,
    made: _Builder,
    targets: list[tuple[Value, Value]],
    removed: dict[int, str],
) -> None:
    """New values take the names of the removed ones they stand for, else the wanted names if free."""
    fresh = {id(v) for node in made.nodes.values() for v in node.outputs}
    settled: set[int] = set()
    for old, target in targets:
        if id(old) in removed and id(target) in fresh and id(target) not in settled:
            graph.rename(target, old.name)
            settled.add(id(target))
            node = target.producer
            if (
                node is not None
                and target is node.outputs[0]
                and not graph.has_node(removed[id(old)])
            ):
                graph.rename_node(node, removed[id(old)])
                settled.add(id(node))
    wanted: list[tuple[str, Node | None, Value]] = [
        (item.name, None, value) for item, value in made.consts.values()
    ]
    wanted += [
        (item.name, made.nodes[id(item)], made.nodes[id(item)].outputs[0]) for item in made.items
    ]
    for name, maker, value in wanted:
        if name and id(value) not in settled and name not in graph.values:
            graph.rename(value, name)
        if name and maker is not None and id(maker) not in settled and not graph.has_node(name):
            graph.rename_node(maker, name)


def _remove_dead(
    graph: Graph, producers: dict[int, Node], place: dict[int, int]
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Removes the producers of replaced values and all that only they needed, where nothing reads them.

    Args:
        graph: the graph.
        producers: where to begin.
        place: position of every node, by id; gives the order of the sources.

    Returns:
        Node name per id of a removed result, and the sources of the producers and all removed nodes.
    """
    touched = dict(producers)
    removed: dict[int, str] = {}
    kept: list[Node] = []  # keeps ids from being reused
    work = list(producers.values())
    while work:
        node = work.pop()
        if id(node.outputs[0]) in removed or node.op.computed or any(graph.users_of(v) for v in node.outputs):
            continue  # whether sizes are needed is seen by ``Graph.prune``
        operands = list(dict.fromkeys(node.operands))
        graph.remove(node)
        kept.append(node)
        touched[id(node)] = node
        removed.update((id(v), node.name) for v in node.outputs)
        for value in operands:
            if value.producer is not None:
                work.append(value.producer)
            elif value.const is not None and not value.uses and not graph.is_output(value):
                del graph.values[value.name]
    ordered = sorted(touched.values(), key=lambda node: place[id(node)])
    return removed, tuple(dict.fromkeys(s for node in ordered for s in node.source))
