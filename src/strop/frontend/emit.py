"""What import functions of several frontends emit ops with: constants, casts, and steps that are evaluated where that is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strop.errors import InputError, ModelError, ShapeError, UnsupportedError
from strop.frontend.names import free_name
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import cast_array
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Op, Type
from strop.ir.shape import Dim
from strop.ops.data import Expand, Reshape
from strop.ops.elementwise import Cast, make

#: Results of constant operands are evaluated while a model is read when they have at most so many elements: indices, scale factors.
FOLD_INTEGERS = 1 << 16
FOLD_FLOATS = 16
#: Only of these families.
FOLDED = frozenset(f"strop.ops.{family}" for family in ("data", "elementwise", "index", "reduce"))
#: Most bytes of one array that reading a model may compute.
MAX_COMPUTED = 256 << 20


@dataclass
class Emitter:
    """One node of a model that is read, and the graph that it is read into.

    Attributes:
        graph: the graph being built.
        reserved: names the model gives to its own values; values made on the way avoid them.
        name: unique name of the node.
        op: the source op.
    """

    graph: Graph
    reserved: set[str]
    name: str
    op: str

    # ---- errors

    @property
    def where(self) -> str:
        """The node for error messages."""
        return f"node {self.name} ({self.op})"

    def unsupported(
        self, what: str, got: object = None, expected: object = None, hint: str | None = None
    ) -> UnsupportedError:
        """An error about something valid that is not supported."""
        return UnsupportedError(f"{self.op}: {what}", where=self.where, got=got, expected=expected, hint=hint)

    def malformed(self, what: str, got: object = None, expected: object = None) -> ModelError:
        """An error about a node that the format does not allow."""
        return ModelError(f"{self.op}: {what}", where=self.where, got=got, expected=expected)

    # ---- results

    def static(self, shape: Sequence[Dim]) -> tuple[int, ...]:
        """A shape as ints."""
        if not sh.is_static(tuple(shape)):
            raise self.unsupported(
                "needs a shape that is known when the model is built",
                got=sh.show(shape),
                hint="give the dim a number, not a range",
            )
        return tuple(int(d) for d in shape)  # type: ignore[arg-type]

    def const(self, array: Array) -> Value:
        """A constant made on the way."""
        array = np.asarray(array)
        if array.nbytes > MAX_COMPUTED and 0 not in array.strides:
            raise self.unsupported("the constant it makes is too large", got=f"{array.nbytes} bytes", expected=f"at most {MAX_COMPUTED}")
        return self.graph.add_const(array, self._fresh(f"{self.name}:const"))

    def scalar(self, number: float | int | bool, dtype: DType) -> Value:
        """A scalar constant of a dtype."""
        return self.const(cast_array(np.asarray(number), dtype))

    def like(self, number: float | int | bool, value: Value) -> Value:
        """A scalar constant in the dtype of a value."""
        return self.scalar(number, value.dtype)

    def filled(self, shape: Sequence[Dim], number: float | int | bool, dtype: DType) -> Value:
        """One number repeated; over dynamic dims it becomes an Expand."""
        element = cast_array(np.asarray(number), dtype)
        if sh.is_static(tuple(shape)):
            return self.const(np.broadcast_to(element, self.static(shape)))
        return self.step(Expand(tuple(shape)), self.const(element))

    def cast(self, value: Value, dtype: DType) -> Value:
        """A value in another dtype."""
        return value if value.dtype == dtype else self.step(Cast(dtype), value)

    def reshape(self, value: Value, shape: Sequence[Dim]) -> Value:
        """A value under another shape."""
        return value if value.shape == tuple(shape) else self.step(Reshape(tuple(shape)), value)

    def apply(self, fn: str, *operands: Value, **params: float) -> Value:
        """An elementwise function of ``strop.ops.elementwise``."""
        return self.step(make(fn, **params), *operands)

    def step(self, op: Op, *operands: Value | None) -> Value:
        """Emits an op with one result; see ``steps``."""
        return self.steps(op, *operands)[0]

    def steps(self, op: Op, *operands: Value | None) -> tuple[Value, ...]:
        """Emits an op, or evaluates it when its operands are constants and its results small.

        Raises:
            ShapeError: the operands do not fit.
        """
        arrays = [None if v is None else v.const for v in operands]
        known = [a for a in arrays if a is not None]
        if known and len(known) == len(operands) and _folds(op, [Type(dt.from_numpy(a.dtype), a.shape) for a in known]):
            try:
                return tuple(self.const(np.asarray(a)) for a in op.reference(*known))
            except InputError as error:  # e.g. an index out of range
                raise self.malformed(error.what, error.got, error.expected) from error
        try:
            node = self.graph.add(
                op, operands, name=self.name, source=(self.name,), outputs=[self._fresh(f"{self.name}:{op.label}")]
            )
        except ShapeError as error:
            raise ShapeError(error.what, where=error.where or self.where, got=error.got, expected=error.expected, hint=error.hint) from None
        for value in node.outputs:
            if value.name in self.reserved:
                self.graph.rename(value, self._fresh(value.name))
        return tuple(node.outputs)

    def _fresh(self, wanted: str) -> str:
        return free_name(wanted, self.reserved, self.graph.values)


def _folds(op: Op, operands: Sequence[Type]) -> bool:
    """Whether an op over constants is evaluated while the program is read: cheap, and with small results."""
    if type(op).__module__ not in FOLDED or any(t.count > MAX_COMPUTED // 8 for t in operands):
        return False
    return all(
        sh.is_static(t.shape) and t.count <= (FOLD_FLOATS if t.dtype.is_float else FOLD_INTEGERS) for t in op.infer(operands)
    )
