"""What an import function sees of its layer: configuration, operands, weights, and steps that emit ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.frontend.keras.weights import Weights
from strop.frontend.tensorflow.node import TensorFlowNode
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ir.op import Array

_REQUIRED = object()


@dataclass
class LayerContext(TensorFlowNode):
    """One call of a layer.

    Attributes:
        config: the layer's configuration.
        operands: the tensors that it is called with, in order.
        extra: further arguments of the call, by name; tensors among them are Values.
        weights: what is saved for it.
        major: version of Keras.
        consts: constants of this layer's weights, which all its calls share.
    """

    config: dict[str, Any]
    operands: Sequence[Value]
    extra: dict[str, Any]
    weights: Weights
    major: int
    consts: dict[str, Value] = field(default_factory=dict)
    _sizes: dict[Value, Array] = field(default_factory=dict)

    @property
    def symbolic(self) -> dict[Value, Array]:
        return self._sizes

    # ---- configuration

    def option(self, name: str, default: Any = _REQUIRED) -> Any:
        """A value of the configuration; the default where it is left out."""
        if name not in self.config:
            if default is _REQUIRED:
                raise self.malformed(f"{name} is missing in its configuration")
            return default
        return self.config[name]

    def flag(self, name: str, default: bool = False) -> bool:
        """A value that is true or false."""
        found = self.option(name, default)
        if not isinstance(found, bool):
            raise self.malformed(f"{name} is neither true nor false", got=repr(found)[:80])
        return found

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """A value that is a number."""
        found = self.option(name, default)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise self.malformed(f"{name} is no number", got=repr(found)[:80])
        return float(found)

    def whole(self, name: str, default: Any = _REQUIRED) -> int:
        """A value that is a whole number."""
        found = self.option(name, default)
        if isinstance(found, bool) or not isinstance(found, int) or abs(found) > 1 << 31:
            raise self.malformed(f"{name} is no whole number", got=repr(found)[:80])
        return found

    def word(self, name: str, default: Any = _REQUIRED) -> str:
        """A value that is a word."""
        found = self.option(name, default)
        if not isinstance(found, str):
            raise self.malformed(f"{name} is no word", got=repr(found)[:80])
        return found

    def numbers(self, name: str, count: int, default: Any = _REQUIRED) -> tuple[int, ...]:
        """A list of so many whole numbers, or one that stands for all of them."""
        found = self.option(name, default)
        given = [found] * count if isinstance(found, int) else found
        if not isinstance(given, (list, tuple)) or len(given) != count or not all(isinstance(n, int) and abs(n) <= 1 << 31 for n in given):
            raise self.malformed(f"{name} does not fit", got=repr(found)[:80], expected=f"{count} whole numbers")
        return tuple(given)

    def pairs(self, name: str, count: int) -> list[tuple[int, int]]:
        """Numbers before and after so many axes: a number for all, a number per axis, or two per axis."""
        found = self.option(name)
        given = [found] * count if isinstance(found, int) else found
        if count == 1 and isinstance(given, (list, tuple)) and len(given) == 2:
            given = [given]
        if not isinstance(given, (list, tuple)) or len(given) != count:
            raise self.malformed(f"{name} does not fit", got=repr(found)[:80], expected=f"{count} pairs of numbers")
        pairs = [(p, p) if isinstance(p, int) else p for p in given]
        if not all(isinstance(p, (list, tuple)) and len(p) == 2 and all(isinstance(n, int) and 0 <= n <= 1 << 30 for n in p) for p in pairs):
            raise self.malformed(f"{name} does not fit", got=repr(found)[:80], expected=f"{count} pairs of numbers from 0 on")
        return [(p[0], p[1]) for p in pairs]

    @property
    def channels_are_last(self) -> bool:
        """Whether the channels are the last axis of x; ``channels_first`` says otherwise."""
        format = self.option("data_format", None) or "channels_last"
        if format not in ("channels_last", "channels_first"):
            raise self.malformed("data_format is not known", got=repr(format)[:80])
        return bool(format == "channels_last")

    # ---- operands

    def __len__(self) -> int:
        return len(self.operands)

    def stored(self, index: int) -> Value:
        if index >= len(self.operands):
            raise self.malformed(f"operand {index} is missing")
        return self.operands[index]

    def floats(self, index: int = 0) -> Value:
        """An operand in f32, the type of all weights."""
        return self.cast(self.stored(index), dt.f32)

    def ranked(self, rank: int, index: int = 0) -> Value:
        """An operand of a rank, channels last."""
        x = self.floats(index)
        if x.type.rank != rank:
            raise self.malformed("its operand has another rank", got=x.type, expected=f"rank {rank}")
        return x if self.channels_are_last else self.channels_last(x)

    def back(self, value: Value) -> Value:
        """A result, channels last, in the layer's order of axes."""
        return value if self.channels_are_last else self.channels_first(value)

    # ---- weights

    def saved(self, *names: str) -> list[Array]:
        """The layer's arrays.

        Args:
            names: what they are, for messages; as many as there must be.

        Raises:
            ModelError: there are more or fewer, or one is no float.
        """
        found = self.weights.arrays()
        if len(found) != len(names):
            raise self.malformed("the file has another number of weights for it", got=[list(a.shape) for a in found], expected=", ".join(names) or "none")
        return [np.asarray(a, np.float32) if a.dtype.kind in "fiub" else a for a in found]

    def weight(self, name: str, array: Array) -> Value:
        """An array as a constant, one for all calls of the layer."""
        if name not in self.consts:
            self.consts[name] = self.graph.add_const(np.ascontiguousarray(array), self._fresh(f"{self.name}/{name}"))
        return self.consts[name]

    def biased(self, name: str = "use_bias") -> list[str]:
        """The name of the bias, if the layer has one."""
        return ["bias"] if self.flag(name, True) else []
