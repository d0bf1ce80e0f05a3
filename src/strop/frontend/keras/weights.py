"""What is saved for a model or a layer, wherever it lies."""

from __future__ import annotations

from collections.abc import Sequence

from strop.ir.op import Array


class Weights:
    """What is saved for a model or layer. Subclasses know the two ways in which Keras writes it."""

    def children(self, layers: Sequence[tuple[str, str]]) -> dict[str, Weights]:
        """Of a model: the weights of its layers, given as (class, name), by name."""
        raise NotImplementedError

    def inner(self) -> Weights:
        """Of a layer that wraps another one: the weights of that."""
        raise NotImplementedError

    def arrays(self) -> list[Array]:
        """Of a layer: all of them."""
        raise NotImplementedError
