"""Quantized ops as ONNX operators, and what ONNX's runners do not take of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.ir.op import Op
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.quantize import Dequantize, Quantize

Array = np.ndarray[Any, Any]
Call = tuple[str, list[Array | None], dict[str, Any]]


def linear(op: Quantize | Dequantize, x: list[Array]) -> Call:
    """QuantizeLinear or DequantizeLinear; a scale next to one axis is one-dimensional there."""
    rank, (scale, *zero) = x[0].ndim, x[1:]
    attributes: dict[str, Any] = {}
    params = [scale, *zero]
    if isinstance(op, Quantize) and not zero:
        params.append(np.zeros(scale.shape, op.to.numpy))
    if op.block:
        attributes = {"axis": op.axis % rank, "block_size": op.block}
    else:
        wide = [k + rank - scale.ndim for k, d in enumerate(scale.shape) if d != 1]
        attributes = {"axis": wide[0]} if wide else {}
        params = [p.reshape(-1) if wide else p.reshape(()) for p in params]
    return f"{'Quantize' if isinstance(op, Quantize) else 'Dequantize'}Linear", [x[0], *params], attributes


def matmul_integer(op: IntegerMatMul, x: list[Array]) -> Call:
    a = x[0].swapaxes(-1, -2) if op.transpose_a else x[0]
    b = x[1].swapaxes(-1, -2) if op.transpose_b else x[1]
    zeros = [z.reshape(-1) if z.ndim else z for z in x[2:]]
    return "MatMulInteger", [np.ascontiguousarray(a), np.ascontiguousarray(b), *zeros], {}


def conv_integer(op: IntegerConv, x: list[Array]) -> Call:
    zeros = [z.reshape(-1) if z.ndim else z for z in x[2:]]
    attributes = {"strides": op.strides, "pads": op.pads, "dilations": op.dilations, "group": op.groups}
    return "ConvInteger", [*x[:2], *zeros], attributes


def lacking(op: Op, x: tuple[Array, ...], runner: str) -> str | None:
    """Why a runner cannot be asked about a quantized op."""
    if isinstance(op, (Quantize, Dequantize)):
        whole = op.to if isinstance(op, Quantize) else None
        if "int32" in (x[0].dtype.name, str(whole and whole.numpy)):
            return "no i32"
        if isinstance(op, Quantize) and np.abs(x[0]).max(initial=0) > 1e9:
            return "converts to i32 before it clamps"
        if op.block and runner == "evaluator":
            return "blocks end with the axis"
    if isinstance(op, IntegerMatMul) and any(z.ndim == 2 for z in x[2:]):
        return "several zero points of a"
    if isinstance(op, IntegerConv) and len(x) == 4 and x[3].ndim:
        return "one zero point of w"
    return None
