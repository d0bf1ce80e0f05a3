"""Ops between sizes and data: dims as elements of a tensor, elements of a tensor as dims, and numbers up to a dim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, call
from strop.ir.loops import Program, Stage, loops
from strop.ir.op import Array, Op, Sample, Type
from strop.ir.shape import Dim, Sym
from strop.ops import base


@dataclass(frozen=True)
class Sizes(base.Mover):
    """Dims as data. No operands. Result: i64 of rank 1, or a scalar.

    Attributes:
        dims: the elements.
        scalar: the only element is the result.
    """

    name: ClassVar[str] = "sizes"

    dims: tuple[Dim, ...]
    scalar: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 0)
        if self.scalar and len(self.dims) != 1:
            raise self.fail("a scalar has one element", inputs)
        return (Type(dt.i64, () if self.scalar else (len(self.dims),)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        found = np.array(sh.static(self.dims, self.name), np.int64)
        return (found.reshape(()) if self.scalar else found,)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        axes = loops(outputs[0].shape)
        body: Expr = base.size(self.dims[-1]) if self.dims else base.integer(0)
        for k in range(len(self.dims) - 2, -1, -1):
            body = base.select(call("eq", axes[0].var, base.integer(k)), base.size(self.dims[k]), body)
        return Program((Stage("out0", dt.i64, axes, body),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        yield Sample(cls((7,), True), ())
        yield Sample(cls((2, 3, 5)), ())
        yield Sample(cls((9,)), ())


@dataclass(frozen=True)
class ReadSizes(Op):
    """Elements of an integer tensor as sizes.

    Operand: i32 or i64 of rank 0 or 1, with one element per size. Results: per size a scalar i64.

    Attributes:
        sizes: the symbols; a number outside a symbol's range is an error of the run.
    """

    name: ClassVar[str] = "read_sizes"

    sizes: tuple[Dim, ...]

    @property
    def computed(self) -> tuple[Sym, ...]:
        return tuple(s for s in self.sizes if isinstance(s, Sym))

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        x = inputs[0]
        if x.dtype not in (dt.i32, dt.i64) or x.shape not in ((), (len(self.sizes),)) or (x.rank == 0 and len(self.sizes) != 1):
            raise self.fail("the operand does not hold these sizes", inputs, f"{len(self.sizes)} i32 or i64")
        return (Type(dt.i64, ()),) * len(self.sizes)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return tuple(np.asarray(v, np.int64) for v in inputs[0].reshape(-1))

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x = inputs[0]
        places = [[base.integer(k)] if x.rank else [] for k in range(len(self.sizes))]
        loads = [base.load(0, x.dtype, place, dt.i64) for place in places]
        return Program(tuple(Stage(f"out{k}", dt.i64, (), load) for k, load in enumerate(loads)))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        a, b = Sym("a", 0, 4, 9), Sym("b", 0, 4, 9)
        for dtype in (dt.i64, dt.i32):
            yield Sample(cls((a,)), (np.array(3, dtype.numpy),))
            yield Sample(cls((a,)), (np.array([0], dtype.numpy),))
            yield Sample(cls((a, b)), (np.array([9, 5], dtype.numpy),))


@dataclass(frozen=True)
class Iota(base.Mover):
    """0, 1, 2, ... No operands. Result: [count].

    Attributes:
        count: how many.
        dtype: of the result.
    """

    name: ClassVar[str] = "iota"

    count: Dim
    dtype: DType = dt.i64

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 0)
        if isinstance(self.count, int) and self.count < 0:
            raise self.fail("count is below zero", inputs)
        return (Type(self.dtype, (self.count,)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (count,) = sh.static((self.count,), self.name)
        return (np.arange(count).astype(self.dtype.numpy),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        axes = loops(outputs[0].shape)
        body = axes[0].var if self.dtype == dt.i64 else ex.Cast(self.dtype, axes[0].var)
        return Program((Stage("out0", self.dtype, axes, body),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for dtype in (dt.i64, dt.i32, dt.f32):
            yield Sample(cls(7, dtype), ())
