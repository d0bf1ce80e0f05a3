"""Parameters of Strop's layers under TensorRT's names and types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from strop.compat.tensorrt.basics import Dims, array_of


class Attribute:
    """A parameter of a layer under TensorRT's name and type.

    Args:
        name: of the parameter.
        read: parameter to what users see.
        write: what users give to parameter.
    """

    def __init__(self, name: str, read: Callable[[Any], Any] = lambda v: v, write: Callable[[Any], Any] = lambda v: v) -> None:
        self._name, self._read, self._write = name, read, write

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        return self if layer is None else self._read(getattr(layer.own, self._name))

    def __set__(self, layer: Any, value: Any) -> None:
        setattr(layer.own, self._name, self._write(value))


def number(name: str, kind: type = float) -> Attribute:
    """A number."""
    return Attribute(name, write=kind)


def choice(name: str, enum: Any) -> Attribute:
    """A member of an enum; parameters hold its name in lower case."""
    return Attribute(name, lambda v: enum[v.upper()], lambda v: enum(v).name.lower())


def sizes(name: str, kind: type = Dims) -> Attribute:
    """Sizes or a permutation, or None."""

    def read(value: Any) -> Any:
        return kind((value, value)) if isinstance(value, int) else None if value is None else kind(value)

    return Attribute(name, read, lambda v: v if v is None else (int(v),) * 2 if isinstance(v, int) else tuple(int(x) for x in v))


def weights(name: str) -> Attribute:
    """Weights, read as an array; an empty one where there are none."""
    return Attribute(name, lambda v: np.empty(0, np.float32) if v is None else np.asarray(v).ravel(), array_of)
