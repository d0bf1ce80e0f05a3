"""The table of Keras layers: their classes to import functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from strop.frontend.keras.context import LayerContext
from strop.frontend.rules import files, registers
from strop.ir.graph import Value

#: Emits the ops for one call of a layer and returns its results in order.
Handler = Callable[[LayerContext], "Value | Sequence[Value]"]
HandlerT = TypeVar("HandlerT", bound=Handler)

RULES: dict[str, Handler] = {}


def keras_layer(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Registers the function that imports the given layers.

    Args:
        names: of their classes, such as ``Conv2D``.
    """

    return registers(RULES, names)


def supported_layers() -> dict[str, str]:
    """Layers that are read, with the file of their import function."""
    return files(RULES)
