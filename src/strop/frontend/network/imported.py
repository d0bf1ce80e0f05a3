"""A graph that was read from a file, as layers of a network: one per node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from strop.frontend.network.layer import Emitter, Layer, Tensor
from strop.frontend.network.network import Network
from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Op
from strop.ir.shape import Dim, DimExpr, Sym

_BUILD = {"add": sh.add, "mul": sh.mul, "floordiv": sh.floordiv, "mod": sh.mod, "min": sh.minimum, "max": sh.maximum}


@dataclass(eq=False)
class ImportedNode(Layer):
    """One op of an imported graph.

    Attributes:
        op: the op; symbols in its attributes are those that the graph was read with.
        count: number of results.
        constants: operand number to constant.
        symbols: free dims that the graph was read with: (input, axis) by symbol name.
        source: names of the model's own nodes that it stands for.
    """

    kind: ClassVar[str] = "ImportedNode"
    arity: ClassVar[tuple[int, int | None]] = (0, None)

    op: Op
    count: int
    constants: dict[int, Value] = field(default_factory=dict, repr=False)
    symbols: dict[str, tuple[Tensor, int]] = field(default_factory=dict, repr=False)
    source: tuple[str, ...] = ()

    def results(self) -> int:
        return self.count

    def emit(self, e: Emitter, *inputs: Value) -> list[Value]:
        operands: list[Value | None] = list(inputs)
        for index, value in self.constants.items():
            while len(operands) <= index:
                operands.append(None)
            assert value.const is not None
            operands[index] = e.shared(value.name, value.const)
        bound = {name: e.graph.values[tensor.name].shape[axis] for name, (tensor, axis) in self.symbols.items()}
        return e.all(rebound(self.op, bound), *operands)


@dataclass(eq=False)
class CustomNode(ImportedNode):
    """A custom layer (``strop.custom``) as a layer of the network."""

    kind: ClassVar[str] = "Plugin"


def rebound(op: Op, dims: dict[str, Dim]) -> Op:
    """The op with symbols in its attributes replaced by other dims."""
    changes = {}
    for name, value in op.attributes().items():
        changed = _substitute(value, dims)
        if changed != value:
            changes[name] = changed
    return op.replace(**changes) if changes else op


def _substitute(value: object, dims: dict[str, Dim]) -> object:
    if isinstance(value, tuple):
        return tuple(_substitute(item, dims) for item in value)
    if isinstance(value, Sym):
        return dims.get(value.name, value)
    if isinstance(value, DimExpr):
        a, b = (_substitute(arg, dims) for arg in value.args)
        return _BUILD[value.op](a, b)  # type: ignore[arg-type]
    return value


def import_graph(network: Network, graph: Graph) -> None:
    """Adds a graph's inputs, nodes and outputs to a network; its symbols become free axes."""
    tensors: dict[Value, Tensor] = {}
    symbols: dict[str, tuple[Tensor, int]] = {}
    for value in graph.inputs:
        shape = [d if isinstance(d, int) else -1 for d in value.shape]
        tensor = network.add_input(value.name, value.dtype, shape)
        tensors[value] = tensor
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, Sym):
                tensor.axis_names[axis] = dim.name
                symbols.setdefault(dim.name, (tensor, axis))
    for node in graph.nodes:
        _add(network, node, tensors, symbols)
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        tensor = tensors[value]
        if tensor.name != name and network.tensor(name) is None:
            tensor.name = name
        network.mark_output(tensor)


def _add(network: Network, node: Node, tensors: dict[Value, Tensor], symbols: dict[str, tuple[Tensor, int]]) -> None:
    operands = [None if v is None or v.const is not None else tensors[v] for v in node.inputs]
    constants = {k: v for k, v in enumerate(node.inputs) if v is not None and v.const is not None}
    while operands and operands[-1] is None:
        operands.pop()
    layer = ImportedNode(node.op, len(node.outputs), constants, symbols, node.source)
    network.add(layer, *operands, name=node.source[0] if len(node.source) == 1 else node.name)
    for value, tensor in zip(node.outputs, layer.outputs, strict=True):
        if network.tensor(value.name) is None:
            tensor.name = value.name
        tensors[value] = tensor
