"""Integers, or 8-bit floats, that stand for real numbers: real = (integer - zero point) * scale (ONNX QuantizeLinear and DequantizeLinear, opset 21).

The portable form of a quantized network is Dequantize -> op on floats -> Quantize, with known weights kept as integers behind a Dequantize.
Scales and zero points are aligned with the value: they broadcast to it as in numpy, one number for all of it, [C, 1, 1] for one per channel
of N, C, H, W. With a block size they have its rank, and entry i along the axis counts for elements i * block and following.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, Input
from strop.ir.loops import Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ops import base

#: Types that values are quantized to. Floats among them have no zero point.
STORED = (dt.u8, dt.i8, dt.u16, dt.i16, dt.i32, dt.f8e4m3)


@dataclass(frozen=True)
class _Linear(Op):
    """What both directions share: operands x, scale and, optionally, zero point."""

    def params(self) -> tuple[int, int]:
        """(axis, block); a block of 0 means that scale and zero point broadcast."""
        raise NotImplementedError(f"{self.name}.params")

    def expr(self, inputs: Sequence[Type]) -> Expr:
        """The result's element over Input(0) = x, Input(1) = scale and Input(2) = zero point, where they meet.

        Args:
            inputs: types of the operands.
        """
        raise NotImplementedError(f"{self.name}.expr")

    def _check(self, inputs: Sequence[Type], scale: Type) -> None:
        """ShapeError unless scale and zero point fit the value."""
        base.expect(self, inputs, 2, 3)
        x = inputs[0]
        if not scale.dtype.is_float:
            raise self.fail("the scale is no float", inputs)
        axis, block = self.params()
        if len(inputs) == 3 and inputs[2].dtype.is_float:
            raise self.fail("floats have no zero point", inputs)
        if len(inputs) == 3 and inputs[2].shape != scale.shape:
            raise self.fail("scale and zero point have different shapes", inputs)
        if block < 0:
            raise self.fail("the block size is negative", inputs)
        if block == 0:
            if scale.rank > x.rank or sh.broadcast(x.shape, scale.shape, where=self.name) != x.shape:
                raise self.fail("the scale does not broadcast to the value", inputs)
            return
        axis = base.axis_of(self, axis, x.rank)
        wanted = (*x.shape[:axis], sh.ceildiv(x.shape[axis], block), *x.shape[axis + 1 :])
        if scale.rank != x.rank or any(s not in (1, d) for s, d in zip(scale.shape, wanted, strict=True)):
            raise self.fail("the scale does not fit blocks", inputs, f"dims 1 or those of {sh.show(wanted)}")

    def _met(self, param: Array, x: Array) -> Array:
        """A scale or zero point that broadcasts to x."""
        axis, block = self.params()
        if block == 0 or param.shape[axis] == 1:
            return param
        return np.repeat(param, block, axis).take(np.arange(x.shape[axis]), axis)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = inputs[0]
        types = [Type(dt.from_numpy(a.dtype), a.shape) for a in inputs]
        met = [x, *(self._met(param, x) for param in inputs[1:])]
        return (ex.evaluate(self.expr(types), met),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(4 * outputs[0].count, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (out,) = outputs
        axes = loops(out.shape)
        axis, block = self.params()

        def operand(node: Expr) -> Expr | None:
            if not isinstance(node, Input):
                return None
            given = inputs[node.index]
            position = base.variables(axes)
            if node.index and block:
                position[axis] = base.floor_div(position[axis], block)
            return base.load(node.index, given.dtype, base.broadcast_index(position, given.shape), given.dtype)

        return Program((Stage("out0", out.dtype, axes, ex.substitute(self.expr(inputs), operand)),))


@dataclass(frozen=True)
class Quantize(_Linear):
    """saturate(round(x / scale) + zero point), halves to even; NaN gives any integer, and NaN of f8e4m3.

    Operands: x of a float dtype, scale of the same dtype, optional zero point of the result's dtype (0). Result: as x, of dtype ``to``.
    The quotient is rounded to the dtype of x first.

    Attributes:
        to: u8, i8, u16, i16, i32 or f8e4m3.
        axis: of the blocks; negative counts from the end.
        block: elements along ``axis`` that share a scale; 0: the scale broadcasts.
    """

    name: ClassVar[str] = "quantize"

    to: DType
    axis: int = -1
    block: int = 0

    def params(self) -> tuple[int, int]:
        return self.axis, self.block

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        self._check(inputs, inputs[1])
        if self.to not in STORED:
            raise self.fail(f"cannot quantize to {self.to}", inputs, ", ".join(map(str, STORED)))
        if inputs[0].dtype != inputs[1].dtype:
            raise self.fail("value and scale have different dtypes", inputs)
        if len(inputs) == 3 and inputs[2].dtype != self.to:
            raise self.fail("the zero point has another dtype than the result", inputs, str(self.to))
        return (Type(self.to, inputs[0].shape),)

    def expr(self, inputs: Sequence[Type]) -> Expr:
        kind = inputs[0].dtype
        wide = base.compute_type(kind)
        quotient = base.cast(base.cast(Input(0), kind, wide) / base.cast(Input(1), kind, wide), wide, kind)
        if self.to.is_float:
            return ex.Cast(self.to, quotient)
        whole = ex.call("round", base.cast(quotient, kind, wide))
        if len(inputs) == 3:
            whole = whole + ex.Cast(wide, Input(2))
        return saturated(whole, wide, self.to)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for to, kind, shape, scale, zero, axis, block in _CASES:
            x = base.random_array(rng, shape, kind, -40, 40)
            operands = [x, base.random_array(rng, scale, kind, 0.05, 0.4)]
            if zero:
                operands.append(base.random_array(rng, scale, to, 0, 100))
            yield Sample(cls(to, axis, block), tuple(operands))
        halves = np.arange(-20, 20).astype(np.float32).reshape(2, 20) / 2
        yield Sample(cls(dt.i8), (halves, np.ones((), np.float32)), "halves")
        far = np.array([-3e38, -2147483648.0, 2147483648.0, 3e38, 127.5, -128.5], np.float32)
        for to in STORED:
            if not to.is_float:  # in whose samples all processors have a part
                yield Sample(cls(to), (far, np.ones((), np.float32)), "saturated")


@dataclass(frozen=True)
class Dequantize(_Linear):
    """(x - zero point) * scale; the difference is exact in i32.

    Operands: x of an integer dtype or of f8e4m3, scale of a float dtype, optional zero point of the dtype of x (0). Result: as x, of the scale's dtype.

    Attributes:
        axis: of the blocks; negative counts from the end.
        block: elements along ``axis`` that share a scale; 0: the scale broadcasts.
    """

    name: ClassVar[str] = "dequantize"

    axis: int = -1
    block: int = 0

    def params(self) -> tuple[int, int]:
        return self.axis, self.block

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        self._check(inputs, inputs[1])
        if inputs[0].dtype not in STORED:
            raise self.fail(f"cannot dequantize {inputs[0].dtype}", inputs, ", ".join(map(str, STORED)))
        if len(inputs) == 3 and inputs[2].dtype != inputs[0].dtype:
            raise self.fail("the zero point has another dtype than the value", inputs, str(inputs[0].dtype))
        return (Type(inputs[1].dtype, inputs[0].shape),)

    def expr(self, inputs: Sequence[Type]) -> Expr:
        kind = inputs[1].dtype
        wide = base.compute_type(kind)
        if inputs[0].dtype.is_float:
            return base.cast(ex.Cast(wide, Input(0)) * base.cast(Input(1), kind, wide), wide, kind)
        whole = base.cast(Input(0), inputs[0].dtype, dt.i32)
        if len(inputs) == 3:
            whole = whole - base.cast(Input(2), inputs[2].dtype, dt.i32)
        real = base.cast(ex.Cast(kind, whole), kind, wide) * base.cast(Input(1), kind, wide)
        return base.cast(real, wide, kind)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for given, kind, shape, scale, zero, axis, block in _CASES:
            low, high = (-9000, 9000) if given is dt.i32 else (int(base.lowest(given)), int(base.highest(given)))
            operands = [base.random_array(rng, shape, given, low, high), base.random_array(rng, scale, kind, 0.05, 0.4)]
            if zero:
                operands.append(base.random_array(rng, scale, given, 0, 100))
            yield Sample(cls(axis, block), tuple(operands))


def saturated(whole: Expr, wide: DType, to: DType) -> Expr:
    """A whole number of float dtype ``wide`` as an integer of dtype ``to``, the nearest there is."""
    low, high = int(base.lowest(to)), int(base.highest(to))
    if to.size < 4:
        bounded = ex.call("min", ex.call("max", whole, ex.Const(float(low), wide)), ex.Const(float(high), wide))
        return ex.Cast(to, bounded)
    largest = float(np.nextafter(wide.numpy.type(2.0**31), wide.numpy.type(0)))  # the end of i32 is no f32
    bounded = ex.call("min", ex.call("max", whole, ex.Const(float(low), wide)), ex.Const(largest, wide))
    return ex.call("select", whole > ex.Const(largest, wide), ex.Const(high, to), ex.Cast(to, bounded))


#: (integer dtype, float dtype, shape, shape of the scale, with a zero point, axis, block)
_CASES: tuple[tuple[DType, DType, tuple[int, ...], tuple[int, ...], bool, int, int], ...] = (
    (dt.u8, dt.f32, (3, 19), (), True, -1, 0),
    (dt.i8, dt.f32, (3, 19), (), False, -1, 0),
    (dt.i8, dt.f32, (2, 5, 3, 4), (5, 1, 1), True, -1, 0),
    (dt.u8, dt.f32, (4, 33), (33,), True, -1, 0),
    (dt.u16, dt.f32, (3, 19), (), True, -1, 0),
    (dt.i16, dt.f32, (3, 19), (1,), True, -1, 0),
    (dt.i32, dt.f32, (3, 19), (3, 1), False, -1, 0),
    (dt.u8, dt.f16, (3, 19), (), True, -1, 0),
    (dt.i8, dt.bf16, (3, 19), (19,), False, -1, 0),
    (dt.i8, dt.f32, (3, 10), (3, 3), True, 1, 4),
    (dt.u8, dt.f32, (6, 5), (3, 5), True, -2, 2),
)
