"""A model's graph and functions as nodes by name, its signatures, and which saved variable belongs to which node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from strop.errors import ModelError, OptionError, UnsupportedError
from strop.frontend.saved_model import messages, tensors
from strop.frontend.saved_model.bundle import Bundle
from strop.ir.dtype import DType

FILE = "saved_model.pb"
#: The tag of graphs that are meant to be run, and the usual signature.
SERVE, DEFAULT = "serve", "serving_default"
#: Most nodes of the graph and all functions.
MAX_NODES = 1 << 20
_INIT = "__saved_model_init_op"
#: How deep calls are followed to find what they assign.
MAX_CALLS = 16
#: Ops that make variables.
VARIABLES = frozenset(("VarHandleOp", "VariableV2", "Variable"))
#: Ops whose results nobody need read.
_SILENT = frozenset(("Const", "NoOp", "Assert", "Placeholder", "SaveV2", "RestoreV2", "MergeV2Checkpoints", *VARIABLES))


@dataclass(frozen=True)
class Ref:
    """A result of a node: the node's name, the name of the output in functions ("" in the graph), and a number."""

    node: str
    port: str
    index: int


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        name: in its graph or function.
        op: of TensorFlow, or the name of a function.
        inputs: what it reads.
        controls: names of nodes that run before it.
        proto: its message, for the attributes.
    """

    name: str
    op: str
    inputs: tuple[Ref, ...]
    controls: tuple[str, ...]
    proto: Any

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Messages by name."""
        return {entry.key: entry.value for entry in self.proto.attr}


