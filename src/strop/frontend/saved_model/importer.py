"""Reads what a signature's outputs need, node by node, and builds a Graph. Functions are read where they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.errors import ModelError, OptionError, StropError, UnsupportedError
from strop.frontend.names import free_name
from strop.frontend.saved_model import loops, sizes
from strop.frontend.saved_model.context import NodeContext, Session
from strop.frontend.saved_model.frames import Frames, Loop
from strop.frontend.saved_model.operands import Dead, Guarded, Handle, Operand, Unknown
from strop.frontend.saved_model.program import (
    ASSIGNMENTS,
    VARIABLES,
    Body,
    Node,
    Program,
    Ref,
    Tensor,
    written,
)
from strop.frontend.saved_model.registry import PORTS, RULES
from strop.frontend.shapes import input_shapes
from strop.frontend.verdicts import Verdict, reason
from strop.ir.graph import Graph, Value
from strop.ir.op import Type

#: Most nodes of all calls and rounds together, and how deep calls may lie in each other.
MAX_READ, MAX_DEPTH = 1 << 18, 48
#: The symbol of first axes that several inputs leave open.
BATCH = "batch"
#: Behind the name of a variable that a run changes: the output with its value after the run.
NEXT = ".next"
#: Ops without results, which only matter for the order of others.
_SILENT = frozenset(("NoOp", "Assert", "Print", "PrintV2"))
#: Ops that change a variable in ways that are not read.
WRITES = frozenset((
    "Assign", "AssignAdd", "AssignSub", "ScatterUpdate", "ScatterAdd",
    "ResourceScatterUpdate", "ResourceScatterAdd", "ResourceScatterNdUpdate", "ResourceStridedSliceAssign", "AssignVariableXlaConcatND",
))  # fmt: skip
#: What an import function may run into on a node that TensorFlow does not make; anything else is a defect.
_BAD_NODE = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
#: All results of a node in the branch that is not taken.
_DEAD: Sequence[Operand] = (Dead(),)
#: Ops that read operands which are not there in the branch that is not taken.
_MERGES = frozenset(("Merge",))


@dataclass
class Scope:
    """The results of one body where it is read: once for the graph, once per call, and once per round of a loop.

    Attributes:
        body: the graph or a function.
        label: begins the names of its nodes.
        path: functions that are being read.
        known: results by node.
        outer: of a round, what lies around it.
        inside: of a round, the nodes that depend on it.
        ends: of a round, nodes whose Switch gives both results: their loop goes on or ends outside of the graph.
        frames: the loops of the body, once they are known.
        once: it runs exactly once per run, so that it may change variables.
    """

    body: Body
    label: str
    path: tuple[str, ...]
    known: dict[str, Sequence[Operand]] = field(default_factory=dict)
    outer: Scope | None = None
    inside: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()
    frames: Frames | None = None
    once: bool = True

    def owner(self, name: str) -> Scope:
        """Where a node's results belong: the innermost round that it depends on."""
        scope = self
        while scope.outer is not None and name not in scope.inside:
            scope = scope.outer
        return scope


