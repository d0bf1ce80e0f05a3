"""Loop programs: the scalar meaning of a structured op as nested loops, from which the naive kernel is emitted.

A Program is a list of Stages. A Stage fills one array, element by element: for every index of ``axes`` it folds ``body`` over
``reduce`` with ``combine`` starting from ``init`` and stores ``final`` of the result. Later stages may Load earlier ones by name.
A recurrence is a Nest: stages that take turns at every step.
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
class Nest:
    """Stages that take turns: for every index of ``axes``, the last of which runs fastest, all of them one after the other.

    The axes of every stage begin with ``axes``. A stage may Load what any stage of the nest, itself included, stored at an
    earlier index, and what stages before it stored at this one.
    """

    axes: tuple[Loop, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Program:
    """Stages and nests of stages in order."""

    parts: tuple[Stage | Nest, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, those inside nests too."""
        return tuple(s for part in self.parts for s in (part.stages if isinstance(part, Nest) else (part,)))


def loops(shape: tuple[Dim, ...], prefix: str = "i") -> tuple[Loop, ...]:
    """One loop per dim, named i0, i1, ..."""
    return tuple(Loop(f"{prefix}{k}", dim) for k, dim in enumerate(shape))
