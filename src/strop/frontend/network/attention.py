"""Attention, rotary embeddings, caches of keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.errors import OptionError
from strop.frontend.network.layer import Emitter, Layer
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.attention import Attention as AttentionOp
from strop.ops.data import Concat, Expand, Slice
from strop.ops.index import Gather, GatherElements
from strop.ops.matmul import MatMul

CAUSAL = ("none", "upper_left", "lower_right")
NORMS = ("softmax", "none")


@dataclass(eq=False)
class Attention(Layer):
    """norm(q k^T + mask) v. Scores are not scaled: the caller scales q.

    Operands: q [B, H, S, D]; k [B, K, T, D] and v [B, K, T, E], H a multiple of K: heads of q in a row share a head of k and v; optional mask
    that broadcasts to [B, H, S, T], floats that are added, or bools, True where a query sees a key.

    Attributes:
        norm: softmax along the keys, or none.
        causal: upper_left (query i sees the keys 0..i), lower_right (0..i + T - S), or none.
    """

    kind: ClassVar[str] = "Attention"
    arity: ClassVar[tuple[int, int | None]] = (3, 4)

    norm: str = "softmax"
    causal: str = "none"

    def check(self) -> None:
        for what, value, table in (("normalization", self.norm, NORMS), ("causal mask", self.causal, CAUSAL)):
            if value not in table:
                raise OptionError(f"unknown {what} of attention", where=self.name, got=value, expected=", ".join(table))

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        q, k, v = inputs[:3]
        if not q.type.rank == k.type.rank == v.type.rank == 4:
            raise e.fail("an operand has the wrong rank", f"{q.type}, {k.type}, {v.type}", "[B, heads, S, D]")
        k, v = (self._shared(e, x, q) for x in (k, v))
        mask = self._mask(e, inputs[3], q) if len(inputs) > 3 else None
        if self.norm == "none":
            if self.causal != "none" or mask is not None:
                raise e.unsupported("a mask of attention without softmax")
            return e(MatMul(), e(MatMul(transpose_b=True), q, k), v)
        upper = self.causal == "upper_left" or (self.causal == "lower_right" and q.shape[2] == k.shape[2])
        if self.causal == "lower_right" and not upper:
            mask = self._lower_right(e, q, k, mask)
        return e(AttentionOp(1.0, upper), q, k, v, *(() if mask is None else (mask,)))

    def _shared(self, e: Emitter, x: Value, q: Value) -> Value:
        """Heads of keys or values, each as often as queries share it."""
        heads, own = q.shape[1], x.shape[1]
        if heads == own:
            return x
        if not isinstance(heads, int) or not isinstance(own, int) or heads % own:
            raise e.fail("heads of queries are no multiple of those of keys", f"{heads} and {own}")
        batch, _, steps, size = x.shape
        wide = e(Expand((batch, own, heads // own, steps, size)), e.reshape(x, (batch, own, 1, steps, size)))
        return e.reshape(wide, (batch, heads, steps, size))

    def _mask(self, e: Emitter, mask: Value, q: Value) -> Value:
        if mask.dtype is not dt.boolean:
            return mask
        return e.fn("where", mask, e.const(0, q.dtype, "seen"), e.const(-np.inf, q.dtype, "hidden"))

    def _lower_right(self, e: Emitter, q: Value, k: Value, mask: Value | None) -> Value:
        queries, keys = q.shape[2], k.shape[2]
        if not isinstance(queries, int) or not isinstance(keys, int):
            raise e.unsupported("a lower right causal mask over free axes", got=f"{queries} queries, {keys} keys")
        row, column = np.indices((queries, keys), sparse=True)
        made = e.const(np.where(column > row + keys - queries, -np.inf, 0), q.dtype, "causal")
        return made if mask is None else e.fn("add", mask, made)


@dataclass(eq=False)
class RotaryEmbedding(Layer):
    """Pairs of elements turned by angles that depend on the position (Su et al. 2021).

    Operands: x [B, H, S, D]; cosines and sines [B, S, R / 2], or [positions, R / 2] with positions [B, S] as operand 3.

    Attributes:
        interleaved: pairs are neighbours, else element i and i + R / 2.
        size: R, how many of the D elements are turned; 0 for all.
    """

    kind: ClassVar[str] = "RotaryEmbedding"
    arity: ClassVar[tuple[int, int | None]] = (3, 4)

    interleaved: bool = False
    size: int = 0

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        from_positions = len(inputs) > 3
        x, cos, sin = inputs[:3]
        whole = x.shape[-1]
        if x.type.rank != 4 or not isinstance(whole, int):
            raise e.fail("input has the wrong rank", x.type, "[B, H, S, D]")
        size = self.size or whole
        if size % 2 or size > whole:
            raise e.fail("the turned part does not fit", size, f"even, up to {whole}")
        half = size // 2
        cos, sin = (self._angles(e, a, inputs[3] if from_positions else None, x, half) for a in (cos, sin))
        if self.interleaved:
            real, imag = (e(Slice((k,), (size - 1 + k,), (3,), (2,)), x) for k in (0, 1))
        else:
            real, imag = (e(Slice((k * half,), (k * half + half,), (3,), (1,)), x) for k in (0, 1))
        left = e.fn("sub", e.fn("mul", cos, real), e.fn("mul", sin, imag))
        right = e.fn("add", e.fn("mul", sin, real), e.fn("mul", cos, imag))
        if self.interleaved:
            pair = [e.reshape(v, (*v.shape, 1)) for v in (left, right)]
            turned = e.reshape(e(Concat(4), *pair), (*x.shape[:3], size))
        else:
            turned = e(Concat(3), left, right)
        if size == whole:
            return turned
        return e(Concat(3), turned, e(Slice((size,), (whole,), (3,), (1,)), x))

    def _angles(self, e: Emitter, table: Value, positions: Value | None, x: Value, half: int) -> Value:
        """[B, 1, S, R / 2]."""
        if positions is not None:
            table = e(Gather(0), table, positions)
        if table.type.rank != 3 or table.shape[-1] != half:
            raise e.fail("cosines and sines do not fit", table.type, f"[B, S, {half}]")
        return e.reshape(table, (table.shape[0], 1, *table.shape[1:]))


@dataclass(eq=False)
class KVCacheUpdate(Layer):
    """A cache with new entries: out[b, :, start[b] + i] = update[b, :, i]; what lies beyond its end is left out.

    Operands: cache [B, H, T, D]; update [B, H, S, D]; start, integers [B].
    """

    kind: ClassVar[str] = "KVCacheUpdate"
    arity: ClassVar[tuple[int, int | None]] = (3, 3)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        cache, update, start = inputs
        room, steps = cache.shape[2], update.shape[2]
        if cache.type.rank != 4 or update.type.rank != 4 or not isinstance(room, int) or not isinstance(steps, int):
            raise e.fail("cache and update do not fit", f"{cache.type}, {update.type}", "[B, H, T, D] and [B, H, S, D], T and S fixed")
        place = e.fn("sub", e.const(np.arange(room).reshape(1, 1, room, 1), dt.i64), e.reshape(e.cast(start, dt.i64), (sh.volume(start.shape), 1, 1, 1)))
        inside = e.fn("and", e.fn("ge", place, e.const(0, dt.i64)), e.fn("lt", place, e.const(steps, dt.i64, "steps")))
        at = e.fn("min", e.fn("max", place, e.const(0, dt.i64)), e.const(steps - 1, dt.i64, "last"))
        picked = e(GatherElements(2), update, e(Expand(cache.shape), at))
        return e.fn("where", inside, picked, cache)
