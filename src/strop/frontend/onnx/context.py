"""What an import function sees of its node: typed attributes, operands, and steps that emit ops or evaluate constants."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import numpy as np
from onnx import AttributeProto, GraphProto

from strop.errors import InputError, ModelError, ShapeError, UnsupportedError
from strop.frontend.names import free_name
from strop.frontend.onnx.operands import Known, Listed, Operand, Symbolic
from strop.frontend.onnx.tensors import MAX_BYTES, TensorReader
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import cast_array
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Op, Type
from strop.ir.ranges import Free
from strop.ir.shape import Dim, Sym
from strop.ops.elementwise import Cast
from strop.ops.sizes import Sizes

#: Results of constant operands are evaluated while the model is read when they are at most this large: shapes, indices,
#: scale factors. Larger ones stay ops, for the constant folding pass.
FOLD_INTEGERS = 1 << 16
FOLD_FLOATS = 16
#: They have at most so many elements in an operand, and are of these families.
FOLD_OPERAND = 1 << 20
FOLDED = frozenset(f"strop.ops.{family}" for family in ("data", "elementwise", "index", "reduce"))
#: Most bytes of one array that reading a model may compute, and of one that is a single repeated element (takes no memory).
MAX_COMPUTED = 256 << 20
MAX_FILLED = 1 << 30

_ATTRIBUTE_KINDS = {v.number: v.name for v in AttributeProto.AttributeType.DESCRIPTOR.values}
T = TypeVar("T")


class _Required:
    """Marks an attribute without a default."""


REQUIRED = _Required()


@dataclass
class Session:
    """State shared by all nodes of one import.

    Attributes:
        graph: the graph being built.
        reader: reads tensors.
        reserved: names the model gives to its own values; values made on the way avoid them.
        ranges: per value how large sizes that it decides may become, as the caller says.
    """

    graph: Graph
    reader: TensorReader
    reserved: set[str]
    ranges: Mapping[str, Free] = field(default_factory=dict)
    _symbols: set[str] = field(default_factory=set)

    def fresh(self, wanted: str) -> str:
        """A value name that is neither the model's nor taken."""
        return free_name(wanted, self.reserved, self.graph.values)

    def symbol(self, wanted: str, most: int, opt: int) -> Sym:
        """A new computed size, 0 to ``most``."""
        taken = self._symbols | {s.name for value in self.graph.inputs for s in sh.symbols(value.shape)}
        stem = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_").lstrip("0123456789") or "size"
        name = free_name(stem, taken, mark="_", first=2)
        self._symbols.add(name)
        return Sym(name, 0, opt, most)


