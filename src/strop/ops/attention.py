"""Scaled dot-product attention (Vaswani et al. 2017, equation 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ops import base


@dataclass(frozen=True)
class Attention(Op):
    """softmax(scale * q k^T + mask) v.

    Operands: q[.., S, D], k[.., T, D], v[.., T, E], optional mask that broadcasts to [.., S, T] and
    is added; one float dtype; leading axes are equal. Result: [.., S, E].

    Attributes:
        scale: factor of the scores, usually 1 / sqrt(D).
        causal: query i sees the keys 0..i only.

    A query that sees no key (all its scores are -inf) gives zeros, as ONNX Attention.
    """

    name: ClassVar[str] = "attention"

    scale: float
    causal: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3, 4)
        dtype = base.floating(self, inputs)
        q, k, v = (t.shape for t in inputs[:3])
        if min(len(q), len(k), len(v)) < 2:
            raise self.fail(
                "an operand has rank below 2", inputs, "q[.., S, D], k[.., T, D], v[.., T, E]"
            )
        if not q[:-2] == k[:-2] == v[:-2]:
            raise self.fail("leading axes differ", inputs)
        if q[-1] != k[-1] or k[-2] != v[-2]:
            raise self.fail("sizes differ", inputs, "q[.., S, D], k[.., T, D], v[.., T, E]")
        scores = (*q[:-1], k[-2])
        if len(inputs) == 4 and sh.broadcast(scores, inputs[3].shape, where=self.name) != scores:
            raise self.fail("mask does not fit", inputs, f"broadcastable to {sh.show(scores)}")
        return (Type(dtype, (*q[:-1], v[-1])),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        q, k, v = (base.wide(a) for a in inputs[:3])
        scores = np.matmul(q, k.swapaxes(-1, -2)) * self.scale
        if len(inputs) == 4:
            scores = scores + base.wide(inputs[3])
        if self.causal:
            rows, columns = np.indices(scores.shape[-2:], sparse=True)
            scores = np.where(columns > rows, -np.inf, scores)
        top = np.max(scores, axis=-1, keepdims=True, initial=np.finfo(np.float64).min)
        powers = np.exp(scores - top)
        total = np.sum(powers, axis=-1, keepdims=True)
        result = np.matmul(powers / np.where(total == 0, 1.0, total), v)
        return (base.narrow(result, inputs[0]),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        q, k, v = (t.static_shape for t in inputs[:3])
        scores = sh.count(q[:-1]) * k[-2]
        flops = scores * (2 * q[-1] + 2 * v[-1] + 6)
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        q, k, v = inputs[:3]
        (out,) = outputs
        kind = base.compute_type(out.dtype)
        axes = loops(out.shape)
        rows = axes[:-1]
        key = Loop("t", k.shape[-2])
        inner = Loop("d", q.shape[-1])
        lead, row, column = base.variables(rows[:-1]), rows[-1].var, key.var
        product = base.load(0, q.dtype, [*lead, row, inner.var])
        product = product * base.load(1, k.dtype, [*lead, column, inner.var])
        score: Expr = ex.Acc() * ex.Const(self.scale, kind)
        if len(inputs) == 4:
            place = base.broadcast_index([*lead, row, column], inputs[3].shape)
            score = score + base.load(3, inputs[3].dtype, place)
        if self.causal:
            score = base.select(column > row, ex.Const(base.lowest(kind), kind), score)
        zero = ex.Const(0.0)
        scores = Stage("scores", kind, (*rows, key), product, (inner,), "add", zero, score)
        loaded = ex.Load("scores", (*lead, row, column))
        least = ex.Const(float(np.finfo(str(kind.numpy)).min))  # finite: no row gives inf - inf
        top = Stage("top", kind, rows, loaded, (key,), "max", least)
        powers = call("exp", loaded - ex.Load("top", (*lead, row)))
        power = Stage("power", kind, (*rows, key), powers)
        weight = ex.Load("power", (*lead, row, column))
        whole = base.select(call("eq", ex.Acc(), 0.0), ex.Const(1.0, kind), ex.Acc())
        total = Stage("total", kind, rows, weight, (key,), "add", zero, whole)
        body = weight * base.load(2, v.dtype, [*lead, column, axes[-1].var])
        final = base.cast(ex.Acc() / ex.Load("total", (*lead, row)), kind, out.dtype)
        last = Stage("out0", out.dtype, axes, body, (key,), "add", zero, final, kind)
        return Program((scores, top, power, total, last))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for q, k, v, mask, causal in (
            ((2, 5, 8), (2, 7, 8), (2, 7, 6), None, False),
            ((1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4, 8), None, True),
            ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3), (3, 5), False),
            ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3), (2, 1, 1, 5), False),
            ((4, 6), (4, 6), (4, 6), (4, 4), True),
            ((1, 17, 16), (1, 17, 16), (1, 17, 16), None, False),
            ((3, 1, 4), (3, 6, 4), (3, 6, 4), None, True),
        ):
            shapes = (q, k, v) if mask is None else (q, k, v, mask)
            arrays = [base.random_array(rng, s) for s in shapes]
            if mask is not None:
                arrays[3][..., 0] = -np.inf
            yield Sample(cls(q[-1] ** -0.5, causal), tuple(arrays))
        shut = np.zeros((3, 5), np.float32)
        shut[1] = -np.inf
        shapes = ((3, 4), (5, 4), (5, 4))
        arrays = [base.random_array(rng, s) for s in shapes]
        yield Sample(cls(0.5), (*arrays, shut), "a row sees nothing")
        for dtype in (dt.f64, dt.f16, dt.bf16):
            yield Sample(cls(0.5), tuple(base.random_array(rng, s, dtype) for s in shapes))
