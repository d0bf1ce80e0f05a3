"""ONNX quantization: integers that stand for real numbers, real = (integer - zero point) * scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand
from strop.frontend.onnx.ops_nn import conv_op
from strop.frontend.onnx.registry import onnx_op
from strop.frontend.onnx.tensors import element_type
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.shape import Shape
from strop.ops.data import Expand, Reshape
from strop.ops.elementwise import Cast, make
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.reduce import Reduce

#: Axis and size of the blocks that share a scale, as the ops take them.
Block = tuple[int, int]
#: Types that quantized values have.
QUANTIZED = (dt.u8, dt.i8, dt.u16, dt.i16)


def cast(node: NodeContext, x: Operand, to: DType) -> Operand:
    """x in another dtype."""
    return x if x.type.dtype == to else node.step(Cast(to), x)


def quantized(node: NodeContext, x: Operand, scale: Operand, zero: Operand | None, to: DType) -> Operand:
    """saturate(round(x / scale) + zero), halves to even; x is a float, scale and zero broadcast to it."""
    _require_quantized(node, to)
    return node.step(Quantize(to), x, *_params(node, cast(node, scale, x.type.dtype), zero))


def saturated(node: NodeContext, x: Operand, zero: Operand | None, to: DType) -> Operand:
    """saturate(round(x) + zero) of a float x in an integer type."""
    return quantized(node, x, node.like(1, x), zero, to)


def _require_quantized(node: NodeContext, to: DType) -> None:
    if to not in QUANTIZED:
        raise node.unsupported(
            f"quantization to {to} is not supported", expected=", ".join(d.name for d in QUANTIZED)
        )


def _params(node: NodeContext, scale: Operand, zero: Operand | None) -> tuple[Operand, ...]:
    """Scale and zero point in one shape; a zero point of 0 is left out."""
    if zero is None or _is_zero(zero):
        return (scale,)
    shape = sh.broadcast(scale.type.shape, zero.type.shape, where=node.where)
    return tuple(p if p.type.shape == shape else _in_shape(node, p, shape) for p in (scale, zero))


def _in_shape(node: NodeContext, param: Operand, shape: Shape) -> Operand:
    if sh.volume(param.type.shape) == sh.volume(shape):
        return node.step(Reshape(shape), param)
    return node.step(Expand(shape), param)


def dequantized(node: NodeContext, x: Operand, scale: Operand, zero: Operand | None, block: Block = (-1, 0)) -> Operand:
    """(x - zero) * scale in the dtype of scale; the difference is exact."""
    return node.step(Dequantize(*block), x, *_params(node, scale, zero))


def _is_zero(zero: Operand) -> bool:
    return isinstance(zero, Known) and zero.array.size <= 1 << 16 and not np.any(zero.array)


def spread(node: NodeContext, param: Operand, x: Operand, axis: int, block: int) -> Operand:
    """A scale or zero point such that it broadcasts to x: of the whole tensor, per index of an axis, or per block along it."""
    rank, shape = x.type.rank, param.type.shape
    if param.type.rank == 0 or (param.type.rank == 1 and shape == (1,)):
        return param if param.type.rank == 0 else node.step(Reshape(()), param)
    axis = node.normal_axis(axis, rank)
    if block == 0:
        if param.type.rank != 1 or shape[0] != x.type.shape[axis]:
            raise node.malformed(
                "scale or zero point do not fit", got=f"{param.type} for axis {axis} of {x.type}"
            )
        return param if axis == rank - 1 else node.step(Reshape((shape[0], *(1,) * (rank - axis - 1))), param)
    sizes = x.type.shape
    wanted = (*sizes[:axis], sh.ceildiv(sizes[axis], block) if block > 0 else 0, *sizes[axis + 1 :])
    if shape != wanted:
        raise node.malformed("blocks do not fit", got=param.type, expected=f"shape {sh.show(wanted)}")
    return param


def _block(node: NodeContext, scale: Operand, rank: int) -> Block:
    """Axis and block size of a node's attributes as the ops take them: none where the scale is no block's."""
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    return (node.normal_axis(axis, rank), block) if block and scale.type.rank == rank else (-1, 0)


def _optional_type(node: NodeContext, name: str) -> DType | None:
    code = node.integer(name, 0)
    return element_type(code, node.where) if code else None


@onnx_op("QuantizeLinear", since=10)
def quantize_linear(node: NodeContext) -> Operand:
    """The division is done in ``precision``, by default in the type of the scale."""
    node.ignore("saturate")  # of 8-bit floats only
    x, scale, zero = node.operand(0), node.operand(1), node.optional(2)
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    to = _optional_type(node, "output_dtype") or (dt.u8 if zero is None else zero.type.dtype)
    if zero is not None and zero.type.dtype != to:
        raise node.malformed("output_dtype does not fit the zero point", got=f"{to}, {zero.type}")
    kind = _optional_type(node, "precision") or scale.type.dtype
    if not kind.is_float:
        raise node.malformed("the scale is no float", got=scale.type)
    _require_quantized(node, to)
    x = cast(node, x, kind)
    scale = cast(node, spread(node, scale, x, axis, block), kind)
    zero = None if zero is None else spread(node, zero, x, axis, block)
    return node.step(Quantize(to, *_block(node, scale, x.type.rank)), x, *_params(node, scale, zero))


@onnx_op("DequantizeLinear", since=10)
def dequantize_linear(node: NodeContext) -> Operand:
    x, scale, zero = node.operand(0), node.operand(1), node.optional(2)
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    to = _optional_type(node, "output_dtype")
    if not (x.type.dtype.is_int and scale.type.dtype.is_float):
        raise node.malformed("operands do not fit", got=f"{x.type}, {scale.type}")
    scale = spread(node, scale, x, axis, block)
    zero = None if zero is None else spread(node, zero, x, axis, block)
    if x.type.dtype not in (*QUANTIZED, dt.i32):
        raise node.unsupported(f"dequantization of {x.type.dtype} is not supported")
    result = dequantized(node, x, scale, zero, _block(node, scale, x.type.rank))
    return result if to is None else cast(node, result, to)


@onnx_op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(node: NodeContext) -> tuple[Operand, ...]:
    return dynamically_quantized(node, node.operand(0))


def dynamically_quantized(node: NodeContext, x: Operand) -> tuple[Operand, Operand, Operand]:
    """A float x as u8, and the f32 scale and u8 zero point that make its whole range, widened to hold 0, fit.

    The scale of a range of 0 is 1, as in ONNX Runtime; the standard's formula would divide by 0.
    """
    axes = tuple(range(x.type.rank))
    low = node.step(make("min"), node.step(Reduce("min", axes, False), x), node.like(0, x))
    high = node.step(make("max"), node.step(Reduce("max", axes, False), x), node.like(0, x))
    steps = node.like(255, x)
    span = node.step(make("sub"), high, low)
    empty = node.step(make("eq"), span, node.like(0, x))
    scale = node.step(make("where"), empty, node.like(1, x), node.step(make("div"), span, steps))
    place = node.step(make("div"), node.step(make("neg"), low), scale)
    bounded = node.step(make("clip", lo=0.0, hi=255.0), place)
    zero = cast(node, node.step(make("round"), bounded), dt.u8)
    return quantized(node, x, scale, zero, dt.u8), scale, zero


# ---- products of integers


def _rows(node: NodeContext, zero: Operand | None) -> Operand | None:
    """The zero point of a left operand: one number, one per row, or of the shape [.., M, 1]."""
    if zero is None or zero.type.rank != 1 or zero.type.shape == (1,):
        return zero
    return node.step(Reshape((*zero.type.shape, 1)), zero)


@onnx_op("MatMulInteger", since=10)
def matmul_integer(node: NodeContext) -> Operand:
    """The sum of products of differences from the zero points, as i32."""
    zeros = _rows(node, node.optional(2)), node.optional(3)
    return integer_product(node, IntegerMatMul(), node.operand(0), node.operand(1), *zeros)


def integer_product(
    node: NodeContext, op: IntegerMatMul | IntegerConv, a: Operand, b: Operand, a_zero: Operand | None, b_zero: Operand | None
) -> Operand:
    """An exact product in i32; zero points that are 0 are left out."""
    zeros = [None if z is None or _is_zero(z) else z for z in (a_zero, b_zero)]
    while zeros and zeros[-1] is None:
        zeros.pop()
    return node.step(op, a, b, *zeros)


@onnx_op("ConvInteger", since=10)
def conv_integer(node: NodeContext) -> Operand:
    """As Conv, padded with the zero point of x; that of w is one number or one per output channel."""
    x, w = node.operand(0), node.operand(1)
    zeros = _scalar(node, node.optional(2)), _channels(node, node.optional(3), w, 0)
    return integer_product(node, IntegerConv.of(conv_op(node, w)), x, w, *zeros)


def _scalar(node: NodeContext, param: Operand | None) -> Operand | None:
    """A parameter of one element, as a scalar."""
    return None if param is None else node.step(Reshape(()), param)


def _channels(node: NodeContext, param: Operand | None, like: Operand, axis: int) -> Operand | None:
    """A parameter of one element or one per index of an axis, such that it broadcasts."""
    return None if param is None else spread(node, param, like, axis, 0)


@onnx_op("QLinearMatMul", since=10)
def qlinear_matmul(node: NodeContext) -> Operand:
    """The product is exact in i32 and scaled by a_scale * b_scale / y_scale."""
    a_scale, b_scale, y_scale = (node.operand(i) for i in (1, 4, 6))
    zeros = _rows(node, node.operand(2)), node.operand(5)
    total = integer_product(node, IntegerMatMul(), node.operand(0), node.operand(3), *zeros)
    a_scale = _rows(node, a_scale) or a_scale
    return requantized(node, total, a_scale, b_scale, _rows(node, y_scale) or y_scale, _rows(node, node.operand(7)))


def requantized(
    node: NodeContext,
    total: Operand,
    a_scale: Operand,
    b_scale: Operand,
    y_scale: Operand,
    zero: Operand | None,
    to: DType | None = None,
) -> Operand:
    """An i32 sum of products in units of y_scale, in the type of the zero point; scales are combined in f32."""
    scales = [cast(node, s, dt.f32) for s in (a_scale, b_scale, y_scale)]
    factor = node.step(make("div"), node.step(make("mul"), scales[0], scales[1]), scales[2])
    scaled = node.step(make("mul"), cast(node, total, dt.f32), factor)
    kind = to or (dt.u8 if zero is None else zero.type.dtype)
    return saturated(node, scaled, zero, kind)


@onnx_op("QLinearConv", since=10)
def qlinear_conv(node: NodeContext) -> Operand:
    """As ConvInteger with an i32 bias in units of x_scale * w_scale; w_scale is one number or one per output channel."""
    return qlinear_conv_of(node, node.operands)


def qlinear_conv_of(node: NodeContext, operands: Sequence[Operand | None]) -> Operand:
    """QLinearConv of the nine operands x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *rest = operands
    if x is None or x_scale is None or w is None or w_scale is None or y_scale is None:
        raise node.malformed("an operand is missing")
    bias = rest[0] if rest else None
    zeros = _scalar(node, x_zero), _channels(node, w_zero, w, 0)
    total = integer_product(node, IntegerConv.of(conv_op(node, w)), x, w, *zeros)
    if bias is not None:
        spatial = (1,) * (total.type.rank - 2)
        total = node.step(make("add"), total, node.step(Reshape((*bias.type.shape, *spatial)), bias))
    return requantized(
        node,
        total,
        node.step(Reshape(()), x_scale),
        spread(node, w_scale, total, 1, 0),
        node.step(Reshape(()), y_scale),
        _scalar(node, y_zero),
    )
