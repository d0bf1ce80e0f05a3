"""Matrix products, batched or not, of floats with sums in f32, also with known weights that are stored as integers, and of bytes with known weights
with sums in i32.

A second factor that is known is stored as [columns][terms], padded to whole tiles with zeros. Leading axes of the first factor that the second
does not have count as rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels.base import In, Operand, Packed, Region, View
from strop.kernels.triton import mixed, open_integers, product
from strop.kernels.triton.emit import Block, GpuEmitted, Tile, Writer, ceil_div, masked, times
from strop.kernels.triton.integers import (
    corrections,
    is_found_late,
    is_integer,
    shift_of,
    why_not,
    zero_of,
)
from strop.kernels.triton.open_integers import Sums, is_open
from strop.kernels.triton.parts import GpuKernel, Pointers, is_float, standard
from strop.kernels.triton.product import Params, Problem, StreamParams
from strop.ops.integer import IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedMatMul
from strop.ops.wide import WideMatMul
from strop.target.base import Target


@dataclass(frozen=True)
class Product:
    """A product: views of a [.., M, K] and b [.., K, N] with the leading axes of the result."""

    a: View
    b: View
    out: View
    const: bool
    batched: bool
    halves: int

    @staticmethod
    def of(region: Region) -> Product:
        op, out = _plain(region), region.out
        a, b = region.operand(0).view, region.operand(1).view
        lead = out.shape[:-2]
        a, b = (_turned(v) if turn else v for v, turn in ((a, op.transpose_a), (b, op.transpose_b)))
        batched = len(b.shape) > 2 and math.prod(b.shape[:-2]) > 1
        a, b = (v.broadcast((*lead, *v.shape[-2:])) for v in (a, b))
        const = region.operand(1).const is not None and not batched and not is_open(region)
        return Product(a, b, out, const, batched, product.halves_of(a.dtype, b.dtype) if const else 1)

    def problem(self) -> Problem:
        *lead, rows, columns = self.out.shape
        count = math.prod(lead)
        return Problem(
            rows if self.batched else rows * count, columns, self.a.shape[-1], 1, count if self.batched else 1, self.a.dtype, self.halves
        )


def _is_open(region: Region) -> bool:
    """Whether rows and columns of bytes are summed up while they are multiplied."""
    return isinstance(region.op, IntegerMatMul) and not Product.of(region).const


def _plain(region: Region) -> MatMul:
    """The product as one of floats."""
    assert isinstance(region.op, (MatMul, IntegerMatMul, MixedMatMul, WideMatMul))
    return region.op if isinstance(region.op, MatMul) else region.op.plain()


def _turned(view: View) -> View:
    return View((*view.shape[:-2], view.shape[-1], view.shape[-2]), (*view.strides[:-2], view.strides[-1], view.strides[-2]), view.dtype)


class Gemm(GpuKernel[Params]):
    """See the module's text."""

    name = "gemm"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, (MatMul, IntegerMatMul, MixedMatMul, WideMatMul)):
            return "it is no matrix product"
        if min(len(region.operand(0).view.shape), len(region.operand(1).view.shape)) < 2:
            return "a factor is a vector"
        if isinstance(region.op, IntegerMatMul):
            found = Product.of(region)
            return why_not(region, found.a.shape[-1], found_late=True) if found.const else open_integers.why_not(region, found.a.shape[-1])
        if isinstance(region.op, MixedMatMul):
            return mixed.why_not(region)
        return None if is_float(region.operand(0).view, region.operand(1).view, region.out) else "it is not a product of floats"

    def space(self, region: Region, target: Target) -> list[Params]:
        found = product.space(Product.of(region).problem(), target)
        return [p for p in found if not isinstance(p, StreamParams)] if _is_open(region) else found  # not every compiler takes sums in such loops

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return product.cost(region, Product.of(region).problem(), params, target)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        found, p, w = Product.of(region), params, Writer()
        problem = found.problem()
        lead = tuple(range(len(found.out.shape) - 2))
        rank = len(found.out.shape)
        axes = (rank - 2,) if found.batched else (*lead, rank - 2)
        m = Block("m", axes, tuple(found.out.shape[a] for a in axes), p.bm, product.checked(problem.rows, p.bm))
        n = Block("n", (rank - 1,), (problem.columns,), p.bn, product.checked(problem.columns, p.bn))
        b = Block("b", lead, tuple(found.out.shape[a] for a in lead), 0, False) if found.batched else None
        pointers = standard(region, [("x", 0)] if found.const else [("x", 0), ("w", 1)])
        if found.const:
            weights = region.operand(1)
            turned = _plain(region).transpose_b
            pointers.packed("w", problem.dtype if found.halves > 1 else weights.view.dtype, Packed(lambda: product.halved(_packed(weights, turned, p), found.halves)))
        mixed.add_groups(pointers, region, p)
        sums = Sums(w, region, pointers, (p.bm, p.bn)) if _is_open(region) else None
        problem = problem if sums is None else replace(problem, dtype=dt.i8)
        correct = _correct(region, problem, p, pointers) if sums is None else sums.once(problem.terms)
        whole, outside = problem.terms % p.bk == 0, "0" if is_integer(problem.dtype) else "0.0"

        def start(tile: Tile) -> None:
            w(f"k = tl.arange(0, {p.bk})")
            if sums is not None:
                sums.begin()
            rows = m.offset(w, [found.a.strides[a] for a in axes]) or "m * 0"
            first = f"{b.offset(w, [found.a.strides[a] for a in lead])} + " if b is not None and any(found.a.strides[a] for a in lead) else ""
            w(f"x_tile = x + {first}({rows})[:, None] + {times('k[None, :]', found.a.strides[-1])}")
            if found.const:
                w(f"w_tile = w + n[None, :] * {ceil_div(problem.terms, p.bk) * p.bk} + k[:, None]")
                return
            first = f"{b.offset(w, [found.b.strides[a] for a in lead])} + " if b is not None and any(found.b.strides[a] for a in lead) else ""
            w(f"w_tile = w + {first}{times('n[None, :]', found.b.strides[-1])} + {times('k[:, None]', found.b.strides[-2])}")

        def load(tile: Tile, step: str) -> tuple[str, ...]:
            rest = [] if whole else [f"({step} * {p.bk} + k < {problem.terms})"]
            mask = [*([f"(m < {problem.rows})[:, None]"] if m.checked else []), *(f"{r}[None, :]" for r in rest)]
            w(f"a = tl.load(x_tile + {step} * {p.bk * found.a.strides[-1]}{masked(mask, outside)})")
            if found.const:
                w(f"c = tl.load(w_tile + {step} * {p.bk})")
                if isinstance(region.op, MixedMatMul):
                    mixed.made_real(w, region, p, step, "c")
                if found.halves == 1:
                    return "a", "c"
                half = ceil_div(problem.columns, p.bn) * p.bn * ceil_div(problem.terms, p.bk) * p.bk
                w(f"d = tl.load(w_tile + {step} * {p.bk} + {half})")
                return "a", "c", "d"
            mask = [*([f"(n < {problem.columns})[None, :]"] if n.checked else []), *(f"{r}[:, None]" for r in rest)]
            w(f"c = tl.load(w_tile + {step} * {p.bk * found.b.strides[-2]}{masked(mask, outside)})")
            if sums is not None:
                sums.add(("a", "c"), "".join(rest))
            return "a", "c"

        launch, workspace, locks = product.write(w, region, problem, p, target, (m, n), b, start, load, correct, sums.end if sums is not None else None)
        return pointers.emitted([launch], workspace, locks)


