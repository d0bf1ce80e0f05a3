"""The table of TensorFlow ops: their names to import functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from strop.frontend.rules import files, registers
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

    if ports:
        PORTS.update(dict.fromkeys(names, tuple(ports)))
    return registers(RULES, names)


def supported_operators() -> dict[str, str]:
    """Ops that are read, with the file of their import function."""
    return files(RULES)
