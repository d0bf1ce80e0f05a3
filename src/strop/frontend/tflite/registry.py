"""The table of builtin operators: their names in the schema to import functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from strop.frontend.tflite.context import NodeContext
from strop.ir.graph import Value

#: Emits the ops for one operator and returns its results in order. An integer result is taken as stored; a float one of a quantized
#: tensor is quantized to its grid.
Handler = Callable[[NodeContext], "Value | Sequence[Value]"]
HandlerT = TypeVar("HandlerT", bound=Handler)

RULES: dict[str, Handler] = {}


def tflite_op(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Registers the function that imports the given operators.

    Args:
        names: as in ``BuiltinOperator`` of the schema, such as ``CONV_2D``.
    """

    def register(function: HandlerT) -> HandlerT:
        for name in names:
            if RULES.setdefault(name, function) is not function:
                raise ValueError(f"two rules for {name}")
        return function

    return register


def supported_operators() -> dict[str, str]:
    """Operators that are read, with the file of their import function."""
    return {name: getattr(RULES[name], "func", RULES[name]).__module__.split(".")[-1] for name in sorted(RULES)}
