"""What a function that writes ONNX nodes sees of its node: operands by name, and steps that emit nodes, constants and sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, defs, helper, numpy_helper

from strop.errors import UnsupportedError
from strop.frontend.names import free_name
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array
from strop.ir.shape import Dim, DimExpr, Sym

#: The opset that is written.
OPSET = 21
#: Names of element types in the schemas, by their numbers.
_TYPE_NAMES = {number: f"tensor({name.lower()})" for name, number in TensorProto.DataType.items()}
#: Arithmetic of sizes.
_SIZES = {"add": "Add", "mul": "Mul", "floordiv": "Div", "mod": "Mod", "min": "Min", "max": "Max"}


def element_number(dtype: DType) -> int:
    """ONNX's number of an element type."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype.numpy)))


@dataclass
class Writing:
    """What all nodes of one model share.

    Attributes:
        graph: that is written.
        nodes: those emitted so far, in order.
        initializers: constants, by name.
        names: of the graph's values.
        taken: all names.
        types: of what has a name, where they are known.
        sizes: makes the vector of one element that holds a symbol, by the symbol's name.
        made: vectors of sizes, by their dim.
    """

    graph: Graph
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    names: dict[Value, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    types: dict[str, DType] = field(default_factory=dict)
    sizes: dict[str, Callable[[], str]] = field(default_factory=dict)
    made: dict[Dim, str] = field(default_factory=dict)

    def fresh(self, wanted: str) -> str:
        """A name that nothing has."""
        name = free_name(wanted, self.taken, mark=".")
        self.taken.add(name)
        return name

    def name(self, value: Value) -> str:
        """The name of a value; a constant becomes an initializer at its first use."""
        if value not in self.names:
            self.names[value] = self.fresh(value.name)
            self.types[self.names[value]] = value.dtype
            if value.const is not None:
                self._keep(self.names[value], value.const)
        return self.names[value]

    def const(self, array: Array, wanted: str) -> str:
        """A constant made on the way."""
        name = self.fresh(wanted)
        self.types[name] = dt.from_numpy(array.dtype)
        self._keep(name, array)
        return name

    def _keep(self, name: str, array: Array) -> None:
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)

    def emit(self, op: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", domain: str = "", **attributes: Any) -> str:
        """Emits a node; answers its first result. Attributes that are None are left out."""
        given = {key: value for key, value in attributes.items() if value is not None}
        inputs = list(inputs)
        while inputs and not inputs[-1]:
            inputs.pop()
        self._check(op, inputs, name)
        self.nodes.append(helper.make_node(op, inputs, list(outputs), name=name or self.fresh(f"{outputs[0]}:node"), domain=domain or None, **given))
        return outputs[0]

    def _check(self, op: str, inputs: Sequence[str], name: str) -> None:
        """UnsupportedError where the standard does not let an operand have its type."""
        schema = defs.get_schema(op, OPSET)
        for index, given in enumerate(inputs):
            formal = schema.inputs[min(index, len(schema.inputs) - 1)]
            dtype = self.types.get(given)
            if dtype is not None and _TYPE_NAMES[element_number(dtype)] not in formal.types:
                raise UnsupportedError(
                    f"ONNX's {op} takes no {dtype}", where=f"node {name}" if name else f"value {given}", got=dtype, expected=", ".join(sorted(formal.types)),
                    hint="export the network in f32",
                )  # fmt: skip

    # ---- sizes

    def size(self, dim: Dim) -> str:
        """A vector of one i64 that holds a size."""
        if dim not in self.made:
            self.made[dim] = self._size(dim)
        return self.made[dim]

    def _size(self, dim: Dim) -> str:
        if isinstance(dim, int):
            return self.const(np.array([dim], np.int64), f"size_{dim}")
        if isinstance(dim, Sym):
            if dim.name not in self.sizes:
                raise UnsupportedError(
                    "a free size is no size of an input", where=f"dim {dim.name}", hint="give the inputs fixed shapes with --shape"
                )
            return self.sizes[dim.name]()
        assert isinstance(dim, DimExpr)
        a, b = (self.size(arg) for arg in dim.args)
        return self.emit(_SIZES[dim.op], [a, b], [self.fresh(f"size_{dim}")])

    def vector(self, dims: Sequence[Dim], what: str) -> str:
        """A vector of i64 that holds sizes."""
        if sh.is_static(tuple(dims)):
            return self.const(np.array(dims, np.int64).reshape(-1), what)
        return self.emit("Concat", [self.size(d) for d in dims], [self.fresh(what)], axis=0)


@dataclass
class NodeWriter:
    """One node."""

    writing: Writing
    node: Node

    @property
    def op(self) -> Any:
        """The node's op."""
        return self.node.op

    @property
    def where(self) -> str:
        """The node for messages."""
        return f"node {', '.join(self.node.source) or self.node.name} ({self.node.op.label})"

    def refused(self, what: str, got: object = None, expected: object = None) -> UnsupportedError:
        """An error about a node that ONNX has no operators for."""
        return UnsupportedError(
            f"{self.node.op.label}: {what}", where=self.where, got=got, expected=expected, hint="strop build compiles the network as it is"
        )

    def value(self, index: int) -> Value:
        """An operand in the graph."""
        return self.node.operand(index)

    def operand(self, index: int) -> str:
        """The name of an operand; empty for one left out."""
        return self.writing.name(self.value(index)) if self.node.has(index) else ""

    @property
    def operands(self) -> list[str]:
        """The names of all operands."""
        return [self.operand(k) for k in range(len(self.node.inputs))]

    @property
    def results(self) -> list[str]:
        """The names of all results."""
        return [self.writing.name(v) for v in self.node.outputs]

    def const(self, array: Array, what: str) -> str:
        """A constant made on the way."""
        return self.writing.const(np.asarray(array), f"{self.node.name}:{what}")

    def ints(self, numbers: Sequence[int], what: str) -> str:
        """A constant vector of i64."""
        return self.const(np.asarray(numbers, np.int64).reshape(-1), what)

    def vector(self, dims: Sequence[Dim], what: str) -> str:
        """A vector of sizes."""
        return self.writing.vector(dims, f"{self.node.name}:{what}")

    def temporary(self, what: str = "made") -> str:
        """A name for what lies between nodes."""
        return self.writing.fresh(f"{self.node.name}:{what}")

    def emit(self, op: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, domain: str = "", **attributes: Any) -> str:
        """Emits a node; its results are the node's if nothing is said."""
        name = self.writing.fresh(self.node.name) if outputs is None else ""
        return self.writing.emit(op, inputs, self.results if outputs is None else outputs, name, domain, **attributes)

    def turned(self, name: str, perm: Sequence[int]) -> str:
        """A value with its axes in another order."""
        return self.emit("Transpose", [name], [self.temporary()], perm=list(perm))
