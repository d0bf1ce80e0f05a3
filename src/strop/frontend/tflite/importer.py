"""Walks a subgraph and builds a Graph: inputs, operators in order, outputs, state, and a verdict for every operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from strop.errors import ModelError, OptionError, StropError, UnsupportedError
from strop.frontend.names import free_name
from strop.frontend.shapes import input_shapes
from strop.frontend.tflite import custom, sizes
from strop.frontend.tflite.context import NodeContext, Scope, Session
from strop.frontend.tflite.list_items import joined
from strop.frontend.tflite.model import Model, Operator, Signature, Subgraph
from strop.frontend.tflite.registry import RULES
from strop.frontend.verdicts import Verdict, reason
from strop.ir.graph import Graph, Value
from strop.ir.op import Type

#: Most operators of all calls of subgraphs together, and how deep calls may lie in each other.
MAX_OPERATORS, MAX_DEPTH = 1 << 17, 16
#: Behind the name of a variable: the output with its value after the run.
NEXT = ".next"
#: What an import function may run into on an operator that no converter makes; anything else is a defect.
_BAD_NODE = (ArithmeticError, IndexError, KeyError, TypeError, ValueError)


class Importer:
    """One import. ``run`` fills ``verdicts`` and ``errors``; the graph is whole when there are no errors.

    Args:
        model: the file.
        shapes: of inputs by name, or ranges of free dims by their names.
        name: of the graph.
        signature: key of the signature that is read; None for the main subgraph.
        keep: every tensor of the subgraph that is computed is an output, named ``tensor:NUMBER``.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Any] | None, name: str, signature: str | None = None, keep: bool = False) -> None:
        self.model = model
        self.graph = Graph(name)
        self.session = Session(model, self.graph)
        self.verdicts: list[Verdict] = []
        self.errors: list[StropError] = []
        self._shapes = dict(shapes or {})
        self._signature = _signature(model, signature)
        self._keep = keep
        self.number = 0 if self._signature is None else self._signature.subgraph
        #: Of tensors by number: their types, and ``in:`` or ``out:`` and the name of the graph's input or output that holds them.
        self.types: dict[int, Type] = {}
        self.places: dict[int, str] = {}
        self._names: set[str] = set()
        self._count = 0

    def run(self) -> None:
        """Imports the model.

        Raises:
            ModelError: a tensor is computed twice or read before it is computed; subgraphs call each other without end.
            UnsupportedError: an input or output of a type that is not supported.
            OptionError: ``shapes`` does not fit it.
        """
        subgraph = self.model.subgraphs[self.number]
        scope = Scope(self.session, subgraph)
        self._inputs(scope)
        self.session.reserved.update(t.name for t in subgraph.tensors)
        self._walk(scope, [self.number])
        self._outputs(scope)
        self.types = {number: value.type for number, value in scope.stored.items()}

    # ---- inputs and outputs

    def _inputs(self, scope: Scope) -> None:
        subgraph = scope.subgraph
        names = _unique(subgraph.inputs, subgraph, self._signature.inputs if self._signature else {}, "input")
        tensors = {name: subgraph.tensors[index] for index, name in names.items()}
        shapes = input_shapes(tensors, self._shapes)
        for index, name in names.items():
            tensor = subgraph.tensors[index]
            if tensor.buffer is not None:
                raise ModelError("an input has a value", where=f"input {name}")
            if tensor.dtype is None:
                raise UnsupportedError(f"element type {tensor.type} is not supported", where=f"input {name}")
            scope.stored[index] = self.graph.add_input(name, Type(tensor.dtype, shapes[name]))
            self.places[index] = f"in:{name}"

    def _outputs(self, scope: Scope) -> None:
        subgraph = scope.subgraph
        names = _unique(subgraph.outputs, subgraph, self._signature.outputs if self._signature else {}, "output")
        if not names:
            raise ModelError("the subgraph has no outputs", where=f"subgraph {subgraph.name}")
        values, given = [], []
        for index, name in names.items():
            if self.errors and not scope.knows(index):
                continue
            values.append(scope.value(index))
            given.append(name)
            self.places.setdefault(index, f"out:{name}")
        for index, value in scope.stored.items():
            if self._keep and index not in self.places and value.const is None and not subgraph.tensors[index].variable:
                values.append(value)
                given.append(free_name(f"tensor:{index}", given))
                self.places[index] = f"out:{given[-1]}"
        for name, variable in self.session.variables.items():
            values.append(variable.value)
            given.append(variable.given.name + NEXT)
            if name not in self.session.initial and not self.errors:
                raise UnsupportedError("state is read that nothing initializes", where=f"variable {name}")
        self.graph.set_outputs(values, given)

    # ---- operators

    def _walk(self, scope: Scope, path: Sequence[int]) -> None:
        """Reads the operators of a subgraph; ``path`` has the subgraphs that are being read."""
        for number, operator in enumerate(joined(scope.subgraph)):
            self._count += 1
            if self._count > MAX_OPERATORS:
                raise ModelError("the subgraphs have too many operators", where=f"subgraph {scope.subgraph.name}", expected=f"at most {MAX_OPERATORS}")
            self._operator(scope, operator, number, path)

    def _operator(self, scope: Scope, operator: Operator, number: int, path: Sequence[int]) -> None:
        subgraph = scope.subgraph
        title = operator.custom or operator.code
        name = self._name(scope.label + (subgraph.tensors[operator.outputs[0]].name if operator.outputs else "") or f"{title}_{number}")
        where = f"node {name} ({title})"
        for index in operator.outputs:
            if scope.knows(index) or operator.outputs.count(index) > 1:
                raise ModelError("a tensor is computed twice", where=where, got=subgraph.tensors[index].name)
        for index in operator.inputs:
            if index >= 0 and not scope.knows(index) and not subgraph.tensors[index].variable:
                if self.errors:
                    self.verdicts.append(Verdict(name, title, 0, True, checked=False))
                    return
                raise ModelError("a tensor is read that nothing computes before", where=where, got=subgraph.tensors[index].name)

        def inline(called: int, values: Sequence[Value], label: str) -> list[Value]:
            return self._inline(called, values, f"{name}/{label}/", path, where)

        node = NodeContext(self.graph, self.session.reserved, name, title, scope, operator, inline)
        try:
            self._read(node)
        except StropError as error:
            self._failed(node, error)
            return
        self.verdicts.append(Verdict(name, title, 0, True))

    def _read(self, node: NodeContext) -> None:
        operator = node.operator
        rule = custom.rule_of(operator) if operator.code == "CUSTOM" else RULES.get(operator.code)
        if rule is None:
            what = f"custom op {operator.custom}" if operator.code == "CUSTOM" else f"op {operator.code}"
            hint = f"declare it: strop.custom.layer('{custom.layer_name(operator.custom)}')" if operator.custom else "strop ops --tflite lists what is"
            raise UnsupportedError(f"{what} is not supported", where=node.where, got=node.op, hint=hint)
        try:
            sized = sizes.evaluated(node)
            found = rule(node) if sized is None else sized
            results = list(found) if isinstance(found, Sequence) else [found]
            if len(results) < len(operator.outputs):
                raise node.malformed("it has more results than it can have", got=len(operator.outputs), expected=len(results))
            for index, value in enumerate(results[: len(operator.outputs)]):
                if operator.outputs[index] in node.scope.handles:
                    continue
                node.give(index, value)
                self._rename(node.scope, operator.outputs[index])
        except _BAD_NODE as error:
            raise ModelError(f"{node.op} cannot be read: {type(error).__name__}: {error}", where=node.where) from error

    def _failed(self, node: NodeContext, error: StropError) -> None:
        if error.where is None or node.where not in error.where:
            place = node.where if error.where is None else f"{node.where}, {error.where}"
            error = type(error)(error.what, where=place, got=error.got, expected=error.expected, hint=error.hint)
        self.errors.append(error)
        self.verdicts.append(Verdict(node.name, node.op, 0, False, True, reason(error), error.hint))
        for index in node.operator.outputs:  # values of the types that the file gives stand for its results
            tensor = node.scope.subgraph.tensors[index]
            if tensor.dtype is not None and not tensor.free and not node.scope.knows(index):
                node.scope.stored[index] = self.graph.add_input(self.session.fresh(f"{node.name}:{index}"), Type(tensor.dtype, tensor.shape))

    def _inline(self, called: int, values: Sequence[Value], label: str, path: Sequence[int], where: str) -> list[Value]:
        if not 0 <= called < len(self.model.subgraphs):
            raise ModelError("there is no such subgraph", where=where, got=called, expected=f"0 to {len(self.model.subgraphs) - 1}")
        if called in path or len(path) > MAX_DEPTH:
            raise ModelError("subgraphs call each other without end", where=where, got=[*path, called])
        subgraph = self.model.subgraphs[called]
        if len(values) != len(subgraph.inputs):
            raise ModelError("a subgraph is called with another number of operands", where=where, got=len(values), expected=len(subgraph.inputs))
        scope = Scope(self.session, subgraph, label)
        scope.stored.update(zip(subgraph.inputs, values, strict=True))
        before = len(self.errors)
        self._walk(scope, [*path, called])
        if len(self.errors) > before:
            raise UnsupportedError("its subgraph cannot be read", where=where, got=subgraph.name)
        return [scope.value(index) for index in subgraph.outputs]

    # ---- names

    def _name(self, wanted: str) -> str:
        name = free_name(wanted, self._names, mark=".", first=2)
        self._names.add(name)
        return name

    def _rename(self, scope: Scope, index: int) -> None:
        """A result under the file's name of it, if it was made for it."""
        value, name = scope.stored[index], scope.label + scope.subgraph.tensors[index].name
        if value.producer is not None and value.name not in self.session.reserved and name and name not in self.graph.values:
            self.graph.rename(value, name)


def input_names(model: Model, signature: str | None = None) -> dict[int, str]:
    """Names of the graph's inputs by the numbers of their tensors.

    Raises:
        OptionError: there is no such signature.
    """
    chosen = _signature(model, signature)
    subgraph = model.subgraphs[chosen.subgraph if chosen else 0]
    return _unique(subgraph.inputs, subgraph, chosen.inputs if chosen else {}, "input")


def _signature(model: Model, key: str | None) -> Signature | None:
    if key is None:
        return None
    if key not in model.signatures:
        raise OptionError("the model has no such signature", where="argument signature", got=key, expected=", ".join(model.signatures) or "it has none")
    return model.signatures[key]


def _unique(numbers: Sequence[int], subgraph: Subgraph, given: Mapping[str, int], what: str) -> dict[int, str]:
    """A name per tensor: the signature's, or the tensor's own, made unique."""
    named = {index: name for name, index in given.items()}
    found: dict[int, str] = {}
    for place, index in enumerate(numbers):
        wanted = named.get(index) or subgraph.tensors[index].name or f"{what}_{place}"
        name = free_name(wanted, found.values(), mark=".", first=2)
        if index not in found:
            found[index] = name
    return found
