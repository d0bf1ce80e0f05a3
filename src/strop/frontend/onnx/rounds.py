"""Loops whose rounds are counted while an engine runs: a body between ``loop_begin`` and ``loop_end``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from strop.frontend.onnx import sizes
from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.data import Reshape
from strop.ops.elementwise import Cast, make

#: Imports the body for one round: body(number, carried) answers (whether there is another round or None for always, carried, collected).
Body = Callable[[Operand, Sequence[Operand]], tuple[Operand | None, Sequence[Operand], Sequence[Operand]]]


def loop(
    node: NodeContext, body: Body, go: Operand | None, limit: Operand | None, carried: Sequence[Operand], collects: bool
) -> tuple[list[Operand], list[Operand]]:
    """A loop that is not unrolled.

    Args:
        node: the node.
        body: imports its body.
        go: whether there is a first round; None for always.
        limit: most rounds, or None.
        carried: what the carried values are in the first round.
        collects: whether the values of all rounds are wanted.

    Returns:
        The carried values after the last round, and the values of all rounds, [rounds, ...] each.

    Raises:
        UnsupportedError: a round changes the type of a carried value, or values of any number of rounds are collected.
    """
    given = limit
    limit = None if limit is None else _scalar(node, limit, dt.i64)
    first = _both(node, go, limit, node.const(np.asarray(0, np.int64)))
    name = node.session.fresh(node.name)
    before = {id(n) for n in node.session.graph.nodes}
    begin = node.session.graph.add(
        LoopBegin(name), [node.value(first), *map(node.value, carried)], name=node.name, source=(node.name,), outputs=[f"{name}:round"]
    )
    number = begin.outputs[0]
    again, after, collected = body(number, begin.outputs[1:])
    if limit is None and again is None:
        raise node.unsupported("it never ends", expected="a number of rounds, or a condition that may turn false")
    next_number = node.step(make("add"), number, node.const(np.asarray(1, np.int64)))
    more = _both(node, again, limit, next_number)
    finals, values = [node.value(v) for v in after], [node.value(v) for v in collected]
    for old, new in zip(begin.outputs[1:], finals, strict=True):
        if old.type != new.type:
            raise node.unsupported(
                "how many rounds there are must be known when the model is built: a round changes the type of a value that it carries",
                got=f"{old.type} becomes {new.type}",
                expected="carried values of one dtype and shape",
                hint="export the loop with a fixed number of rounds",
            )
    found = {s.name for n in node.session.graph.nodes if id(n) not in before for s in n.op.computed}
    inner = [s.name for v in values for s in sh.symbols(v.shape) if s.name in found]
    if inner:
        raise node.unsupported("the values that rounds collect differ in size from round to round", got=inner[0])
    rounds, finds = _rounds(node, go is None and again is None, given, collects)
    end = node.session.graph.add(
        LoopEnd(name, len(values), rounds, finds), [number, node.value(more), *finals, *values], name=node.name, source=(node.name,)
    )
    results: list[Operand] = list(end.outputs)
    return results[: len(finals)], results[len(finals) : -1]


def _scalar(node: NodeContext, operand: Operand, dtype: dt.DType) -> Operand:
    """An operand of one element as a scalar of a dtype."""
    if sh.volume(operand.type.shape) != 1:
        raise node.malformed("a loop's condition and number of rounds have one element", got=operand.type)
    found = operand if operand.type.dtype == dtype else node.step(Cast(dtype), operand)
    return node.step(Reshape(()), found) if found.type.rank else found


def _both(node: NodeContext, go: Operand | None, limit: Operand | None, number: Operand) -> Operand:
    """Whether round ``number`` takes place."""
    within = None if limit is None else node.step(make("lt"), number, limit)
    wanted = None if go is None else _scalar(node, go, dt.boolean)
    if within is not None and wanted is not None:
        return node.step(make("and"), wanted, within)
    return within or wanted or node.const(np.asarray(True))


def _rounds(node: NodeContext, exact: bool, limit: Operand | None, collects: bool) -> tuple[Dim, bool]:
    """How many rounds there are, and whether only the loop finds it: where it always goes up to a limit, that is known before."""
    names = [name for name in node.results if name]
    most: Dim | None = None
    if limit is not None and not isinstance(limit, Value):
        elements = limit.array if isinstance(limit, Known) else limit.dims  # type: ignore[union-attr]
        dim = elements.reshape(-1)[0]
        most = max(int(dim), 0) if isinstance(limit, Known) else dim
        if exact and sh.bounds(most)[0] >= 0:
            return most, False
    if not collects and not any(name in node.session.ranges for name in names):
        high = sizes.UNBOUNDED if most is None else min(sh.bounds(most)[1], sizes.UNBOUNDED)
        return node.session.symbol(f"{node.name}_rounds", high, min(high, 8)), True
    return sizes.found(node, "number of rounds", most, *names), True
