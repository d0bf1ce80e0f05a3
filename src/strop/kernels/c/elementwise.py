"""Pure elementwise regions: any chain of scalar functions over strided, broadcast operands, one pass over the result.

Axes are ordered by the result's strides and merged where all operands allow it. The innermost axis is vectorized when every operand
is f32 and lies consecutively or repeats along it; otherwise scalar loops are left to the compiler.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir.expr import Expr, Input
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, View, memory_seconds
from strop.kernels.c.vector import VectorC, vectorizable
from strop.kernels.c.writer import ScalarC, Writer
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Elements per task below which splitting work does not pay.
GRAIN = 4096


@dataclass(frozen=True)
class Axes:
    """Loop axes of a result, outermost first: extents, and one stride tuple per view (the result first)."""

    extents: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @staticmethod
    def merged(views: list[View]) -> Axes:
        """Orders axes by the first view's strides, drops those of length 1 and merges neighbours that all views walk alike."""
        first = views[0]
        order = [a for a in first.order() if first.shape[a] != 1]
        extents: list[int] = []
        strides: list[list[int]] = [[] for _ in views]
        for axis in order:
            steps = [v.strides[axis] for v in views]
            size = first.shape[axis]
            if extents and all(s[-1] == step * size for s, step in zip(strides, steps, strict=True)):
                extents[-1] *= size
                for s, step in zip(strides, steps, strict=True):
                    s[-1] = step
                continue
            extents.append(size)
            for s, step in zip(strides, steps, strict=True):
                s.append(step)
        if not extents:
            extents, strides = [1], [[1] for _ in views]
        return Axes(tuple(extents), tuple(map(tuple, strides)))


@dataclass(frozen=True)
class Params:
    """unroll: vectors per loop iteration."""

    unroll: int = 1


class Elementwise(Kernel[Params]):
    """See the module's text."""

    name = "elementwise"
    in_place = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if region.op is not None:
            return "it has an anchor op"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        return [Params(1), Params(2)] if _vector(region) else [Params(1)]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        lanes = ISAS[target.isa].lanes if _vector(region) else 1
        cycles = region.out.count / lanes * (2.0 + 0.1 / params.unroll)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        views = _views(region)
        axes = Axes.merged(views)
        split, tasks = _split(axes, target)
        w = Writer()
        for k, view in enumerate(views):
            const = "" if k == 0 else "const "
            w(f"{const}{view.dtype.c} *{_base(k)} = a->p[{k}];")
        _nest(w, region, axes, split, params, target)
        pointers: tuple[Pointer, ...] = (Out(0), *(In(i) for i in range(len(region.operands))))
        return Emitted(w.text(), pointers, tasks)


def _views(region: Region) -> list[View]:
    return [region.out, *(o.view for o in region.operands if o is not None)]


def _vector(region: Region) -> bool:
    inputs = [v.dtype for v in _views(region)[1:]]
    inner = Axes.merged(_views(region)).strides
    consecutive = inner[0][-1] == 1 and all(s[-1] in (0, 1) for s in inner[1:])
    return consecutive and region.out.dtype.name == "f32" and vectorizable(region.epilogue, inputs)


def _base(k: int) -> str:
    return "y" if k == 0 else f"x{k - 1}"


def _split(axes: Axes, target: Target) -> tuple[int, int]:
    """(elements of the outermost axis per task, tasks)."""
    outer = axes.extents[0]
    inner = 1
    for extent in axes.extents[1:]:
        inner *= extent
    step = max(1, -(-GRAIN // inner))
    if len(axes.extents) == 1:
        step = -(-step // 64) * 64
    step = max(step, -(-outer // (64 * target.cores)))
    return step, max(1, -(-outer // step))


def _nest(w: Writer, region: Region, axes: Axes, step: int, params: Params, target: Target) -> None:
    outer = axes.extents[0]
    rank = len(axes.extents)
    w(f"const int64_t from = begin * {step};", f"const int64_t to = end * {step} < {outer} ? end * {step} : {outer};")
    depth = 0

    def offset(k: int) -> str:
        terms = [f"i{d} * {axes.strides[k][d]}" for d in range(rank - 1) if axes.strides[k][d]]
        return " + ".join([_base(k), *terms])

    with _Loops(w, axes.extents[:-1], depth):
        for k in range(len(axes.strides)):
            const = "" if k == 0 else "const "
            kind = _views(region)[k].dtype.c
            w(f"{const}{kind} *{_row(k)} = {offset(k)};")
        start, stop = ("from", "to") if rank == 1 else ("0", str(axes.extents[-1]))
        if _vector(region):
            _vector_row(w, region.epilogue, region, axes, start, stop, params.unroll)
        else:
            _scalar_row(w, region.epilogue, region, axes, start, stop)


def _row(k: int) -> str:
    return f"{_base(k)}_row"


class _Loops:
    """Nested for loops over the outer axes; the first covers [from, to)."""

    def __init__(self, w: Writer, extents: tuple[int, ...], depth: int) -> None:
        self._blocks = [
            w.block(
                f"for (int64_t i{d} = {'from' if d == 0 else 0}; i{d} < {'to' if d == 0 else e}; i{d}++)"
            )
            for d, e in enumerate(extents, depth)
        ]

    def __enter__(self) -> None:
        for block in self._blocks:
            block.__enter__()

    def __exit__(self, *exc: object) -> None:
        for block in reversed(self._blocks):
            block.__exit__(None, None, None)


def _vector_row(w: Writer, expr: Expr, region: Region, axes: Axes, start: str, stop: str, unroll: int) -> None:
    inputs = [v.dtype for v in _views(region)[1:]]
    inner = [s[-1] for s in axes.strides]
    repeated = {k - 1: f"r{k - 1}" for k in range(1, len(inner)) if inner[k] == 0}
    for index, name in repeated.items():
        w(f"const vf {name} = vset1({_row(index + 1)}[0]);")

    def body(at: str, tail: str | None, prefix: str) -> None:
        def load(index: int) -> str:
            if index in repeated:
                return repeated[index]
            address = f"{_row(index + 1)} + {at}"
            return f"vload_n({address}, {tail})" if tail else f"vload({address})"

        text = VectorC(inputs, load, w, prefix).print(expr)
        w(f"vstore_n({_row(0)} + {at}, {text}, {tail});" if tail else f"vstore({_row(0)} + {at}, {text});")

    w(f"int64_t j = {start};")
    with w.block(f"for (; j + {unroll} * VL <= {stop}; j += {unroll} * VL)"):
        for u in range(unroll):
            body(f"j + {u} * VL" if u else "j", None, f"t{u}_")
    if unroll > 1:
        with w.block(f"for (; j + VL <= {stop}; j += VL)"):
            body("j", None, "t")
    with w.block(f"if (j < {stop})"):
        body("j", f"{stop} - j", "t")


def _scalar_row(w: Writer, expr: Expr, region: Region, axes: Axes, start: str, stop: str) -> None:
    inputs = [v.dtype for v in _views(region)[1:]]
    inner = [s[-1] for s in axes.strides]

    def at(k: int) -> str:
        return f"{_row(k)}[j * {inner[k]}]" if inner[k] not in (0, 1) else f"{_row(k)}[{'j' if inner[k] else '0'}]"

    def load(node: Expr, index: list[str]) -> str:
        assert isinstance(node, Input)
        return at(node.index + 1)

    with w.block(f"for (int64_t j = {start}; j < {stop}; j++)"):
        w(f"{at(0)} = {ScalarC(inputs, load, emit=w).print(expr, region.out.dtype)};")


KERNEL = Elementwise()
