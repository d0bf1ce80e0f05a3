"""Quantize and dequantize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strop.errors import OptionError
from strop.frontend.network.layer import Emitter, Layer
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops import quantize


@dataclass(eq=False)
class Quantize(Layer):
    """saturate(round(x / scale) + zero point), halves to even. Operands: x, scale (a scalar, or one number per place along the axis),
    optionally the zero point, of the shape of the scale.

    Attributes:
        to: i8 or u8.
        axis: of a scale that is not a scalar; counted without an implicit batch.
    """

    kind: ClassVar[str] = "Quantize"
    arity: ClassVar[tuple[int, int | None]] = (2, 3)

    to: str = "i8"
    axis: int = -1

    def check(self) -> None:
        if self.to not in ("i8", "u8"):
            raise OptionError("cannot quantize to this dtype", where=self.name, got=self.to, expected="i8, u8")

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        return e(quantize.Quantize(dt.BY_NAME[self.to]), inputs[0], *aligned(e, self.axis, *inputs))


@dataclass(eq=False)
class Dequantize(Layer):
    """(x - zero point) * scale. Operands as for Quantize.

    Attributes:
        axis: of a scale that is not a scalar; counted without an implicit batch.
    """

    kind: ClassVar[str] = "Dequantize"
    arity: ClassVar[tuple[int, int | None]] = (2, 3)

    axis: int = -1

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        return e(quantize.Dequantize(), inputs[0], *aligned(e, self.axis, *inputs))


def aligned(e: Emitter, axis: int, x: Value, *params: Value) -> list[Value]:
    """Scale and zero point in a shape that broadcasts to x."""
    found = []
    for param in params:
        shape = param.shape[e.lead :] if e.lead and param.type.rank > 1 else param.shape
        if sh.volume(shape) == 1:
            found.append(e.reshape(param, ()))
            continue
        place = sh.normalize_axis(axis, x.type.rank - e.lead, e.layer) + e.lead
        found.append(e.reshape(param, (sh.volume(shape), *(1,) * (x.type.rank - place - 1))))
    return found
