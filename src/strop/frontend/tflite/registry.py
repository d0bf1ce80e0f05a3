"""The tables of builtin operators: their names in the schema to import functions, and ops to the functions that write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from strop.frontend.rules import files, registers
from strop.frontend.tflite.context import NodeContext
from strop.ir.graph import Value
from strop.ir.op import Op

if TYPE_CHECKING:
    from strop.frontend.tflite.emission import NodeWriter

#: Emits the ops for one operator and returns its results in order. An integer result is taken as stored; a float one of a quantized
#: tensor is quantized to its grid.
Handler = Callable[[NodeContext], "Value | Sequence[Value]"]
HandlerT = TypeVar("HandlerT", bound=Handler)

RULES: dict[str, Handler] = {}
#: Custom operators by their names.
CUSTOM_RULES: dict[str, Handler] = {}


def tflite_op(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Registers the function that imports the given operators.

    Args:
        names: as in ``BuiltinOperator`` of the schema, such as ``CONV_2D``.
    """

    return registers(RULES, names)


def tflite_custom(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Registers the function that imports the given custom operators, unless a custom layer is declared for them."""

    return registers(CUSTOM_RULES, names)


#: Emits the operators for one node.
WriteHandler = Callable[["NodeWriter"], None]
WriteHandlerT = TypeVar("WriteHandlerT", bound=WriteHandler)

#: By class of op, or by name of an elementwise function.
WRITERS: dict[type[Op] | str, WriteHandler] = {}


def writes(*ops: type[Op] | str) -> Callable[[WriteHandlerT], WriteHandlerT]:
    """Registers the function that writes nodes of the given ops; of one that is named twice, the function is a defect.

    Args:
        ops: classes of ops, or names of elementwise functions.
    """

    def register(function: WriteHandlerT) -> WriteHandlerT:
        for op in ops:
            if WRITERS.setdefault(op, function) is not function:
                raise ValueError(f"two functions write {op}")
        return function

    return register


def supported_operators() -> dict[str, str]:
    """Operators that are read, with the file of their import function."""
    return files(RULES)
