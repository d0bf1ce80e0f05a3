"""A float engine to whose values something can be added: what the noise of one layer does to the outputs, without running numpy behind it.

Before: relu(conv(x)) -> the rest.
After: relu(conv(x)) + shift -> the rest; a shift is a further input, and zero where nothing is to be added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from strop.engine.engine import Engine
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Graph, Value
from strop.ir.op import Array
from strop.ops.elementwise import make

#: Operations from which on a further engine costs less than what it saves in numpy.
WORTH = 5_000_000_000


class Shifted:
    """The engine.

    Attributes:
        points: names of the values that something can be added to.
    """

    def __init__(self, graph: Graph, values: Collection[Value], compile: Callable[[Graph], Engine]) -> None:
        """Compiles it; ``graph`` is portable and of fixed sizes, the values are results in f32 of its nodes."""
        copy = graph.clone()
        self.points: dict[str, str] = {}
        self._still: dict[str, Array] = {}
        for value in values:
            own = copy.values[value.name]
            name = f"shift {value.name}"
            readers, is_output = list(own.uses), [v is own for v in copy.outputs]
            total = copy.add(make("add"), [own, copy.add_input(name, own.type)]).output
            for node, index in readers:
                copy.set_operand(node, index, total)
            copy.outputs = [total if is_own else v for is_own, v in zip(is_output, copy.outputs, strict=True)]
            self.points[value.name] = name
            self._still[name] = np.zeros(own.type.static_shape, np.float32)
        copy.toposort()
        self._context = compile(copy).context()

    def run(self, inputs: Mapping[str, Array], shifts: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, with arrays added to the values that ``shifts`` names."""
        added = {self.points[name]: array for name, array in shifts.items()}
        return dict(self._context.run({**inputs, **self._still, **added}))

    def close(self) -> None:
        """Gives its memory back."""
        self._context.close()


def is_worth_it(graph: Graph, variants: int, values: Collection[Value]) -> bool:
    """Whether so many variants take longer in numpy than an engine takes to be made; False for sizes that are not fixed."""
    if not all(sh.is_static(v.shape) for v in graph.values.values()) or not all(v.dtype is dt.f32 and v.producer is not None for v in values):
        return False
    work = sum(node.op.cost([v.type for v in node.operands], [v.type for v in node.outputs]).flops for node in graph.nodes)
    return variants * work > WORTH
