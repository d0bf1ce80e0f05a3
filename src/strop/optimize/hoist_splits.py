"""Splits move up to what a kernel made, past reshapes and transpositions that then cost nothing.

Before:
    y = add(matmul(x, w), b)                                       [197, 1, 2304]
    q, k, v = split(reshape(transpose(reshape(y, 1 197 1 3 768), 3 1 2 0 4), 3 197 1 768)) along 0
After:
    q', k', v' = split(y) along 2;  q = reshape(q'), ...
    as exporters write the projection to queries, keys and values.
Unless:
    something else reads the values in between, a part would not be contiguous along one axis further
    up, a part's transposition would move axes larger than 1, or the climb ends at a transposition.
"""

from __future__ import annotations

from strop.ir import shape as sh
from strop.ir.graph import Graph, Value
from strop.ir.match import Match, New, Patch, any_value, op, rewrite, rule
from strop.ir.shape import Dim, Shape
from strop.ops.data import Reshape, Split, Transpose
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "hoist_splits"

#: Where a split stands: the value it cuts, the axis, the sizes of the parts.
_Place = tuple[Value, int, tuple[int, ...]]


def _above_reshape(place: _Place, x: Value) -> _Place | None:
    """The split of a reshape's operand that gives the same parts."""
    y, axis, sizes = place
    outer, inner = sh.volume(y.shape[:axis]), sh.volume(y.shape[axis + 1 :])
    for k in range(len(x.shape)):
        step = sh.volume(x.shape[k + 1 :])
        if sh.volume(x.shape[:k]) != outer or not isinstance(x.shape[k], int):
            continue
        found = [_ratio(size, inner, step) for size in sizes]
        if all(size is not None for size in found) and sum(filter(None, found)) == x.shape[k]:
            return x, k, tuple(size for size in found if size is not None)
    return None


def _ratio(size: int, inner: Dim, step: Dim) -> int | None:
    """size * inner / step when that is a positive whole number, also when inner and step share a symbol."""
    if inner == step:
        return size
    if not isinstance(inner, int) or not isinstance(step, int) or step == 0:
        return None
    return size * inner // step if size * inner % step == 0 and size * inner > 0 else None


def _above_transpose(place: _Place, perm: tuple[int, ...], x: Value) -> _Place | None:
    """The split of a transposition's operand, when transposing a part would only move axes of size 1."""
    _, axis, sizes = place
    source = perm[axis]
    for size in sizes:
        part: Shape = (*x.shape[:source], size, *x.shape[source + 1 :])
        moved = [p for p in perm if part[p] != 1]
        if moved != sorted(moved):
            return None
    return x, source, sizes


@rule(op("split", any_value("x")))
def split_of_view(m: Match) -> Patch | None:
    """The highest place where the split can stand."""
    split = m.root.op
    assert isinstance(split, Split)
    sizes = tuple(size for size in split.sizes if isinstance(size, int) and size > 0)
    if len(sizes) != len(split.sizes):
        return None
    place: _Place = (m["x"], split.axis % len(m["x"].shape), sizes)
    while place[0].producer is not None and len(place[0].uses) == 1:
        node, value = place[0].producer, place[0]
        if m.graph.is_output(value):
            break
        higher: _Place | None = None
        if isinstance(node.op, Reshape):
            higher = _above_reshape(place, node.operand(0))
        elif isinstance(node.op, Transpose):
            higher = _above_transpose(place, node.op.perm, node.operand(0))
        if higher is None:
            break
        place = higher
    top, axis, sizes = place
    if top is m["x"] or (top.producer is not None and isinstance(top.producer.op, Transpose)):
        return None
    patch = Patch(m.graph)
    parts: list[New] = patch.add_several(Split(axis, sizes), top, name=m.root.name)
    for old, part in zip(m.root.outputs, parts, strict=True):
        same = part.type == old.type
        patch.replace(old, part if same else patch.add(Reshape(old.shape), part))
    return patch


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (split_of_view,), trace, NAME)
