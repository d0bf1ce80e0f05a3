"""What an import function sees of its operator: options, operands as stored and as real numbers, and steps that emit ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.errors import ModelError, UnsupportedError
from strop.frontend.names import free_name
from strop.frontend.tensorflow.node import TensorFlowNode, new_symbol
from strop.frontend.tflite.dense import densified
from strop.frontend.tflite.grid import Grid
from strop.frontend.tflite.model import BROKEN, DTYPES, Model, Operator, Subgraph, Tensor
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Type
from strop.ir.shape import Sym
from strop.ops.elementwise import Cast
from strop.ops.quantize import STORED, Dequantize, Quantize

#: ActivationFunctionType: function and params.
ACTIVATIONS: dict[int, tuple[str, dict[str, float]]] = {
    1: ("relu", {}),
    2: ("clip", {"lo": -1.0, "hi": 1.0}),
    3: ("clip", {"lo": 0.0, "hi": 6.0}),
    4: ("tanh", {}),
}


@dataclass
class Variable:
    """State that lasts from one run to the next.

    Attributes:
        value: what it is at this place of the program.
        given: the graph input with its value before the run.
    """

    value: Value
    given: Value


@dataclass
class Session:
    """What all operators of one import share.

    Attributes:
        model: the file.
        graph: the graph being built.
        reserved: names of the file's tensors.
        variables: state by name.
        initial: what state is before the first run, by name.
        initializing: a subgraph of CALL_ONCE is read, whose assignments are initial values.
        symbolic: sizes that are data, by the values that hold them.
    """

    model: Model
    graph: Graph
    reserved: set[str] = field(default_factory=set)
    variables: dict[str, Variable] = field(default_factory=dict)
    initial: dict[str, Array] = field(default_factory=dict)
    initializing: bool = False
    symbolic: dict[Value, Array] = field(default_factory=dict)
    symbols: set[str] = field(default_factory=set)

    def symbol(self, wanted: str, most: int) -> Sym:
        """A new computed size, 0 to ``most``."""
        return new_symbol(self.graph, self.symbols, wanted, most)

    def variable(self, name: str, type: Type) -> Variable:
        """State by name; it begins as a graph input."""
        if name not in self.variables:
            given = self.graph.add_input(self.fresh(name), type)
            self.variables[name] = Variable(given, given)
        return self.variables[name]

    def fresh(self, wanted: str) -> str:
        """A name that no value has."""
        return free_name(wanted, self.graph.values, mark=".")


@dataclass
class Scope:
    """The values of one subgraph where it is called.

    Attributes:
        session: what all have in common.
        subgraph: the function.
        label: begins the names of its operators.
        stored: values of tensors as they are stored.
        reals: the same as real numbers, of quantized tensors.
        handles: names of the variables that handles stand for.
    """

    session: Session
    subgraph: Subgraph
    label: str = ""
    stored: dict[int, Value] = field(default_factory=dict)
    reals: dict[int, Value] = field(default_factory=dict)
    handles: dict[int, str] = field(default_factory=dict)

    def knows(self, index: int) -> bool:
        """Whether a tensor has a value."""
        return index in self.stored or index in self.handles or self.subgraph.tensors[index].buffer is not None

    def array(self, index: int) -> Array:
        """The elements of a constant tensor."""
        tensor = self.subgraph.tensors[index]
        where = f"tensor {tensor.name}"
        assert tensor.buffer is not None
        if tensor.dtype is None:
            raise UnsupportedError(
                f"element type {tensor.type} is not supported", where=where, expected=", ".join(name for name, d in DTYPES.items() if d)
            )
        if tensor.sparsity is None:
            return tensor.elements().reshape(tensor.shape)
        if tensor.type == "INT4":
            raise UnsupportedError("sparse tensors of 4-bit integers are not supported", where=where)
        if len(tensor.buffer) % tensor.dtype.size:
            raise ModelError("the values of a sparse tensor have another size", where=where, got=f"{len(tensor.buffer)} bytes")
        return densified(tensor.buffer.view(tensor.dtype.numpy), tensor.sparsity, tensor.shape, where)

    def value(self, index: int) -> Value:
        """A tensor's value as it is stored; ModelError when nothing has computed it."""
        if index not in self.stored:
            tensor = self.subgraph.tensors[index]
            if index in self.handles or tensor.buffer is None:
                raise ModelError("a tensor is read that nothing computes before", where=f"tensor {tensor.name}")
            graph = self.session.graph
            name, number = tensor.name or "const", 0
            while name in graph.values:
                number += 1
                name = f"{tensor.name}:{number}"
            self.stored[index] = graph.add_const(self.array(index), name)
        return self.stored[index]


