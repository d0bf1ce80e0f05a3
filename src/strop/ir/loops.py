"""Loop programs: the scalar meaning of a structured op as nested loops, from which the naive kernel is emitted.

A Program is a list of Stages. A Stage fills one array, element by element: for every index of ``axes`` it folds ``body`` over
``reduce`` with ``combine`` starting from ``init`` and stores ``final`` of the result. Later stages may Load earlier ones by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir.dtype import DType
from strop.ir.expr import Acc, Axis, Const, Expr
from strop.ir.shape import Dim

#: How a stage folds: None means that ``body`` is the element and ``reduce`` is empty. argmax and argmin store the index along
#: the single reduce axis of the first best element; argmax_last and argmin_last of the last best. There ``acc_dtype`` is
#: the dtype compared and Acc is the int64 index.
COMBINES = (None, "add", "mul", "max", "min", "or", "and", "argmax", "argmin", "argmax_last", "argmin_last")


@dataclass(frozen=True)
class Loop:
    """One loop: ``for name in range(extent)``."""

    name: str
    extent: Dim

    @property
    def var(self) -> Axis:
        """The loop variable as an Expr."""
        return Axis(self.name)


@dataclass(frozen=True)
class Stage:
    """Fills the array ``name``; output i of the op is the stage named ``out{i}``."""

    name: str
    dtype: DType
    axes: tuple[Loop, ...]
    body: Expr
    reduce: tuple[Loop, ...] = ()
    combine: str | None = None
    init: Expr = Const(0)
    final: Expr = Acc()
    acc_dtype: DType | None = None  # None: dtype


@dataclass(frozen=True)
class Program:
    """Stages in order."""

    stages: tuple[Stage, ...]


def loops(shape: tuple[Dim, ...], prefix: str = "i") -> tuple[Loop, ...]:
    """One loop per dim, named i0, i1, ..."""
    return tuple(Loop(f"{prefix}{k}", dim) for k, dim in enumerate(shape))