class Importer:
    """One import. ``run`` fills ``verdicts`` and ``errors``; the graph is whole when there are no errors.

    Args:
        program: the model.
        shapes: of inputs by name, or ranges of free dims by their names.
    """

    def __init__(self, program: Program, shapes: Mapping[str, Any] | None) -> None:
        self.program = program
        self.graph = Graph(program.name)
        self.session = Session(program, self.graph)
        self.verdicts: list[Verdict] = []
        self.errors: list[StropError] = []
        self._shapes = dict(shapes or {})
        self._names: set[str] = set()
        self._count = 0

    def run(self) -> None:
        """Imports the model.

        Raises:
            ModelError: nodes read each other in a circle, or functions call each other without end.
            UnsupportedError: an input or output of a type that is not supported, variables that change.
            OptionError: ``shapes`` does not fit it.
        """
        scope = Scope(self.program.graph, "", ())
        self.session.changing = frozenset(written(self.program))
        self._inputs(scope)
        refs = [tensor.ref for tensor in self.program.outputs.values()]
        self._check_writes(scope, [ref.node for ref in refs], "the graph")
        values, names = [], []
        for name, found in zip(self.program.outputs, self.read(scope, refs), strict=True):
            if isinstance(found, Unknown):
                continue
            if not isinstance(found, Value):
                raise UnsupportedError("an output is no tensor of numbers", where=f"output {name}", got=type(found).__name__.lower())
            values.append(found)
            names.append(name)
        for state in self.session.state.values():
            values.append(state.value)
            names.append(state.given.name + NEXT)
        self.graph.set_outputs(values, names)

    def _inputs(self, scope: Scope) -> None:
        given = self._shapes
        declared: dict[str, Tensor] = {}
        for name, tensor in self.program.inputs.items():
            if tensor.shape is None:
                rank = _rank(given.get(name))
                if rank is None:
                    raise OptionError("the rank of an input is not known", where=f"input {name}", expected="its shape", hint=f"--shape {name}=1x224x224x3")
                tensor = Tensor(tensor.ref, tensor.dtype, (1,) * rank, tuple(range(rank)))
            declared[name] = tensor
        several = sum(0 in tensor.free for tensor in declared.values()) > 1
        shapes = input_shapes(declared, given, BATCH if several else None)  # type: ignore[arg-type]
        for name, tensor in declared.items():
            value = self.graph.add_input(name, Type(tensor.dtype, shapes[name]))
            self.session.reserved.add(name)
            if tensor.ref.node in scope.known or tensor.ref.index:
                raise ModelError("an input is no placeholder of its own", where=f"input {name}", got=tensor.ref.node)
            scope.known[tensor.ref.node] = [value]
        scope.known.update({name: [Handle(name)] for name in self.program.values})
        for name, array in self.program.constants.items():
            scope.known[name] = [self.graph.add_const(array, free_name(name, self.graph.values))]

    # ---- nodes in the order in which they are needed

    def read(self, scope: Scope, refs: Sequence[Ref]) -> list[Operand]:
        """Results of nodes; reads what has not been read yet.

        Raises:
            ModelError: nodes read each other in a circle; there are too many.
        """
        self._visit(scope, [ref.node for ref in refs])
        return [self._result(scope, ref) for ref in refs]

    def _visit(self, scope: Scope, names: Sequence[str]) -> None:
        stack = list(reversed(names))
        waiting: set[tuple[int, str]] = set()
        while stack:
            name = stack[-1]
            home = scope.owner(name)
            if name in home.known:
                stack.pop()
                continue
            needs = [n for n in self._needs(home, name) if n not in home.owner(n).known]
            if not needs:
                stack.pop()
                home.known[name] = self._node(home, home.body.node(name))
                continue
            if (id(home), name) in waiting:
                raise ModelError("nodes read each other in a circle", where=home.body.where, got=name)
            waiting.add((id(home), name))
            stack += needs

    def _needs(self, scope: Scope, name: str) -> list[str]:
        node = scope.body.node(name)
        if node.op == "Exit":
            return self.frames(scope).loop_of(node).needs
        names = [] if node.op in _SILENT else [ref.node for ref in node.inputs]
        if self.session.changing:
            return names + [c for c in node.controls if c in scope.body.nodes]
        return names + [c for c in node.controls if c in self.frames(scope).pivots] if node.controls else names

    def frames(self, scope: Scope) -> Frames:
        """The loops and branches that a graph is made of where it is older than functions for them."""
        top = scope
        while top.outer is not None:
            top = top.outer
        if top.frames is None:
            top.frames = Frames(top.body)
        return top.frames

    def _result(self, scope: Scope, ref: Ref) -> Operand:
        found = scope.owner(ref.node).known[ref.node]
        if found is _DEAD or (found and isinstance(found[0], Unknown)):
            return found[0]
        node = scope.body.nodes.get(ref.node)
        index = ref.index
        if ref.port and node is not None:
            index += self._port(node, ref.port)
        if index >= len(found):
            raise ModelError("a node is read that has fewer results", where=f"{scope.body.where}, node {ref.node}", got=index, expected=f"below {len(found)}")
        return found[index]

    def _port(self, node: Node, port: str) -> int:
        names = self.program.functions[node.op].ports if node.op in self.program.functions else PORTS.get(node.op, ())
        if port in names:
            return names.index(port)
        if names:
            raise ModelError("an output of an op is not known", where=f"node {node.name} ({node.op})", got=port, expected=", ".join(names))
        return 0

    # ---- one node

    def _node(self, scope: Scope, node: Node) -> Sequence[Operand]:
        self._count += 1
        if self._count > MAX_READ:
            raise ModelError("there are too many nodes in all calls and rounds", where=scope.body.where, expected=f"at most {MAX_READ}")
        if node.op == "Exit":
            return self._exit(scope, node)
        if node.op in _SILENT:
            return ()
        operands = [self._result(scope, ref) for ref in node.inputs]
        if node.op == "Switch" and len(node.inputs) == 2 and node.inputs[1].node in scope.ends:
            return [operands[0], operands[0]]
        if node.op not in _MERGES and any(isinstance(o, Dead) for o in operands):
            return _DEAD
        conditions = self._conditions(scope, node, operands)
        if conditions is None:
            return _DEAD
        if node.op not in _MERGES:
            operands = [o.operand if isinstance(o, Guarded) else o for o in operands]
        name = self._name(scope.label + node.name)
        if any(isinstance(o, Unknown) for o in operands):
            known = self._supported(node)
            self.verdicts.append(Verdict(name, node.op, 0, known, checked=False, reason="" if known else f"op {node.op} is not supported"))
            if not known:
                self.errors.append(_unsupported(name, node.op))
            return [Unknown(node.op)]

        def call(called: str, values: Sequence[Operand], label: str) -> list[Operand]:
            return self.call(called, values, f"{name}/{label}/" if label else scope.label, scope.path, context.where, scope.once and not label and not conditions)

        context = NodeContext(self.graph, self.session.reserved, name, node.op, self.session, node, operands, call)
        try:
            if node.op in ASSIGNMENTS and (conditions or scope.outer is not None):
                raise context.unsupported("variables that are changed in branches and loops are not supported")
            results = self._results(context)
        except StropError as error:
            return self._failed(context, error)
        self.verdicts.append(Verdict(name, node.op, 0, True))
        if conditions and node.op not in _MERGES:
            results = [_guarded(r, conditions) for r in results]
        return results

    def _conditions(self, scope: Scope, node: Node, operands: Sequence[Operand]) -> tuple[tuple[Value, bool], ...] | None:
        """What must hold for a node to run; None where it is known that it does not."""
        found: dict[tuple[Value, bool], None] = {}
        given: list[Operand] = list(operands)
        for control in node.controls:
            if control in self.frames(scope).pivots:
                given.append(scope.owner(control).known[control][0])
        for operand in given:
            if isinstance(operand, Dead) and node.op not in _MERGES:
                return None
            if isinstance(operand, Guarded):
                found.update(dict.fromkeys(operand.conditions))
        return tuple(found)

    def _supported(self, node: Node) -> bool:
        return node.op in RULES or node.op in self.program.functions or node.op in VARIABLES

    def _results(self, node: NodeContext) -> Sequence[Operand]:
        op = node.op
        if op in VARIABLES:
            handle = Handle(node.node.name)
            return [handle if op == "VarHandleOp" else node.variable(handle)]
        try:
            if op in self.program.functions:
                return node.call(op, node.operands, "")
            rule = RULES.get(op)
            if rule is None:
                raise _unsupported(node.name, op)
            sized = sizes.evaluated(node)
            found = rule(node) if sized is None else sized
        except _BAD_NODE as error:
            raise ModelError(f"{op} cannot be read: {type(error).__name__}: {error}", where=node.where) from error
        results = list(found) if isinstance(found, (list, tuple)) else [found]
        return results  # type: ignore[return-value]

    def _failed(self, node: NodeContext, error: StropError) -> Sequence[Operand]:
        if error.where is None or node.where not in error.where:
            place = node.where if error.where is None else f"{node.where}, {error.where}"
            error = type(error)(error.what, where=place, got=error.got, expected=error.expected, hint=error.hint)
        self.errors.append(error)
        self.verdicts.append(Verdict(node.name, node.op, 0, False, True, reason(error), error.hint))
        return [Unknown(node.op)]

    def _name(self, wanted: str) -> str:
        name = free_name(wanted, self._names, mark=".", first=2)
        self._names.add(name)
        return name

    # ---- functions and loops

    def call(self, name: str, operands: Sequence[Operand], label: str, path: Sequence[str], where: str, once: bool) -> list[Operand]:
        """Reads a function in the place of a call.

        Raises:
            ModelError: there is no such function, it takes another number of operands, or calls lie in each other without end.
            UnsupportedError: it changes a variable, and may not run, or more than once.
        """
        body = self.program.functions.get(name)
        if body is None:
            raise ModelError("a function is called that is not there", where=where, got=name)
        if name in path or len(path) > MAX_DEPTH:
            raise ModelError("functions call each other without end", where=where, got=[*path, name][-4:])
        if len(operands) != len(body.args):
            raise ModelError("a function is called with another number of operands", where=where, got=len(operands), expected=len(body.args))
        scope = Scope(body, label, (*path, name), once=once)
        self._check_writes(scope, [*(r.node for r in body.results), *body.controls], where)
        scope.known.update({arg: [operand] for arg, operand in zip(body.args, operands, strict=True)})
        results = self.read(scope, body.results)
        if self.session.changing and once:
            self._visit(scope, [c for c in body.controls if c in body.nodes])
        return results

    def _check_writes(self, scope: Scope, start: Sequence[str], where: str) -> None:
        for name in scope.body.reached(start):
            op = scope.body.nodes[name].op
            if op in WRITES or (op in ASSIGNMENTS and not (scope.once and self.session.changing)):
                raise UnsupportedError(
                    "variables that are changed in this way are not supported", where=where, got=f"node {name} ({op})",
                    expected="whole values, assigned outside of branches and loops", hint="make state an input and an output of the signature",
                )  # fmt: skip

    def _exit(self, scope: Scope, node: Node) -> Sequence[Operand]:
        """The results of a loop of the old kind, all of them at once."""
        found = self.frames(scope).loop_of(node)
        starts = self.read(scope, found.starts)
        name = self._name(scope.label + (found.name or node.name))

        def no_call(called: str, values: Sequence[Operand], label: str) -> list[Operand]:
            raise ModelError("a loop calls no function", where=name)

        context = NodeContext(self.graph, self.session.reserved, name, "Exit", self.session, node, starts, no_call)
        from_round = self._rounds(scope, found, name)
        try:
            finals = loops.repeated(context, starts, from_round)
        except StropError as error:
            finals = list(self._failed(context, error)) * len(starts)
        for exit_name, place in found.exits:
            scope.owner(exit_name).known[exit_name] = [finals[place]]
        return scope.owner(node.name).known[node.name]

    def _rounds(self, scope: Scope, found: Loop, name: str) -> loops.Round:
        """What one round of a loop is: whether there is one, and what reads it."""

        def round_(carried: Sequence[Operand], label: str) -> tuple[Operand, Callable[[], list[Operand]]]:
            inner = Scope(scope.body, f"{name}/{label}/", scope.path, outer=scope, inside=found.inside, ends=frozenset((found.condition,)))
            inner.frames = self.frames(scope)
            zero = self.graph.add_const(np.asarray(0, np.int32), free_name(f"{name}:const", self.graph.values))
            inner.known.update({merge: [value, zero] for merge, value in zip(found.merges, carried, strict=True)})
            (flag,) = self.read(inner, [Ref(found.condition, "", 0)])
            return flag, lambda: self.read(inner, found.next)

        return round_


def _guarded(operand: Operand, conditions: tuple[tuple[Value, bool], ...]) -> Operand:
    """An operand under further conditions, outer ones first."""
    if isinstance(operand, (Dead, Unknown)):
        return operand
    if isinstance(operand, Guarded):
        return Guarded(operand.operand, tuple(dict.fromkeys((*conditions, *operand.conditions))))
    return Guarded(operand, conditions)


def _rank(shape: Any) -> int | None:
    if shape is None:
        return None
    return len(shape.split("x")) if isinstance(shape, str) else len(shape)


def _unsupported(name: str, op: str) -> UnsupportedError:
    return UnsupportedError(f"op {op} is not supported", where=f"node {name} ({op})", got=op, hint="strop ops --tensorflow lists what is")

