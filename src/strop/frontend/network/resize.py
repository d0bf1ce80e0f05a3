"""Resizing and sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import ClassVar

from strop.errors import OptionError, ShapeError
from strop.frontend.network.layer import Emitter, Layer
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.resize import Resize as ResizeOp
from strop.ops.sampling import GridSample as GridSampleOp

MODES = ("nearest", "linear", "cubic")
COORDINATES = ("align_corners", "asymmetric", "half_pixel")
#: Rounding of a position to an element, as TensorRT's ResizeRoundMode in lower case, and the op's name for it.
ROUNDING = {"half_up": "round_prefer_ceil", "half_down": "round_prefer_floor", "floor": "floor", "ceil": "ceil"}


@dataclass(eq=False)
class Resize(Layer):
    """x with other sizes. Operands: x, optionally the sizes as a tensor.

    Attributes:
        shape: sizes of the result without an implicit batch, or None.
        scales: factors per axis, or None; one of the two is given.
        mode: nearest, linear or cubic.
        coordinates: how positions of the result relate to those of x: align_corners, asymmetric or half_pixel.
        rounding: for nearest: one of ROUNDING.
        upper_selector: a result of one element is at position 0 rather than where ``coordinates`` says.
        exclude_outside: weights of elements outside x are 0.
        cubic_coeff: of the cubic kernel.
    """

    kind: ClassVar[str] = "Resize"
    arity: ClassVar[tuple[int, int | None]] = (1, 2)

    shape: Sequence[int] | None = None
    scales: Sequence[float] | None = None
    mode: str = "nearest"
    coordinates: str = "asymmetric"
    rounding: str = "floor"
    upper_selector: bool = False
    exclude_outside: bool = False
    cubic_coeff: float = -0.75

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        for what, value, table in (("mode", self.mode, MODES), ("coordinates", self.coordinates, COORDINATES), ("rounding", self.rounding, ROUNDING)):
            if value not in table:
                raise OptionError(f"unknown {what} of resize", where=self.name, got=value, expected=", ".join(table))
        x = inputs[0]
        sizes, scales = self._target(e, x, inputs[1] if len(inputs) > 1 else None)
        op = ResizeOp(
            sizes,
            scales,
            self.mode,
            self.coordinates,
            ROUNDING[self.rounding],
            cubic_a=self.cubic_coeff,
            exclude_outside=self.exclude_outside,
        )
        if self.upper_selector and any(n == 1 for n, have in zip(sizes, x.shape) if n != have):
            raise e.unsupported("the upper selector for a result of one element", got=sh.show(sizes))
        return e(op, x)

    def _target(self, e: Emitter, x: Value, given: Value | None) -> tuple[tuple[Dim, ...], tuple[float, ...]]:
        own = x.shape[e.lead :]
        lead = x.shape[: e.lead]
        if self.scales is not None and given is None:
            if len(self.scales) != len(own):
                raise e.fail("scales do not fit", list(self.scales), f"{len(own)} numbers")
            grown = [self._grown(e, d, s) for d, s in zip(own, self.scales, strict=True)]
            return (*lead, *grown), (*(1.0,) * e.lead, *map(float, self.scales))
        wanted = e.dims(given, "the sizes") if given is not None else self.shape
        if wanted is None or len(wanted) != len(own):
            raise e.fail("needs one size or one scale per axis", wanted, f"{len(own)} numbers")
        scales = [1.0] * e.lead
        for have, size in zip(own, wanted, strict=True):
            if have == size:
                scales.append(1.0)
            elif isinstance(have, int) and isinstance(size, int):
                scales.append(size / have)
            else:
                ratio = sh.floordiv(size, have)
                if not isinstance(ratio, int) or sh.mul(have, ratio) != size:
                    raise e.unsupported("a free axis resized by a ratio that is no whole number", got=f"{have} to {size}")
                scales.append(float(ratio))
        return (*lead, *wanted), tuple(scales)

    def _grown(self, e: Emitter, size: Dim, scale: float) -> Dim:
        if isinstance(size, int):
            return floor(size * scale)
        if scale == int(scale):
            return sh.mul(size, int(scale))
        raise e.unsupported("a free axis resized by a ratio that is no whole number", got=f"{size} * {scale}")


@dataclass(eq=False)
class GridSample(Layer):
    """x [N, C, H, W] interpolated at the places of a grid [N, H', W', 2] in -1..1.

    Attributes:
        mode: nearest, linear or cubic.
        padding: zeros, border or reflect: what lies outside x.
        align_corners: -1 and 1 are the centres of the outermost elements.
    """

    kind: ClassVar[str] = "GridSample"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        names = {"zeros": "zeros", "fill": "zeros", "border": "border", "clamp": "border", "reflect": "reflection"}
        if self.padding not in names:
            raise ShapeError("unknown padding of grid sample", where=self.name, got=self.padding, expected=", ".join(names))
        return e(GridSampleOp(self.mode, names[self.padding], self.align_corners), *inputs)
