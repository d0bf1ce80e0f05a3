"""What a write function sees of its node: operands as tensors, and steps that emit operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.errors import UnsupportedError
from strop.frontend.names import free_name
from strop.frontend.tflite.records import OutOperator, OutTensor
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import cast_array
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Op
from strop.ir.shape import Dim
from strop.ops.channels_last import ChannelsLast

#: Element types that tensors of a file may have.
WRITTEN = (dt.f32, dt.f16, dt.f64, dt.i8, dt.i16, dt.i32, dt.i64, dt.u8, dt.u16, dt.u32, dt.boolean)
#: ActivationFunctionType by function and params.
_ACTIVATIONS = {("relu", ()): 1, ("clip", (-1.0, 1.0)): 2, ("clip", (0.0, 6.0)): 3}
#: Operators whose options have a fused activation function that kernels and delegates know.
_FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "DIV", "AVERAGE_POOL_2D", "MAX_POOL_2D")


@dataclass
class Writing:
    """What all nodes of one file share.

    Attributes:
        graph: that is written.
        operators: those emitted so far, in order.
        tensors: of the graph's values.
        makers: the operator of each computed tensor.
        names: that tensors have.
    """

    graph: Graph
    operators: list[OutOperator] = field(default_factory=list)
    tensors: dict[Value, OutTensor] = field(default_factory=dict)
    makers: dict[OutTensor, OutOperator] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def tensor(self, value: Value) -> OutTensor:
        """The tensor of a value; made at its first use."""
        if value not in self.tensors:
            shape, free = sizes(value.shape)
            self.tensors[value] = self.made(value.name, value.dtype, shape, free, value.const, value.name)
        return self.tensors[value]

    def made(self, name: str, dtype: DType, shape: Sequence[int], free: Sequence[int] = (), data: Array | None = None, value: str = "") -> OutTensor:
        """A new tensor."""
        if dtype not in WRITTEN:
            raise UnsupportedError(
                f"values of type {dtype} cannot be written to a .tflite file", where=f"value {name}", got=dtype, expected=", ".join(map(str, WRITTEN)),
                hint="export the network in f32",
            )  # fmt: skip
        name = free_name(name, self.names, mark=".")
        self.names.add(name)
        return OutTensor(name, dtype, tuple(shape), tuple(free), data, None, value)


@dataclass
class NodeWriter:
    """One node.

    Attributes:
        writing: what all share.
        node: in the graph.
        op: the node's, without ``ChannelsLast`` around it.
        last: it has its channels last.
    """

    writing: Writing
    node: Node
    op: Op
    last: bool

    @classmethod
    def of(cls, writing: Writing, node: Node) -> NodeWriter:
        """For a node of a graph."""
        inner = node.op.inner if isinstance(node.op, ChannelsLast) else node.op
        return cls(writing, node, inner, isinstance(node.op, ChannelsLast))

    # ---- errors

    @property
    def where(self) -> str:
        """The node for messages."""
        return f"node {', '.join(self.node.source) or self.node.name} ({self.op.label})"

    def refused(self, what: str, got: object = None, expected: object = None, hint: str | None = None) -> UnsupportedError:
        """An error about a node that TensorFlow Lite has no operators for."""
        return UnsupportedError(
            f"{self.op.label}: {what}", where=self.where, got=got, expected=expected,
            hint=hint or "strop build compiles the network as it is; strop convert --to onnx writes it as ONNX",
        )  # fmt: skip

    # ---- operands

    def value(self, index: int) -> Value:
        """An operand in the graph."""
        return self.node.operand(index)

    def operand(self, index: int) -> OutTensor:
        """An operand as a tensor."""
        return self.writing.tensor(self.value(index))

    def array(self, index: int, what: str) -> Array:
        """A constant operand."""
        found = self.value(index).const
        if found is None:
            raise self.refused(f"{what} must be constant", got=f"{self.value(index).name}, which is computed")
        return found

    def static(self, shape: Sequence[Dim]) -> tuple[int, ...]:
        """A shape as ints."""
        if not sh.is_static(tuple(shape)):
            raise self.refused("a free size cannot be written here", got=sh.show(shape), hint="give the inputs fixed shapes with --shape")
        return sh.static(tuple(shape))

    def const(self, array: Array, what: str = "const") -> OutTensor:
        """A constant made on the way; a view of a constant keeps its name as the range's."""
        array = np.asarray(array)
        return self.writing.made(f"{self.node.name}:{what}", dt.from_numpy(array.dtype), array.shape, (), array)

    def ints(self, numbers: Sequence[int], what: str) -> OutTensor:
        """A constant list of i32."""
        return self.const(np.asarray(numbers, np.int32), what)

    def like(self, number: float, tensor: OutTensor) -> OutTensor:
        """A scalar constant in a tensor's type."""
        return self.const(cast_array(np.asarray(number), tensor.dtype))

    def shape(self, shape: Sequence[Dim], what: str = "shape") -> OutTensor:
        """A shape as an operand: its only free size is -1."""
        numbers = [d if isinstance(d, int) else -1 for d in shape]
        if numbers.count(-1) > 1:
            raise self.refused("two free sizes in one shape cannot be written", got=sh.show(shape), hint="give the inputs fixed shapes with --shape")
        return self.ints(numbers, what)

    # ---- results

    def result(self, index: int = 0) -> OutTensor:
        """The tensor of a result."""
        return self.writing.tensor(self.node.outputs[index])

    def temporary(self, shape: Sequence[Dim], dtype: DType | None = None) -> OutTensor:
        """A tensor between operators of one node; its type is the result's if nothing is said."""
        known, free = sizes(shape)
        return self.writing.made(f"{self.node.name}:made", dtype or self.node.outputs[0].dtype, known, free)

    def emit(
        self, code: str, inputs: Sequence[OutTensor | None], outputs: Sequence[OutTensor] | None = None, options: str = "", **fields: Any
    ) -> OutTensor:
        """Emits an operator; answers its first result, the node's if nothing is said."""
        results = [self.result()] if outputs is None else list(outputs)
        operator = OutOperator(code, list(inputs), results, options, fields, self.where)
        self.writing.operators.append(operator)
        self.writing.makers.update((tensor, operator) for tensor in results)
        return results[0]

    def reshaped(self, tensor: OutTensor, shape: Sequence[Dim], output: OutTensor | None = None) -> OutTensor:
        """A tensor under another shape."""
        given = self.shape(shape)
        assert given.data is not None
        result = self.temporary(shape, tensor.dtype) if output is None else output
        return self.emit("RESHAPE", [tensor, given], [result], "ReshapeOptions", NewShape=[int(d) for d in given.data])

    def turned(self, tensor: OutTensor, perm: Sequence[int], output: OutTensor | None = None) -> OutTensor:
        """A tensor with its axes in another order."""
        if output is None:
            known = [tensor.shape[p] for p in perm]
            output = self.writing.made(f"{self.node.name}:made", tensor.dtype, known, [k for k, p in enumerate(perm) if p in tensor.free])
        return self.emit("TRANSPOSE", [tensor, self.ints(perm, "perm")], [output], "TransposeOptions")

    # ---- fusing

    def only_maker(self, value: Value) -> OutOperator | None:
        """The operator that makes a value which nothing but this node reads."""
        if len(value.uses) != 1 or self.writing.graph.is_output(value) or value not in self.writing.tensors:
            return None
        return self.writing.makers.get(self.writing.tensors[value])

    def takes_over(self, operator: OutOperator) -> None:
        """Makes the result of an operator, which nothing else reads, this node's result."""
        old, new = operator.outputs[0], self.result()
        operator.outputs[0] = new
        del self.writing.makers[old]
        self.writing.names.discard(old.name)
        self.writing.makers[new] = operator

    def drop(self, operator: OutOperator) -> None:
        """Takes back an operator whose result nothing reads."""
        self.writing.operators.remove(operator)
        for tensor in operator.outputs:
            del self.writing.makers[tensor]

    def fuses(self, fn: str, params: tuple[float, ...]) -> bool:
        """Makes an activation part of the operator before it, if it can be."""
        number = _ACTIVATIONS.get((fn, params))
        operator = self.only_maker(self.value(0))
        if number is None or operator is None or operator.code not in _FUSING or operator.fields.get("FusedActivationFunction"):
            return False
        if operator.outputs[0].dtype is not dt.f32:
            return False
        operator.fields["FusedActivationFunction"] = number
        self.takes_over(operator)
        return True


def sizes(shape: Sequence[Dim]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape with numbers for free sizes, those where every symbol is 1, or its optimum where it cannot be 1; and the axes that have them."""
    known = {s.name: 1 if s.min <= 1 else s.opt for s in sh.symbols(shape)}
    return tuple(sh.evaluate(d, known) for d in shape), tuple(k for k, d in enumerate(shape) if not isinstance(d, int))
