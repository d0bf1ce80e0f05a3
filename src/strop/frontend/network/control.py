"""Loops and conditionals: layers that stand for one of them together, as TensorRT's ILoop and IIfConditional.

    loop = layers.Loop(net)
    loop.trip_limit(count, "count")
    total = loop.recurrence(zero)                        # zero in the first round
    total.set_input(1, net.add(layers.Elementwise("sum"), total.output, loop.iterator(x).output).output)
    last = loop.result(total.output)                     # what the next round would see
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.errors import GraphError, OptionError
from strop.frontend.branches import Branch, Chooser
from strop.frontend.names import free_name
from strop.frontend.network.layer import Emitter, Layer, Tensor
from strop.frontend.network.network import Network
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Node, Value
from strop.ir.shape import Dim
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.data import Concat, Expand, Slice
from strop.ops.data import Identity as IdentityOp
from strop.ops.index import Gather

LIMITS = ("count", "while")
RESULTS = ("last_value", "concatenate", "reverse")

# ---- loops


class Loop:
    """A loop under construction: what its layers share.

    Attributes:
        network: that it is part of.
        limits, recurrences, results: its layers, in the order in which they were added.
        name: of the loop.
    """

    def __init__(self, network: Network, name: str = "") -> None:
        if network.implicit_batch:
            raise GraphError("a network with an implicit batch takes no loops", where=network.name)
        self.network = network
        self.name = name or f"(Unnamed Loop* {len(network.layers)})"
        self.limits: list[TripLimit] = []
        self.recurrences: list[Recurrence] = []
        self.results: list[LoopResult] = []

    def trip_limit(self, tensor: Tensor, kind: str) -> TripLimit:
        """Says how long the loop goes on: ``count`` rounds (an integer from outside), or ``while`` a bool holds, which is computed
        from the recurrences and looked at before every round. With both, whichever ends first."""
        layer = self.network.add(TripLimit(self, kind), tensor)
        self.limits.append(layer)
        self.network.forget()
        return layer

    def recurrence(self, initial: Tensor) -> Recurrence:
        """A value that every round hands to the next one; ``set_input(1, tensor)`` says what."""
        layer = self.network.add(Recurrence(self), initial)
        self.recurrences.append(layer)
        self.network.forget()
        return layer

    def iterator(self, tensor: Tensor, axis: int = 0, reverse: bool = False) -> LoopIterator:
        """The slices of a tensor along an axis, which goes, one per round."""
        return self.network.add(LoopIterator(self, axis, reverse), tensor)

    def result(self, tensor: Tensor, kind: str = "last_value", axis: int = 0) -> LoopResult:
        """What the loop gives: see ``LoopResult``."""
        layer = self.network.add(LoopResult(self, kind, axis), tensor)
        self.results.append(layer)
        self.network.forget()
        return layer

    # ---- emitting

    def before(self) -> list[Tensor]:
        """Tensors that the first round needs."""
        return [*(r.first for r in self.recurrences), *(limit.first for limit in self.limits if limit.limit == "count")]

    def within(self) -> list[Tensor]:
        """Tensors that a round computes."""
        return [*(r.next for r in self.recurrences), *(r.first for r in self.results), *(t for r in self.results for t in r.inputs[1:] if t is not None)]

    def begin(self, e: Emitter) -> _Begun:
        """The node before the loop; made once."""
        if self not in e.begun:
            e.begun[self] = None
            first = [e.values.value(r.first) for r in self.recurrences]
            count = self._count(e)
            go = self._go(e, e.const(np.asarray(0, np.int64), role="round"), count, {r.output: v for r, v in zip(self.recurrences, first, strict=True)})
            made = e.graph.add(LoopBegin(self.name), [go, *first], name=self.name, source=(self.name,), outputs=[f"{self.name}:round"])
            e.begun[self] = _Begun(made.outputs[0], made.outputs[1:], count)
        found = e.begun[self]
        if not isinstance(found, _Begun):
            raise e.unsupported("a condition of a loop that looks at more than its recurrences", got=self.name, hint="make what it reads a recurrence")
        return found

    def end(self, e: Emitter) -> dict[LoopResult, Value]:
        """The node after the loop, and what it gives; made once."""
        if (self, "end") not in e.begun:
            e.begun[self, "end"] = self._ended(e)
        return e.begun[self, "end"]  # type: ignore[no-any-return]

    def _ended(self, e: Emitter) -> dict[LoopResult, Value]:
        if not self.limits:
            raise e.unsupported("a loop without a trip limit never ends", hint="loop.trip_limit(tensor, 'count')")
        begun = self.begin(e)
        after = [e.values.value(r.next) for r in self.recurrences]
        for recurrence, old, new in zip(self.recurrences, begun.carried, after, strict=True):
            if old.type != new.type:
                raise e.unsupported(f"a round changes the type of {recurrence.name}", got=f"{old.type} becomes {new.type}")
        exact = all(limit.limit == "count" for limit in self.limits)
        known = None if begun.count is None or not exact else e.contents.of(begun.count)
        rounds: Dim | None = None if known is None else known.reshape(-1)[0]
        counted = rounds is not None and sh.bounds(rounds)[0] >= 0
        collected = [r for r in self.results if r.what != "last_value"]
        for layer in collected:
            layer.check_length(e, rounds if counted else None)
        scans = [e.values.value(r.first) for r in collected]
        number = begun.number if begun.count is None else e.fn("add", begun.number, e.const(np.asarray(1, np.int64)))
        more = self._go(e, number, begun.count, {r.output: v for r, v in zip(self.recurrences, after, strict=True)})
        most = max((layer.most(e) for layer in collected), default=_UNBOUNDED)
        size: Dim = rounds if counted and rounds is not None else e.symbol("rounds", most)
        end = e.graph.add(LoopEnd(self.name, len(scans), size, not counted), [begun.number, more, *after, *scans], name=self.name, source=(self.name,))
        found = dict(zip(collected, end.outputs[len(after) : -1], strict=True))
        carried = dict(zip((r.output for r in self.recurrences), end.outputs[: len(after)], strict=True))
        for layer in self.results:
            if layer not in found:
                if layer.first not in carried:
                    raise e.unsupported("the last value of what is no recurrence", got=layer.first.name, hint="make it a recurrence of the loop")
                found[layer] = carried[layer.first]
        return found

    def _count(self, e: Emitter) -> Value | None:
        """The least of the counts, i64."""
        found: Value | None = None
        for limit in self.limits:
            if limit.limit == "count":
                value = e.values.value(limit.first)
                if not value.dtype.is_int or sh.volume(value.shape) != 1:
                    raise e.fail("a number of rounds is one integer", value.type)
                value = e.cast(e.reshape(value, ()), dt.i64)
                found = value if found is None else e.fn("min", found, value)
        return found

    def _go(self, e: Emitter, number: Value, count: Value | None, carried: dict[Tensor, Value]) -> Value:
        """Whether round ``number`` takes place."""
        found = None if count is None else e.fn("lt", number, count)
        for limit in self.limits:
            if limit.limit == "while":
                value = e.values.replayed(limit.first, carried)
                if value.dtype is not dt.boolean or sh.volume(value.shape) != 1:
                    raise e.fail("a condition is one bool", value.type)
                value = e.reshape(value, ())
                found = value if found is None else e.fn("and", found, value)
        return e.const(np.asarray(True), role="go") if found is None else found


_UNBOUNDED = (1 << 31) - 1


@dataclass
class _Begun:
    """A loop whose first node is there: the number of the round, i64; the carried values; the number of rounds where one is given."""

    number: Value
    carried: list[Value]
    count: Value | None


@dataclass(eq=False)
class _LoopLayer(Layer):
    joined: ClassVar[bool] = True

    loop: Loop

    @property
    def first(self) -> Tensor:
        """Operand 0."""
        found = self.inputs[0]
        assert found is not None
        return found


@dataclass(eq=False)
class TripLimit(_LoopLayer):
    """Ends a loop, see ``Loop.trip_limit``. Operand: an integer, or a bool.

    Attributes:
        limit: one of LIMITS.
    """

    kind: ClassVar[str] = "TripLimit"

    limit: str

    def results(self) -> int:
        return 0

    def check(self) -> None:
        if self.limit not in LIMITS:
            raise OptionError("unknown kind of trip limit", where=self.name, got=self.limit, expected=", ".join(LIMITS))

    def needs(self) -> Iterable[Tensor]:
        return ()

    def emit(self, e: Emitter, *inputs: Value) -> list[Value]:
        return []


@dataclass(eq=False)
class Recurrence(_LoopLayer):
    """A value that every round hands to the next one. Operands: what it is in the first round; what it is in the next one."""

    kind: ClassVar[str] = "Recurrence"
    arity: ClassVar[tuple[int, int | None]] = (1, 2)

    @property
    def next(self) -> Tensor:
        """What it is in the next round."""
        found = self.inputs[1] if len(self.inputs) > 1 else None
        if found is None:
            raise GraphError("nothing says what a recurrence becomes", where=self.name, hint="layer.set_input(1, tensor)")
        return found

    def needs(self) -> Iterable[Tensor]:
        return self.loop.before()

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        return self.loop.begin(e).carried[self.loop.recurrences.index(self)]


@dataclass(eq=False)
class LoopIterator(_LoopLayer):
    """Slice number ``round`` of a tensor. Operand: x, with as many slices as there are rounds, or more.

    Attributes:
        axis: along which x is sliced; the result does not have it.
        reverse: the last slice comes first.
    """

    kind: ClassVar[str] = "Iterator"

    axis: int = 0
    reverse: bool = False

    def needs(self) -> Iterable[Tensor]:
        return [self.first, *self.loop.before()]

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        axis = sh.normalize_axis(self.axis, x.type.rank, self.name)
        size = x.shape[axis]
        if not isinstance(size, int):
            raise e.unsupported("a loop over a free axis", got=x.type)
        last = e.const(np.asarray(size - 1, np.int64), role="last")
        number = e.fn("min", self.loop.begin(e).number, last)
        return e(Gather(axis), x, e.fn("sub", last, number) if self.reverse else number)


@dataclass(eq=False)
class LoopResult(_LoopLayer):
    """What a loop gives. Operands: a tensor of the loop; for all but ``last_value`` optionally how long the result is (constant).

    Attributes:
        what: last_value (of a recurrence, after the last round), concatenate (the values of all rounds on a new axis; zeros where the
            result is longer than there are rounds), or reverse (the same, the last round first).
        axis: the new one.
    """

    kind: ClassVar[str] = "LoopOutput"
    arity: ClassVar[tuple[int, int | None]] = (1, 2)

    what: str = "last_value"
    axis: int = 0

    def check(self) -> None:
        if self.what not in RESULTS:
            raise OptionError("unknown kind of loop output", where=self.name, got=self.what, expected=", ".join(RESULTS))

    def needs(self) -> Iterable[Tensor]:
        return [*self.loop.before(), *self.loop.within()]

    def _length(self, e: Emitter) -> Dim | None:
        tensor = self.inputs[1] if len(self.inputs) > 1 else None
        return None if tensor is None else e.dims(e.values.value(tensor), "the length of what a loop collects")[0]

    def check_length(self, e: Emitter, rounds: Dim | None) -> None:
        """Raises UnsupportedError where nothing says how long the result is, ShapeError where it is too short."""
        length = self._length(e)
        if rounds is None and not isinstance(length, int):
            raise e.unsupported("nothing says how many values a loop collects", got=self.name, hint="set_input(1, a constant)")
        if isinstance(rounds, int) and isinstance(length, int) and rounds > length:
            raise e.fail(f"{self.name} is shorter than there are rounds", length, f"{rounds} or more")

    def most(self, e: Emitter) -> int:
        """How long the result is at most."""
        length = self._length(e)
        return _UNBOUNDED if length is None else sh.bounds(length)[1]

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        y = self.loop.end(e)[self]
        if self.what == "last_value":
            return y
        rounds, length = y.shape[0], self._length(e)
        if self.what == "reverse":
            y = e(Slice((sh.sub(rounds, 1),), (-1,), (0,), (-1,)), y)
        if length is not None and length != rounds:
            blank = e(Expand((length, *y.shape[1:])), e.const(0, y.dtype, "blank"))
            y = e(Slice((0,), (length,), (0,), (1,)), e(Concat(0), y, blank))
        axis = sh.normalize_axis(self.axis, y.type.rank, self.name)
        return e.transpose(y, [*range(1, axis + 1), 0, *range(axis + 1, y.type.rank)])


# ---- conditionals


class Conditional:
    """An if under construction: what its layers share. A condition that is known when the network is built takes its branch. Otherwise, where a
    branch is worth a jump and nothing outside reads what is within it, only the branch that is taken runs; else both do, and the condition picks.

    Attributes:
        network: that it is part of.
        condition: a bool, once it is set.
        inputs, outputs: its layers.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.condition: Condition | None = None
        self.inputs: list[ConditionalInput] = []
        self.outputs: list[ConditionalOutput] = []

    def set_condition(self, tensor: Tensor) -> Condition:
        """Says which branch is taken: a bool of one element.

        Raises:
            GraphError: it was said before.
        """
        if self.condition is not None:
            raise GraphError("the conditional has a condition already", where=self.condition.name)
        self.condition = self.network.add(Condition(self), tensor)
        return self.condition

    def input(self, tensor: Tensor) -> ConditionalInput:
        """A tensor from outside, as the branches see it."""
        layer = self.network.add(ConditionalInput(self), tensor)
        self.inputs.append(layer)
        return layer

    def output(self, yes: Tensor, no: Tensor) -> ConditionalOutput:
        """``yes`` where the condition holds, else ``no``; both have one type."""
        layer = self.network.add(ConditionalOutput(self), yes, no)
        self.outputs.append(layer)
        self.network.forget()
        return layer

    # ---- emitting

    def end(self, e: Emitter, flag: Value) -> dict[ConditionalOutput, Value]:
        """What the conditional gives; made once."""
        if (self, "end") not in e.begun:
            e.begun[self, "end"] = dict(zip(self.outputs, self._ended(e, flag), strict=True))
        return e.begun[self, "end"]  # type: ignore[no-any-return]

    def _ended(self, e: Emitter, flag: Value) -> list[Value]:
        sides = [[e.values.value(t) for o in self.outputs if (t := o.inputs[side]) is not None] for side in (0, 1)]
        if flag.const is not None and flag.const.size == 1:
            return sides[0 if flag.const.item() else 1]
        for yes, no in zip(*sides, strict=True):
            if yes.type != no.type:
                raise e.unsupported("a computed condition decides over the type of a result", got=f"{yes.type} or {no.type}")
        branches = [Branch(self._within(e, side), side) for side in sides]
        if any(b.is_dear for b in branches) and self._are_apart(e, branches):
            name = e.layer
            return Chooser(e.graph, name, lambda wanted: free_name(wanted, e.graph.values)).choose(e.reshape(flag, ()), *branches)
        return [e.fn("where", e.reshape(flag, (1,) * yes.type.rank), yes, no) for yes, no in zip(*sides, strict=True)]

    def _within(self, e: Emitter, results: list[Value]) -> list[Node]:
        """The nodes that results need and that need an input of the conditional, in order."""
        marks = {e.values.value(layer.output) for layer in self.inputs}
        above: set[Node] = set()
        pending = [v.producer for v in results if v.producer is not None and v not in marks]
        while pending:
            node = pending.pop()
            if node not in above:
                above.add(node)
                pending += [v.producer for v in node.operands if v.producer is not None and v not in marks]
        inside: set[Value] = set(marks)
        found = []
        for node in e.graph.nodes:
            if node in above and any(v in inside for v in node.operands):
                found.append(node)
                inside.update(node.outputs)
        return found

    def _are_apart(self, e: Emitter, branches: list[Branch]) -> bool:
        """Whether nothing but its own branch and the outputs of the conditional reads what a branch computes."""
        own = [set(branch.nodes) for branch in branches]
        if own[0] & own[1]:
            return False
        for nodes in own:
            made = {v for node in nodes for v in node.outputs}
            if any(reader not in nodes for v in made for reader in v.users):
                return False
            inside = [t for t in self.network.tensors() if e.values.emitted(t) in made]
            if any(t in self.network.outputs or not self._is_own(e, layer, made) for t in inside for layer in self._readers(t)):
                return False
        return True

    def _readers(self, tensor: Tensor) -> list[Layer]:
        return [layer for layer in self.network.layers if tensor in layer.inputs]

    def _is_own(self, e: Emitter, layer: Layer, made: set[Value]) -> bool:
        """Whether a layer that reads what a branch computes belongs to the branch, or is where it ends."""
        if isinstance(layer, ConditionalOutput) and layer.branch is self:
            return True
        if isinstance(layer, TripLimit):
            return all(e.values.emitted(r.output) in made for r in layer.loop.recurrences)
        values = [e.values.emitted(t) for t in layer.outputs]
        if any(v is not None for v in values):
            return all(v in made for v in values)
        readers = [reader for t in layer.outputs for reader in self._readers(t)]  # it may serve a condition, which is emitted by itself
        return not any(t in self.network.outputs for t in layer.outputs) and all(self._is_own(e, reader, made) for reader in readers)


