"""Loops and branches of graphs that are older than functions for them: Enter, Merge, Switch, NextIteration, Exit.

A loop's variable is a Merge of what an Enter brings in and a NextIteration brings back; a Switch by the LoopCond leads it into the next round or to its Exit
(Yu et al. 2018, Dynamic Control Flow in Large-Scale Machine Learning, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strop.errors import ModelError
from strop.frontend.saved_model.program import Body, Node, Ref

_ENTER, _NEXT, _EXIT, _MERGE, _SWITCH = "Enter", "NextIteration", "Exit", "Merge", "Switch"


@dataclass
class Loop:
    """A loop.

    Attributes:
        name: of its frame.
        condition: the LoopCond.
        merges: nodes of its variables.
        starts: what the variables are before the first round.
        next: what they are in the next one.
        exits: nodes that give a variable's value after the last round, and the variable's number.
        inside: nodes that depend on the round.
        needs: names of the nodes of ``starts``.
    """

    name: str
    condition: str
    merges: list[str] = field(default_factory=list)
    starts: list[Ref] = field(default_factory=list)
    next: list[Ref] = field(default_factory=list)
    exits: list[tuple[str, int]] = field(default_factory=list)
    inside: frozenset[str] = frozenset()
    needs: list[str] = field(default_factory=list)


class Frames:
    """The loops of a body, found when they are first asked for.

    Args:
        body: the graph or a function.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._users: dict[str, list[Node]] = {}
        self._loops: dict[str, Loop] = {}
        for node in body.nodes.values():
            for ref in node.inputs:
                self._users.setdefault(ref.node, []).append(node)
        #: Nodes that only say on which side of a branch those are that wait for them.
        self.pivots = frozenset(n.name for n in body.nodes.values() if self._is_pivot(n))
        for node in body.nodes.values():
            for name in self.pivots.intersection(node.controls):
                self._users.setdefault(name, []).append(node)

    def _is_pivot(self, node: Node) -> bool:
        """Whether a node is the Identity of one side of a condition that is switched by itself."""
        if node.op != "Identity" or not node.inputs:
            return False
        switch = self._body.nodes.get(node.inputs[0].node)
        return switch is not None and switch.op == _SWITCH and len(switch.inputs) == 2 and switch.inputs[0] == switch.inputs[1]

    def loop_of(self, exit_node: Node) -> Loop:
        """The loop that an Exit leaves.

        Raises:
            ModelError: nodes that make no loop.
        """
        if exit_node.name not in self._loops:
            loop = self._found(exit_node)
            for name, _ in loop.exits:
                self._loops[name] = loop
            if exit_node.name not in self._loops:
                raise self._malformed(exit_node)
        return self._loops[exit_node.name]

    def _malformed(self, node: Node) -> ModelError:
        return ModelError("an Exit leaves no loop", where=f"node {node.name} ({node.op})", expected="Enter, Merge, Switch, NextIteration around a LoopCond")

    def _input(self, node: Node, index: int, op: str) -> Node:
        if index >= len(node.inputs):
            raise self._malformed(node)
        found = self._body.node(node.inputs[index].node)
        if found.op != op:
            raise self._malformed(node)
        return found

    def _found(self, exit_node: Node) -> Loop:
        switch = self._input(exit_node, 0, _SWITCH)
        condition = self._input(switch, 1, "LoopCond")
        enter = next(
            (self._body.node(r.node) for r in self._input(switch, 0, _MERGE).inputs if self._body.node(r.node).op == _ENTER), None
        )
        if enter is None:
            raise self._malformed(exit_node)
        frame = _frame(enter)
        loop = Loop(frame, condition.name)
        for node in self._body.nodes.values():
            if node.op == _MERGE and len(node.inputs) == 2:
                self._variable(loop, node)
        loop.needs = [ref.node for ref in loop.starts]
        loop.inside = frozenset(self._inside(loop))
        return loop

    def _variable(self, loop: Loop, merge: Node) -> None:
        """Adds a Merge that is a variable of the loop."""
        sources = [self._body.node(ref.node) for ref in merge.inputs]
        enters = [n for n in sources if n.op == _ENTER and _frame(n) == loop.name]
        backs = [n for n in sources if n.op == _NEXT]
        if len(enters) != 1 or len(backs) != 1 or not enters[0].inputs or not backs[0].inputs:
            return
        place = len(loop.merges)
        loop.merges.append(merge.name)
        loop.starts.append(enters[0].inputs[0])
        loop.next.append(backs[0].inputs[0])
        for switch in self._users.get(merge.name, ()):
            if switch.op == _SWITCH and switch.inputs[0].node == merge.name and switch.inputs[-1].node == loop.condition:
                loop.exits += [(n.name, place) for n in self._users.get(switch.name, ()) if n.op == _EXIT and n.inputs[0].index == 0]

    def _inside(self, loop: Loop) -> set[str]:
        exits = {name for name, _ in loop.exits}
        found: set[str] = set(loop.merges)
        stack = list(loop.merges)
        while stack:
            for user in self._users.get(stack.pop(), ()):
                if user.name not in found and user.name not in exits:
                    found.add(user.name)
                    stack.append(user.name)
        return found


def _frame(enter: Node) -> str:
    name = enter.attributes.get("frame_name")
    return bytes(name.s).decode("utf-8", "replace") if name is not None else ""
