"""The Op contract: frozen typed attributes, inference, numpy meaning, cost, loop program, samples; and the name registry.

Elementwise ops and structured ops alike derive from Op and are found by name, so that text, verifier, oracle, kernels and tests
iterate one table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from strop.errors import ShapeError
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.loops import Program
from strop.ir.shape import Dim, DimExpr, Shape, Sym

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Type:
    """dtype and shape of a value."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints; ShapeError when a dim is symbolic."""
        return sh.static(self.shape)

    def at(self, known: Mapping[str, int]) -> Type:
        """The type where the symbols have these values; all of them must have one."""
        return Type(self.dtype, tuple(sh.evaluate(dim, dict(known)) for dim in self.shape))

    @property
    def count(self) -> int:
        """Elements of a static shape."""
        return sh.count(self.static_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a static shape stored densely."""
        return self.count * self.dtype.size

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Cost:
    """Work of an op: floating-point or integer operations (a multiply-add counts 2) and bytes that must move at least once."""

    flops: int
    bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


@dataclass(frozen=True)
class Sample:
    """One random problem: an op and its operand arrays."""

    op: Op
    inputs: tuple[Array, ...]
    note: str = ""


@dataclass(frozen=True)
class Op:
    """Base of all ops. Subclasses are frozen dataclasses whose fields are the attributes.

    Class attributes:
        name: unique; how the op appears in text.
        commutative: operands 0 and 1 may be swapped.
        pure: equal operands give equal results and nothing else happens, so that it may be folded, shared and left out.
        lasting: what its results are does not follow from its operands alone, so that it is never computed ahead.
    """

    name: ClassVar[str] = ""
    commutative: ClassVar[bool] = False
    pure: ClassVar[bool] = True
    lasting: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("name"):
            if cls.name in REGISTRY and REGISTRY[cls.name].__qualname__ != cls.__qualname__:
                raise ValueError(f"two ops are named {cls.name}")
            REGISTRY[cls.name] = cls

    @property
    def label(self) -> str:
        """The name in text; elementwise ops answer their function's name."""
        return self.name

    @property
    def computed(self) -> tuple[Sym, ...]:
        """Symbols whose numbers the op finds in its operands. Its last results are scalars (i64) that hold them, one per symbol;
        all others may have dims over them. ``reference`` gives results of the shapes found."""
        return ()

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        """Result types; ShapeError when the operands do not fit."""
        raise NotImplementedError(f"{self.name}.infer")

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Meaning in numpy: the oracle of every test. Returns one array per result."""
        raise NotImplementedError(f"{self.name}.reference")

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        """Work; by default one operation per result element and each operand and result moved once."""
        moved = sum(t.nbytes for t in (*inputs, *outputs))
        return Cost(sum(t.count for t in outputs), moved)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program | None:
        """Scalar loop program for the naive kernel; None when the op is only a view or has none."""
        return None

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        """An endless or finite stream of small random problems that cover the attributes."""
        return iter(())

    def attributes(self) -> dict[str, Any]:
        """Attribute names and values, in declaration order, defaults included."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def at(self: OpT, known: Mapping[str, int]) -> OpT:
        """The op with the symbols in its attributes replaced by their values; one without a value stays."""
        changed = {n: _at(v, known) for n, v in self.attributes().items() if _is_symbolic(v)}
        return self.replace(**changed) if changed else self

    @property
    def symbols(self) -> list[Sym]:
        """The symbols in its attributes."""
        return sh.symbols(d for v in self.attributes().values() for d in dims_in(v))

    def replace(self: OpT, **changes: Any) -> OpT:
        """A copy with other attribute values."""
        return dataclasses.replace(self, **changes)

    def fail(self, what: str, inputs: Sequence[Type], expected: str | None = None) -> ShapeError:
        """A ShapeError that names the op and its operands."""
        return ShapeError(f"{self.label}: {what}", got=", ".join(map(str, inputs)), expected=expected)


def _is_symbolic(attribute: Any) -> bool:
    if isinstance(attribute, tuple):
        return any(map(_is_symbolic, attribute))
    return isinstance(attribute, (Sym, DimExpr))


def _at(attribute: Any, known: Mapping[str, int]) -> Any:
    if isinstance(attribute, tuple):
        return tuple(_at(item, known) for item in attribute)
    if not _is_symbolic(attribute) or any(s.name not in known for s in sh.symbols([attribute])):
        return attribute
    return sh.evaluate(attribute, dict(known))


def dims_in(attribute: Any) -> Iterator[Dim]:
    """The symbolic Dims in an attribute's value."""
    if isinstance(attribute, (Sym, DimExpr)):
        yield attribute
    elif isinstance(attribute, tuple):
        for item in attribute:
            yield from dims_in(item)


OpT = TypeVar("OpT", bound=Op)

#: Op classes by name. Elementwise functions are found through ``strop.ops.elementwise.FUNCTIONS`` by their own names.
REGISTRY: dict[str, type[Op]] = {}
