"""Quantized ops of ONNX Runtime's own domain com.microsoft: computed in f32 between dequantizing and quantizing, or exactly in i32.

Their meaning is that of https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.ops_nn import average_pool_op, window_pool
from strop.frontend.onnx.ops_quant import (
    cast,
    dequantize_linear,
    dequantized,
    dynamically_quantized,
    integer_product,
    quantize_linear,
    quantized,
    requantized,
)
from strop.frontend.onnx.registry import onnx_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.op import Array
from strop.ops.data import Concat, Reshape, Transpose
from strop.ops.elementwise import make
from strop.ops.integer import IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.pool import MaxPool
from strop.ops.quantize import Dequantize
from strop.ops.reduce import Reduce
from strop.ops.softmax import Softmax

DOMAIN = "com.microsoft"
onnx_op("QuantizeLinear", domain=DOMAIN)(quantize_linear)
onnx_op("DequantizeLinear", domain=DOMAIN)(dequantize_linear)


def _real(node: NodeContext, index: int) -> Operand:
    """Operands ``index`` (x), its scale and its zero point as floats."""
    return dequantized(node, node.operand(index), node.operand(index + 1), node.optional(index + 2))


def _whole(node: NodeContext, x: Operand, index: int, like: Operand) -> Operand:
    """A float result in units of operand ``index``, with the zero point after it, in the dtype of an operand."""
    return quantized(node, x, node.operand(index), node.optional(index + 1), like.type.dtype)


@onnx_op("QLinearAdd", "QLinearMul", domain=DOMAIN)
def qlinear_binary(node: NodeContext) -> Operand:
    fn = "add" if node.op_type == "QLinearAdd" else "mul"
    return _whole(node, node.step(make(fn), _real(node, 0), _real(node, 3)), 6, node.operand(0))


@onnx_op("QLinearSigmoid", "QLinearLeakyRelu", domain=DOMAIN)
def qlinear_unary(node: NodeContext) -> Operand:
    op = make("sigmoid")
    if node.op_type == "QLinearLeakyRelu":
        op = make("leaky_relu", alpha=node.number("alpha", 0.01))
    return _whole(node, node.step(op, _real(node, 0)), 3, node.operand(0))


@onnx_op("QLinearSoftmax", domain=DOMAIN)
def qlinear_softmax(node: NodeContext) -> Operand:
    """Along one axis; before opset 13 of ai.onnx, which ``opset`` tells, over all axes from ``axis`` on."""
    axis = node.axis(default=-1)
    if node.integer("opset") < 13 and axis != node.rank(0) - 1:
        raise node.unsupported("only the last axis is supported before opset 13", got=axis)
    return _whole(node, node.step(Softmax(axis), _real(node, 0)), 3, node.operand(0))


@onnx_op("QLinearConcat", domain=DOMAIN)
def qlinear_concat(node: NodeContext) -> Operand:
    """Operands 0 and 1 are the result's scale and zero point; each part has its own."""
    if len(node) < 5 or (len(node) - 2) % 3:
        raise node.malformed("takes three operands for every part", got=len(node))
    parts = [_real(node, index) for index in range(2, len(node), 3)]
    axis = node.normal_axis(node.integer("axis"), parts[0].type.rank)
    return _whole(node, node.step(Concat(axis), *parts), 0, node.operand(2))


def _channels_last(node: NodeContext, x: Operand, apply: Callable[[Operand], Operand]) -> Operand:
    """``apply`` to x with the channels brought to axis 1 when attribute channels_last says that they come last."""
    if not node.flag("channels_last"):
        return apply(x)
    return _turned(node, x, apply)


def _turned(node: NodeContext, x: Operand, apply: Callable[[Operand], Operand]) -> Operand:
    """``apply`` to x[N, .., C] as x[N, C, ..], and back."""
    rank = x.type.rank
    first = node.step(Transpose((0, rank - 1, *range(1, rank - 1))), x)
    return node.step(Transpose((0, *range(2, rank), 1)), apply(first))


@onnx_op("QLinearAveragePool", domain=DOMAIN)
def qlinear_average_pool(node: NodeContext) -> Operand:
    if node.flag("channels_last"):
        raise node.unsupported("attribute channels_last has an unsupported value", got=1, expected=0)
    return _whole(node, node.step(average_pool_op(node), _real(node, 0)), 3, node.operand(0))


@onnx_op("QLinearGlobalAveragePool", domain=DOMAIN)
def qlinear_global_average_pool(node: NodeContext) -> Operand:
    def mean(x: Operand) -> Operand:
        return node.step(Reduce("mean", tuple(range(2, x.type.rank)), True), x)

    return _whole(node, _channels_last(node, _real(node, 0), mean), 3, node.operand(0))


@onnx_op("NhwcMaxPool", domain=DOMAIN)
def nhwc_max_pool(node: NodeContext) -> Operand:
    """MaxPool of x[N, .., C]."""
    node.ignore("storage_order")
    x = node.operand(0)
    spatial = x.type.shape[1:-1]
    op = MaxPool(*window_pool(node, spatial), node.flag("ceil_mode"))
    return _turned(node, x, lambda first: node.step(op, first))


# ---- products


def _with_bias(node: NodeContext, x: Operand, bias: Operand | None) -> Operand:
    return x if bias is None else node.step(make("add"), x, bias)


