"""What a name stands for while a model is read: a graph value, a known array, a symbolic shape tensor, or a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.errors import UnsupportedError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Value
from strop.ir.op import Array, Type


@dataclass(eq=False)
class Known:
    """A constant: an initializer, a Constant node's result, or a shape computation that was evaluated.

    It becomes a constant of the graph when an op first reads it as data; one that only sets attributes never does.

    Attributes:
        name: the model's name for it, or "" for one made on the way.
        array: its elements, never written to.
        value: the graph's constant, once there is one.
    """

    name: str
    array: Array
    value: Value | None = None

    @property
    def type(self) -> Type:
        """dtype and shape."""
        return Type(dt.from_numpy(self.array.dtype), self.array.shape)


@dataclass(eq=False)
class Symbolic:
    """An integer tensor whose elements are Dims, e.g. the Shape of a value with a symbolic batch.

    Attributes:
        name: the model's name for it.
        dims: object array of Dims, rank 0 or 1.
        dtype: integer type that the model gives it.
        value: its elements in the graph, once an op has read them as data.
    """

    name: str
    dims: np.ndarray[Any, np.dtype[np.object_]]
    dtype: DType
    value: Value | None = None

    @property
    def type(self) -> Type:
        """dtype and shape."""
        return Type(self.dtype, self.dims.shape)

    @property
    def symbols(self) -> str:
        """Names of the symbols it depends on."""
        return ", ".join(s.name for s in sh.symbols(self.dims.reshape(-1).tolist()))


@dataclass(eq=False)
class Unknown:
    """The result of a node that could not be read: its readers are only checked for op type and opset."""

    node: str


@dataclass(eq=False)
class Listed:
    """A sequence of tensors whose length is known while the model is read; it exists in no graph.

    Attributes:
        items: its tensors, in order.
    """

    items: tuple[Value | Known | Symbolic, ...]

    @property
    def type(self) -> Type:
        """A sequence has none; UnsupportedError says that a tensor was expected."""
        raise UnsupportedError(
            "a sequence is read where a tensor is expected", got=f"{len(self.items)} tensors"
        )


Operand = Value | Known | Symbolic | Listed


def from_dims(dims: Array, dtype: DType) -> Known | Symbolic:
    """A tensor of Dims: Known when every element is an int."""
    if all(isinstance(d, int) for d in dims.reshape(-1).tolist()):
        return Known("", dims.astype(dtype.numpy))
    return Symbolic("", dims, dtype)
