"""The kernel contract: what a region is, what a kernel answers about it, and the table that everything iterates.

A Region is one kernel launch: an anchor op (or none, for a pure elementwise region) and an epilogue expression over the anchor's
result and further operands. Operands come with Views: logical shape, strides in elements, dtype. A kernel says whether it
``accepts`` a region, lists its ``space`` of parameter sets, gives its ``cost`` and ``emit``s C.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, Input, show
from strop.ir.op import Array, Cost, Op, Type
from strop.ir.shape import Shape, Sym
from strop.kernels.extent import at, dims_of, highest, is_symbolic, naming
from strop.target.base import Target


@dataclass(frozen=True)
class View:
    """How a value lies in memory: element at index i is at sum(i[k] * strides[k]) from the operand's pointer.

    A stride of 0 repeats (broadcast). Dims and strides are ints, or Extents where they are known only at run time.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: DType

    @staticmethod
    def dense(shape: Sequence[int], dtype: DType, order: Sequence[int] | None = None) -> View:
        """A gapless view; ``order`` lists the axes from outermost to innermost (default: row-major)."""
        shape = tuple(shape)
        strides = [0] * len(shape)
        step = 1
        for axis in reversed(order if order is not None else range(len(shape))):
            strides[axis] = step
            step *= shape[axis]
        return View(shape, tuple(strides), dtype)

    @property
    def type(self) -> Type:
        """dtype and logical shape."""
        return Type(self.dtype, dims_of(self.shape))

    @property
    def symbolic(self) -> bool:
        """True when a dim or stride is known only at run time."""
        return is_symbolic(*self.shape, *self.strides)

    def at(self, known: Mapping[str, int]) -> View:
        """The view where the symbols have these values."""
        return View(tuple(at(d, known) for d in self.shape), tuple(at(s, known) for s in self.strides), self.dtype)

    @property
    def count(self) -> int:
        """Elements."""
        return sh.count(self.shape)

    @property
    def span(self) -> int:
        """Elements from the first to the last, both included; 0 when empty."""
        if self.count == 0:
            return 0
        return 1 + sum((d - 1) * s for d, s in zip(self.shape, self.strides, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of the span."""
        return self.span * self.dtype.size

    def is_dense(self, order: Sequence[int] | None = None) -> bool:
        """True when it equals ``dense(shape, dtype, order)``; strides of axes of length 1 do not matter."""
        want = View.dense(self.shape, self.dtype, order)
        return all(d == 1 or a == b for d, a, b in zip(self.shape, self.strides, want.strides, strict=True))

    def broadcast(self, shape: Sequence[int]) -> View:
        """The view repeated to ``shape`` as numpy broadcasts."""
        lead = len(shape) - len(self.shape)
        strides = [0] * lead + [s if d != 1 else 0 for d, s in zip(self.shape, self.strides, strict=True)]
        return View(tuple(shape), tuple(strides), self.dtype)

    def order(self) -> tuple[int, ...]:
        """Axes from outermost to innermost by stride, at its largest; axes of length 1 keep their logical place among equals."""
        return tuple(sorted(range(len(self.shape)), key=lambda a: (-highest(self.strides[a]), a)))

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]:({','.join(map(str, self.strides))})"


@dataclass(frozen=True)
class Operand:
    """An operand of a region.

    Attributes:
        view: how it lies in memory.
        const: the dense array that the view indexes, when it is a constant; its own shape may differ from the view's.
        name: of the value, for people.
    """

    view: View
    const: Array | None = None
    name: str = ""

    @property
    def logical(self) -> Array | None:
        """The constant in the view's logical shape, not to be written to; None when it is no constant."""
        if self.const is None:
            return None
        flat = np.ascontiguousarray(self.const).reshape(-1)
        strides = [s * flat.itemsize for s in self.view.strides]
        return np.lib.stride_tricks.as_strided(flat, self.view.shape, strides, writeable=False)


@dataclass(frozen=True, eq=False)
class Region:
    """One kernel launch.

    Attributes:
        name: the layer's name, for people.
        op: the anchor, or None for a pure elementwise region.
        operands: the anchor's operands in order (None: left out), then those of the epilogue, broadcast to the output shape, then those of
            the prologue, broadcast to the shape of the anchor's first operand.
        anchors: how many operands belong to the anchor.
        epilogue: over Input(0), the anchor's result, and Input(1 + k), operand ``anchors + k``; in a pure elementwise region
            Input(k) is operand k.
        outs: views of the results; an epilogue applies to the only result.
        source: names of the model's nodes that it computes.
        work: operations and bytes of all its nodes.
        prologue: over Input(0), an element of the anchor's first operand, and Input(1 + k), the k-th prologue operand: what the anchor
            reads in place of its first operand.
        prologues: how many operands, the last ones, belong to the prologue.
        origin: the region with Extents whose typical sizes these are.
    """

    name: str
    op: Op | None
    operands: tuple[Operand | None, ...]
    anchors: int
    epilogue: Expr
    outs: tuple[View, ...]
    source: tuple[str, ...] = ()
    work: Cost = field(default=Cost(0, 0))
    prologue: Expr = Input(0)
    prologues: int = 0
    origin: Region | None = None

    @property
    def out(self) -> View:
        """The first result."""
        return self.outs[0]

    def operand(self, index: int) -> Operand:
        """A present operand."""
        found = self.operands[index]
        assert found is not None, f"{self.name}: operand {index} was left out"
        return found

    @property
    def extras(self) -> tuple[Operand, ...]:
        """Operands of the epilogue."""
        return tuple(o for o in self.operands[self.anchors : len(self.operands) - self.prologues] if o is not None)

    @property
    def prologue_operands(self) -> tuple[Operand, ...]:
        """Operands of the prologue."""
        return tuple(o for o in self.operands[len(self.operands) - self.prologues :] if o is not None)

    @property
    def has_prologue(self) -> bool:
        """True when the anchor reads something else than its first operand as it is."""
        return self.prologue != Input(0)

    @property
    def has_epilogue(self) -> bool:
        """True when the anchor's result is not stored as it is."""
        return self.epilogue != Input(0)

    @property
    def kind(self) -> str:
        """The anchor's name, or ``elementwise``."""
        return self.op.label if self.op is not None else "elementwise"

    @property
    def symbols(self) -> list[Sym]:
        """The symbols that its views and its op depend on."""
        views = [o.view for o in self.operands if o is not None] + list(self.outs)
        found = sh.symbols(d for v in views for d in dims_of((*v.shape, *v.strides)))
        return sh.symbols([*found, *(self.op.symbols if self.op is not None else ())])

    def at(self, known: Mapping[str, int]) -> Region:
        """The region of fixed shapes where the symbols have these values."""
        operands = tuple(None if o is None else replace(o, view=o.view.at(known)) for o in self.operands)
        outs = tuple(view.at(known) for view in self.outs)
        return replace(self, op=None if self.op is None else self.op.at(known), operands=operands, outs=outs)

    def typical(self) -> Region:
        """The region at the optimum of its symbols; itself when it has none."""
        symbols = self.symbols
        return replace(self.at({s.name: s.opt for s in symbols}), origin=self) if symbols else self

    def all_f32(self) -> bool:
        """True when every operand and result is f32."""
        views = [o.view for o in self.operands if o is not None] + list(self.outs)
        return all(v.dtype.name == "f32" for v in views)

    def all_floats(self) -> bool:
        """True when every operand and result is f32, bf16 or f16."""
        views = [o.view for o in self.operands if o is not None] + list(self.outs)
        return all(v.dtype.name in ("f32", "bf16", "f16") for v in views)

    def signature(self) -> str:
        """Text that two regions share when the same code serves both; names and constant contents are left out."""
        parts = [repr(self.op), show(self.epilogue), str(self.anchors)]
        if self.has_prologue:
            parts.append(f"prologue {self.prologues} {show(self.prologue)}")
        for operand in self.operands:
            if operand is None:
                parts.append("none")
            else:
                parts.append(("const " if operand.const is not None else "") + str(operand.view))
        parts.extend(map(str, self.outs))
        parts.extend(f"{s.name}={s.min}..{s.max}({s.opt})" for s in self.symbols)
        return " | ".join(parts)

    def digest(self) -> str:
        """Short stable hash of the signature."""
        return hashlib.sha256(self.signature().encode()).hexdigest()[:16]


@dataclass(frozen=True)
class In:
    """A kernel pointer: operand ``index`` of the region."""

    index: int


@dataclass(frozen=True)
class Out:
    """A kernel pointer: result ``index`` of the region."""

    index: int


@dataclass(frozen=True, eq=False)
class Packed:
    """A kernel pointer: an array stored with the weights, e.g. repacked filter values; or what makes it, called once, when it is needed."""

    source: Array | Callable[[], Array]

    @cached_property
    def array(self) -> Array:
        """The array."""
        return self.source() if callable(self.source) else self.source


Pointer = In | Out | Packed


@dataclass(frozen=True)
class External:
    """Code that is not in the engine but found by name in the process that runs it.

    Attributes:
        kind: ``callback``, called once per run with views, or ``kernel``, called like a kernel of the engine.
        name: of the custom layer.
        attributes: the op's.
        origin: for people: where the code is.
        outs: views that a callback gets.
        operands: likewise; None for one left out.
    """

    kind: str
    name: str
    attributes: Mapping[str, Any]
    origin: str
    outs: tuple[View, ...] = ()
    operands: tuple[View | None, ...] = ()


@dataclass(frozen=True)
class Emitted:
    """C of one kernel.

    Attributes:
        body: statements between the braces of ``void f(const strop_args *a, int64_t begin, int64_t end)``, doing tasks
            [begin, end). It must not contain the layer's name: equal bodies are stored once.
        pointers: what ``a->p[i]`` is, in order.
        tasks: how many independent tasks the step has (at least 1); an Extent when that is known only at run time.
        scratch: bytes of private memory per thread; of an Extent its largest value is taken.
        helpers: C text placed before the function (static helpers with unique names), stored once.
        dims: what ``a->sym[i]`` is, in order; left empty where the body's own names of dims tell it.
        external: what the engine calls in place of the body.
    """

    body: str
    pointers: tuple[Pointer, ...]
    tasks: int
    scratch: int = 0
    helpers: tuple[str, ...] = ()
    dims: Shape = ()
    external: External | None = None


PlanT = TypeVar("PlanT")
P = TypeVar("P")


class Kernel(ABC, Generic[P]):
    """One algorithm. Subclasses are stateless; ``P`` is the frozen dataclass of its parameters."""

    #: Unique; equals the name of the file it lives in (a file with several adds a suffix).
    name: str = ""
    #: True when each element of an epilogue operand is read only before the result's element at the same place is written, so that
    #: the result may overwrite the operand.
    in_place: bool = False
    #: True when regions with a prologue may be accepted; others never see one.
    prologue: bool = False
    #: True when it may serve regions with Extents; one whose emission asks what only a run knows is still refused.
    symbolic: bool = False
    #: False when it cannot be run by itself, so that tuning neither checks nor times it.
    measured: bool = True
    #: False when its cost is no estimate to choose by: it is measured wherever it can be, and chosen only by a time.
    estimated: bool = True

    #: True when it is right where an operand has no elements and the result has some.
    empty: bool = False

    @abstractmethod
    def accepts(self, region: Region, target: Target) -> str | None:
        """None when it can do the region, else the reason why not, in words."""

    @abstractmethod
    def space(self, region: Region, target: Target) -> list[P]:
        """Parameter sets worth trying, never empty for an accepted region. Like ``cost`` it sees the region's typical shapes."""

    @abstractmethod
    def cost(self, region: Region, params: P, target: Target) -> float:
        """Estimated seconds on one core."""

    @abstractmethod
    def emit(self, region: Region, params: P, target: Target) -> Emitted:
        """The C code."""

    def error(self, region: Region, params: P) -> float | None:
        """Error that the algorithm itself adds, relative to the largest result, for kernels that round more than the plain sum of
        products; None for all others."""
        return None


@dataclass(frozen=True)
class Candidate:
    """A kernel with parameters, for one region."""

    kernel: Kernel[Any]
    params: Any

    @property
    def label(self) -> str:
        """Readable name, e.g. ``conv_direct(mr=6, nv=4)``."""
        inner = ", ".join(f"{k}={v}" for k, v in vars(self.params).items()) if self.params is not None else ""
        return f"{self.kernel.name}({inner})"

    def __str__(self) -> str:
        return self.label

    def cost(self, region: Region, target: Target) -> float:
        """Estimated seconds on one core."""
        return self.kernel.cost(region.typical(), self.params, target)

    def emit(self, region: Region, target: Target) -> Emitted:
        """The C code; SymbolicError when it needs a number that only a run has."""
        with naming() as names:
            emitted = self.kernel.emit(region, self.params, target)
        if emitted.external is not None:
            return emitted
        body, dims = names.declare(emitted.body)
        return replace(emitted, body=body, dims=dims, scratch=highest(emitted.scratch))


def accepted(found: PlanT | str) -> PlanT:
    """What a kernel works out of a region that it accepts, where for others there is the reason why it does not."""
    assert not isinstance(found, str), found
    return found


def moved_bytes(region: Region) -> int:
    """Bytes that the region must at least read and write."""
    views = [o.view for o in region.operands if o is not None] + list(region.outs)
    return sum(min(v.span, v.count) * v.dtype.size for v in views)


def memory_seconds(region: Region, target: Target) -> float:
    """Lower bound of time by bytes: from cache when all fits the last level, else from memory."""
    size = moved_bytes(region)
    rate = 4.0 * target.bandwidth if size < target.l2 else 2.0 * target.bandwidth if size < target.l3 else target.bandwidth
    return size / rate


