"""Operators of 8-bit integers whose kernels in LiteRT do not round as the same sums of real numbers would: computed as XNNPACK computes them, bit by bit."""

from __future__ import annotations

import numpy as np

from strop.frontend.tflite.context import ACTIVATIONS, NodeContext
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.base import highest, lowest

#: What integers are multiplied by in LEAKY_RELU and QUANTIZE.
LEAST_RATIO, MOST_RATIO = 2.0**-8, 2.0**7
#: Scales of operands by that of the result in ADD and SUB; the last is none.
LEAST_TERM, END_TERM = 2.0**-10, 2.0**8


def scaled(node: NodeContext, alpha: float) -> Value | None:
    """LEAKY_RELU, or QUANTIZE with a slope of 1, of 8 bits as ``fixed_leaky_relu`` of ``strop.ops.elementwise``.

    None where LiteRT has the reference kernel, which rounds as everything here does. Source: XNNPACK, create_leaky_relu_nc and create_convert_nc.
    """
    grid, to = node.grid(0), node.result().grid
    if grid is None or to is None or grid.scale.size != 1 or to.scale.size != 1 or (alpha == 1 and grid.same(to)):
        return None
    stored = node.stored(0)
    if stored.dtype not in (dt.i8, dt.u8) or node.result().dtype is not stored.dtype or stored.const is not None:
        return None
    above = np.float32(grid.scale[0]) / np.float32(to.scale[0])
    below = above * np.float32(alpha)
    if not (LEAST_RATIO <= above <= MOST_RATIO and LEAST_RATIO <= abs(below) <= MOST_RATIO):
        return None
    scales, zeros = [float(g.scale[0]) for g in (grid, to)], [float(g.zero[0]) for g in (grid, to)]
    return node.apply(
        "fixed_leaky_relu", stored, scale_x=scales[0], zero_x=zeros[0], scale=scales[1], zero=zeros[1], alpha=alpha, signed=float(stored.dtype is dt.i8),
    )  # fmt: skip


def total(node: NodeContext, subtracts: bool) -> Value | None:
    """ADD or SUB as ``fixed_sum`` of ``strop.ops.elementwise``; None where LiteRT has the reference kernel, or nothing is quantized.

    Source: XNNPACK, qs8-vadd and create_binary_elementwise_nd.
    """
    grids, to, dtype = [node.grid(0), node.grid(1)], node.result().grid, node.result().dtype
    operands = [node.stored(0), node.stored(1)]
    if to is None or to.scale.size != 1 or dtype not in (dt.i8, dt.u8) or any(v.dtype is not dtype for v in operands):
        return None
    if all(v.const is not None for v in operands):
        return None
    params = {"scale": float(to.scale[0]), "zero": float(to.zero[0]), "signed": float(dtype is dt.i8)}
    for end, grid in zip("ab", grids, strict=True):
        if grid is None or grid.scale.size != 1 or not LEAST_TERM <= np.float32(grid.scale[0]) / np.float32(to.scale[0]) < END_TERM:
            return None
        params |= {f"scale_{end}": float(grid.scale[0]) * (-1 if subtracts and end == "b" else 1), f"zero_{end}": float(grid.zero[0])}
    bounds = _bounds(node)
    if bounds is None:
        return None
    least, most = float(lowest(dtype)), float(highest(dtype))
    lo, hi = (min(max(float(np.rint(np.float32(end) / to.scale[0])) + params["zero"], least), most) for end in bounds)
    return node.apply("fixed_sum", *operands, **params, lo=lo, hi=hi)


def _bounds(node: NodeContext) -> tuple[float, float] | None:
    """What the fused activation function leaves, real; None for one that does more than cut."""
    number = node.option("FusedActivationFunction", 0)
    if number == 0:
        return -np.inf, np.inf
    fn, params = ACTIVATIONS.get(number, ("", {}))
    return (0.0, np.inf) if fn == "relu" else (params["lo"], params["hi"]) if fn == "clip" else None
