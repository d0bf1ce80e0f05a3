"""What an import function sees of its node: attributes, operands, calls of functions, and steps that emit ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.frontend.names import free_name
from strop.frontend.saved_model import tensors
from strop.frontend.saved_model.operands import Handle, Listed, Operand
from strop.frontend.saved_model.program import Node, Program
from strop.frontend.tensorflow.node import TensorFlowNode, new_symbol
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Type
from strop.ir.shape import Sym
from strop.ops.data import Expand

_REQUIRED = object()


@dataclass
class State:
    """A variable that keeps its value from one run to the next.

    Attributes:
        value: what it is at this place of the program.
        given: the graph input with its value before the run.
        initial: its value before the first run.
    """

    value: Value
    given: Value
    initial: Array


@dataclass
class Session:
    """What all nodes of one import share.

    Attributes:
        program: the model.
        graph: the graph being built.
        reserved: names of inputs.
        variables: constants by the nodes that make variables.
        changing: nodes that make variables which a run changes.
        state: those of them that were met.
        symbolic: sizes that are data, by the values that hold them.
        symbols: names of computed sizes.
    """

    program: Program
    graph: Graph
    reserved: set[str] = field(default_factory=set)
    variables: dict[str, Value] = field(default_factory=dict)
    changing: frozenset[str] = frozenset()
    state: dict[str, State] = field(default_factory=dict)
    symbolic: dict[Value, Array] = field(default_factory=dict)
    symbols: set[str] = field(default_factory=set)


@dataclass
class NodeContext(TensorFlowNode):
    """One node.

    Attributes:
        session: what all share.
        node: the node.
        operands: what it reads.
        call: reads a function in the place of the node: call(name, operands, label) answers its results.
    """

    session: Session
    node: Node
    operands: Sequence[Operand]
    call: Callable[[str, Sequence[Operand], str], list[Operand]]

    @property
    def symbolic(self) -> dict[Value, Array]:
        return self.session.symbolic

    def symbol(self, wanted: str, most: int) -> Sym:
        return new_symbol(self.graph, self.session.symbols, wanted, most)

    def fresh(self, wanted: str) -> str:
        """A name that no value has."""
        return free_name(wanted, self.graph.values, mark=".")

    # ---- attributes

    def attr(self, name: str, field: str, default: Any = _REQUIRED) -> Any:
        """A field of an attribute: ``i``, ``f``, ``b``, ``type``, ``shape``, ``tensor``, ``func`` or ``list``; the default where it is left out."""
        found = self.node.attributes.get(name)
        if found is None or not found.HasField(field):
            if default is _REQUIRED:
                raise self.malformed(f"attribute {name} is missing")
            return default
        return getattr(found, field)

    def text(self, name: str, default: str | None = None) -> str:
        """An attribute that is a word."""
        found = self.node.attributes.get(name)
        if found is None or not found.s:
            if default is None:
                raise self.malformed(f"attribute {name} is missing")
            return default
        return bytes(found.s).decode("utf-8", "replace")

    def numbers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        found = self.node.attributes.get(name)
        if found is None:
            if default is None:
                raise self.malformed(f"attribute {name} is missing")
            return tuple(default)
        return tuple(int(v) for v in found.list.i)

    def dtype(self, name: str) -> DType:
        """An attribute that is an element type."""
        return tensors.dtype_of(self.attr(name, "type"), self.where)

    def function(self, name: str) -> str:
        """An attribute that is a function: its name."""
        return str(self.attr(name, "func").name)

    # ---- operands

    def __len__(self) -> int:
        return len(self.operands)

    def operand(self, index: int) -> Operand:
        """An operand; ModelError when it is missing."""
        if not -len(self.operands) <= index < len(self.operands):
            raise self.malformed(f"operand {index} is missing")
        return self.operands[index]

    def stored(self, index: int) -> Value:
        """An operand that is a tensor."""
        found = self.operand(index)
        if not isinstance(found, Value):
            raise self.unsupported(f"operand {index} is no tensor of numbers", got=type(found).__name__.lower())
        return found

    def values(self, first: int = 0, last: int | None = None) -> list[Value]:
        """Operands ``first`` to ``last`` as tensors."""
        return [self.stored(k) for k in range(first, len(self) if last is None else last)]

    def handle(self, index: int) -> Handle:
        """An operand that is a variable."""
        found = self.operand(index)
        if not isinstance(found, Handle):
            raise self.malformed(f"operand {index} is no variable", got=type(found).__name__.lower())
        return found

    def listed(self, index: int) -> Listed:
        """An operand that is a list of tensors."""
        found = self.operand(index)
        if not isinstance(found, Listed):
            raise self.malformed(f"operand {index} is no list of tensors", got=type(found).__name__.lower())
        return found

    def floats(self, index: int) -> Value:
        """An operand of a float type."""
        found = self.stored(index)
        if not found.dtype.is_float:
            raise self.unsupported("operands of this type are not supported", got=found.type, expected="floats")
        return found

    def number(self, index: int, what: str) -> float:
        """A known number."""
        array = self.array(index, what)
        if array.size != 1:
            raise self.malformed(f"operand {what} must have one element", got=array.shape)
        return float(array.reshape(())[()])

    def channels_axis(self, name: str = "data_format") -> bool:
        """Whether the channels are last."""
        format = self.text(name, "NHWC")
        if format not in ("NHWC", "NCHW", "NDHWC", "NCDHW"):
            raise self.unsupported("this data format is not supported", got=format, expected="NHWC, NCHW, NDHWC or NCDHW")
        return format.endswith("C")

    def variable(self, handle: Handle) -> Value:
        """A variable's elements, as a constant; of one that changes what it is here.

        Raises:
            UnsupportedError: nothing is saved for it.
            ModelError: what is saved is damaged.
        """
        session = self.session
        if handle.name in session.changing:
            return self.state(handle).value
        found = session.variables.get(handle.name)
        if found is None:
            found = self.graph.add_const(self._saved(handle), self.fresh(handle.name))
            session.variables[handle.name] = found
        return found

    def _saved(self, handle: Handle) -> Array:
        """A variable's elements as they are saved."""
        program = self.session.program
        given: Array | None = program.values.get(handle.name)
        if given is not None:
            return given
        key = program.keys.get(handle.name)
        if key is None or program.bundle is None:
            raise self.unsupported("a variable is read that nothing is saved for", got=handle.name)
        return program.bundle.array(key)

    def state(self, handle: Handle) -> State:
        """A variable that a run changes; it begins as a graph input."""
        states = self.session.state
        if handle.name not in states:
            initial = self._saved(handle)
            given = self.graph.add_input(self.fresh(handle.name), Type(dt.from_numpy(initial.dtype), initial.shape))
            states[handle.name] = State(given, given, initial)
        return states[handle.name]

    def assign(self, handle: Handle, value: Value) -> None:
        """Gives a variable another value.

        Raises:
            UnsupportedError: of another type or shape, or a variable that was not known to change.
        """
        if handle.name not in self.session.changing:
            raise self.unsupported("variables that are changed in this way are not supported", got=handle.name)
        state = self.state(handle)
        if state.given.type != value.type:
            raise self.unsupported("a variable that changes its type is not supported", got=value.type, expected=state.given.type)
        state.value = value

    def broadcast(self, value: Value, shape: Sequence[Any]) -> Value:
        """A value repeated over a shape."""
        return value if value.shape == tuple(shape) else self.step(Expand(tuple(shape)), value)

    def zeros_like(self, value: Value) -> Value:
        """Zeros of a value's type."""
        return self.filled(value.shape, 0, value.dtype)

    def constant(self, array: Array) -> Value:
        """A constant out of the model's file: as large as it may be."""
        return self.graph.add_const(np.asarray(array), self._fresh(self.name))
