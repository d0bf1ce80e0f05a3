"""Splits of axes before transposes, on GPUs: so that strides can tell what would else be copied.

Before: Reshape(Transpose(Reshape(x[L, B, C] -> [L, B*H, D])) -> [B, H, L, D]), as exporters write attention heads.
After: Transpose(Reshape(x -> [L, B, H, D])).
Unless: the last reshape joins axes, or a size is free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node
from strop.ops.data import Reshape, Transpose


def split_first(graph: Graph) -> None:
    """Turns every transpose with a splitting reshape behind it in place."""
    for node in list(graph.nodes):
        turn = node.operand(0).producer if isinstance(node.op, Reshape) else None
        if turn is not None and isinstance(turn.op, Transpose):
            _turn(graph, node, turn, turn.op.perm)


def _turn(graph: Graph, node: Node, turn: Node, perm: Sequence[int]) -> None:
    source = turn.operand(0)
    if not sh.is_static((*source.shape, *node.output.shape)) or source.const is not None:
        return
    groups = _split(sh.static(turn.output.shape), sh.static(node.output.shape))
    if groups is None:
        return
    by_axis = dict(zip(perm, groups, strict=True))
    fine = [size for axis in range(len(perm)) for size in by_axis[axis]]
    starts = [sum(len(by_axis[a]) for a in range(axis)) for axis in range(len(perm))]
    order = tuple(starts[axis] + k for axis in perm for k in range(len(by_axis[axis])))
    before = source.producer
    if before is not None and isinstance(before.op, Reshape):
        source = before.operand(0)
    split = graph.add(Reshape(tuple(fine)), [source], name=f"{node.name}.split", source=node.source, before=node)
    turned = graph.add(Transpose(order), [split.output], name=f"{node.name}.turned", source=node.source, before=node)
    graph.replace_uses(node.output, turned.output)
    graph.remove(node)


def _split(shape: Sequence[int], parts: Sequence[int]) -> list[list[int]] | None:
    """The sizes that each axis of a shape is split into; None when axes are joined."""
    groups: list[list[int]] = []
    rest = list(parts)
    for size in shape:
        group: list[int] = []
        while rest and math.prod(group) * rest[0] <= size and (math.prod(group) != size or rest[0] == 1):
            group.append(rest.pop(0))
        if math.prod(group) != size:
            return None
        groups.append(group)
    return groups if not rest else None
