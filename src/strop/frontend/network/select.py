"""Layers whose results have a size that only a run finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.errors import OptionError
from strop.frontend.network.layer import Emitter, Layer
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops import select
from strop.ops.data import Concat, Slice


@dataclass(eq=False)
class NonZero(Layer):
    """Where x is not zero, in row-major order: [rank, count].

    Attributes:
        indices: dtype of the result, i32 or i64.
    """

    kind: ClassVar[str] = "NonZero"

    indices: str = "i32"

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        if x.type.rank == 0:
            raise e.fail("the input is a scalar", x.type, "rank 1 or more")
        return e.cast(e(select.NonZero(e.symbol("count", sh.volume(x.shape))), x), dt.BY_NAME[self.indices])


@dataclass(eq=False)
class NMS(Layer):
    """Boxes that overlap no better one of their class too much.

    Operands: boxes [B, N, 4], or [B, N, C, 4] where every class has its own; scores [B, N, C]; the most boxes per sample and class, an
    integer; optionally the largest intersection over union that is no suppression and the score that a box must be above, scalars,
    0 where they are left out.
    Results: sample, class and box [count, 3], by sample and class, then by score; the count, a scalar.

    Attributes:
        boxes: corner_pairs (x1, y1, x2, y2) or center_sizes (x, y, width, height).
        indices: dtype of the results, i32 or i64.
    """

    kind: ClassVar[str] = "NMS"
    arity: ClassVar[tuple[int, int | None]] = (3, 5)

    boxes: str = "corner_pairs"
    indices: str = "i32"

    def results(self) -> int:
        return 2

    def check(self) -> None:
        if self.boxes not in ("corner_pairs", "center_sizes"):
            raise OptionError("unknown format of boxes", where=self.name, got=self.boxes, expected="corner_pairs, center_sizes")

    def emit(self, e: Emitter, *inputs: Value) -> list[Value]:
        boxes, scores, most = inputs[:3]
        if scores.type.rank != 3 or boxes.type.rank not in (3, 4) or boxes.shape[-1] != 4:
            raise e.fail("boxes and scores do not fit", f"{boxes.type}, {scores.type}", "[B, N, 4] or [B, N, C, 4], and [B, N, C]")
        samples, count, classes = scores.shape
        own = boxes.type.rank == 4 and boxes.shape[2] != 1
        scores = e.transpose(scores, (0, 2, 1))
        if own:
            boxes = e.reshape(e.transpose(boxes, (0, 2, 1, 3)), (sh.mul(samples, classes), count, 4))
            scores = e.reshape(scores, (sh.mul(samples, classes), 1, count))
        boxes = e.reshape(boxes, (boxes.shape[0], count, 4))
        numbers = [e.cast(e.reshape(most, (1,)), dt.i64)]
        for index in (3, 4):
            given = inputs[index] if len(inputs) > index else None
            numbers.append(e.const(np.zeros(1, np.float32), role=f"threshold{index}") if given is None else e.reshape(given, (1,)))
        known = e.contents.of(most)
        limit: Dim = count if known is None else sh.minimum(count, known.reshape(-1)[0])
        found = e.symbol("count", sh.mul(sh.mul(samples, classes), limit))
        places, number = e.all(select.NonMaxSuppression(found, self.boxes == "center_sizes"), boxes, scores, *numbers)
        if own:
            places = self._classes(e, places, classes)
        return [e.cast(v, dt.BY_NAME[self.indices]) for v in (places, number)]

    def _classes(self, e: Emitter, places: Value, classes: Dim) -> Value:
        """Sample and class of what stood as one of samples times classes."""
        if not isinstance(classes, int):
            raise e.unsupported("a free number of classes", got=classes)
        whole, box = (e(Slice((k,), (k + 1,), (1,), (1,)), places) for k in (0, 2))
        size = e.const(np.asarray(classes, np.int64), role="classes")
        return e(Concat(1), e.fn("div", whole, size), e.fn("mod", whole, size), box)
