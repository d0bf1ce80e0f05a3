"""Loops in a graph: which nodes are in a loop's body, and an order in which bodies are runs of nodes.

A loop is a node labelled ``loop_begin`` and one labelled ``loop_end`` with the same attribute ``loop``, see ``strop.ops.control``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from strop.errors import GraphError
from strop.ir.graph import Graph, Node, needed

BEGIN, END = "loop_begin", "loop_end"


@dataclass(eq=False)
class Loop:
    """One loop.

    Attributes:
        begin, end: its nodes.
        body: the nodes that need a result of ``begin`` and are needed by ``end``, those of inner loops too, in order.
        parent: the innermost loop around it, or None.
    """

    begin: Node
    end: Node
    body: list[Node] = field(default_factory=list)
    parent: Loop | None = None


def loops(graph: Graph) -> list[Loop]:
    """All loops, inner ones before those around them.

    Raises:
        GraphError: a loop has not one begin and one end, or bodies overlap without one being in the other.
    """
    ends = {node.op.attributes()["loop"]: node for node in graph.nodes if node.op.label == END}
    begins = {node.op.attributes()["loop"]: node for node in graph.nodes if node.op.label == BEGIN}
    if begins.keys() != ends.keys():
        raise GraphError("a loop has no begin or no end", where=", ".join(sorted(begins.keys() ^ ends.keys())))
    if not begins:
        return []
    setters = graph.setters()
    needs = {id(n): list(needed(n, setters)) for n in graph.nodes}
    found = []
    for name, begin in begins.items():
        end = ends[name]
        if begin not in needs[id(end)]:
            raise GraphError("a loop's end does not read the round of its begin", where=end.name)
        before = _reached(end, needs)
        after = {id(begin)}
        for node in graph.nodes:
            if any(id(n) in after for n in needs[id(node)]):
                after.add(id(node))
        found.append(Loop(begin, end, [n for n in graph.nodes if id(n) in before and id(n) in after and n not in (begin, end)]))
    found.sort(key=lambda loop: len(loop.body))
    for index, loop in enumerate(found):
        around = [other for other in found[index + 1 :] if loop.begin in other.body or loop.end in other.body]
        if any(loop.begin not in other.body or loop.end not in other.body for other in around):
            raise GraphError("two loops overlap", where=loop.begin.name)
        loop.parent = around[0] if around else None
    return found


def _reached(start: Node, needs: dict[int, list[Node]]) -> set[int]:
    """Everything that a node needs, directly or not."""
    seen: set[int] = set()
    stack = [start]
    while stack:
        for node in needs[id(stack.pop())]:
            if id(node) not in seen:
                seen.add(id(node))
                stack.append(node)
    return seen


def innermost(found: Sequence[Loop]) -> dict[int, Loop]:
    """The innermost loop whose body has a node, by the node's id; nodes outside of all loops are not in it."""
    return {id(node): loop for loop in reversed(found) for node in loop.body}


def arranged(graph: Graph, found: Sequence[Loop]) -> list[Node]:
    """The nodes in an order in which operands come first and every body lies between its begin and its end, with nothing else there."""
    if not found:
        return graph.nodes
    setters = graph.setters()
    inside = innermost(found)
    framing = {id(node): loop for loop in found for node in (loop.begin, loop.end)}
    order: list[Node] = []
    done: set[int] = set()

    def unit(node: Node, around: Loop | None) -> Loop | Node:
        """The node, or the whole loop it belongs to, as seen from inside ``around``."""
        loop = framing.get(id(node)) or inside.get(id(node))
        seen: Loop | Node = node
        while loop is not None and loop is not around:
            seen, loop = loop, loop.parent
        return seen

    def place(item: Loop | Node, around: Loop | None) -> None:
        key = id(item)
        if key in done:
            return
        done.add(key)
        if isinstance(item, Node):
            for other in needed(item, setters):
                if around is None or (other is not around.begin and _is_in(other, around)):
                    place(unit(other, around), around)
            order.append(item)
            return
        members = [item.begin, *item.body, item.end]
        own = {id(n) for n in members}
        for node in members:
            for other in needed(node, setters):
                if id(other) not in own and (around is None or (other is not around.begin and _is_in(other, around))):
                    place(unit(other, around), around)
        order.append(item.begin)
        for node in item.body:
            place(unit(node, item), item)
        order.append(item.end)

    def _is_in(node: Node, loop: Loop) -> bool:
        return id(node) in bodies[id(loop)]

    bodies = {id(loop): {id(n) for n in loop.body} for loop in found}
    for node in graph.nodes:
        place(unit(node, None), None)
    return order
