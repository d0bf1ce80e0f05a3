"""Layers that fold axes: reductions, top-k, running sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strop.errors import OptionError
from strop.frontend.network.layer import Emitter, Layer, axes_of_mask
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.cumulative import CumProd, CumSum
from strop.ops.index import TopK as TopKOp
from strop.ops.reduce import Reduce as ReduceOp

#: Names are TensorRT's ReduceOperation in lower case.
OPERATIONS = {"sum": "sum", "prod": "prod", "max": "max", "min": "min", "avg": "mean"}


@dataclass(eq=False)
class Reduce(Layer):
    """One number per slice over axes.

    Attributes:
        op: one of OPERATIONS.
        axes: bit mask, counted without an implicit batch.
        keep_dims: folded axes stay with size 1.
    """

    kind: ClassVar[str] = "Reduce"

    op: str
    axes: int
    keep_dims: bool = False

    def check(self) -> None:
        if self.op not in OPERATIONS:
            raise OptionError("unknown reduction", where=self.name, got=self.op, expected=", ".join(OPERATIONS))

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        rank = x.type.rank - e.lead
        axes = axes_of_mask(self.axes, rank)
        if not axes or self.axes >> rank:
            raise e.fail("axes do not fit", bin(self.axes), f"1 to {rank} bits of {rank}")
        return e(ReduceOp(OPERATIONS[self.op], tuple(a + e.lead for a in axes), self.keep_dims), x)


@dataclass(eq=False)
class TopK(Layer):
    """The k largest or smallest elements along an axis, in order, and their places (i32). Equal ones come in the order of places.

    Operands: x, optionally k (constant).

    Attributes:
        op: max or min.
        k: how many.
        axes: bit mask with one bit, counted without an implicit batch.
        indices: dtype of the places, i32 or i64.
    """

    kind: ClassVar[str] = "TopK"
    arity: ClassVar[tuple[int, int | None]] = (1, 2)

    op: str
    k: int
    axes: int
    indices: str = "i32"

    def results(self) -> int:
        return 2

    def check(self) -> None:
        if self.op not in ("max", "min"):
            raise OptionError("unknown operation of top-k", where=self.name, got=self.op, expected="max, min")

    def emit(self, e: Emitter, *inputs: Value) -> list[Value]:
        x = inputs[0]
        axes = axes_of_mask(self.axes, x.type.rank - e.lead)
        if len(axes) != 1:
            raise e.fail("axes must name one axis", bin(self.axes))
        (k,) = (self.k,) if len(inputs) == 1 else e.dims(inputs[1], "k")
        if not isinstance(k, int):
            raise e.unsupported("a free k", got=k)
        values, places = e.all(TopKOp(axes[0] + e.lead, k, self.op == "max"), x)
        return [values, e.cast(places, dt.BY_NAME[self.indices])]


@dataclass(eq=False)
class Cumulative(Layer):
    """Running sums or products along an axis. Operands: x, axis (constant).

    Attributes:
        op: sum or prod.
        exclusive: an element's own value is left out.
        reverse: from the end.
    """

    kind: ClassVar[str] = "Cumulative"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    op: str = "sum"
    exclusive: bool = False
    reverse: bool = False

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        if self.op not in ("sum", "prod"):
            raise OptionError("unknown cumulative operation", where=self.name, got=self.op, expected="sum, prod")
        (axis,) = e.dims(inputs[1], "the axis")
        op = (CumSum if self.op == "sum" else CumProd)(int(str(axis)), self.exclusive, self.reverse)
        return e(op, inputs[0])
