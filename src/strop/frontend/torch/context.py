"""What an import function sees of its node: arguments by their names in the schema, and steps that emit ops. Knows nothing of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.errors import InputError, ModelError, ShapeError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import cast_array
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Op, Type
from strop.ir.shape import Dim, DimExpr, Sym
from strop.ops.data import Expand, Reshape
from strop.ops.elementwise import Cast, make

#: Results of constant operands are evaluated while a program is read when they have at most so many elements: indices, scale factors.
FOLD_INTEGERS = 1 << 16
FOLD_FLOATS = 16
#: Only of these families.
FOLDED = frozenset(f"strop.ops.{family}" for family in ("data", "elementwise", "index", "reduce"))
#: Most bytes of one array that reading a program may compute.
MAX_COMPUTED = 256 << 20


@dataclass
class NodeContext:
    """One node of the program.

    Attributes:
        graph: the graph being built.
        reserved: names the program gives to its own values; values made on the way avoid them.
        name: unique name of the node: the path of its module, then its own name.
        op: overload, such as ``aten.add.Tensor``.
        line: where the source calls it, such as ``net.py:12``, or "".
        args: arguments by their names in the schema, with defaults: Values, numbers, Dims, texts, DTypes, None, or lists of these.
        out: what the program says that the results are; None for one that is no tensor.
        wanted: per result, whether anything reads it.
    """

    graph: Graph
    reserved: set[str]
    name: str
    op: str
    line: str
    args: Mapping[str, Any]
    out: tuple[Type | None, ...]
    wanted: tuple[bool, ...]
    steps_made: int = field(default=0)

    # ---- errors

    @property
    def where(self) -> str:
        """The node for error messages."""
        return f"node {self.name} ({self.op})" + f" at {self.line}" * bool(self.line)

    def unsupported(
        self, what: str, got: object = None, expected: object = None, hint: str | None = None
    ) -> UnsupportedError:
        """An error about something valid that is not supported."""
        return UnsupportedError(f"{self.op}: {what}", where=self.where, got=got, expected=expected, hint=hint)

    def malformed(self, what: str, got: object = None, expected: object = None) -> ModelError:
        """An error about a node that PyTorch would not make."""
        return ModelError(f"{self.op}: {what}", where=self.where, got=got, expected=expected)

    # ---- arguments

    def arg(self, name: str, default: Any = None) -> Any:
        """An argument as it is; the default when the overload has none of this name."""
        return self.args.get(name, default)

    def tensor(self, name: str = "self") -> Value:
        """A tensor argument."""
        found = self.args.get(name)
        if not isinstance(found, Value):
            raise self.malformed(f"argument {name} is no tensor", got=found)
        return found

    def optional(self, name: str) -> Value | None:
        """A tensor argument, or None."""
        return None if self.args.get(name) is None else self.tensor(name)

    def tensors(self, name: str) -> list[Value]:
        """A list of tensors."""
        found = self.args.get(name)
        if not isinstance(found, (list, tuple)) or not all(isinstance(v, Value) for v in found):
            raise self.malformed(f"argument {name} is no list of tensors", got=found)
        return list(found)

    def number(self, name: str) -> float:
        """A number that must be known when the model is built."""
        return float(self._known(name, self.args.get(name)))

    def integer(self, name: str) -> int:
        """An integer that must be known when the model is built."""
        return int(self._known(name, self.args.get(name)))

    def flag(self, name: str) -> bool:
        """A bool; False when the overload has none of this name."""
        return bool(self.args.get(name, False))

    def _known(self, name: str, value: Any) -> float | int | bool:
        if isinstance(value, (Sym, DimExpr)):
            raise self.unsupported(
                f"argument {name} depends on a dynamic dim", got=value, hint="make the dim static when the module is exported"
            )
        if isinstance(value, Value) and value.const is not None and value.const.size == 1:
            value = value.const.reshape(()).item()
        if not isinstance(value, (int, float)):
            got = value.name if isinstance(value, Value) else repr(value)
            raise self.unsupported(f"argument {name} must be known when the model is built", got=got)
        return value

    def ints(self, name: str, rank: int | None = None) -> tuple[int, ...]:
        """Integers that must be known; one stands for ``rank`` equal ones."""
        given = self.args.get(name)
        found = tuple(int(self._known(name, v)) for v in (given if isinstance(given, (list, tuple)) else [given]))
        return found * rank if rank is not None and len(found) == 1 else found

    def axis(self, name: str = "dim", rank: int | None = None) -> int:
        """An axis of ``self``, or of a value of this rank, made non-negative."""
        rank = self.tensor().type.rank if rank is None else rank
        return self.normal(self.integer(name), rank)

    def axes(self, name: str = "dim") -> tuple[int, ...]:
        """Sorted axes of ``self``; None and an empty list mean all of them."""
        rank, given = self.tensor().type.rank, self.args.get(name)
        if given is None or given == []:
            return tuple(range(rank))
        return tuple(sorted({self.normal(a, rank) for a in self.ints(name)} if rank else ()))

    def normal(self, axis: int, rank: int) -> int:
        """A non-negative axis; PyTorch lets a scalar have axes 0 and -1."""
        if rank == 0:
            return 0
        return sh.normalize_axis(axis, rank, self.where)

    @property
    def result(self) -> Type:
        """What the program says that result 0 is."""
        found = self.out[0] if self.out else None
        if found is None:
            raise self.malformed("its result is no tensor")
        return found

    def static(self, shape: Sequence[Dim]) -> tuple[int, ...]:
        """A shape as ints."""
        if not sh.is_static(tuple(shape)):
            raise self.unsupported(
                "needs a shape that is known when the model is built",
                got=sh.show(shape),
                hint="make the dim static when the module is exported",
            )
        return tuple(int(d) for d in shape)  # type: ignore[arg-type]

    # ---- results

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
        self.steps_made += 1
        for value in node.outputs:
            if value.name in self.reserved:
                self.graph.rename(value, self._fresh(value.name))
        return tuple(node.outputs)

    def _fresh(self, wanted: str) -> str:
        number, name = 0, wanted
        while name in self.reserved or name in self.graph.values:
            number += 1
            name = f"{wanted}:{number}"
        return name


def _folds(op: Op, operands: Sequence[Type]) -> bool:
    """Whether an op over constants is evaluated while the program is read: cheap, and with small results."""
    if type(op).__module__ not in FOLDED or any(t.count > MAX_COMPUTED // 8 for t in operands):
        return False
    return all(
        sh.is_static(t.shape) and t.count <= (FOLD_FLOATS if t.dtype.is_float else FOLD_INTEGERS) for t in op.infer(operands)
    )
