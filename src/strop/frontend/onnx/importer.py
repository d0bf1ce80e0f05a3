"""Walks an ONNX graph and builds a Graph: names, scopes, order, functions, and a verdict for every node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from strop.errors import ModelError, ShapeError, StropError, UnsupportedError
from strop.frontend.onnx import symbolic
from strop.frontend.onnx.context import NodeContext, Session
from strop.frontend.onnx.inputs import (
    InputShapes,
    input_type,
    opset_imports,
    plain_domain,
    static_type,
)
from strop.frontend.onnx.operands import Known, Operand, Symbolic, Unknown
from strop.frontend.onnx.order import check_text, check_unique, sorted_nodes
from strop.frontend.onnx.registry import RULES, find
from strop.frontend.onnx.tensors import TensorReader, element_type
from strop.ir.graph import Graph, Value
from strop.ir.op import Type
from strop.ir.shape import Dim, is_static
from strop.ops.data import Identity

#: Most nodes after local functions have been expanded, and most functions within functions.
MAX_NODES = 250_000
MAX_DEPTH = 32

#: What may help where dims would be equal for some sizes only.
_STEPS = "where dims must be equal at every size, ranges in steps may make them so: --shape x=1x3x32..960%32x32..960%32"
#: What an import function may run into on a node that ONNX does not allow; anything else is a defect.
_BAD_NODE = (ArithmeticError, IndexError, KeyError, MemoryError, TypeError, ValueError)


@dataclass(frozen=True)
class Verdict:
    """What becomes of one node of the model.

    Attributes:
        name: its name, or ``OpType_index`` when it has none; nodes of functions are ``call/inner``, and an output that
            cannot be given is ``output NAME``.
        op_type: ONNX op type, with its domain in front when that is not ai.onnx.
        opset: version of its domain.
        supported: whether it can be read.
        checked: False when only op type and opset were looked at, because an operand comes from an unsupported node.
        reason: why it is not supported, else "".
        hint: what to try, or None.
    """

    name: str
    op_type: str
    opset: int
    supported: bool
    checked: bool = True
    reason: str = ""
    hint: str | None = None


@dataclass
class Scope:
    """Names of one graph or function body.

    Attributes:
        names: what each name stands for.
        opsets: domain to version.
        prefix: put before node names.
        attributes: a function call's attributes, for nodes that refer to them.
        depth: how many functions it lies in.
    """

    names: dict[str, Operand | Unknown]
    opsets: Mapping[str, int]
    prefix: str = ""
    attributes: Mapping[str, AttributeProto] = field(default_factory=dict)
    depth: int = 0


class Importer:
    """One import. ``run`` fills ``verdicts`` and ``errors``; the graph is whole when there are no errors.

    Args:
        model: the model, without the raw data that ``spans`` tells about.
        reader: reads its tensors.
        spans: see ``strop.frontend.onnx.wire.split``.
        shapes: shapes of inputs by name that replace the declared ones, or dims by their names, see InputShapes.
        name: of the graph.
    """

    def __init__(
        self,
        model: ModelProto,
        reader: TensorReader,
        spans: Mapping[int, tuple[int, int]],
        shapes: Mapping[str, str | Sequence[int | str | Dim]] | None,
        name: str,
    ) -> None:
        self.model = model
        self.reader = reader
        self.spans = spans
        self.shapes = dict(shapes or {})
        self.verdicts: list[Verdict] = []
        self.errors: list[StropError] = []
        self.graph = Graph(model.graph.name or name)
        self._session = Session(self.graph, reader, _names(model.graph))
        self._functions = {(plain_domain(f.domain), f.name, f.overload): f for f in model.functions}
        self._node_names: set[str] = set()
        self._count = 0
        self._initializers = {t.name: i for i, t in enumerate(model.graph.initializer)}
        self._infos = {info.name: info for info in model.graph.value_info}

    def run(self) -> None:
        """Imports the model.

        Raises:
            ModelError: the model's structure is unsound, so that no verdicts can be given.
        """
        proto = self.model.graph
        check_text(self.model, f"graph {self.graph.name!r}")
        opsets = opset_imports(self.model.opset_import)
        check_unique(proto)
        scope = Scope({}, opsets)
        for sparse in proto.sparse_initializer:
            name = sparse.values.name
            scope.names[name] = Known(name, self.reader.read_sparse(sparse, f"initializer {name}"))
        self._inputs(proto, scope)
        wanted = {o.name for o in proto.output}
        self._nodes(proto.node, scope, wanted)
        self._outputs(proto, scope)

    # ---- inputs and outputs

    def _inputs(self, proto: GraphProto, scope: Scope) -> None:
        inputs = [
            i for i in proto.input if i.name not in self._initializers and i.name not in scope.names
        ]
        shapes = InputShapes(self.shapes, inputs)
        for info in inputs:
            dtype = input_type(info)
            value = self.graph.add_input(info.name, Type(dtype, shapes.of(info)))
            scope.names[info.name] = value

    def _outputs(self, proto: GraphProto, scope: Scope) -> None:
        if not proto.output:
            raise ModelError("the model has no outputs", where=f"graph {self.graph.name}")
        values: dict[str, Value] = {}
        for info in proto.output:
            found = self._lookup(info.name, scope, f"output {info.name}")
            if isinstance(found, Unknown):
                continue
            if isinstance(found, Symbolic):
                self._failed_output(info.name, found)
                continue
            declared = info.type.tensor_type.elem_type
            if declared and element_type(declared, f"output {info.name}") != found.type.dtype:
                raise ModelError(
                    "an output has another element type than it declares",
                    where=f"output {info.name}",
                    got=found.type.dtype,
                    expected=element_type(declared, f"output {info.name}"),
                )
            values[info.name] = self._materialize(found)
        self.graph.set_outputs(list(values.values()), list(values))

    def _failed_output(self, name: str, found: Symbolic) -> None:
        error = UnsupportedError(
            "an output depends on symbolic dims",
            where=f"output {name}",
            got=found.symbols,
            hint="give the symbols values with --shape",
        )
        self.errors.append(error)
        verdict = Verdict(f"output {name}", "output", 0, False, True, _reason(error), error.hint)
        self.verdicts.append(verdict)

    def _materialize(self, operand: Value | Known) -> Value:
        if isinstance(operand, Known) and operand.value is None:
            operand.value = self.graph.add_const(
                operand.array, operand.name or self._session.fresh("const")
            )
        value = operand.value if isinstance(operand, Known) else operand
        assert value is not None
        return value

    # ---- names

    def _lookup(self, name: str, scope: Scope, reader: str) -> Operand | Unknown:
        found = scope.names.get(name)
        if found is None and scope.depth == 0 and name in self._initializers:
            index = self._initializers[name]
            array = self.reader.read(
                self.model.graph.initializer[index], f"initializer {name}", self.spans.get(index)
            )
            found = scope.names[name] = Known(name, array)
        if found is None:
            raise ModelError(
                "a value is read that nothing defines",
                where=reader,
                got=name,
                expected="an input, an initializer or a node's output",
            )
        return found

    def _node_name(self, node: NodeProto, scope: Scope, index: int) -> str:
        name = scope.prefix + (node.name or f"{node.op_type}_{index}")
        if name in self._node_names:
            name = f"{name}.{index}"
        while name in self._node_names:
            name += "'"
        self._node_names.add(name)
        return name

    # ---- nodes

    def _nodes(self, nodes: Sequence[NodeProto], scope: Scope, outputs: set[str]) -> None:
        """Imports the nodes of a graph or function body; ``outputs`` are its results' names."""
        read = {name for node in nodes for name in node.input} | outputs
        defined = set(scope.names) | (set(self._initializers) if scope.depth == 0 else set())
        for index, node in sorted_nodes(nodes, defined, f"graph {self.graph.name}"):
            self._count += 1
            if self._count > MAX_NODES:
                raise ModelError("the model has too many nodes", got=f"over {MAX_NODES}")
            name = self._node_name(node, scope, index)
            try:
                self._node(node, name, scope, read)
            except StropError as error:
                self._failed(node, name, scope, error)

    def _failed(self, node: NodeProto, name: str, scope: Scope, error: StropError) -> None:
        where, hint = f"node {name} ({node.op_type})", error.hint
        if isinstance(error, ShapeError) and hint is None and any(not is_static(v.shape) for v in self.graph.inputs):
            hint = _STEPS
        if error.where is None or where not in error.where or hint != error.hint:
            inside = error.where is not None and where in error.where
            place = where if error.where is None else error.where if inside else f"{where}, {error.where}"
            error = type(error)(error.what, where=place, got=error.got, expected=error.expected, hint=hint)
        self.errors.append(error)
        self._verdict(node, name, scope, False, reason=_reason(error), hint=error.hint)
        for output in node.output:
            scope.names[output] = self._declared(output, scope) or Unknown(name)

    def _declared(self, output: str, scope: Scope) -> Operand | None:
        """A stand-in of the type the model declares, so that the readers of a failed node are checked too."""
        info = self._infos.get(output) if scope.depth == 0 else None
        type = static_type(info) if info is not None else None
        if type is None or output in self.graph.values:
            return None
        return self.graph.add_input(output, Type(*type))

    def _verdict(
        self,
        node: NodeProto,
        name: str,
        scope: Scope,
        supported: bool,
        checked: bool = True,
        reason: str = "",
        hint: str | None = None,
    ) -> None:
        domain = plain_domain(node.domain)
        label = f"{domain}.{node.op_type}" if domain else node.op_type
        opset = scope.opsets.get(domain, 0)
        self.verdicts.append(Verdict(name, label, opset, supported, checked, reason, hint))

    def _node(self, node: NodeProto, name: str, scope: Scope, read: set[str]) -> None:
        where = f"node {name} ({node.op_type})"
        domain = plain_domain(node.domain)
        operands = [self._lookup(i, scope, where) if i else None for i in node.input]
        function = self._functions.get((domain, node.op_type, node.overload))
        if function is not None:
            self._call(node, name, scope, function, operands)
            return
        if domain not in scope.opsets:
            raise ModelError(
                "the model does not import the operator set of a node",
                where=where,
                got=domain or "ai.onnx",
                expected=", ".join(d or "ai.onnx" for d in scope.opsets) or "an opset_import",
            )
        rule = find(domain, node.op_type, scope.opsets[domain], where)
        if any(isinstance(o, Unknown) for o in operands):
            self._verdict(node, name, scope, True, checked=False)
            for output in node.output:
                scope.names[output] = Unknown(name)
            return
        known: list[Operand | None] = [o for o in operands if not isinstance(o, Unknown)]
        context = NodeContext(
            self._session,
            name,
            node.op_type,
            domain,
            scope.opsets[domain],
            _attributes(node, scope, where),
            known,
            [bool(o) and o in read for o in node.output],
        )
        before = len(self.graph.nodes)
        try:
            found = (
                symbolic.evaluate(context) if any(isinstance(o, Symbolic) for o in known) else None
            )
            results = found if found is not None else rule.apply(context)
        except _BAD_NODE as error:
            raise ModelError(
                f"{node.op_type} cannot be read: {type(error).__name__}: {error}", where=where
            ) from error
        unread = [a for a in context.attributes if a not in context.read]
        if unread:
            raise context.unsupported(
                f"attribute {unread[0]} is not known", expected=", ".join(sorted(context.read))
            )
        given = results if isinstance(results, Sequence) else [results]
        made = {v for n in self.graph.nodes[before:] for v in n.outputs}
        self._bind(node, context, scope, given, made)
        self._verdict(node, name, scope, True)

    def _bind(
        self,
        node: NodeProto,
        context: NodeContext,
        scope: Scope,
        results: Sequence[Operand],
        made: set[Value],
    ) -> None:
        """Gives the results of a node the names that the model has for them."""
        for index, output in enumerate(node.output):
            if not output:
                continue
            if index >= len(results):
                if context.wanted[index]:
                    raise context.unsupported(
                        f"result {index} is not supported", got=f"{output}, which is read"
                    )
                continue
            result = results[index]
            wanted = scope.prefix + output
            if isinstance(result, Value):
                if result not in made:  # the operand itself: keep the model's op
                    again = context.step(Identity(), result)
                    assert isinstance(again, Value)
                    result = again
                made.discard(result)
                self.graph.rename(
                    result, wanted if scope.depth == 0 else self._session.fresh(wanted)
                )
            elif isinstance(result, Known):
                result = Known(wanted if scope.depth == 0 else "", result.array)
            else:
                result = Symbolic(wanted, result.dims, result.dtype)
            scope.names[output] = result

    # ---- functions

    def _call(
        self,
        node: NodeProto,
        name: str,
        scope: Scope,
        function: FunctionProto,
        operands: Sequence[Operand | Unknown | None],
    ) -> None:
        """Imports the body of a local function in the place of a call to it."""
        where = f"node {name} ({node.op_type})"
        if scope.depth >= MAX_DEPTH:
            raise ModelError(
                "local functions call each other too deeply",
                where=where,
                expected=f"{MAX_DEPTH} levels",
            )
        if len(operands) > len(function.input) or len(node.output) > len(function.output):
            raise ModelError(
                "a call does not fit its function", where=where, got=f"{len(operands)} operands"
            )
        given = _attributes(node, scope, where)
        defaults = {a.name: a for a in function.attribute_proto}
        inner = Scope(
            {},
            opset_imports(function.opset_import),
            f"{name}/",
            {**defaults, **given},
            scope.depth + 1,
        )
        inner.names.update(
            (i, o) for i, o in zip(function.input, operands, strict=False) if o is not None
        )
        absent = [i for i in function.input if i not in inner.names]
        body = [_without(n, absent) for n in function.node]
        wanted = {o for o, outer in zip(function.output, node.output, strict=False) if outer}
        self._nodes(body, inner, wanted)
        for formal, output in zip(function.output, node.output, strict=False):
            if output:
                scope.names[output] = self._returned(
                    self._lookup(formal, inner, where), output, name, scope
                )

    def _returned(
        self, result: Operand | Unknown, output: str, call: str, scope: Scope
    ) -> Operand | Unknown:
        """A function's result under the caller's name."""
        if isinstance(result, Known):
            return Known(output if scope.depth == 0 else "", result.array)
        if not isinstance(result, Value) or scope.depth:
            return result
        inside = result.producer is not None and any(
            s.startswith(f"{call}/") for s in result.producer.source
        )
        if not inside or result.name in self._session.reserved:
            node = self.graph.add(Identity(), [result], name=call, source=(call,), outputs=[output])
            return node.output
        self.graph.rename(result, output)
        return result