@dataclass
class Body:
    """The graph, or a function.

    Attributes:
        name: of the function, "" of the graph.
        nodes: by name, in the file's order.
        args: names of a function's arguments.
        results: what a function returns.
        controls: nodes that a function runs in any case.
        ports: names of a function's results.
    """

    name: str
    nodes: dict[str, Node]
    args: tuple[str, ...] = ()
    results: tuple[Ref, ...] = ()
    controls: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()

    def node(self, name: str) -> Node:
        """A node; ModelError when there is none of this name."""
        found = self.nodes.get(name)
        if found is None:
            raise ModelError("a node is read that is not there", where=self.where, got=name)
        return found

    @property
    def where(self) -> str:
        """For messages."""
        return f"function {self.name}" if self.name else "the graph"

    def reached(self, names: Iterable[str], controls: bool = True) -> set[str]:
        """The nodes that these need, themselves included."""
        found: set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name in found or name not in self.nodes:
                continue
            found.add(name)
            node = self.nodes[name]
            stack += [ref.node for ref in node.inputs]
            if controls:
                stack += node.controls
        return found


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Attributes:
        ref: the graph's result that it is.
        dtype: element type.
        shape: sizes, 1 where ``free`` has an axis; None of unknown rank.
        free: axes whose size is left open.
    """

    ref: Ref
    dtype: DType
    shape: tuple[int, ...] | None
    free: tuple[int, ...] = ()


@dataclass
class Program:
    """A model.

    Attributes:
        name: of the folder or file.
        graph: the main graph.
        functions: by name.
        inputs, outputs: of the signature, by its names.
        keys: of saved variables, by the names of the graph's nodes that make them.
        bundle: the saved variables, if there are any.
        values: of variables, by the graph's nodes, where they do not come from a bundle.
        constants: values of placeholders that stand for known tensors, by name.
    """

    name: str
    graph: Body
    functions: Mapping[str, Body]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    keys: dict[str, str] = field(default_factory=dict)
    bundle: Bundle | None = None
    values: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)


# ---- files


def load(path: Path, signature: str | None) -> Program:
    """Reads a SavedModel: its folder, or the ``saved_model.pb`` in it.

    Args:
        path: of either.
        signature: key of the signature; None for the only one or ``serving_default``.

    Raises:
        ModelError: a file is missing, damaged or inconsistent.
        UnsupportedError: no graph for inference, signatures with tensors of an unsupported kind.
        OptionError: there is no such signature.
    """
    folder = path if path.is_dir() else path.parent
    where = str(folder / FILE)
    graphs = messages.parse("SavedModel", _bytes(folder / FILE), where).meta_graphs
    meta = next((m for m in graphs if SERVE in m.info.tags), graphs[0] if len(graphs) == 1 else None)
    if meta is None:
        raise UnsupportedError("the SavedModel has no graph for inference", where=where, got=[list(m.info.tags) for m in graphs][:8], expected=f"one with the tag {SERVE}")
    graph, functions = _bodies(meta.graph_def)
    given = {entry.key: entry.value for entry in meta.signature_def if entry.key != _INIT}
    chosen = given[_signature(given, signature)]
    inputs, outputs = (_tensors(entries, graph) for entries in (chosen.inputs, chosen.outputs))
    if not outputs:
        raise ModelError("the signature has no outputs", where=where)
    program = Program(folder.resolve().name, graph, functions, inputs, outputs)
    if meta.saver_def.restore_op_name:
        program.keys = restored(program, meta.saver_def.restore_op_name)
        program.bundle = Bundle(folder / "variables" / "variables") if program.keys else None
        if program.bundle is not None:
            program.keys |= captured(program, program.bundle, meta.object_graph_def.concrete_functions)
    return program


def frozen(data: bytes, name: str, signature: str | None) -> Program:
    """Reads a frozen graph: placeholders are inputs, results that nobody reads are outputs.

    Raises:
        ModelError: the file is damaged or inconsistent.
        OptionError: a signature is asked for.
    """
    if signature is not None:
        raise OptionError("a frozen graph has no signatures", where="argument signature", got=signature, expected="none")
    graph, functions = bodies(data, name)
    if not graph.nodes:
        raise ModelError("the file is no TensorFlow graph", where=name, got="no nodes")
    read = {name for node in graph.nodes.values() for name in (*(ref.node for ref in node.inputs), *node.controls)}
    inputs = {node.name: _placeholder(node) for node in graph.nodes.values() if node.op == "Placeholder"}
    outputs = {n.name: Tensor(Ref(n.name, "", 0), tensors.DTYPES[1], None) for n in graph.nodes.values() if n.name not in read and n.op not in _SILENT}
    if not outputs:
        raise ModelError("the graph has no outputs", where=name)
    return Program(name, graph, functions, inputs, outputs)


def bodies(data: bytes, where: str) -> tuple[Body, dict[str, Body]]:
    """The graph and functions of a serialized GraphDef; ModelError when it is none."""
    return _bodies(messages.parse("Graph", data, where))


def _placeholder(node: Node) -> Tensor:
    where = f"input {node.name}"
    shape = node.attributes.get("shape")
    kind = node.attributes.get("dtype")
    return tensor_of(Ref(node.name, "", 0), kind.type if kind else 0, shape.shape if shape else None, where)


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > messages.MAX_BYTES:
            raise UnsupportedError("the file is too large", where=str(path), got=f"{path.stat().st_size} bytes", expected=f"at most {messages.MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ModelError("the model file cannot be read", where=str(path), got=error.strerror, hint="give the SavedModel's folder") from error


def read_bytes(path: Path) -> bytes:
    """The bytes of a file; ModelError when it cannot be read."""
    return _bytes(path)


def _signature(given: Mapping[str, Any], wanted: str | None) -> str:
    if wanted is None and len(given) == 1:
        return next(iter(given))
    key = wanted or DEFAULT
    if key not in given:
        if wanted is None and not given:
            raise UnsupportedError(
                "the SavedModel has no signatures", hint="save it with signatures: tf.saved_model.save(model, folder, signatures=function)"
            )
        what = "the model has no such signature" if wanted else "which of the model's signatures is meant?"
        raise OptionError(what, where="argument signature", got=wanted, expected=", ".join(sorted(given)) or "none")
    return key


# ---- graphs


def _bodies(proto: Any) -> tuple[Body, dict[str, Body]]:
    count = len(proto.node) + sum(len(f.node_def) for f in proto.library.function)
    if count > MAX_NODES:
        raise ModelError("the graph has too many nodes", got=count, expected=f"at most {MAX_NODES}")
    functions: dict[str, Body] = {}
    for function in proto.library.function:
        name = function.signature.name
        if name in functions:
            raise ModelError("two functions have one name", got=name)
        functions[name] = _function(function)
    return Body("", _nodes(proto.node, "the graph", main=True)), functions


def _function(proto: Any) -> Body:
    where = f"function {proto.signature.name}"
    results = {entry.key: entry.value for entry in proto.ret}
    missing = [arg.name for arg in proto.signature.output_arg if arg.name not in results]
    if missing:
        raise ModelError("a function does not say what it returns", where=where, got=missing[0])
    return Body(
        proto.signature.name,
        _nodes(proto.node_def, where, main=False),
        tuple(arg.name for arg in proto.signature.input_arg),
        tuple(_ref(results[arg.name], where, main=False) for arg in proto.signature.output_arg),
        tuple(entry.value for entry in proto.control_ret),
        tuple(arg.name for arg in proto.signature.output_arg),
    )


def _nodes(protos: Sequence[Any], where: str, main: bool) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for proto in protos:
        if proto.name in found:
            raise ModelError("two nodes have one name", where=where, got=proto.name)
        inputs = tuple(_ref(text, where, main) for text in proto.input if not text.startswith("^"))
        controls = tuple(text[1:] for text in proto.input if text.startswith("^"))
        found[proto.name] = Node(proto.name, proto.op, inputs, controls, proto)
    return found


def _ref(text: str, where: str, main: bool) -> Ref:
    """``name``, ``name:number`` in the graph; ``argument`` or ``name:output:number`` in a function."""
    name, *rest = text.split(":")
    port = rest.pop(0) if rest and not main else ""
    if len(rest) > 1 or (rest and not (rest[0].isascii() and rest[0].isdigit() and len(rest[0]) < 9)):
        raise ModelError("a node's input is malformed", where=where, got=text)
    return Ref(name, port, int(rest[0]) if rest else 0)


def _tensors(entries: Sequence[Any], graph: Body) -> dict[str, Tensor]:
    found = {}
    for entry in entries:
        where, info = f"signature tensor {entry.key}", entry.value
        if not info.name:
            raise UnsupportedError("sparse and composite tensors are not supported", where=where)
        ref = _ref(info.name, where, main=True)
        graph.node(ref.node)
        found[entry.key] = tensor_of(ref, info.dtype, info.tensor_shape, where)
    return found


def tensor_of(ref: Ref, kind: int, shape: Any, where: str) -> Tensor:
    """An input or output of a DataType and a TensorShapeProto, None for an unknown shape."""
    dtype = tensors.dtype_of(kind, where)
    if shape is None or shape.unknown_rank:
        return Tensor(ref, dtype, None)
    sizes = [int(d.size) for d in shape.dim]
    if len(sizes) > 32 or any(s == 0 or s > 1 << 31 for s in sizes):
        raise ModelError("a shape is malformed", where=where, got=sizes[:33])
    return Tensor(ref, dtype, tuple(max(s, 1) for s in sizes), tuple(k for k, s in enumerate(sizes) if s < 0))


# ---- saved variables


def restored(program: Program, name: str) -> dict[str, str]:
    """Keys of saved variables by the nodes that make them, as the graph's own restore op would assign them.

    Args:
        program: the model.
        name: of the restore op: a call of a function, or a node behind the assignments of the graph.

    Raises:
        ModelError: the assignments are inconsistent.
        UnsupportedError: a variable is put together from slices.
    """
    start = _ref(name, "the restore op", main=True).node
    found: dict[str, str] = {}
    _assignments(program, program.graph, [start], {}, found, 0)
    return found


#: Variable that says what a checkpoint's objects are and which keys they are saved under.
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"


def captured(program: Program, bundle: Bundle, functions: Sequence[Any]) -> dict[str, str]:
    """Keys of saved variables by the nodes that make them, as functions capture objects, whose numbers the checkpoint knows too.

    Where an object stands for another one, as Keras 3's variables do, the graph's restore op assigns nodes that no function reads.

    Args:
        program: the model.
        bundle: its variables.
        functions: what they capture, by name: the object graph's concrete functions.

    Raises:
        ModelError: the checkpoint's list of objects is damaged.
    """
    if _OBJECTS not in bundle:
        return {}
    objects = messages.parse("ObjectGraph", bundle.text(_OBJECTS), _OBJECTS).nodes
    bound = {entry.key: list(entry.value.bound_inputs) for entry in functions}
    found: dict[str, str] = {}
    for node in program.graph.nodes.values():
        numbers = bound.get(called_function(node), [])
        for number, ref in zip(numbers, node.inputs[len(node.inputs) - len(numbers) :], strict=False):
            handle = _variable(program.graph, ref, {})
            keys = [a.checkpoint_key for a in objects[number].attributes if a.name == "VARIABLE_VALUE"] if 0 <= number < len(objects) else []
            if handle and len(keys) == 1 and len(numbers) <= len(node.inputs):
                found[handle] = keys[0]
    return found


def _assignments(program: Program, body: Body, start: Iterable[str], bound: Mapping[str, str], found: dict[str, str], depth: int) -> None:
    """Adds what the assignments in a body assign; ``bound`` has the variables that a function's arguments stand for."""
    for name in body.reached(start):
        node = body.nodes[name]
        called = called_function(node)
        if called in program.functions and depth < 8:
            inner = program.functions[called]
            handles = {arg: _variable(body, ref, bound) for arg, ref in zip(inner.args, node.inputs, strict=False)}
            known = {arg: handle for arg, handle in handles.items() if handle}
            _assignments(program, inner, [*(r.node for r in inner.results), *inner.controls], known, found, depth + 1)
        if node.op not in ("AssignVariableOp", "Assign") or len(node.inputs) < 2:
            continue
        handle, key = _variable(body, node.inputs[0], bound), _key(body, node.inputs[1])
        if handle and key:
            found[handle] = key


