"""Pure elementwise regions: any chain of scalar functions over strided, broadcast operands, one pass over the result.

Axes are ordered by the result's strides and merged where all operands allow it. The innermost axis is vectorized when everything is a float of up to
32 bits, i32 or an 8-bit integer and the result is consecutive along it; floats that are not are gathered. Otherwise scalar loops are left to the compiler.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir.expr import Call, Expr, Input, type_of, walk
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, View, memory_seconds
from strop.kernels.c.axes import Axes
from strop.kernels.c.rows import address
from strop.kernels.c.units import GRAIN, Units, cut
from strop.kernels.c.vector import FLOATS, VectorC, loaded, mixed, stored, vector_type
from strop.kernels.c.writer import ScalarC, Writer
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Estimated cycles of a vector of results, by primitive; others take one.
_CYCLES = {
    "div": 8, "sqrt": 10, "exp": 10, "expm1": 14, "log": 14, "log1p": 18, "tanh": 17, "erf": 11, "sin": 25, "cos": 25, "pow": 60,
}  # fmt: skip
#: Cycles of a function that is called lane by lane.
_CALL = 20
_LANE_BY_LANE = ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "atan2", "fmod", "floormod", "ldexp")


@dataclass(frozen=True)
class Params:
    """unroll: vectors per loop iteration."""

    unroll: int = 1


class Elementwise(Kernel[Params]):
    """See the module's text."""

    name = "elementwise"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if region.op is not None:
            return "it has an anchor op"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        return [Params(1), Params(2)] if _vector(region) else [Params(1)]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        vector = _vector(region)
        lanes = ISAS[target.isa].lanes if vector else 1
        steps = [s[-1] for s in Axes.merged(_views(region)).strides[1:]]
        gathered = sum(lanes if vector and s not in (0, 1) else 1 for s in steps)
        work = gathered + sum(_cycles(node.fn, vector, lanes) for node in walk(region.epilogue) if isinstance(node, Call))
        cycles = region.out.count / lanes * (1.0 + work + 0.1 / params.unroll)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target)) + 1e-8

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _views(region: Region) -> list[View]:
    return [region.out, *(o.view for o in region.operands if o is not None)]


def _vector(region: Region) -> bool:
    views = _views(region)
    first, *rest = (s[-1] for s in Axes.merged(views).strides)
    if first != 1 or any(s not in (0, 1) and v.dtype not in FLOATS for s, v in zip(rest, views[1:], strict=True)):
        return False
    types = [v.dtype for v in views[1:]]
    return mixed(region.epilogue, types) and type_of(region.epilogue, types) in (None, region.out.dtype)


def _cycles(fn: str, vector: bool, lanes: int) -> float:
    if fn in _LANE_BY_LANE:
        return _CALL * lanes
    if fn not in _CYCLES:
        return 1.0
    return float(_CYCLES[fn]) if vector else float(_CALL)


class _Emitter:
    """Writes one region. Views are numbered result, operands."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.views = _views(region)
        self.names = ["y", *(f"x{k}" for k in range(len(self.views) - 1))]
        self.types = [v.dtype for v in self.views[1:]]
        axes = Axes.merged(self.views)
        self.inner = [s[-1] for s in axes.strides]
        self.length = axes.extents[-1]
        outer = [*axes.extents[:-1]]
        self.strides = [[*s[:-1]] for s in axes.strides]
        self.pieces, self.piece = cut(self.length, GRAIN)
        if self.pieces != 1:
            outer.append(self.pieces)
            for strides, step in zip(self.strides, self.inner, strict=True):
                strides.append(step * self.piece)
        self.units = Units.of(outer, self.piece, target.cores)
        self.w = Writer()

    def emitted(self) -> Emitted:
        w = self.w
        for k, (name, view) in enumerate(zip(self.names, self.views, strict=True)):
            w(f"{'' if k == 0 else 'const '}{view.dtype.c} *{name} = a->p[{k}];")
        with self.units.loops(w) as places:
            for k, (name, view) in enumerate(zip(self.names, self.views, strict=True)):
                start = address(name, self.strides[k], places)
                w(f"{'' if k == 0 else 'const '}{view.dtype.c} *{name}_row = {start};")
            length = str(self.length if self.pieces == 1 else self.piece)
            if self.pieces != 1 and self.length != self.pieces * self.piece:
                rest = self.length - (self.pieces - 1) * self.piece
                w(f"const int64_t count = {places[-1]} < {self.pieces - 1} ? {self.piece} : {rest};")
                length = "count"
            (self._vectors if _vector(self.region) else self._scalars)(length)
        pointers: tuple[Pointer, ...] = (Out(0), *(In(k) for k, o in enumerate(self.region.operands) if o is not None))
        return Emitted(w.text(), pointers, self.units.tasks)

    def _vectors(self, length: str) -> None:
        w, unroll = self.w, self.params.unroll
        repeated = {k: f"r{k}" for k, step in enumerate(self.inner[1:]) if step == 0}
        for k, name in repeated.items():
            w(f"const {vector_type(self.types[k])} {name} = {loaded(self.types[k], f'x{k}_row', 0)};")

        def body(at: str, tail: str, prefix: str) -> None:
            def load(index: int) -> str:
                known = repeated.get(index)
                if known is not None:
                    return known
                step = self.inner[index + 1]
                place = f"x{index}_row + {at}" if step == 1 else f"x{index}_row + ({at}) * {step}"
                return loaded(self.types[index], place, step, tail)

            text = VectorC(self.types, load, w, prefix).print(self.region.epilogue, self.region.out.dtype)
            w(stored(self.region.out.dtype, f"y_row + {at}", text, 1, tail))

        step = f"{unroll} * VL" if unroll > 1 else "VL"
        w("int64_t j = 0;")
        with w.block(f"for (; j + {step} <= {length}; j += {step})"):
            for u in range(unroll):
                body(f"j + {u} * VL" if u else "j", "", f"t{u}_")
        if unroll > 1:
            with w.block(f"for (; j + VL <= {length}; j += VL)"):
                body("j", "", "t")
        with w.block(f"if (j < {length})"):
            body("j", f"{length} - j", "t")

    def _scalars(self, length: str) -> None:
        w = self.w

        def at(k: int) -> str:
            step = self.inner[k]
            return f"{self.names[k]}_row[{'0' if step == 0 else 'j' if step == 1 else f'j * {step}'}]"

        def load(node: Expr, index: list[str]) -> str:
            assert isinstance(node, Input)
            return at(node.index + 1)

        with w.loop("j", length):
            w(f"{at(0)} = {ScalarC(self.types, load, emit=w).print(self.region.epilogue, self.region.out.dtype)};")


KERNEL = Elementwise()
