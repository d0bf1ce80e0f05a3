"""What all layers share: parameters that may change until the build, operands, results; and the emitter that they write nodes with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from strop.errors import ShapeError, UnsupportedError
from strop.frontend.network.contents import Contents
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Op, Type
from strop.ir.shape import Dim, Sym
from strop.ops.data import Reshape, Transpose
from strop.ops.elementwise import Cast as CastOp
from strop.ops.elementwise import make


class Owner(Protocol):
    """What tensors and layers ask the network that they are part of."""

    implicit_batch: bool

    def rename(self, tensor: Tensor, name: str) -> None:
        """Gives a tensor another name."""

    def type_of(self, tensor: Tensor) -> Type:
        """dtype and shape of a tensor."""

    def layer_changed(self, layer: Layer) -> None:
        """Notes that a parameter or an operand of a layer is another one."""


class Values(Protocol):
    """What layers that stand for a piece of the network ask while they are emitted."""

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor; emits what it needs and is not there yet."""

    def emitted(self, tensor: Tensor) -> Value | None:
        """The value of a tensor; None where it is not there yet."""

    def replayed(self, tensor: Tensor, known: Mapping[Tensor, Value]) -> Value:
        """The value that a tensor would have if others had these: what depends on them is emitted once more."""


class Tensor:
    """An input of the network or a result of a layer.

    Attributes:
        name: unique within the network; may be changed.
        producer: the layer whose result it is, or None for an input.
        index: which result of the producer.
        axis_names: names of free axes (shape -1) by axis: axes of one name have one size.
    """

    def __init__(self, network: Owner, name: str, producer: Layer | None, index: int) -> None:
        self.network = network
        self.producer = producer
        self.index = index
        self.axis_names: dict[int, str] = {}
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self.network.rename(self, name)

    @property
    def type(self) -> Type:
        """dtype and shape with all axes, free ones as symbols; StropError when a layer before it is wrong."""
        return self.network.type_of(self)

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes, without an implicit batch; -1 where free."""
        dims = self.type.shape[int(self.network.implicit_batch) :]
        return tuple(d if isinstance(d, int) else -1 for d in dims)

    def __repr__(self) -> str:
        return f"Tensor({self.name})"


class Emitter:
    """Writes the nodes of one layer.

    Values always have all axes. In a network with an implicit batch, axis 0 is the batch, which no parameter of a layer counts:
    ``lead`` is the number of axes before the first that parameters count.

    Attributes:
        graph: the graph under construction.
        lead: 1 with an implicit batch, else 0.
        contents: what integer values that feed shapes hold.
        values: the values of other tensors.
        begun: what layers that belong together keep while the network is emitted.
    """

    def __init__(self, graph: Graph, implicit_batch: bool, values: Values) -> None:
        self.graph = graph
        self.values = values
        self.begun: dict[object, Any] = {}
        self.lead = int(implicit_batch)
        self.contents = Contents()
        self.layer = ""
        self._shared: dict[int, Value] = {}
        self._found = 0

    def all(self, op: Op, *inputs: Value | None) -> list[Value]:
        """Adds a node; its results."""
        node = self.graph.add(op, inputs, name=self.layer, source=(self.layer,))
        self.contents.follow(node)
        return node.outputs

    def __call__(self, op: Op, *inputs: Value | None) -> Value:
        """Adds a node; its first result."""
        return self.all(op, *inputs)[0]

    def fn(self, name: str, *inputs: Value, **params: float) -> Value:
        """Adds an elementwise function of the table in ``ops/elementwise.py``."""
        return self(make(name, **params), *inputs)

    def const(self, array: Any, like: dt.DType | None = None, role: str = "constant") -> Value:
        """A constant, in another dtype when one is given; ``role`` is its name within the layer."""
        array = np.asarray(array)
        return self.graph.add_const(array if like is None else array.astype(like.numpy), f"{self.layer}.{role}")

    def shared(self, name: str, array: Array) -> Value:
        """A constant of another graph; made once however many layers read it."""
        found = self._shared.get(id(array))
        if found is None:
            found = self._shared[id(array)] = self.graph.add_const(array, name)
        return found

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        """x with another shape; x itself where that is its shape."""
        return x if x.shape == tuple(shape) else self(Reshape(tuple(shape)), x)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """x with its axes in another order; x itself where that is its order."""
        return x if list(perm) == list(range(len(perm))) else self(Transpose(tuple(perm)), x)

    def cast(self, x: Value, dtype: dt.DType) -> Value:
        """x in another dtype."""
        return x if x.dtype is dtype else self(CastOp(dtype), x)

    def dims(self, x: Value, what: str) -> tuple[Dim, ...]:
        """The elements of an integer tensor that says sizes; UnsupportedError where they come from data."""
        found = self.contents.of(x)
        if found is None:
            raise UnsupportedError(
                f"{what} comes from data",
                where=self.layer,
                got=x.type,
                expected="constants, or what is computed from shapes",
            )
        return tuple(found.reshape(-1).tolist())

    def symbol(self, what: str, most: Dim) -> Sym:
        """A size that a run finds, at most ``most``; no other one has its name."""
        limit = sh.bounds(most)[1]
        self._found += 1
        name = "".join(c if c.isalnum() else "_" for c in f"{self.layer}_{what}_{self._found}")
        return Sym(name, 0, min(max(limit // 2, 1), 64, limit), limit)

    def fail(self, what: str, got: object = None, expected: object = None) -> ShapeError:
        """A ShapeError that names the layer."""
        return ShapeError(what, where=self.layer, got=got, expected=expected)

    def unsupported(self, what: str, got: object = None, hint: str | None = None) -> UnsupportedError:
        """An UnsupportedError that names the layer."""
        return UnsupportedError(what, where=self.layer, got=got, hint=hint)


class Layer:
    """Base of all layers. Subclasses are dataclasses whose fields are the parameters.

    Class attributes:
        kind: the name of the layer's kind, as in TensorRT's LayerType but in CamelCase.
        arity: least and most number of operands; None for any number.
        joined: it is one of several layers that stand for one thing, such as a loop.

    Attributes:
        name: unique within the network; the name that profiles and reports use.
        inputs: operands; None stands for an optional one that is left out.
        outputs: results.
    """

    kind: ClassVar[str] = ""
    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    joined: ClassVar[bool] = False

    name: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    _network: Owner | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if self._network is not None and not name.startswith("_"):
            self._network.layer_changed(self)

    @property
    def output(self) -> Tensor:
        """The first result."""
        return self.outputs[0]

    def results(self) -> int:
        """Number of results."""
        return 1

    def check(self) -> None:
        """Raises a StropError for parameters that are wrong whatever the operands are; called when the layer is added."""

    def needs(self) -> Iterable[Tensor]:
        """Tensors whose values must be there before the layer is emitted."""
        return (t for t in self.inputs if t is not None)

    def emit(self, e: Emitter, *inputs: Value) -> Value | Sequence[Value]:
        """Writes the layer's nodes; operands that were left out at the end are not passed, others are None."""
        raise NotImplementedError(f"{self.kind}.emit")

    def set_input(self, index: int, tensor: Tensor) -> None:
        """Makes the layer read another tensor, or an optional operand."""
        most = self.arity[1]
        if index < 0 or (most is not None and index >= most):
            raise ShapeError(f"{self.kind} has no operand {index}", where=self.name, expected=f"0..{most}")
        while len(self.inputs) <= index:
            self.inputs.append(None)
        self.inputs[index] = tensor
        if self._network is not None:
            self._network.layer_changed(self)


def per_axis(value: int | Sequence[int], rank: int, what: str, where: str) -> tuple[int, ...]:
    """One number per axis; a single number counts for all."""
    numbers = (value,) * rank if isinstance(value, int) else tuple(int(v) for v in value)
    if len(numbers) != rank:
        raise ShapeError(f"{what} does not fit", where=where, got=numbers, expected=f"{rank} numbers")
    return numbers


def weights(array: Any, size: int, what: str, where: str) -> Array | None:
    """An array of weights with ``size`` elements; None where there are none (None or empty).

    Raises:
        ShapeError: another number of elements.
    """
    found = None if array is None else np.asarray(array)
    if found is None or found.size == 0:
        return None
    if found.size != size:
        raise ShapeError(f"{what} has the wrong number of elements", where=where, got=f"{found.size} {found.shape}", expected=size)
    return found


def axes_of_mask(mask: int, rank: int) -> tuple[int, ...]:
    """Axes whose bits are set, bit 0 for axis 0."""
    return tuple(k for k in range(rank) if mask >> k & 1)
