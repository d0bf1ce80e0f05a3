"""Items set in a list of tensors, as converters write them in the loops of recurrent layers, read as updates of slices.

Before: CONCATENATION(SLICE(x, 0, [i, -1, ..]), item, SLICE(x, [i + 1, 0, ..], -1)), whose parts have sizes that depend on i.
After: DYNAMIC_UPDATE_SLICE(x, item, [i, -1, ..]), where -1, which lies before x, begins at 0.

Unless: anything else reads the parts, or the result has another shape than x (TensorFlow's lowering of TensorListSetItem).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strop.frontend.tflite.model import BROKEN, Operator, Subgraph


def joined(subgraph: Subgraph) -> Sequence[Operator]:
    """The operators of a subgraph with such lists updated by one operator."""
    found = _Lists(subgraph)
    replaced = {id(o): made for o in subgraph.operators if o.code == "CONCATENATION" and (made := found.update(o)) is not None}
    if not replaced:
        return subgraph.operators
    gone = {index for o in subgraph.operators if id(o) in replaced for index in (o.inputs[0], o.inputs[2])}
    kept = (o for o in subgraph.operators if not gone.intersection(o.outputs))
    return [replaced.get(id(o), o) for o in kept]


@dataclass
class _Lists:
    subgraph: Subgraph

    def __post_init__(self) -> None:
        self._maker: Mapping[int, Operator] = {index: o for o in self.subgraph.operators for index in o.outputs}
        self._uses = Counter(index for o in self.subgraph.operators for index in o.inputs)
        self._uses.update(self.subgraph.outputs)

    def update(self, whole: Operator) -> Operator | None:
        """The operator in the place of a CONCATENATION that sets an item."""
        if len(whole.inputs) != 3 or not self._joins_rows(whole):
            return None
        head, tail = (self._made(index, "SLICE") for index in (whole.inputs[0], whole.inputs[2]))
        if head is None or tail is None or self._uses[whole.inputs[0]] != 1 or self._uses[whole.inputs[2]] != 1:
            return None
        x, item = head.inputs[0], whole.inputs[1]
        shapes = [self.subgraph.tensors[index].shape for index in (x, item, whole.outputs[0])]
        if tail.inputs[0] != x or not shapes[0] or shapes[0] != shapes[2] or shapes[1] != (1, *shapes[0][1:]):
            return None
        if not self._all(head.inputs[1], 0) or not self._all(tail.inputs[2], -1):
            return None
        count, behind = self._first(head.inputs[2], -1), self._first(tail.inputs[1], 0)
        if count is None or behind is None or not self._follows(behind, count):
            return None
        return Operator("DYNAMIC_UPDATE_SLICE", "", (x, item, head.inputs[2]), whole.outputs, None, b"")

    def _made(self, index: int, code: str) -> Operator | None:
        maker = self._maker.get(index)
        return maker if maker is not None and maker.code == code else None

    def _joins_rows(self, operator: Operator) -> bool:
        try:
            return operator.options is not None and operator.options.Axis() == 0 and operator.options.FusedActivationFunction() == 0
        except BROKEN:
            return False

    def _all(self, index: int, number: int) -> bool:
        """Whether a tensor is a constant of one number."""
        tensor = self.subgraph.tensors[index] if index >= 0 else None
        if tensor is None or tensor.buffer is None or tensor.type not in ("INT32", "INT64"):
            return False
        return bool(np.all(tensor.elements() == number))

    def _first(self, index: int, rest: int) -> int | None:
        """The tensor of one number in front of a vector whose other numbers are ``rest``."""
        vector = self._made(index, "CONCATENATION")
        if vector is None or not self._joins_rows(vector) or len(vector.inputs) != 2 or not self._all(vector.inputs[1], rest):
            return None
        number = self._maker.get(vector.inputs[0])
        return number.inputs[0] if number is not None and number.code in ("RESHAPE", "EXPAND_DIMS") else vector.inputs[0]

    def _follows(self, index: int, before: int) -> bool:
        """Whether one number is another one plus 1."""
        total = self._made(index, "ADD")
        return total is not None and any(a == before and self._all(b, 1) for a, b in (total.inputs, total.inputs[::-1]))