_REQUIRED = object()


@dataclass
class NodeContext(TensorFlowNode):
    """One operator.

    Attributes:
        scope: of its subgraph.
        operator: the operator.
        inline: reads a subgraph in the place of the operator: inline(number, values, label) answers its results.
    """

    scope: Scope
    operator: Operator
    inline: Callable[[int, Sequence[Value], str], list[Value]]

    @property
    def session(self) -> Session:
        """What all operators share."""
        return self.scope.session

    @property
    def symbolic(self) -> dict[Value, Array]:
        return self.session.symbolic

    def symbol(self, wanted: str, most: int) -> Sym:
        return self.session.symbol(wanted, most)

    # ---- options

    def option(self, name: str, default: Any = _REQUIRED) -> Any:
        """An option by its name in the schema's classes; the default, if there is one, where the operator has no options."""
        if self.operator.options is None:
            if default is _REQUIRED:
                raise self.malformed(f"option {name} is missing")
            return default
        try:
            return getattr(self.operator.options, name)()
        except BROKEN as error:
            raise self.malformed(f"option {name} cannot be read", got=error) from error

    def option_ints(self, name: str) -> tuple[int, ...]:
        """An option that is a list of integers; empty where it is left out."""
        if self.operator.options is None or not self.option(f"{name}Length"):
            return ()
        return tuple(int(v) for v in self.option(f"{name}AsNumpy"))

    def activated(self, value: Value) -> Value:
        """A value behind the fused activation function."""
        number = self.option("FusedActivationFunction", 0)
        if number == 0:
            return value
        if number not in ACTIVATIONS:
            raise self.unsupported("this fused activation function is not supported", got=number)
        fn, params = ACTIVATIONS[number]
        return self.apply(fn, value, **params)

    # ---- operands

    def __len__(self) -> int:
        return len(self.operator.inputs)

    def has(self, index: int) -> bool:
        """Whether an operand is given."""
        return index < len(self) and self.operator.inputs[index] >= 0

    def number(self, index: int) -> int:
        """Number of an operand's tensor; ModelError when it is left out."""
        if not self.has(index):
            raise self.malformed(f"operand {index} is missing")
        return self.operator.inputs[index]

    def tensor(self, index: int) -> Tensor:
        """What the file says about an operand."""
        return self.scope.subgraph.tensors[self.number(index)]

    def result(self, index: int = 0) -> Tensor:
        """What the file says about a result."""
        if index >= len(self.operator.outputs):
            raise self.malformed(f"result {index} is missing")
        return self.scope.subgraph.tensors[self.operator.outputs[index]]

    def stored(self, index: int) -> Value:
        """An operand as it is stored."""
        return self.scope.value(self.number(index))

    def real(self, index: int) -> Value:
        """An operand as real numbers: integers of a quantized tensor behind a Dequantize."""
        number = self.number(index)
        if number not in self.scope.reals:
            grid, value = self.grid(index), self.scope.value(number)
            self.scope.reals[number] = value if grid is None else self.dequantized(value, grid)
        return self.scope.reals[number]

    def floats(self, index: int) -> Value:
        """As ``real``; UnsupportedError for a tensor of integers that stand for themselves."""
        found = self.real(index)
        if not found.dtype.is_float:
            raise self.unsupported("operands of this type are not supported", got=found.type, expected="floats, or quantized")
        return found

    def moved(self, index: int) -> Value:
        """An operand of an op that moves or picks elements: as stored where the result has its grid."""
        grid, to = self.grid(index), _grid(self.result())
        return self.stored(index) if (grid is None and to is None) or (grid is not None and grid.same(to)) else self.real(index)

    def grid(self, index: int) -> Grid | None:
        """How an operand's integers stand for real numbers."""
        return _grid(self.tensor(index))

    def intermediate(self, index: int) -> Grid | None:
        """The grid of what is computed on the way, where the operator says it."""
        numbers = self.operator.intermediates
        return _grid(self.scope.subgraph.tensors[numbers[index]]) if index < len(numbers) else None

    def rank(self, index: int, *allowed: int) -> int:
        """Rank of an operand; UnsupportedError unless it is one of ``allowed``."""
        rank = self.stored(index).type.rank
        if allowed and rank not in allowed:
            raise self.unsupported(f"operand {index} has an unsupported rank", got=self.stored(index).type, expected=f"rank {allowed}")
        return rank

    def weights(self, index: int, perm: Sequence[int]) -> Value:
        """Weights, real, with their axes in another order: those of a file as constants, behind a Dequantize where they are integers."""
        stored, grid = self.stored(index), self.grid(index)
        if stored.type.rank != len(perm):
            raise self.malformed("the weights have another rank", got=stored.type, expected=len(perm))
        if stored.const is None:
            return self.turned(self.real(index), perm)
        if tuple(perm) != tuple(range(len(perm))):
            stored = self.const(np.ascontiguousarray(stored.const.transpose(perm)))
        if grid is None:
            return stored
        axis = tuple(perm).index(grid.axis) if grid.scale.size > 1 else 0
        return self.dequantized(stored, Grid(grid.scale, grid.zero, axis))

    def bias(self, index: int, x: int, w: int) -> Value | None:
        """A bias as real numbers, or None; integers without a grid are in units of the scales of x and w."""
        if not self.has(index):
            return None
        grid, given, factor = self.grid(index), self.stored(index), (self.grid(x), self.grid(w))
        if given.dtype.is_float:
            return given
        if grid is None and None not in factor:
            scale = factor[0].scale * factor[1].scale  # type: ignore[union-attr]
            grid = Grid(scale, np.zeros(scale.size, np.int64), 0)
        if grid is None:
            raise self.malformed("the bias is an integer without a scale", got=given.type)
        if given.dtype is dt.i64 and given.const is not None:  # of 16-bit activations
            return self.const((given.const * grid.scale.astype(np.float64)).astype(np.float32))
        return self.dequantized(given, grid)

    # ---- results

    def dequantized(self, value: Value, grid: Grid) -> Value:
        """Integers of a grid as f32."""
        if value.dtype not in STORED:
            raise self.unsupported("quantized tensors of this type are not supported", got=value.type, expected=", ".join(map(str, STORED)))
        return self.step(Dequantize(), value, *self._params(grid, value.type))

    def quantized(self, value: Value, tensor: Tensor) -> Value:
        """Real numbers as a tensor is stored."""
        grid = _grid(tensor)
        assert grid is not None and tensor.dtype is not None
        if tensor.dtype not in STORED:
            raise self.unsupported("quantized tensors of this type are not supported", got=tensor.type, expected=", ".join(map(str, STORED)))
        params = self._params(grid, Type(tensor.dtype, value.shape))
        return self.step(Quantize(tensor.dtype), self.cast(value, dt.f32), *params)

    def _params(self, grid: Grid, type: Type) -> list[Value]:
        shape: tuple[int, ...] = ()
        if grid.scale.size > 1:
            if grid.axis >= type.rank or type.shape[grid.axis] != grid.scale.size:
                raise self.malformed("scales do not fit the value", got=type, expected=f"{grid.scale.size} along axis {grid.axis}")
            shape = (grid.scale.size, *(1,) * (type.rank - grid.axis - 1))
        found = [self.const(grid.scale.reshape(shape))]
        if grid.zero.any():
            info = np.iinfo(str(type.dtype.numpy))
            if grid.zero.min() < info.min or grid.zero.max() > info.max:
                raise self.malformed("a zero point does not fit its type", got=int(grid.zero.max()), expected=type.dtype)
            found.append(self.const(grid.zero.astype(type.dtype.numpy).reshape(shape)))
        return found

    def sizes(self, dims: Array) -> Value:
        """Sizes as data, in the result's type."""
        return self.held(dims, self.result().dtype or dt.i32)

    def give(self, index: int, value: Value) -> None:
        """Makes a value the result of this number, in the type that the file gives it."""
        tensor, number = self.result(index), self.operator.outputs[index]
        if tensor.dtype is None:
            raise self.unsupported(f"a result of type {tensor.type} is not supported")
        grid = _grid(tensor)
        if grid is not None and value.dtype.is_float:
            self.scope.stored[number] = self.quantized(value, tensor)
        elif value.dtype == tensor.dtype:
            self.scope.stored[number] = value
        elif value.dtype.is_int and tensor.dtype.is_int:
            self.scope.stored[number] = self.step(Cast(tensor.dtype), value)
        else:
            raise self.malformed(f"result {index} has another type", got=tensor.type, expected=value.type)


def _grid(tensor: Tensor) -> Grid | None:
    """How a tensor's integers stand for real numbers; converters also give scales to floats and indices, which mean nothing."""
    return tensor.grid if tensor.dtype is not None and tensor.dtype.is_int and tensor.dtype is not dt.i64 else None