#: Ops that give a variable another value, of those that are read.
ASSIGNMENTS = frozenset(("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"))


def written(program: Program) -> set[str]:
    """The nodes that make those variables which a run of the signature changes."""
    found: set[str] = set()
    known = {name: name for name in program.values}
    _written(program, program.graph, [tensor.ref.node for tensor in program.outputs.values()], known, found, 0)
    return found


def _written(program: Program, body: Body, start: Iterable[str], bound: Mapping[str, str], found: set[str], depth: int) -> None:
    for name in body.reached(start):
        node = body.nodes[name]
        inner = program.functions.get(called_function(node))
        if inner is not None and depth < MAX_CALLS:
            handles = {arg: _variable(body, ref, bound) for arg, ref in zip(inner.args, node.inputs, strict=False)}
            known = {arg: handle for arg, handle in handles.items() if handle}
            if known:
                _written(program, inner, [*(r.node for r in inner.results), *inner.controls], known, found, depth + 1)
        elif node.op in ASSIGNMENTS and node.inputs:
            handle = _variable(body, node.inputs[0], bound)
            found.update([handle] if handle else [])


def called_function(node: Node) -> str:
    """Name of the function that a call calls; the op itself where it is none of the usual calls."""
    if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
        attribute = node.attributes.get("f")
        return str(attribute.func.name) if attribute is not None else ""
    return node.op


