"""The table of Keras layers: their classes to import functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from strop.frontend.keras.context import LayerContext
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

    def register(function: HandlerT) -> HandlerT:
        for name in names:
            if RULES.setdefault(name, function) is not function:
                raise ValueError(f"two rules for {name}")
        return function

    return register


def supported_layers() -> dict[str, str]:
    """Layers that are read, with the file of their import function."""
    return {name: getattr(RULES[name], "func", RULES[name]).__module__.split(".")[-1] for name in sorted(RULES)}
