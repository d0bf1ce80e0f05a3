"""Matrix products by cuBLASLt, with a bias, a sum and a function at the end. A second factor that is known is stored as [columns][terms]."""

from __future__ import annotations

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import In, Operand, Out, Packed, Region, View, accepted
from strop.kernels.cuda_libraries.calls import (
    LibraryKernel,
    Side,
    bias_side,
    ending,
    floats,
    in_rows,
    merged,
)
from strop.kernels.triton.gemm import Product
from strop.ops.matmul import MatMul
from strop.target.base import Target


class CublasLt(LibraryKernel):
    """See the module's text."""

    name = "cublaslt"
    ranks = 6
    acts = ("none", "relu", "gelu_tanh")

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, MatMul) or min(len(region.operand(k).view.shape) for k in (0, 1)) < 2:
            return "it is no product of matrices"
        reason = floats(region, target)
        if reason is not None:
            return reason
        if region.out.dtype.name not in (region.operand(0).view.dtype.name, "f32"):
            return f"its result is {region.out.dtype}"
        found = ending(region, self.acts, len(region.out.shape) - 1)
        if isinstance(found, str):
            return found
        sides = matrices(region, self.acts)
        return sides if isinstance(sides, str) else None

    def sides(self, region: Region) -> tuple[list[Side], list[int], str]:
        return accepted(matrices(region, self.acts)), [], accepted(ending(region, self.acts, len(region.out.shape) - 1)).act


def matrices(region: Region, acts: tuple[str, ...]) -> list[Side] | str:
    """The operands, x[batch, rows, terms], w[batch, terms, columns] and the rest like y[batch, rows, columns]; or why they do not lie like this."""
    found, end, axis = Product.of(region), accepted(ending(region, acts, len(region.out.shape) - 1)), len(region.out.shape) - 1
    x = _matrix("x", In(0), found.a, found.batched)
    if found.const:
        weights, (terms, columns) = region.operand(1), found.b.shape[-2:]
        w: Side | None = Side("w", Packed(lambda: _packed(region, weights)), weights.view.dtype, (1, terms, columns), (terms * columns, 1, terms))
    else:
        w = _matrix("w", In(1), found.b, found.batched, keeps=not found.batched)
    sides = [x, w]
    if end.bias is not None:
        sides.append(bias_side(region, end.bias, axis, region.out.dtype))
    if end.added is not None:
        sides.append(_matrix("added", In(end.added), region.operand(end.added).view, found.batched))
    sides.append(_matrix("y", Out(0), found.out, found.batched))
    told = [s for s in sides if s is not None]
    if len(told) < len(sides) or not all(in_rows(s.dtype, s.shape, s.strides) for s in told if s.name != "bias"):
        return "an operand does not lie in rows of 16 bytes"
    if any(s.strides[2] != 1 for s in told if s.name in ("added", "y")):
        return "its result does not lie row by row"
    return told


def _matrix(name: str, pointer: In | Out, view: View, batched: bool, keeps: bool = False) -> Side | None:
    """The view as [batch, rows, columns]: leading axes are the batch, or further rows; of what ``keeps`` its rows they are one matrix, given again."""
    rank = len(view.shape)
    rows = (rank - 2,) if batched or keeps else tuple(range(rank - 1))
    lead = tuple(range(rank - 2)) if batched else ()
    step, batch = merged(view, rows), merged(view, lead)
    if step is None or batch is None:
        return None
    count = int(np.prod([view.shape[a] for a in rows]))
    times = int(np.prod([view.shape[a] for a in lead])) if lead else 1
    columns, beside = view.shape[-1], view.strides[-1]
    if columns == 1:
        beside = 1
    if count == 1:
        step = columns if beside == 1 else 1
    return Side(name, pointer, view.dtype, (times, count, columns), (batch, step, beside))


def _packed(region: Region, weights: Operand) -> Array:
    array = weights.logical
    assert array is not None and isinstance(region.op, MatMul)
    array = array.reshape(array.shape[-2:])
    return np.ascontiguousarray(array if region.op.transpose_b else array.T)


KERNEL = CublasLt()
