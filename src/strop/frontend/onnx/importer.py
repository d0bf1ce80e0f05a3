"""Walks an ONNX graph and builds a Graph: names, scopes, order, functions, and a verdict for every node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from strop.errors import ModelError, ShapeError, StropError, UnsupportedError
from strop.frontend.onnx import symbolic
from strop.frontend.onnx.bodies import body_of, expanded_op_types
from strop.frontend.onnx.context import NodeContext, Session
from strop.frontend.onnx.custom import rule_of
from strop.frontend.onnx.inputs import (
    InputShapes,
    check_fixed,
    fixed_input,
    input_type,
    opset_imports,
    plain_domain,
    split_values,
    static_type,
)
from strop.frontend.onnx.operands import Known, Listed, Operand, Symbolic, Unknown
from strop.frontend.onnx.order import captured, check_text, check_unique, half_bytes, sorted_nodes
from strop.frontend.onnx.registry import RULES, Rule, find
from strop.frontend.onnx.scope import Scope, attributes_of, without
from strop.frontend.onnx.tensors import TensorReader, element_type
from strop.frontend.verdicts import Verdict, reason
from strop.ir.graph import Graph, Value
from strop.ir.op import Type
from strop.ir.shape import Dim, is_static
from strop.ops.data import Identity

#: Most nodes after functions have been expanded and loops unrolled, and most functions and subgraphs within each other.
MAX_NODES = 250_000
MAX_DEPTH = 32

#: What may help where dims would be equal for some sizes only.
_STEPS = "where dims must be equal at every size, ranges in steps may make them so: --shape x=1x3x32..960%32x32..960%32"
#: What an import function may run into on a node that ONNX does not allow; anything else is a defect.
_BAD_NODE = (ArithmeticError, IndexError, KeyError, MemoryError, TypeError, ValueError)


class InnerFailed(Exception):
    """A node inside a subgraph could not be read; its own verdict says why."""


class Importer:
    """One import. ``run`` fills ``verdicts`` and ``errors``; the graph is whole when there are no errors.

    Args:
        model: the model, without the raw data that ``spans`` tells about.
        reader: reads its tensors.
        spans: see ``strop.frontend.onnx.wire.split``.
        shapes: shapes of inputs by name that replace the declared ones, or dims by their names, see InputShapes; a text that
            begins with ``=`` is a value that the input always has, see fixed_input.
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
        self.values, self.shapes = split_values(shapes or {})
        self.verdicts: list[Verdict] = []
        self.errors: list[StropError] = []
        self.graph = Graph(model.graph.name or name)
        self._session = Session(self.graph, reader, _names(model.graph))
        self._functions = {(plain_domain(f.domain), f.name, f.overload): f for f in model.functions}
        self._node_names: set[str] = set()
        self._unread: list[Value] = []
        self._count = 0
        self._packed = half_bytes(model.graph)
        self._initializers = {t.name: i for i, t in enumerate(model.graph.initializer)}
        self._infos = {info.name: info for info in model.graph.value_info}

    def judged(self) -> Graph:
        """The graph as far as it was read: what nodes that are not read would have read are outputs too."""
        outputs = dict(zip(self.graph.output_names, self.graph.outputs, strict=True))
        for value in self._unread:
            if value.producer is not None and value not in outputs.values():
                outputs.setdefault(value.name, value)
        self.graph.set_outputs(list(outputs.values()), list(outputs))
        return self.graph

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
        check_fixed(self.values, inputs)
        shapes = InputShapes(self.shapes, inputs, {name for node in proto.node for name in (*node.output, *node.input)})
        self._session.ranges = shapes.ranges
        for info in inputs:
            if info.name in self.values:
                scope.names[info.name] = Known(info.name, fixed_input(info, self.values[info.name]))
                continue
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
            if isinstance(found, Listed):
                self._failed_output(info.name, found)
                continue
            if isinstance(found, Symbolic):
                found = self._sizes(info.name, found, scope)
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

    def _sizes(self, name: str, found: Symbolic, scope: Scope) -> Value:
        """Dims that are an output."""
        context = NodeContext(
            self._session, f"output {name}", "output", "", 0, {}, [], [], lambda *_: [], [name]
        )
        return context.value(found)

    def _failed_output(self, name: str, found: Listed) -> None:
        error = UnsupportedError(
            "an output is no tensor",
            where=f"output {name}",
            got=f"a sequence of {len(found.items)} tensors",
            hint="export the model with tensors as outputs",
        )
        self.errors.append(error)
        verdict = Verdict(f"output {name}", "output", 0, False, True, reason(error), error.hint)
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
                self.model.graph.initializer[index], f"initializer {name}", self.spans.get(index), name in self._packed
            )
            found = scope.names[name] = Known(name, array)
        if found is None and scope.parent is not None:
            return self._lookup(name, scope.parent, reader)
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
        read.update(name for node in nodes for name in captured(node))
        defined = set(scope.names) | (set(self._initializers) if scope.depth == 0 else set())
        if scope.parent is not None:  # a subgraph's own names hide those around it
            own = {output for node in nodes for output in node.output}
            defined |= {name for name in read - own if self._sees(name, scope.parent)}
        for index, node in sorted_nodes(nodes, defined, f"graph {self.graph.name}"):
            self._counted()
            name = self._node_name(node, scope, index)
            try:
                self._node(node, name, scope, read)
            except StropError as error:
                self._failed(node, name, scope, error)
            except InnerFailed:
                scope.names.update((output, Unknown(name)) for output in node.output)

    def _counted(self) -> None:
        """Counts a node, or a subgraph that is put in the place of one; ModelError when there are too many."""
        self._count += 1
        if self._count > MAX_NODES:
            raise ModelError("the model has too many nodes", got=f"over {MAX_NODES}")

    def _sees(self, name: str, scope: Scope) -> bool:
        """Whether a name means something in a scope or around it."""
        return scope.sees(name) or name in self._initializers

    def _failed(self, node: NodeProto, name: str, scope: Scope, error: StropError) -> None:
        where, hint = f"node {name} ({node.op_type})", error.hint
        if isinstance(error, ShapeError) and hint is None and any(not is_static(v.shape) for v in self.graph.inputs):
            hint = _STEPS
        if error.where is None or where not in error.where or hint != error.hint:
            inside = error.where is not None and where in error.where
            place = where if error.where is None else error.where if inside else f"{where}, {error.where}"
            error = type(error)(error.what, where=place, got=error.got, expected=error.expected, hint=hint)
        self.errors.append(error)
        self._note_operands(node, scope)
        self._verdict(node, name, scope, False, reason=reason(error), hint=error.hint)
        for output in node.output:
            scope.names[output] = self._declared(output, scope) or Unknown(name)

    def _note_operands(self, node: NodeProto, scope: Scope) -> None:
        """Remembers the operands of a node that is not read."""
        for name in node.input:
            around: Scope | None = scope
            while around is not None and name not in around.names:
                around = around.parent
            found = around.names[name] if around is not None else None
            if isinstance(found, Value):
                self._unread.append(found)

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
            self._call(node, name, scope, function, operands, attributes_of(node, scope, where))
            return
        if domain not in scope.opsets:
            raise ModelError(
                "the model does not import the operator set of a node",
                where=where,
                got=domain or "ai.onnx",
                expected=", ".join(d or "ai.onnx" for d in scope.opsets) or "an opset_import",
            )
        attributes = attributes_of(node, scope, where)
        known: list[Operand | None] = [o for o in operands if not isinstance(o, Unknown)]
        complete = len(known) == len(operands)
        try:
            rule = find(domain, node.op_type, scope.opsets[domain], where)
        except UnsupportedError:
            body = None
            if domain == "" and complete:
                body = body_of(
                    node.op_type, scope.opsets[""], attributes, known, len(node.output), where
                )
            if body is not None:
                self._call(node, name, scope, body[0], operands, body[1])
                return
            custom = rule_of(domain, node.op_type)
            if custom is None:
                raise
            rule = custom
        if not complete:
            self._note_operands(node, scope)
            self._verdict(node, name, scope, True, checked=False)
            for output in node.output:
                scope.names[output] = Unknown(name)
            return
        self._apply(node, name, scope, read, rule, known, attributes)

    def _apply(
        self,
        node: NodeProto,
        name: str,
        scope: Scope,
        read: set[str],
        rule: Rule,
        known: Sequence[Operand | None],
        attributes: Mapping[str, AttributeProto],
    ) -> None:
        """Imports a node whose operands are known by its import function."""
        where = f"node {name} ({node.op_type})"
        domain = plain_domain(node.domain)
        context = NodeContext(
            self._session,
            name,
            node.op_type,
            domain,
            scope.opsets[domain],
            attributes,
            known,
            [bool(o) and o in read for o in node.output],
            lambda graph, operands, label: self._inline(
                graph, operands, f"{name}/{label}", scope, where
            ),
            list(node.output),
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
            elif isinstance(result, Symbolic):
                result = Symbolic(wanted, result.dims, result.dtype)
            scope.names[output] = result

    def _call(
        self,
        node: NodeProto,
        name: str,
        scope: Scope,
        function: FunctionProto,
        operands: Sequence[Operand | Unknown | None],
        given: Mapping[str, AttributeProto],
    ) -> None:
        """Imports the body of a function in the place of a call to it; ``given`` are the call's attributes."""
        where = f"node {name} ({node.op_type})"
        if scope.depth >= MAX_DEPTH:
            raise ModelError(
                "functions and subgraphs lie in each other too deeply",
                where=where,
                expected=f"{MAX_DEPTH} levels",
            )
        if len(operands) > len(function.input) or len(node.output) > len(function.output):
            raise ModelError(
                "a call does not fit its function", where=where, got=f"{len(operands)} operands"
            )
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
        body = [without(n, set(absent)) for n in function.node]
        wanted = {o for o, outer in zip(function.output, node.output, strict=False) if outer}
        self._nodes(body, inner, wanted)
        for formal, output in zip(function.output, node.output, strict=False):
            if output:
                scope.names[output] = self._returned(
                    self._lookup(formal, inner, where), output, name, scope
                )

    # ---- subgraphs

    def _inline(
        self, proto: GraphProto, operands: Sequence[Operand], prefix: str, scope: Scope, where: str
    ) -> list[Operand]:
        """Imports a subgraph in the place of the node that owns it; answers its outputs.

        Raises:
            InnerFailed: a node in it cannot be read.
        """
        self._counted()
        if scope.depth >= MAX_DEPTH:
            raise ModelError(
                "functions and subgraphs lie in each other too deeply",
                where=where,
                expected=f"{MAX_DEPTH} levels",
            )
        if len(operands) != len(proto.input):
            raise ModelError(
                "a subgraph does not fit its node",
                where=where,
                got=f"{len(proto.input)} inputs",
                expected=f"{len(operands)}",
            )
        inner = Scope({}, scope.opsets, f"{prefix}/", scope.attributes, scope.depth + 1, scope)
        for tensor in proto.initializer:
            place = f"{where}, initializer {tensor.name}"
            inner.names[tensor.name] = Known("", self.reader.read(tensor, place))
        for sparse in proto.sparse_initializer:
            place = f"{where}, initializer {sparse.values.name}"
            inner.names[sparse.values.name] = Known("", self.reader.read_sparse(sparse, place))
        inner.names.update((i.name, o) for i, o in zip(proto.input, operands, strict=True))
        self._nodes(proto.node, inner, {o.name for o in proto.output})
        results: list[Operand] = []
        for output in proto.output:
            found = self._lookup(output.name, inner, where)
            if isinstance(found, Unknown):
                raise InnerFailed
            results.append(found)
        return results

    # ---- functions

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


def supported_op_types() -> dict[str, str]:
    """Op types that are read, with their opset ranges; those outside ai.onnx have their domain in front."""
    rules = {
        f"{domain}.{op_type}" if domain else op_type: ", ".join(r.opsets for r in rules)
        for (domain, op_type), rules in RULES.items()
    }
    return dict(sorted({**rules, **expanded_op_types()}.items()))
