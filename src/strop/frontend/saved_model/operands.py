"""What a node's result may be while a graph is read: a tensor, or something that is only data for other nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from strop.ir.dtype import DType
from strop.ir.graph import Value
from strop.ir.shape import Dim


@dataclass(frozen=True)
class Handle:
    """A variable, by the node of the graph that makes it."""

    name: str


@dataclass(frozen=True)
class Text:
    """Strings, which only messages and assertions read."""

    what: str


@dataclass(frozen=True)
class Dead:
    """A result of the branch that is not taken."""


@dataclass(frozen=True)
class Unknown:
    """The result of a node that cannot be read."""

    op: str


@dataclass(frozen=True)
class Listed:
    """A TensorList or TensorArray.

    Attributes:
        dtype: of the elements.
        items: the elements, None of those that are not set; None where the list is one value, or none of a free number is set.
        whole: all elements, [count, ...]; None where they are apart, or none is set.
        shape: of an element, where that is known without one.
        length: how many elements there are, where that is free.
    """

    dtype: DType
    items: tuple[Value | None, ...] | None = None
    whole: Value | None = None
    shape: tuple[Dim, ...] | None = None
    length: Dim | None = None

    @property
    def count(self) -> Dim:
        """How many elements there are."""
        if self.items is not None:
            return len(self.items)
        return self.whole.shape[0] if self.whole is not None else self.length or 0


@dataclass(frozen=True)
class Guarded:
    """A result that is only meant where conditions hold.

    Attributes:
        operand: the result.
        conditions: (condition, whether it holds), outer ones first.
    """

    operand: Union[Value, Handle, Text, Listed]
    conditions: tuple[tuple[Value, bool], ...]


Operand = Union[Value, Handle, Text, Dead, Unknown, Listed, Guarded]