@dataclass(eq=False)
class _BranchLayer(Layer):
    branch: Conditional


@dataclass(eq=False)
class Condition(_BranchLayer):
    """The condition of a conditional. Operand: a bool of one element."""

    kind: ClassVar[str] = "Condition"

    def results(self) -> int:
        return 0

    def emit(self, e: Emitter, *inputs: Value) -> list[Value]:
        if inputs[0].dtype is not dt.boolean or sh.volume(inputs[0].shape) != 1:
            raise e.fail("a condition is one bool", inputs[0].type)
        return []


@dataclass(eq=False)
class ConditionalInput(_BranchLayer):
    """A tensor as the branches of a conditional see it."""

    kind: ClassVar[str] = "ConditionalInput"

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        return e(IdentityOp(), *inputs)  # what needs it is within a branch


@dataclass(eq=False)
class ConditionalOutput(_BranchLayer):
    """What a conditional gives. Operands: where the condition holds; where it does not."""

    kind: ClassVar[str] = "ConditionalOutput"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    def needs(self) -> Iterable[Tensor]:
        condition = self.branch.condition
        if condition is None:
            raise GraphError("the conditional has no condition", where=self.name, hint="conditional.set_condition(tensor)")
        inside = (t for layer in self.branch.outputs for t in layer.inputs)
        return [t for t in (*inside, *condition.inputs, *(layer.output for layer in self.branch.inputs)) if t is not None]

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        condition = self.branch.condition
        assert condition is not None and condition.inputs[0] is not None
        return self.branch.end(e, e.values.value(condition.inputs[0]))[self]


# ---- assertions


@dataclass(eq=False)
class Assertion(Layer):
    """Says that all elements of a bool hold. Looked at when the network is built, so they must be known then: constants, or what is
    computed from shapes.

    Attributes:
        message: why the build fails where they do not hold.
    """

    kind: ClassVar[str] = "Assertion"

    message: str = ""

    def results(self) -> int:
        return 0

    def emit(self, e: Emitter, *inputs: Value) -> list[Value]:
        (x,) = inputs
        if x.dtype is not dt.boolean:
            raise e.fail("an assertion looks at bools", x.type)
        known = e.contents.of(x) if x.const is None else x.const
        if known is None:
            raise e.unsupported("an assertion about data", got=x.type, hint="leave it out, or make its result an output and look at it after a run")
        if not np.all(known.astype(bool)):
            raise e.fail(f"an assertion does not hold: {self.message}", known.reshape(-1).tolist())
        return []
