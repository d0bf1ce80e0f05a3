"""Padding and cutting along any axes (ONNX Pad), in every mode, for elements of 1, 2, 4 or 8 bytes and any layout.

Axes are walked in the order of the result's strides, neighbours merged where both sides allow it. A row along the innermost axis is three
pieces: what stands before the operand's elements, these, and what stands after them. Along the outer axes every index is led back to one
of the operand; a row that lies outside, in mode constant, is filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strop.kernels.base import Emitted, In, Kernel, Out, Region, memory_seconds
from strop.kernels.c.rows import address
from strop.kernels.c.units import Units
from strop.kernels.c.writer import Writer
from strop.kernels.extent import is_symbolic, typical
from strop.ops.data import Pad
from strop.target.base import Target

#: Pieces of at most this many bytes are copied by moves in place of a call.
_INLINE = 512


@dataclass(frozen=True)
class _Axis:
    """A loop axis.

    Attributes:
        extent: of the result.
        kept: elements of the operand that are used.
        before: elements of the result in front of them.
        skipped: elements of the operand in front of them.
        y, x: strides of the result and of the operand.
    """

    extent: int
    kept: int
    before: int
    skipped: int
    y: int
    x: int

    @property
    def after(self) -> int:
        """Elements of the result behind the operand's."""
        return self.extent - self.kept - self.before

    @property
    def padded(self) -> bool:
        """Whether the result has more elements than are used."""
        return self.extent != self.kept


def _axes(region: Region) -> list[_Axis]:
    """Outermost first; at least one."""
    op, x, out = region.op, region.operand(0).view, region.out
    assert isinstance(op, Pad)
    rank = len(out.shape)
    found: list[_Axis] = []
    for axis in out.order():
        before, after = op.pads[axis], op.pads[rank + axis]
        kept = x.shape[axis] + min(before, 0) + min(after, 0)
        step = _Axis(out.shape[axis], kept, max(before, 0), max(-before, 0), out.strides[axis], x.strides[axis])
        if step.extent == 1 and not step.padded:
            if step.skipped == 0:
                continue
        elif found and _merges(found[-1], step, op.mode):
            outer = found.pop()
            size = step.extent
            step = _Axis(
                outer.extent * size, outer.kept * size, outer.before * size, outer.skipped * size + step.skipped, step.y, step.x
            )
        found.append(step)
    return found or [_Axis(1, 1, 0, 0, 1, 1)]


def _merges(outer: _Axis, inner: _Axis, mode: str) -> bool:
    """Whether two neighbouring axes are one: the inner one is taken whole, and both sides walk on from its end to its next start."""
    whole = not inner.padded and inner.skipped == 0
    return whole and outer.y == inner.y * inner.extent and outer.x == inner.x * inner.extent and (mode == "constant" or not outer.padded)


class PadKernel(Kernel[None]):
    """See the module's text."""

    name = "pad"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Pad):
            return "the anchor is not pad"
        if region.has_epilogue:
            return "no epilogue is applied here"
        if region.out.count == 0 or region.operand(0).view.count == 0:
            return "nothing to pad"
        return None

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        inner = _axes(region)[-1]
        by_row = inner.y == inner.x == 1
        beside = inner.extent - inner.kept if region.op.mode != "constant" else 0  # type: ignore[union-attr]
        per_row = 12.0 + (0.1 if by_row else 1.0) * inner.kept + 1.5 * beside
        cycles = region.out.count / max(1, inner.extent) * per_row
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target)) + 1e-8

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        return _Emitter(region, target).emit()


