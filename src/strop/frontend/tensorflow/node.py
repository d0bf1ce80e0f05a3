"""What import functions of TensorFlow's formats see of a node: operands by position, known numbers and free sizes, axes in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strop.errors import ShapeError
from strop.frontend.emit import Emitter
from strop.frontend.names import free_name
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Op
from strop.ir.shape import Dim, Sym
from strop.ops.data import Transpose
from strop.ops.sizes import Sizes

#: Most elements of a value.
MAX_ELEMENTS = 1 << 31


def new_symbol(graph: Graph, taken: set[str], wanted: str, most: int) -> Sym:
    """A new computed size, 0 to ``most``; its name goes into ``taken``."""
    stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in wanted).strip("_").lstrip("0123456789") or "size"
    used = taken | {s.name for v in graph.inputs for s in sh.symbols(v.shape)}
    name = free_name(stem, used, mark="_", first=2)
    taken.add(name)
    return Sym(name, 0, min(most, 8), most)


@dataclass
class TensorFlowNode(Emitter):
    """One node of a model in one of TensorFlow's formats. Subclasses say where operands come from."""

    def stored(self, index: int) -> Value:
        """An operand as the model has it; ModelError when it is missing."""
        raise NotImplementedError

    @property
    def symbolic(self) -> dict[Value, Array]:
        """Sizes that are data, as arrays of Dims, by the values that hold them."""
        raise NotImplementedError

    def symbol(self, wanted: str, most: int) -> Sym:
        """A new computed size, 0 to ``most``."""
        raise NotImplementedError

    # ---- known operands

    def array(self, index: int, what: str) -> Array:
        """The elements, as stored, of an operand that must be known when the model is built."""
        value = self.stored(index)
        if value.const is None:
            raise self.unsupported(
                f"operand {what} must be known when the model is built", got=f"{value.name}, which is computed",
                hint="give the inputs fixed shapes with --shape, or make it a constant when the model is converted",
            )  # fmt: skip
        return value.const

    def ints(self, index: int, what: str) -> tuple[int, ...]:
        """A known list of integers."""
        array = self.array(index, what)
        if array.ndim > 1 or array.dtype.kind not in "iu":
            raise self.malformed(f"operand {what} is no list of integers", got=f"{array.dtype}{list(array.shape)}")
        return tuple(int(v) for v in array.reshape(-1))

    def integer(self, index: int, what: str) -> int:
        """A known integer."""
        found = self.ints(index, what)
        if len(found) != 1:
            raise self.malformed(f"operand {what} must have one element", got=len(found))
        return found[0]

    def dims(self, index: int, what: str) -> tuple[Dim, ...]:
        """A list of sizes, known or computed from free dims."""
        held = self.symbolic.get(self.stored(index))
        return self.ints(index, what) if held is None else tuple(held.reshape(-1).tolist())

    def axis(self, axis: int, rank: int) -> int:
        """A non-negative axis."""
        if rank == 0:
            raise ShapeError("a scalar has no axes", where=self.where, got=f"axis {axis}")
        return sh.normalize_axis(axis, rank, self.where)

    # ---- results

    def step(self, op: Op, *operands: Value | None) -> Value:
        found = super().step(op, *operands)
        if sh.is_static(found.shape) and found.type.count > MAX_ELEMENTS:
            raise self.malformed("a value is too large", got=found.type, expected=f"at most {MAX_ELEMENTS} elements")
        return found

    def turned(self, value: Value, perm: Sequence[int]) -> Value:
        """A value with its axes in another order."""
        return value if tuple(perm) == tuple(range(len(perm))) else self.step(Transpose(tuple(perm)), value)

    def channels_first(self, value: Value) -> Value:
        """[N, spatial.., C] as [N, C, spatial..]."""
        return self.turned(value, (0, value.type.rank - 1, *range(1, value.type.rank - 1)))

    def channels_last(self, value: Value) -> Value:
        """[N, C, spatial..] as [N, spatial.., C]."""
        return self.turned(value, (0, *range(2, value.type.rank), 1))

    def permuted(self, weights: Value, perm: Sequence[int]) -> Value:
        """Weights with their axes in another order: constants stay constants."""
        if weights.type.rank != len(perm):
            raise self.malformed("the weights have another rank", got=weights.type, expected=len(perm))
        if weights.const is None:
            return self.turned(weights, perm)
        return weights if tuple(perm) == tuple(range(len(perm))) else self.const(np.ascontiguousarray(weights.const.transpose(perm)))

    def held(self, dims: Array, kind: DType) -> Value:
        """Sizes as data, integers of a dtype."""
        if all(isinstance(d, int) for d in dims.reshape(-1)):
            return self.const(dims.astype(kind.numpy))
        data = self.steps(Sizes(tuple(dims.reshape(-1).tolist()), dims.ndim == 0))[0]
        value = self.cast(data, kind)
        if dims.ndim > 1:
            value = self.reshape(value, dims.shape)
        self.symbolic[value] = dims
        return value

    def truth(self, value: Value) -> Value:
        """A condition as a bool scalar."""
        if value.dtype is not dt.boolean or sh.volume(value.shape) != 1:
            raise self.malformed("a condition is one bool", got=value.type)
        return self.reshape(value, ())
