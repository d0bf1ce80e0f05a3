"""Ops that select: how much they keep depends on the data. Every one finds a computed size, the number of what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim, Sym
from strop.ops import base


@dataclass(frozen=True)
class _Selection(Op):
    """Base of ops with one computed size.

    Attributes:
        count: how many are kept: a symbol.
    """

    count: Dim

    @property
    def computed(self) -> tuple[Sym, ...]:
        return (self.count,) if isinstance(self.count, Sym) else ()

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        moved = base.moved((*inputs, *outputs))
        return Cost(sum(t.count for t in inputs), moved.bytes)


@dataclass(frozen=True)
class NonZero(_Selection):
    """Where elements are not zero, in row-major order (ONNX NonZero).

    Operand: x of rank 1 or more. Results: indices i64[rank, count], the count.
    """

    name: ClassVar[str] = "non_zero"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        if inputs[0].rank == 0:
            raise self.fail("the operand is a scalar", inputs, "rank 1 or more")
        return Type(dt.i64, (inputs[0].rank, self.count)), Type(dt.i64, ())

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        found = np.array(np.nonzero(inputs[0]), np.int64)
        return found, np.asarray(found.shape[1], np.int64)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape in ((17,), (3, 5), (2, 3, 4)):
            for dtype in (dt.f32, dt.i64, dt.boolean, dt.u8, dt.f16, dt.bf16):
                x = np.round(base.random_array(rng, shape, dt.f32, 0, 2)).astype(dtype.numpy)
                yield Sample(cls(_up_to(x.size)), (x,))
            yield Sample(cls(_up_to(x.size)), (np.zeros(shape, np.float32),), "nothing")
        odd = np.array([np.nan, -0.0, 0.0, -1.0], np.float32)
        yield Sample(cls(_up_to(4)), (odd,), "NaN is not zero, minus zero is")


@dataclass(frozen=True)
class Unique(_Selection):
    """The distinct rows of a matrix (ONNX Unique).

    Operand: x[n, m] of a numeric dtype or bool; rows compare element by element, NaN after all numbers and equal to itself.
    Results: the rows [count, m]; i64[count] where each occurs first; i64[n] which of them each row of x is; i64[count] how often
    it occurs; the count.

    Attributes:
        ordered: ascending, else in the order of first occurrence.
    """

    name: ClassVar[str] = "unique"

    ordered: bool = True

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        x = inputs[0]
        if x.rank != 2:
            raise self.fail("the operand is no matrix", inputs, "[rows, elements]")
        kept = Type(dt.i64, (self.count,))
        return Type(x.dtype, (self.count, x.shape[1])), kept, Type(dt.i64, x.shape[:1]), kept, Type(dt.i64, ())

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        wide = base.wide(x)
        keys = [(np.where(np.isnan(c), 0.0, c), np.isnan(c)) for c in wide.T] if wide.dtype.kind == "f" else [(c,) for c in wide.T]
        columns = [key for pair in keys for key in reversed(pair)]  # NaN first decides, then the number
        order = np.lexsort(columns[::-1]) if columns else np.arange(len(x))
        ranked = np.stack(columns, 1)[order] if columns else np.zeros((len(x), 0))
        starts = np.ones(len(x), bool)
        starts[1:] = (ranked[1:] != ranked[:-1]).any(1)
        group = np.cumsum(starts) - 1
        first = order[starts].astype(np.int64)  # lexsort is stable
        inverse = np.empty(len(x), np.int64)
        inverse[order] = group
        if not self.ordered:
            turn = np.argsort(first, kind="stable")
            place = np.empty_like(turn)
            place[turn] = np.arange(turn.size)
            first, inverse = first[turn], place[inverse].astype(np.int64)
        counts = np.bincount(inverse, minlength=first.size).astype(np.int64)
        return x[first], first, inverse, counts, np.asarray(first.size, np.int64)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for ordered in (True, False):
            for shape in ((12, 1), (1, 1), (9, 2), (7, 3)):
                for dtype in (dt.f32, dt.i64, dt.boolean, dt.u8, dt.bf16):
                    x = np.round(base.random_array(rng, shape, dt.f32, 0, 3)).astype(dtype.numpy)
                    yield Sample(cls(_up_to(shape[0]), ordered), (x,))
            odd = np.array([[1.0], [np.nan], [-0.0], [0.0], [np.nan], [-2.0]], np.float32)
            yield Sample(cls(_up_to(6), ordered), (odd,), "NaN is one number, and so are both zeros")


@dataclass(frozen=True)
class NonMaxSuppression(_Selection):
    """Of every image and class the boxes that overlap no better one of the class too much (ONNX NonMaxSuppression).

    Operands: boxes f32[images, boxes, 4]; scores f32[images, classes, boxes]; the most boxes per image and class, i64 of one element;
    the largest intersection over union that is no suppression, and the score that a box must be above, f32 of one element each.
    Results: i64[count, 3] image, class and box, by image and class, then by score, of equal ones the first box first; the count.
    Areas and their quotient are computed in f32, as ONNX Runtime does.

    Attributes:
        center: boxes are [x, y, width, height] around their centers, else [y1, x1, y2, x2] of any two opposite corners.
    """

    name: ClassVar[str] = "non_max_suppression"

    center: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 5)
        boxes, scores, *numbers = inputs
        if any(t.dtype != dt.f32 for t in (boxes, scores, *numbers[1:])) or numbers[0].dtype != dt.i64:
            raise self.fail("dtypes do not fit", inputs, "f32, f32, i64, f32, f32")
        fits = boxes.rank == scores.rank == 3 and boxes.shape[2] == 4 and boxes.shape[1] == scores.shape[2]
        if not fits or boxes.shape[0] != scores.shape[0] or any(sh.volume(t.shape) != 1 for t in numbers):
            raise self.fail("shapes do not fit", inputs, "[images, boxes, 4], [images, classes, boxes] and three numbers")
        return Type(dt.i64, (self.count, 3)), Type(dt.i64, ())

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        boxes, scores = inputs[:2]
        most, overlap, least = (v.reshape(())[()] for v in inputs[2:])
        a, b = boxes[..., :2], boxes[..., 2:]
        if self.center:
            a, b = a - b / np.float32(2), a + b / np.float32(2)
        low, high = np.minimum(a, b), np.maximum(a, b)
        found: list[tuple[int, int, int]] = []
        for image, kind in np.ndindex(*scores.shape[:2]):
            kept: list[int] = []
            for box in np.argsort(-scores[image, kind], kind="stable").tolist():
                if len(kept) >= most or not scores[image, kind, box] > least:
                    break
                if not np.any(_overlaps(low[image], high[image], box, kept) > overlap):
                    kept.append(box)
            found += [(image, kind, box) for box in kept]
        return np.asarray(found, np.int64).reshape(-1, 3), np.asarray(len(found), np.int64)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for center in (False, True):
            for images, kinds, count, most, overlap, least in (
                (1, 1, 6, 3, 0.5, 0.0),
                (2, 3, 40, 8, 0.3, 0.2),
                (1, 2, 9, 0, 0.5, -1.0),
                (1, 1, 1, 5, 0.0, 2.0),
            ):
                corner = rng.uniform(0, 4, (images, count, 2))
                size = rng.uniform(0.5, 2, (images, count, 2))
                boxes = np.concatenate([corner, size if center else corner + size], -1).astype(np.float32)
                scores = np.round(rng.uniform(0, 1, (images, kinds, count)), 1).astype(np.float32)  # some are equal
                numbers = np.array([most]), np.array([overlap], np.float32), np.array([least], np.float32)
                yield Sample(cls(_up_to(images * kinds * count), center), (boxes, scores, *numbers))


def _up_to(most: int) -> Sym:
    """A symbol for samples."""
    return Sym("count", 0, min(4, most), most)


def _overlaps(low: Array, high: Array, box: int, others: list[int]) -> Array:
    """Intersection over union of a box with others."""
    inner = np.maximum(np.minimum(high[box], high[others]) - np.maximum(low[box], low[others]), np.float32(0))
    both = inner[..., 0] * inner[..., 1]
    sides = high - low
    area = sides[:, 0] * sides[:, 1]
    union = area[box] + area[others] - both
    return np.asarray(np.where(both > 0, both / np.where(union > 0, union, np.float32(1)), np.float32(0)))