class _Emitter:
    """Writes one padding."""

    def __init__(self, region: Region, target: Target) -> None:
        op = region.op
        assert isinstance(op, Pad)
        self.mode = op.mode
        self.size = region.out.dtype.size
        *self.outer, self.inner = _axes(region)
        self.kind = f"uint{8 * self.size}_t"
        self.filler = int(np.asarray(op.value).astype(region.out.dtype.numpy).reshape(1).view(f"u{self.size}")[0])
        self.units = Units.of([axis.extent for axis in self.outer], typical(self.inner.extent), target.cores)
        self.w = Writer()

    def emit(self) -> Emitted:
        w = self.w
        w(f"{self.kind} *y = a->p[0];", f"const {self.kind} *x = a->p[1];")
        with self.units.loops(w) as names:
            w(f"{self.kind} *to = {address('y', [axis.y for axis in self.outer], names)};")
            outside = self._places(names)
            if outside:
                with w.block(f"if ({' || '.join(outside)})"):
                    self._fill(0, self.inner.extent)
                with w.block("else"):
                    self._row(names)
            else:
                self._row(names)
        return Emitted(w.text(), (Out(0), In(0)), self.units.tasks)

    def _places(self, names: list[str]) -> list[str]:
        """Declares the operand's index along padded outer axes; C conditions, in mode constant, that one is outside."""
        outside = []
        for k, (axis, name) in enumerate(zip(self.outer, names, strict=True)):
            if not axis.padded:
                continue
            self.w(f"int64_t s{k} = {name}{f' - {axis.before}' if axis.before else ''};")
            if self.mode == "constant":
                outside += [f"s{k} < 0"] * bool(axis.before) + [f"s{k} >= {axis.kept}"]
            else:
                self._lead_back(f"s{k}", axis.kept)
        return outside

    def _lead_back(self, at: str, kept: int) -> None:
        """Statements that turn an index before or behind ``kept`` elements into one of theirs."""
        w = self.w
        if self.mode == "wrap":
            w(f"{at} = ({at} % {kept} + {kept}) % {kept};")
            return
        if self.mode == "reflect":
            w(f"{at} = {at} < 0 ? -{at} : {at};", f"{at} = {at} < {kept} ? {at} : 2 * ({kept} - 1) - {at};")
        w(f"{at} = {at} < 0 ? 0 : {at} < {kept} ? {at} : {kept} - 1;")

    def _row(self, names: list[str]) -> None:
        w, inner = self.w, self.inner
        places = [f"s{k}" if axis.padded else name for k, (axis, name) in enumerate(zip(self.outer, names, strict=True))]
        skipped = inner.skipped * inner.x + sum(axis.skipped * axis.x for axis in self.outer)
        start = address("x", [axis.x for axis in self.outer], places)
        w(f"const {self.kind} *from = {start}{f' + {skipped}' if not _is_zero(skipped) else ''};")
        self._beside(0, inner.before)
        self._copy()
        self._beside(inner.before + inner.kept, inner.after)

    def _copy(self) -> None:
        w, inner = self.w, self.inner
        to = f"to{f' + {inner.before * inner.y}' if inner.before else ''}"
        if inner.y == inner.x == 1:
            short = not is_symbolic(inner.kept) and inner.kept * self.size <= _INLINE
            w(f"{'__builtin_memcpy_inline' if short else 'memcpy'}({to}, from, {inner.kept * self.size});")
            return
        with w.loop("j", inner.kept):
            w(f"{_at('to', 'j' if not inner.before else f'(j + {inner.before})', inner.y)} = {_at('from', 'j', inner.x)};")

    def _beside(self, start: int, count: int) -> None:
        """``count`` elements of a row from ``start`` on that are not the operand's own."""
        if _is_zero(count):
            return
        if self.mode == "constant":
            self._fill(start, count)
            return
        w, inner = self.w, self.inner
        with w.loop("j", start + count, start=str(start)):
            if self.mode == "reflect" and not is_symbolic(inner.kept) and count < inner.kept:
                turn = inner.before if _is_zero(start) else inner.before + 2 * (inner.kept - 1)
                w(f"const int64_t at = {turn} - j;")
            else:
                w(f"int64_t at = j{f' - {inner.before}' if inner.before else ''};")
                self._lead_back("at", inner.kept)
            w(f"{_at('to', 'j', inner.y)} = {_at('from', 'at', inner.x)};")

    def _fill(self, start: int, count: int) -> None:
        w, step = self.w, self.inner.y
        if self.filler == 0 and step == 1:
            w(f"memset({'to' if _is_zero(start) else f'to + {start}'}, 0, {count * self.size});")
            return
        with w.loop("j", start + count, start=str(start)):
            w(f"{_at('to', 'j', step)} = {self.filler}u{'ll' if self.size == 8 else ''};")


def _at(name: str, index: str, step: int) -> str:
    return f"{name}[{index if not is_symbolic(step) and step == 1 else f'{index} * {step}'}]"


def _is_zero(value: int) -> bool:
    return not is_symbolic(value) and value == 0


KERNEL = PadKernel()