def _source(body: Body, ref: Ref) -> Ref:
    """A result behind Identity."""
    for _ in range(64):
        node = body.nodes.get(ref.node)
        if node is None or node.op not in ("Identity", "Cast") or not node.inputs:
            break
        ref = node.inputs[0]
    return ref


def _variable(body: Body, ref: Ref, bound: Mapping[str, str]) -> str | None:
    ref = _source(body, ref)
    if ref.node in bound:
        return bound[ref.node]
    node = body.nodes.get(ref.node)
    return node.name if node is not None and node.op in VARIABLES and not body.name else None


def _key(body: Body, ref: Ref) -> str | None:
    """The key that a RestoreV2 reads a value from."""
    ref = _source(body, ref)
    node = body.nodes.get(ref.node)
    if node is None or node.op != "RestoreV2" or len(node.inputs) < 3:
        return None
    names, slices = (_strings(body, node.inputs[k]) for k in (1, 2))
    if not ref.index < len(names) == len(slices):
        raise ModelError("the restore op reads more variables than it names", where=f"node {node.name}", got=ref.index, expected=len(names))
    if slices[ref.index]:
        raise UnsupportedError("variables that are stored in slices are not supported", where=f"node {node.name}", got=names[ref.index])
    return names[ref.index]


def _strings(body: Body, ref: Ref) -> list[str]:
    node = body.nodes.get(_source(body, ref).node)
    value = node.attributes.get("value") if node is not None and node.op == "Const" else None
    if value is None:
        raise ModelError("the restore op does not say what it reads", where=body.where, got=ref.node)
    found = [text.decode("utf-8", "replace") for text in value.tensor.string_val]
    count = 1
    for dim in value.tensor.tensor_shape.dim:
        count *= max(int(dim.size), 0)
    return found * count if len(found) == 1 and count <= messages.MAX_BYTES >> 10 else found
