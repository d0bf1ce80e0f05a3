"""What candidates that call a library share: which epilogues a library can do, and the step that makes the call.

The call is told as the plain mapping that ``strop.engine.library_calls`` stores and checks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from strop.ir.dtype import DType
from strop.ir.expr import Call, Cast, Const, Expr, Input
from strop.ir.op import Array
from strop.kernels.base import Operand, Packed, Pointer, Region, View
from strop.kernels.triton.emit import GpuEmitted
from strop.kernels.triton.parts import GpuKernel, traffic
from strop.ops.elementwise import FUNCTIONS
from strop.target.base import Target

#: Bytes that a call may use.
WORKSPACE = 32 << 20
#: Operands begin at multiples of so many bytes.
ALIGNED = 16
#: Share of the peak that a call is said to reach, for people: no choice is made by it.
_SHARE = 0.7


@dataclass(frozen=True)
class Rank:
    """Parameters of a candidate.

    Attributes:
        version: of the library, for which a time means something.
        rank: which of the algorithms that the library's heuristic names for the problem.
    """

    version: str
    rank: int


@dataclass(frozen=True)
class Ending:
    """What follows a product: numbers of operands of the region, and the function that ends it.

    Attributes:
        bias: one number per column, a constant; or None.
        added: of the result's shape; or None.
        act: ``none``, ``relu``, ``gelu`` or ``gelu_tanh``.
    """

    bias: int | None
    added: int | None
    act: str


@dataclass(frozen=True)
class Side:
    """An operand of a call: its name, its pointer, how it lies."""

    name: str
    pointer: Pointer
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class LibraryKernel(GpuKernel[Rank]):
    """A library's kernels. They are chosen where they were measured and nothing was faster.

    Attributes:
        ranks: how many of the heuristic's algorithms are tried.
        acts: functions that may end the call.
    """

    estimated = False
    ranks = 0
    acts: tuple[str, ...] = ()

    def accepts(self, region: Region, target: Target) -> str | None:
        if region.symbols:
            return "it is called for fixed shapes"
        return self.takes(region, target)

    def space(self, region: Region, target: Target) -> list[Rank]:
        return [Rank(dict(target.libraries)[self.name], rank) for rank in range(self.ranks)]

    def cost(self, region: Region, params: Rank, target: Target) -> float:
        return max(region.work.flops / (_SHARE * target.cores * target.peak_flops), traffic(region, target))

    def launches(self, region: Region, params: Rank, target: Target) -> GpuEmitted:
        sides, window, act = self.sides(region)
        operands = [[s.name, s.dtype.name, list(s.shape), list(s.strides)] for s in sides]
        told: Mapping[str, Any] = {
            "library": self.name, "version": params.version, "rank": params.rank, "act": act, "operands": operands, "window": window,
            "tf32": "tf32" in target.extras,
        }  # fmt: skip
        return GpuEmitted(
            "", tuple(s.pointer for s in sides), 1, names=tuple(s.name for s in sides), dtypes=tuple(s.dtype for s in sides),
            workspace=WORKSPACE, library=told,
        )  # fmt: skip

    def sides(self, region: Region) -> tuple[list[Side], list[int], str]:
        """Operands in the order of the call, the window or nothing, and the function at the end."""
        raise NotImplementedError


def floats(region: Region, target: Target) -> str | None:
    """None when both factors are floats of one type that the libraries' fast kernels take; else why not."""
    x, w = (region.operand(k).view.dtype.name for k in (0, 1))
    if x != w or x not in ("f16", "bf16", "f32"):
        return f"it is a product of {x} and {w}"
    if x == "f32" and "tf32" not in target.extras:
        return "in f32 the library is asked only where the target allows tf32"
    return None