def _correct(region: Region, problem: Problem, p: Params, pointers: Pointers) -> Callable[[Tile], str] | None:
    """What the zero point adds to sums; None where it adds nothing."""
    late = is_integer(problem.dtype) and is_found_late(region)
    if not is_integer(problem.dtype) or (not late and zero_of(region) == shift_of(problem.dtype)):
        return None
    zero, op, weights = shift_of(problem.dtype) - 1 if late else zero_of(region), region.op, region.operand(1)
    assert isinstance(op, IntegerMatMul)

    def table() -> Array:
        array = weights.logical
        assert array is not None
        sums = array.reshape(array.shape[-2:]).astype(np.int64).sum(axis=1 if op.transpose_b else 0)
        return np.pad(corrections(sums[:, None], zero, problem.dtype)[0], (0, ceil_div(len(sums), p.bn) * p.bn - len(sums)))

    pointers.packed("corrections", dt.i32, Packed(table))
    if not late:
        return lambda tile: "tl.load(corrections + n)[None, :]"
    pointers.add("zero", problem.dtype, In(2))  # the table is that of a zero point which is one less than what is taken off
    return lambda tile: f"({shift_of(problem.dtype)} - tl.load(zero).to(tl.int32)) * tl.load(corrections + n)[None, :]"


def _packed(weights: Operand, turned: bool, p: Params) -> Array:
    array = weights.logical
    assert array is not None
    array = array.reshape(array.shape[-2:])
    array = array if turned else array.T
    grown = np.zeros((ceil_div(array.shape[0], p.bn) * p.bn, ceil_div(array.shape[1], p.bk) * p.bk), array.dtype)
    grown[: array.shape[0], : array.shape[1]] = array
    return grown


KERNEL = Gemm()
