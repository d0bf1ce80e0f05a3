"""ILoop and IIfConditional, and the layers that they consist of."""

from __future__ import annotations

from typing import Any

from strop.compat.tensorrt import enums
from strop.compat.tensorrt.adding import adds, name_in
from strop.compat.tensorrt.attributes import Attribute, choice, number
from strop.compat.tensorrt.enums import LayerType
from strop.compat.tensorrt.layers import CLASSES, ILayer
from strop.compat.tensorrt.tensor import ITensor
from strop.frontend import network as nw


class ILoop:
    """A loop under construction."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.own = nw.Loop(network.own)
        network.loops[self.own] = self

    name = Attribute("name")

    def failed(self, error: Exception | str) -> None:
        """Logs an error."""
        self.network.failed(error)

    @adds
    def add_recurrence(self, initial_value: ITensor) -> Any:
        """A value that every round hands to the next one; operand 1 says what."""
        return self.network.layer(self.own.recurrence(initial_value.own))

    @adds
    def add_trip_limit(self, tensor: ITensor, kind: Any) -> Any:
        """Ends the loop after a number of rounds, or when a condition does not hold."""
        return self.network.layer(self.own.trip_limit(tensor.own, name_in(enums.TripLimit, kind)))

    @adds
    def add_iterator(self, tensor: ITensor, axis: int = 0, reverse: bool = False) -> Any:
        """Slices of a tensor, one per round."""
        return self.network.layer(self.own.iterator(tensor.own, axis, reverse))

    @adds
    def add_loop_output(self, tensor: ITensor, kind: Any, axis: int = 0) -> Any:
        """What the loop gives; operand 1 is how long what is collected becomes."""
        return self.network.layer(self.own.result(tensor.own, name_in(enums.LoopOutput, kind), axis))


class ILoopBoundaryLayer(ILayer):
    """A layer between the inside of a loop and the outside."""

    loop = property(lambda self: self.network.loops[self.own.loop])


class ITripLimitLayer(ILoopBoundaryLayer):
    layer_type = LayerType.TRIP_LIMIT
    kind = choice("limit", enums.TripLimit)


class IRecurrenceLayer(ILoopBoundaryLayer):
    layer_type = LayerType.RECURRENCE


class IIteratorLayer(ILoopBoundaryLayer):
    layer_type = LayerType.ITERATOR
    axis = number("axis", int)
    reverse = number("reverse", bool)


class ILoopOutputLayer(ILoopBoundaryLayer):
    layer_type = LayerType.LOOP_OUTPUT
    axis = number("axis", int)
    kind = choice("what", enums.LoopOutput)


class IIfConditional:
    """A conditional under construction."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.own = nw.Conditional(network.own)
        self.name = f"(Unnamed Conditional* {len(network.loops)})"
        network.loops[self.own] = self

    def failed(self, error: Exception | str) -> None:
        """Logs an error."""
        self.network.failed(error)

    @adds
    def set_condition(self, condition: ITensor) -> Any:
        """Says which branch is taken: a bool."""
        return self.network.layer(self.own.set_condition(condition.own))

    @adds
    def add_input(self, input: ITensor) -> Any:
        """A tensor from outside, as the branches see it."""
        return self.network.layer(self.own.input(input.own))

    @adds
    def add_output(self, true_subgraph_output: ITensor, false_subgraph_output: ITensor) -> Any:
        """What the conditional gives."""
        return self.network.layer(self.own.output(true_subgraph_output.own, false_subgraph_output.own))


class IIfConditionalBoundaryLayer(ILayer):
    """A layer between the inside of a conditional and the outside."""

    conditional = property(lambda self: self.network.loops[self.own.branch])


class IConditionLayer(IIfConditionalBoundaryLayer):
    layer_type = LayerType.CONDITION


class IIfConditionalInputLayer(IIfConditionalBoundaryLayer):
    layer_type = LayerType.CONDITIONAL_INPUT


class IIfConditionalOutputLayer(IIfConditionalBoundaryLayer):
    layer_type = LayerType.CONDITIONAL_OUTPUT


CLASSES.update(
    {
        nw.TripLimit: ITripLimitLayer,
        nw.Recurrence: IRecurrenceLayer,
        nw.LoopIterator: IIteratorLayer,
        nw.LoopResult: ILoopOutputLayer,
        nw.Condition: IConditionLayer,
        nw.ConditionalInput: IIfConditionalInputLayer,
        nw.ConditionalOutput: IIfConditionalOutputLayer,
    }
)