def ending(region: Region, acts: Sequence[str], axis: int) -> Ending | str:
    """What follows the product; or, in words, why a library cannot do it. ``axis`` is that of the columns."""
    rest = region.epilogue
    if isinstance(rest, Cast) and rest.to is region.out.dtype:
        rest = rest.arg
    act, terms = _function(rest, acts)
    found: dict[str, int] = {}
    for term in terms:
        if not isinstance(term, Input):
            return "its epilogue is more than a bias, a sum and a function that the library has"
        if term.index == 0:
            kind, k = "product", 0
        else:
            k = region.anchors + term.index - 1
            kind = _kind(region.operand(k), region.out, axis)
        if kind in found or not kind:
            return "its epilogue is more than a bias, a sum and a function that the library has"
        found[kind] = k
    if "product" not in found:
        return "its epilogue does not add to the product"
    return Ending(found.get("bias"), found.get("added"), act)


def _function(expr: Expr, acts: Sequence[str]) -> tuple[str, list[Expr]]:
    """The function that ends an expression, and the terms of the sum that it is applied to."""
    for name in acts:
        for inner in _inner(expr) if name != "none" else ():
            if _same(FUNCTIONS[name].build(inner), expr):
                return name, _terms(inner)
    return "none", _terms(expr)


def _inner(expr: Expr) -> list[Expr]:
    """The sums and inputs that an expression is a function of."""
    found: dict[Expr, None] = {}

    def visit(node: Expr) -> None:
        if isinstance(node, Input) or (isinstance(node, Call) and node.fn == "add" and all(isinstance(t, Input) for t in _terms(node))):
            found[node] = None
        elif isinstance(node, (Call, Cast)):
            for child in node.args if isinstance(node, Call) else (node.arg,):
                visit(child)

    visit(expr)
    return list(found)


def _terms(expr: Expr) -> list[Expr]:
    if isinstance(expr, Call) and expr.fn == "add":
        return [t for arg in expr.args for t in _terms(arg)]
    return [expr]


def _same(a: Expr, b: Expr) -> bool:
    """Equal up to how a literal is written and the last bits of one."""
    if isinstance(a, Const) and isinstance(b, Const):
        return math.isclose(float(a.value), float(b.value), rel_tol=1e-6)
    if isinstance(a, Call) and isinstance(b, Call):
        return a.fn == b.fn and len(a.args) == len(b.args) and all(map(_same, a.args, b.args))
    return a == b


def _kind(operand: Operand, out: View, axis: int) -> str:
    """``bias``, ``added``, or nothing for an operand that is neither."""
    view = operand.view
    moving = {k for k, n in enumerate(out.shape) if n > 1 and view.strides[k]}
    if operand.const is not None:
        return "bias" if moving <= {axis} else ""
    return "added" if moving == {k for k, n in enumerate(out.shape) if n > 1} and view.dtype is out.dtype else ""


def bias_side(region: Region, index: int, axis: int, dtype: DType) -> Side:
    """A constant of one number per column, dense."""
    operand, columns = region.operand(index), region.out.shape[axis]

    def dense() -> Array:
        array = operand.logical
        assert array is not None
        place = tuple(slice(None) if k == axis else 0 for k in range(array.ndim))
        return np.ascontiguousarray(np.broadcast_to(array, region.out.shape)[place].astype(dtype.numpy))

    return Side("bias", Packed(dense), dtype, (columns,), (1,))


def in_rows(dtype: DType, shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether one of the axes is dense, and whole rows along it begin at multiples of 16 bytes."""
    least = ALIGNED // dtype.size
    dense = [n for n, s in zip(shape, strides, strict=True) if s == 1]
    return any(n % least == 0 for n in dense) and all(s % least == 0 for n, s in zip(shape, strides, strict=True) if n > 1 and s != 1)


def merged(view: View, axes: Sequence[int]) -> int | None:
    """The stride of several axes walked as one, 0 where all have length 1; None where they do not merge."""
    long = [a for a in axes if view.shape[a] > 1]
    for outer, inner in pairwise(long):
        if view.strides[outer] != view.strides[inner] * view.shape[inner]:
            return None
    return view.strides[long[-1]] if long else 0