def _product(
    node: NodeContext, a: Operand, b: Operand, a_zero: Operand | None, b_zero: Operand | None, scales: Operand
) -> Operand:
    """(a - a_zero) (b - b_zero) * scales, the product exact in i32."""
    total = integer_product(node, IntegerMatMul(), a, b, a_zero, b_zero)
    return node.step(make("mul"), cast(node, total, scales.type.dtype), scales)


@onnx_op("MatMulIntegerToFloat", domain=DOMAIN)
def matmul_integer_to_float(node: NodeContext) -> Operand:
    """b_scale and b_zero are one number or one per column."""
    scales = node.step(make("mul"), node.operand(2), node.operand(3))
    a, b = node.operand(0), node.operand(1)
    found = _product(node, a, b, node.optional(4), node.optional(5), scales)
    return _with_bias(node, found, node.optional(6))


@onnx_op("DynamicQuantizeMatMul", domain=DOMAIN)
def dynamic_quantize_matmul(node: NodeContext) -> Operand:
    """As MatMulIntegerToFloat, after DynamicQuantizeLinear of a."""
    a, scale, zero = dynamically_quantized(node, node.operand(0))
    scales = node.step(make("mul"), scale, node.operand(2))
    found = _product(node, a, node.operand(1), zero, node.optional(3), scales)
    return _with_bias(node, found, node.optional(4))


@onnx_op("QGemm", domain=DOMAIN)
def qgemm(node: NodeContext) -> Operand:
    """alpha * A' B' + C of integers, C in i32; a float without a scale of the result."""
    a, b, bias = node.operand(0), node.operand(3), node.optional(6)
    alpha = node.number("alpha", 1.0)
    turn = IntegerMatMul(node.flag("transA"), node.flag("transB"))
    b_zero, b_scale = node.optional(5), node.operand(4)
    if turn.transpose_b and b_zero is not None and b_zero.type.rank == 1 and b_zero.type.shape != (1,):
        b_zero = node.step(Reshape((*b_zero.type.shape, 1)), b_zero)
    total = integer_product(node, turn, a, b, node.optional(2), b_zero)
    if bias is not None:
        total = node.step(make("add"), total, bias)
    a_scale = node.operand(1)
    if alpha != 1.0:
        a_scale = node.step(make("mul"), a_scale, node.like(alpha, a_scale))
    if node.optional(7) is not None:
        kind = a.type.dtype
        return requantized(node, total, a_scale, b_scale, node.operand(7), node.optional(8), kind)
    scales = node.step(make("mul"), a_scale, b_scale)
    return node.step(make("mul"), cast(node, total, dt.f32), scales)


@onnx_op("MatMulNBits", domain=DOMAIN)
def matmul_n_bits(node: NodeContext) -> Operand:
    """x[.., K] times known weights [N, K] that are kept in 2, 4 or 8 bits with a scale per block of K; zero points that are no integers are
    taken off here."""
    rows, columns = node.integer("K"), node.integer("N")
    bits, block = node.integer("bits", 4), node.integer("block_size")
    node.ignore("accuracy_level", "weight_prepacked")
    if bits not in (2, 4, 8) or block < 1 or rows < 1 or columns < 1:
        raise node.unsupported(f"{bits} bits in blocks of {block} are not supported", expected="2, 4 or 8")
    if node.optional(4) is not None:
        raise node.unsupported("operand g_idx is not supported")
    blocks = -(-rows // block)
    levels = _unpacked(node, node.constant(1, "B"), bits, (columns, blocks, block))
    scales = node.constant(2, "scales")
    if scales.size != columns * blocks:
        raise node.malformed("scales do not fit", got=scales.shape, expected=f"{columns * blocks} numbers")
    zero = np.full((columns, blocks), 1 << (bits - 1), np.uint8)
    if node.optional(3) is not None:
        given = node.constant(3, "zero_points")
        if given.dtype != np.uint8:
            real = (levels - given.astype(np.float32).reshape(columns, blocks, 1)) * scales.astype(np.float32).reshape(columns, blocks, 1)
            weights = node.const(real.reshape(columns, -1)[:, :rows].astype(scales.dtype))
            return _with_bias(node, node.step(MatMul(transpose_b=True), node.operand(0), weights), node.optional(5))
        zero = _unpacked(node, given, bits, (columns, blocks))
    whole = node.const(np.ascontiguousarray(levels.reshape(columns, -1)[:, :rows]))
    read = node.step(Dequantize(1, block), whole, node.const(scales.reshape(columns, blocks)), node.const(zero))
    return _with_bias(node, node.step(MatMul(transpose_b=True), node.operand(0), read), node.optional(5))


def _unpacked(node: NodeContext, packed: Array, bits: int, shape: tuple[int, ...]) -> Array:
    """Numbers of a few bits, the lowest bits of a byte first; the last axis of ``shape`` starts at a byte."""
    each = 8 // bits
    width = -(-shape[-1] // each)
    if packed.dtype != np.uint8 or packed.size != sh.count((*shape[:-1], width)):
        raise node.malformed("packed numbers do not fit", got=f"{packed.dtype}{list(packed.shape)}")
    shifts = (np.arange(each) * bits).astype(np.uint8)
    parts = packed.reshape(*shape[:-1], width, 1) >> shifts & ((1 << bits) - 1)
    return np.asarray(parts.reshape(*shape[:-1], width * each)[..., : shape[-1]], np.uint8)
