"""What kernels share whose work falls into rows: loops over outer axes, vector loops along a row,
and the epilogue at a vector.

A Track is one operand along a row: the C text of its first element's address and the elements
between neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import Expr
from strop.kernels.base import View
from strop.kernels.c.axes import Axes
from strop.kernels.c.vector import VectorC, loaded, stored, vector_type
from strop.kernels.c.writer import Writer
from strop.kernels.extent import SymbolicError, dim_of, is_symbolic, typical
from strop.target.base import Target

#: Elements per task below which splitting work does not pay.
_GRAIN = 16_384


#: ``unroll`` of a row that is held in registers as a whole.
_ALL = 10**9
#: How many lanes of a vector count: 0 for all, a number, or C text where only a run knows it.
Tail = int | str


@dataclass(frozen=True)
class Track:
    """An operand along a row.

    Attributes:
        pointer: C text of the first element's address, an identifier or a sum.
        step: elements between neighbours; 0 repeats one element.
        dtype: of the elements, one of ``vector.LANES``.
    """

    pointer: str
    step: int
    dtype: DType = dt.f32

    def at(self, index: str) -> str:
        """C text of an element's address."""
        if index == "0" or self.step == 0:
            return self.pointer
        return (
            f"{self.pointer} + {index}"
            if self.step == 1
            else f"{self.pointer} + ({index}) * {self.step}"
        )

    def load(self, index: str, tail: Tail = 0) -> str:
        """C text of the vector from ``index`` on; only the first ``tail`` lanes are read when it is
        not 0, the others are 0."""
        return loaded(self.dtype, self.at(index), self.step, tail)

    def store(self, index: str, value: str, tail: Tail = 0) -> str:
        """C statement that stores a vector at ``index``, or its first ``tail`` lanes."""
        return stored(self.dtype, self.at(index), value, self.step, tail)


def keep(value: str, other: str, tail: Tail) -> str:
    """C text of ``value`` with the lanes from ``tail`` on taken from ``other``; ``value`` itself
    when ``tail`` is 0."""
    return f"vselect(viota() < (vi){{0}} + {tail}, {value}, {other})" if tail else value


def part(view: View, axes: Sequence[int]) -> View:
    """The view of some axes alone."""
    return View(
        tuple(view.shape[a] for a in axes), tuple(view.strides[a] for a in axes), view.dtype
    )


def split_axis(view: View, axis: int, outer: int) -> View:
    """The view with an axis seen as two, the first of them ``outer`` long."""
    inner = view.shape[axis] // outer
    shape = (*view.shape[:axis], outer, inner, *view.shape[axis + 1 :])
    step = view.strides[axis]
    return View(
        shape, (*view.strides[:axis], step * inner, step, *view.strides[axis + 1 :]), view.dtype
    )


def merged(views: Sequence[View], axes: Sequence[int]) -> Axes:
    """Loops over some axes of views of one shape, ordered by the first view's strides."""
    return Axes.merged([part(view, axes) for view in views])


def outer_axes(views: Sequence[View], axes: Sequence[int]) -> Axes:
    """As ``merged``; one iteration that moves no pointer when there are no such axes."""
    found = merged(views, axes)
    if found.extents == (1,):
        return Axes((1,), ((0,),) * len(views))
    return found


def indices(w: Writer, var: str, extents: Sequence[int], prefix: str) -> list[str]:
    """Declares the index along each axis that the running number ``var`` stands for; the innermost
    axis runs fastest."""
    names: list[str] = []
    inner = 1
    for k, extent in reversed(list(enumerate(extents))):
        text = f"{var} / {inner}" if inner != 1 else var
        if k > 0:
            text += f" % {extent}"
        names.insert(0, f"{prefix}{k}")
        if len(extents) == 1:
            return [var]
        w(f"const int64_t {prefix}{k} = {text};")
        inner *= extent
    return names


def address(base: str, strides: Sequence[int], names: Sequence[str]) -> str:
    """C text of ``base`` advanced along axes."""
    terms = [
        name if stride == 1 else f"{name} * {stride}"
        for stride, name in zip(strides, names, strict=True)
        if stride
    ]
    return " + ".join([base, *terms])


@contextmanager
def nest(w: Writer, extents: Sequence[int], prefix: str) -> Iterator[list[str]]:
    """Nested loops; yields the names of their variables."""
    names = [f"{prefix}{k}" for k in range(len(extents))]
    with ExitStack() as stack:
        for name, extent in zip(names, extents, strict=True):
            stack.enter_context(w.loop(name, extent))
        yield names


def vectors(
    w: Writer, length: int, lanes: int, unroll: int = 1, var: str = "j"
) -> Iterator[tuple[str, Tail, int]]:
    """Walks a row by vectors: yields (index, tail, number of the accumulator to use) within the
    loops it writes.

    Args:
        w: where to write.
        length: elements of the row.
        lanes: elements of a vector.
        unroll: vectors per iteration, and accumulators.
        var: name of the loop variable.
    """
    if is_symbolic(length):
        yield from _symbolic_vectors(w, length, unroll, var)
        return
    whole, tail = divmod(length, lanes)
    looped = whole // unroll * unroll
    if looped > unroll:
        with w.block(f"for (int64_t {var} = 0; {var} < {looped * lanes}; {var} += {unroll} * VL)"):
            for u in range(unroll):
                yield (f"{var} + {u} * VL" if u else var), 0, u
    else:
        looped = 0
    for k in range(looped, whole):
        yield str(k * lanes), 0, k % unroll
    if tail:
        yield str(whole * lanes), tail, whole % unroll


