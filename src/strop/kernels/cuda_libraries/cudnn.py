"""Two-dimensional convolutions of channels-last values by cuDNN, with a bias, a sum and a function at the end; weights are stored channels-last, too.

A product with a known matrix is a convolution by a window of one element. It is offered where a function follows that cuBLASLt does not have.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import In, Operand, Out, Packed, Region, View, accepted
from strop.kernels.cuda_libraries import cublaslt
from strop.kernels.cuda_libraries.calls import (
    LibraryKernel,
    Side,
    bias_side,
    ending,
    floats,
    in_rows,
)
from strop.kernels.triton.conv_gemm import convolution
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul
from strop.target.base import Target


class Cudnn(LibraryKernel):
    """See the module's text."""

    name = "cudnn"
    ranks = 5
    acts = ("none", "relu", "gelu", "gelu_tanh")

    def takes(self, region: Region, target: Target) -> str | None:
        if isinstance(region.op, MatMul):
            return self._takes_product(region, target)
        reason = convolution(region)
        if reason is not None or not isinstance(region.op, Conv):
            return reason or "it is no convolution of floats"
        if len(region.out.shape) != 4:
            return "it has not two spatial axes"
        if region.operand(1).view.shape[1] == 1:
            return "every channel has a window of its own"
        found = floats(region, target) or self._ending(region, 1)
        if found is not None:
            return found
        inside = [s for s in self.sides(region)[0] if s.name != "bias"]
        lies = all(s.strides[1] == 1 and in_rows(s.dtype, s.shape, s.strides) for s in inside)
        return None if lies else "an operand does not lie channels-last in rows of 16 bytes"

    def _takes_product(self, region: Region, target: Target) -> str | None:
        if region.operand(1).const is None or len(region.operand(1).view.shape) != 2 or len(region.operand(0).view.shape) < 2:
            return "its second factor is not one known matrix"
        axis = len(region.out.shape) - 1
        found = floats(region, target) or self._ending(region, axis)
        if found is not None:
            return found
        if accepted(ending(region, self.acts, axis)).act in cublaslt.CublasLt.acts:
            return "cublaslt does it"
        sides = cublaslt.matrices(region, self.acts)
        if isinstance(sides, str):
            return sides
        return None if sides[0].strides[2] == 1 else "its first factor does not lie row by row"

    def _ending(self, region: Region, axis: int) -> str | None:
        if region.out.dtype is not region.operand(0).view.dtype:
            return f"its result is {region.out.dtype}"
        found = ending(region, self.acts, axis)
        return found if isinstance(found, str) else None

    def sides(self, region: Region) -> tuple[list[Side], list[int], str]:
        if isinstance(region.op, MatMul):
            act = accepted(ending(region, self.acts, len(region.out.shape) - 1)).act
            return [_as_window(s) for s in accepted(cublaslt.matrices(region, self.acts))], [0, 0, 0, 0, 1, 1, 1, 1], act
        op, end, weights = region.op, accepted(ending(region, self.acts, 1)), region.operand(1)
        assert isinstance(op, Conv)
        out, per_group, *kernel = weights.view.shape
        strides = (per_group * kernel[0] * kernel[1], 1, kernel[1] * per_group, per_group)
        sides = [_value("x", In(0), region.operand(0).view), Side("w", Packed(lambda: _packed(weights)), weights.view.dtype, (out, per_group, *kernel), strides)]
        if end.bias is not None:
            sides.append(bias_side(region, end.bias, 1, region.out.dtype))
        if end.added is not None:
            sides.append(_value("added", In(end.added), region.operand(end.added).view))
        sides.append(_value("y", Out(0), region.out))
        return sides, [*op.pads, *op.strides, *op.dilations], end.act


def _as_window(side: Side) -> Side:
    """An operand of a product as one of a convolution: rows along an axis of space, columns as channels."""
    if side.name == "bias":
        return side
    _, rows, columns = side.shape
    if side.name == "w":  # [1, terms, columns]
        return replace(side, shape=(columns, rows, 1, 1), strides=(rows, 1, rows, rows))
    step = side.strides[1]
    return replace(side, shape=(1, columns, rows, 1), strides=(rows * step, 1, step, step))


def _value(name: str, pointer: In | Out, view: View) -> Side:
    """The view; an axis of length 1 is given the stride that it has where values lie without gaps."""
    usual = View.dense(view.shape, view.dtype, (0, 2, 3, 1)).strides
    return Side(name, pointer, view.dtype, view.shape, tuple(u if n == 1 else s for n, s, u in zip(view.shape, view.strides, usual, strict=True)))


def _packed(weights: Operand) -> Array:
    array = weights.logical
    assert array is not None
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


KERNEL = Cudnn()
