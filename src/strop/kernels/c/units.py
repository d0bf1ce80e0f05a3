"""Outer loops cut into tasks: leading axes number units of work, the axes after them are loops inside a unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from strop.ir import shape as sh
from strop.kernels.c.rows import indices
from strop.kernels.c.writer import Writer
from strop.kernels.extent import greater, highest, is_symbolic, typical

#: Elements per unit and per task below which splitting work does not pay.
GRAIN = 8192


def cut(extent: int, wanted: int) -> tuple[int, int]:
    """An axis cut into pieces: their number, and elements of each but the last, which takes what is left, too.

    An axis of up to 2 * ``wanted`` elements stays whole; pieces are a multiple of 64 elements.
    """
    size = max(64, wanted // 64 * 64)
    if is_symbolic(extent):
        return (greater(1, extent // size), size) if highest(extent) > 2 * size else (1, extent)
    pieces = extent // size if extent > 2 * size else 1
    return (pieces, size) if pieces > 1 else (1, extent)


@dataclass(frozen=True)
class Units:
    """How outer loops are cut.

    Attributes:
        extents: of the outer loops.
        flat: how many of them number the units.
        per_task: units of a task.
    """

    extents: tuple[int, ...]
    flat: int
    per_task: int

    @staticmethod
    def of(extents: Sequence[int], work: int, cores: int) -> Units:
        """Units of about GRAIN elements; ``work`` elements are inside all loops."""
        flat, work = len(extents), typical(work)
        sizes = [typical(e) for e in extents]
        while flat > 0 and sizes[flat - 1] * work <= GRAIN:
            flat -= 1
            work *= sizes[flat]
        count = sh.count(sizes[:flat])
        per_task = max(1, -(-count // (64 * cores)), GRAIN // max(1, work))
        return Units(tuple(extents), flat, max(1, min(count, per_task)))

    @property
    def count(self) -> int:
        """Number of units."""
        return sh.count(self.extents[: self.flat])

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return greater(1, -(-self.count // self.per_task))

    @contextmanager
    def loops(self, w: Writer) -> Iterator[list[str]]:
        """The loops over tasks [begin, end); yields the C text of the index along each axis."""
        with ExitStack() as scope:
            names: list[str] = []
            if self.flat == 0:
                scope.enter_context(w.block("if (begin < end)"))
            elif self.per_task > 1:
                w(f"const int64_t last = end * {self.per_task} < {self.count} ? end * {self.per_task} : {self.count};")
                scope.enter_context(w.block(f"for (int64_t unit = begin * {self.per_task}; unit < last; unit++)"))
            else:
                scope.enter_context(w.block("for (int64_t unit = begin; unit < end; unit++)"))
            if self.flat:
                names = indices(w, "unit", self.extents[: self.flat], "u")
            for k, extent in enumerate(self.extents[self.flat :]):
                scope.enter_context(w.loop(f"i{k}", extent))
                names.append(f"i{k}")
            yield names