def _symbolic_vectors(w: Writer, length: int, unroll: int, var: str) -> Iterator[tuple[str, Tail, int]]:
    """``vectors`` of a row whose length is known only at run time."""
    if unroll == _ALL:
        raise SymbolicError(f"it holds a whole row of {dim_of(length)} elements in registers")
    with w.block(""):
        w(f"int64_t {var} = 0;")
        if unroll > 1:
            with w.block(f"for (; {var} + {unroll} * VL <= {length}; {var} += {unroll} * VL)"):
                for u in range(unroll):
                    yield (f"{var} + {u} * VL" if u else var), 0, u
        with w.block(f"for (; {var} + VL <= {length}; {var} += VL)"):
            yield var, 0, 0
        with w.block(f"if ({var} < {length})"):
            yield var, f"(int32_t)({length} - {var})", 0


def tree(function: str, names: Sequence[str]) -> str:
    """C text that combines values pairwise with an infix operator (``+``, ``*``) or a function of two."""
    parts = list(names)
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        joined = [
            p
            if len(p) == 1
            else [f"({p[0]} {function} {p[1]})" if function in ("+", "*") else f"{function}({p[0]}, {p[1]})"]
            for p in pairs
        ]
        parts = [p[0] for p in joined]
    return parts[0]


class Finish:
    """Applies a region's epilogue to vectors of the anchor's result and stores them.

    Args:
        w: where to write.
        epilogue: over Input(0), the anchor's result, and Input(1 + k), ``extras[k]``.
        out: the result along the row.
        extras: the epilogue's operands along the row; those that repeat one element are loaded
            here, before the loop.
        prefix: of the names of what is loaded here.
        anchor: dtype of the anchor's result.
    """

    def __init__(
        self, w: Writer, epilogue: Expr, out: Track, extras: Sequence[Track], prefix: str = "r", anchor: DType = dt.f32
    ) -> None:
        self._types = [anchor, *(track.dtype for track in extras)]
        self._w = w
        self._epilogue = epilogue
        self._out = out
        self._extras = list(extras)
        self._repeated: dict[int, str] = {}
        for k, track in enumerate(extras):
            if track.step == 0:
                self._repeated[k] = f"{prefix}{k}"
                w(f"const {vector_type(track.dtype)} {prefix}{k} = {track.load('0')};")

    def store(self, index: str, value: str, tail: Tail = 0) -> None:
        """``value``: C text of the vector of anchor results at ``index``."""

        def load(number: int) -> str:
            if number == 0:
                return value
            return self._repeated.get(number - 1) or self._extras[number - 1].load(index, tail)

        text = VectorC(self._types, load, self._w).print(self._epilogue, self._out.dtype)
        self._w(self._out.store(index, text, tail))


def rows_per_task(rows: int, length: int, target: Target) -> int:
    """How many rows a task does, so that tasks are worth their start and enough for all cores."""
    if target.cores == 1 and not is_symbolic(rows):
        return rows
    wanted = 4 * target.cores
    return max(1, min(typical(rows), max(-(-typical(rows) // wanted), -(-_GRAIN // max(1, typical(length))))))


@contextmanager
def row_loop(w: Writer, rows: int, per_task: int) -> Iterator[str]:
    """The loop over the rows of tasks [begin, end); yields the name of its variable."""
    if per_task == 1:
        with w.block("for (int64_t row = begin; row < end; row++)"):
            yield "row"
        return
    w(f"const int64_t last = end * {per_task} < {rows} ? end * {per_task} : {rows};")
    with w.block(f"for (int64_t row = begin * {per_task}; row < last; row++)"):
        yield "row"


@contextmanager
def walk_rows(
    w: Writer, bases: Sequence[tuple[str, View]], inside: set[int]
) -> Iterator[list[str]]:
    """One task per row: everything that the axes ``inside`` span, which all views have.

    Args:
        w: receives the loop over tasks [begin, end).
        bases: per operand or result the C name of its pointer and its view; outside of ``inside`` all have one shape.
        inside: axes that the caller walks.

    Yields:
        Names of pointers to the first element of the row, one per base, ending in ``_row``.
    """
    views = [view for _, view in bases]
    axes = outer_axes(views, [k for k in range(len(views[0].shape)) if k not in inside])
    with w.block("for (int64_t task = begin; task < end; task++)"):
        names = indices(w, "task", axes.extents, "i")
        rows = []
        for (base, view), strides in zip(bases, axes.strides, strict=True):
            kind = f"const {view.dtype.c}" if base.startswith("x") else view.dtype.c
            w(f"{kind} *{base}_row = {address(base, strides, names)};")
            rows.append(f"{base}_row")
        yield rows
