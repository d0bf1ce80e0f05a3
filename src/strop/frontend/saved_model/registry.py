"""The table of TensorFlow ops: their names to import functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from strop.frontend.saved_model.context import NodeContext
from strop.frontend.saved_model.operands import Operand

#: Emits the ops for one node and returns its results in order.
Handler = Callable[[NodeContext], "Operand | Sequence[Operand]"]
HandlerT = TypeVar("HandlerT", bound=Handler)

RULES: dict[str, Handler] = {}
#: Names of the outputs of ops that have several, in order; where one of them is a list, it is the only one.
PORTS: dict[str, tuple[str, ...]] = {}


def tf_op(*names: str, ports: Sequence[str] = ()) -> Callable[[HandlerT], HandlerT]:
    """Registers the function that imports the given ops.

    Args:
        names: of TensorFlow's ops, such as ``Conv2D``.
        ports: names of the outputs where the op's definition has several.
    """

    def register(function: HandlerT) -> HandlerT:
        for name in names:
            if RULES.setdefault(name, function) is not function:
                raise ValueError(f"two rules for {name}")
            if ports:
                PORTS[name] = tuple(ports)
        return function

    return register


def supported_operators() -> dict[str, str]:
    """Ops that are read, with the file of their import function."""
    return {name: getattr(RULES[name], "func", RULES[name]).__module__.split(".")[-1] for name in sorted(RULES)}