@dataclass
class NodeContext:
    """One node of the model.

    Attributes:
        session: what all nodes share.
        name: unique name of the node.
        op_type: ONNX op type.
        domain: operator domain, "" for ai.onnx.
        opset: version of the domain that the model imports.
        attributes: attributes by name.
        operands: what the node's inputs stand for; None for an optional one left out.
        wanted: per output, whether anything reads it.
        inline: imports a subgraph in the place of the node: inline(graph, operands, label) answers its outputs.
        results: the model's names of its outputs.
    """

    session: Session
    name: str
    op_type: str
    domain: str
    opset: int
    attributes: Mapping[str, AttributeProto]
    operands: Sequence[Operand | None]
    wanted: Sequence[bool]
    inline: Callable[[GraphProto, Sequence[Operand], str], Sequence[Operand]]
    results: Sequence[str] = ()
    read: set[str] = field(default_factory=set)

    # ---- errors

    @property
    def where(self) -> str:
        """The node for error messages."""
        return f"node {self.name} ({self.op_type})"

    def unsupported(
        self, what: str, got: object = None, expected: object = None, hint: str | None = None
    ) -> UnsupportedError:
        """An error about something valid that is not supported."""
        return UnsupportedError(
            f"{self.op_type}: {what}", where=self.where, got=got, expected=expected, hint=hint
        )

    def malformed(self, what: str, got: object = None, expected: object = None) -> ModelError:
        """An error about a node that ONNX does not allow."""
        return ModelError(f"{self.op_type}: {what}", where=self.where, got=got, expected=expected)

    # ---- attributes

    def _attribute(
        self, name: str, kind: int, default: T | _Required, get: Callable[[AttributeProto], T]
    ) -> T:
        self.read.add(name)
        found = self.attributes.get(name)
        if found is None:
            if isinstance(default, _Required):
                raise self.malformed(f"attribute {name} is missing")
            return default
        if found.type != kind:
            raise self.malformed(
                f"attribute {name} has the wrong type",
                got=_ATTRIBUTE_KINDS.get(found.type, found.type),
                expected=_ATTRIBUTE_KINDS[kind],
            )
        return get(found)

    def integer(self, name: str, default: int | _Required = REQUIRED) -> int:
        """An INT attribute."""
        return self._attribute(name, AttributeProto.INT, default, lambda a: int(a.i))

    def flag(self, name: str, default: bool = False) -> bool:
        """An INT attribute that is 0 or 1."""
        value = self.integer(name, int(default))
        if value not in (0, 1):
            raise self.malformed(f"attribute {name} out of range", got=value, expected="0 or 1")
        return bool(value)

    def number(self, name: str, default: float | _Required = REQUIRED) -> float:
        """A FLOAT attribute."""
        return self._attribute(name, AttributeProto.FLOAT, default, lambda a: float(a.f))

    def text(
        self, name: str, default: str | _Required = REQUIRED, allowed: Sequence[str] = ()
    ) -> str:
        """A STRING attribute; UnsupportedError when it is not one of ``allowed``."""
        value = self._attribute(
            name, AttributeProto.STRING, default, lambda a: bytes(a.s).decode(errors="replace")
        )
        if allowed and value not in allowed:
            raise self.unsupported(
                f"attribute {name} has an unknown value",
                got=repr(value),
                expected=", ".join(allowed),
            )
        return value

    def integers(self, name: str, default: Sequence[int] | _Required = REQUIRED) -> tuple[int, ...]:
        """An INTS attribute."""
        return tuple(self._attribute(name, AttributeProto.INTS, default, lambda a: tuple(a.ints)))

    def optional_integers(self, name: str) -> tuple[int, ...] | None:
        """An INTS attribute, or None when it is absent."""
        return self.integers(name) if self.has(name) else None

    def floats(
        self, name: str, default: Sequence[float] | _Required = REQUIRED
    ) -> tuple[float, ...]:
        """A FLOATS attribute."""
        return tuple(
            self._attribute(name, AttributeProto.FLOATS, default, lambda a: tuple(a.floats))
        )

    def strings(self, name: str) -> tuple[str, ...]:
        """A STRINGS attribute."""
        return self._attribute(
            name,
            AttributeProto.STRINGS,
            REQUIRED,
            lambda a: tuple(bytes(s).decode(errors="replace") for s in a.strings),
        )

    def tensor(self, name: str) -> Array:
        """A TENSOR attribute."""
        proto = self._attribute(name, AttributeProto.TENSOR, REQUIRED, lambda a: a.t)
        return self.session.reader.read(proto, f"{self.where}, attribute {name}")

    def sparse_tensor(self, name: str) -> Array:
        """A SPARSE_TENSOR attribute, made dense."""
        proto = self._attribute(
            name, AttributeProto.SPARSE_TENSOR, REQUIRED, lambda a: a.sparse_tensor
        )
        return self.session.reader.read_sparse(proto, f"{self.where}, attribute {name}")

    def subgraph(self, name: str) -> GraphProto:
        """A GRAPH attribute."""
        return self._attribute(name, AttributeProto.GRAPH, REQUIRED, lambda a: a.g)

    def has(self, name: str) -> bool:
        """True when the node gives the attribute."""
        self.read.add(name)
        return name in self.attributes

    def ignore(self, *names: str) -> None:
        """Attributes that mean nothing for inference."""
        self.read.update(names)

    def only(self, name: str, value: int, default: int | None = None) -> None:
        """UnsupportedError unless an INT attribute has the one value that is supported."""
        got = self.integer(name, value if default is None else default)
        if got != value:
            raise self.unsupported(
                f"attribute {name} has an unsupported value", got=got, expected=value
            )

    # ---- operands

    def __len__(self) -> int:
        return len(self.operands)

    def optional(self, index: int) -> Operand | None:
        """An operand, or None when it is left out."""
        return self.operands[index] if index < len(self.operands) else None

    def operand(self, index: int) -> Operand:
        """An operand; ModelError when it is left out."""
        found = self.optional(index)
        if found is None:
            raise self.malformed(f"operand {index} is missing")
        return found

    def required(self) -> tuple[Operand, ...]:
        """All operands of a variadic op; ModelError when there is none or one is left out."""
        if not self.operands:
            raise self.malformed("there are no operands")
        return tuple(self.operand(i) for i in range(len(self.operands)))

    def rank(self, index: int) -> int:
        """Rank of an operand."""
        return self.operand(index).type.rank

    def shape(self, index: int) -> tuple[Dim, ...]:
        """Shape of an operand."""
        return self.operand(index).type.shape

    def dtype(self, index: int) -> DType:
        """Element type of an operand."""
        return self.operand(index).type.dtype

    def axis(
        self, name: str = "axis", default: int | _Required = REQUIRED, rank: int | None = None
    ) -> int:
        """An INT attribute that names an axis of operand 0, made non-negative."""
        return self.normal_axis(self.integer(name, default), self.rank(0) if rank is None else rank)

    def normal_axis(self, axis: int, rank: int) -> int:
        """A non-negative axis; ShapeError naming the node when it is out of range."""
        if rank == 0:
            raise ShapeError("a scalar has no axes", where=self.where, got=f"axis {axis}")
        return sh.normalize_axis(axis, rank, self.where)

    def normal_axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Non-negative axes in the given order; ShapeError on repeats."""
        found = tuple(self.normal_axis(a, rank) for a in axes)
        if len(set(found)) != len(found):
            raise ShapeError("an axis is named twice", where=self.where, got=tuple(axes))
        return found

    def constant(self, index: int, what: str) -> Array:
        """The elements of an operand that must be known while the model is read.

        Args:
            index: operand number.
            what: its ONNX name, for the message.

        Raises:
            UnsupportedError: it depends on an input's elements or on symbolic dims.
        """
        found = self.operand(index)
        if isinstance(found, Known):
            return found.array
        if isinstance(found, Symbolic):
            raise self.unsupported(
                f"operand {what} depends on symbolic dims",
                got=found.symbols,
                hint="give the symbols values with --shape",
            )
        if isinstance(found, Listed):
            raise self.unsupported("a sequence is read where a tensor is expected", got=what)
        raise self.unsupported(
            f"operand {what} must be known when the model is built",
            got=f"{found.name}, which is computed from the model's inputs",
            hint="make it a constant when the model is exported, e.g. by exporting with fixed shapes",
        )

    def ints(self, index: int, what: str) -> tuple[int, ...]:
        """A known integer operand of rank 0 or 1, as ints."""
        array = self.constant(index, what)
        if array.ndim > 1 or not np.issubdtype(array.dtype, np.integer):
            raise self.malformed(
                f"operand {what} is no list of integers", got=f"{array.dtype}{list(array.shape)}"
            )
        return tuple(int(v) for v in array.reshape(-1))

    def scalar(self, index: int, what: str) -> Any:
        """A known operand of one element, as a Python number."""
        array = self.constant(index, what)
        if array.size != 1:
            raise self.malformed(
                f"operand {what} must have one element", got=f"shape {list(array.shape)}"
            )
        return array.reshape(()).item()

    def dims(self, index: int, what: str) -> tuple[Dim, ...]:
        """A shape operand: known integers or symbolic Dims."""
        found = self.operand(index)
        if isinstance(found, Symbolic):
            return tuple(found.dims.reshape(-1).tolist())
        return self.ints(index, what)

    def check_dims(self, dims: Sequence[Dim]) -> None:
        """ModelError when a dim is a negative number."""
        if any(isinstance(d, int) and d < 0 for d in dims):
            raise self.malformed("a dim is negative", got=tuple(dims))

    # ---- results

    def const(self, array: Array) -> Known:
        """A constant made on the way."""
        return Known("", np.asarray(array))

    def like(self, number: float, operand: Operand) -> Known:
        """A scalar constant in the dtype of an operand."""
        return self.const(cast_array(np.asarray(number), operand.type.dtype))

    def filled(self, shape: Sequence[int], element: Array) -> Known:
        """A constant that repeats one element; it takes no memory until it is copied."""
        self.check_size(shape, element.dtype.itemsize, MAX_FILLED)
        return self.const(np.broadcast_to(element.reshape(()), tuple(shape)))

    def check_size(self, shape: Sequence[int], itemsize: int, limit: int = MAX_COMPUTED) -> None:
        """ModelError when an array computed while the model is read would be negative or too large."""
        if any(d < 0 for d in shape):
            raise self.malformed("a dim is negative", got=tuple(shape))
        if prod(shape) * itemsize > limit:
            raise self.malformed(
                "the constant it makes is too large",
                got=f"{prod(shape) * itemsize} bytes",
                expected=f"at most {limit}",
            )

    def value(self, operand: Operand) -> Value:
        """The graph value of an operand; makes a constant of a known one."""
        if isinstance(operand, Value):
            return operand
        if isinstance(operand, Symbolic):
            return self._sizes(operand)
        if isinstance(operand, Listed):
            raise self.unsupported(
                "a sequence is read where a tensor is expected", got=f"{len(operand.items)} tensors"
            )
        if operand.value is None:
            name = operand.name or self.session.fresh(f"{self.name}:const")
            operand.value = self.session.graph.add_const(operand.array, name)
        return operand.value

    def _sizes(self, operand: Symbolic) -> Value:
        """Dims as elements of a tensor in the graph."""
        if operand.value is None:
            elements = self.step(Sizes(tuple(operand.dims.reshape(-1).tolist()), operand.dims.ndim == 0))
            found = elements if operand.dtype == dt.i64 else self.step(Cast(operand.dtype), elements)
            operand.value = self.value(found)
        return operand.value

    def _evaluate(self, op: Op, arrays: Sequence[Array]) -> tuple[Known, ...]:
        try:
            return tuple(self.const(np.asarray(a)) for a in op.reference(*arrays))
        except InputError as error:  # e.g. an index out of range
            raise self.malformed(error.what, error.got, error.expected) from error

    def step(self, op: Op, *operands: Operand | None) -> Operand:
        """Emits an op with one result; see ``steps``."""
        return self.steps(op, *operands)[0]

    def steps(self, op: Op, *operands: Operand | None) -> tuple[Operand, ...]:
        """Emits an op, or evaluates it when its operands are known and its results small.

        Returns:
            Its results.

        Raises:
            ShapeError: the operands do not fit.
            ModelError: a result would be absurdly large.
        """
        present = [o for o in operands if o is not None]
        if present and not op.computed and len(present) == len(operands):
            known = [o for o in present if isinstance(o, Known)]
            if len(known) == len(present) and _is_shape_arithmetic(op, [o.type for o in known]):
                return self._evaluate(op, [o.array for o in known])
        values = [None if o is None else self.value(o) for o in operands]
        wanted = self.session.fresh(f"{self.name}:{op.label}")
        node = self.session.graph.add(
            op, values, name=self.name, source=(self.name,), outputs=[wanted]
        )
        for result in node.outputs:
            if result.name in self.session.reserved:
                self.session.graph.rename(result, self.session.fresh(result.name))
            if not sh.is_static(result.shape):
                continue
            if prod(d or 1 for d in result.type.static_shape) * result.dtype.size > MAX_BYTES:
                raise self.malformed(
                    "its result is too large",
                    got=result.type,
                    expected=f"at most {MAX_BYTES} bytes",
                )
        return tuple(node.outputs)


def _is_shape_arithmetic(op: Op, operands: Sequence[Type]) -> bool:
    """Whether an op over known operands is evaluated while the model is read: cheap, and with small results."""
    if type(op).__module__ not in FOLDED or any(t.count > FOLD_OPERAND for t in operands):
        return False
    return all(
        sh.is_static(t.shape) and t.count <= (FOLD_FLOATS if t.dtype.is_float else FOLD_INTEGERS)
        for t in op.infer(operands)
    )