def _names(proto: GraphProto) -> set[str]:
    """Every name the main graph gives to a value."""
    names = (
        {i.name for i in proto.input}
        | {t.name for t in proto.initializer}
        | {o.name for o in proto.output}
    )
    names.update(s.values.name for s in proto.sparse_initializer)
    for node in proto.node:
        names.update(node.output)
    return names


def _attributes(node: NodeProto, scope: Scope, where: str) -> dict[str, AttributeProto]:
    """A node's attributes, with references to a function's attributes resolved."""
    found: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        if attribute.name in found:
            raise ModelError("an attribute is given twice", where=where, got=attribute.name)
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif attribute.ref_attr_name in scope.attributes:
            found[attribute.name] = scope.attributes[attribute.ref_attr_name]
    return found


def _without(node: NodeProto, absent: Sequence[str]) -> NodeProto:
    """A function's node with the operands left out that the call left out."""
    if not any(i in absent for i in node.input):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = ["" if i in absent else i for i in node.input]
    return copy


def _reason(error: StropError) -> str:
    """One line without the place, which a verdict names by itself."""
    parts = [error.what]
    if error.got is not None:
        parts.append(f"got {error.got}")
    if error.expected is not None:
        parts.append(f"expected {error.expected}")
    return "; ".join(parts)


def combined(errors: Sequence[StropError], total: int) -> StropError:
    """One error for all that went wrong: a defect of the model first, else everything that is not supported."""
    for error in errors:
        if not isinstance(error, UnsupportedError):
            return error
    if len(errors) == 1:
        return errors[0]
    lines = [f"{error.where}: {_reason(error)}" for error in errors]
    hints = list(dict.fromkeys(e.hint for e in errors if e.hint))
    return UnsupportedError(
        f"{len(errors)} of {total} nodes are not supported",
        got="\n    ".join(["", *lines]),
        hint="; ".join(hints) or None,
    )


def supported_op_types() -> dict[str, str]:
    """Op types that are read, with their opset ranges; those outside ai.onnx have their domain in front."""
    return {
        f"{domain}.{op_type}" if domain else op_type: ", ".join(r.opsets for r in rules)
        for (domain, op_type), rules in sorted(RULES.items())
    }
