"""Reshapes that keep the last axis move up past row-wise work, and all move up past work on single elements, to meet another reshape.

Before:
    y = reshape(add(matmul(reshape(x, 197 768), w), b), 1 197 768)
After:
    y = add(matmul(reshape(x, 1 197 768), w), b)
    so that what reads y follows the product directly; and

Before:
    y = reshape(relu(reshape(x, 1 500 1 1)), 1 500)
After:
    y = relu(reshape(x, 1 500))
Unless:
    the last axis changes and an operand varies along it, something else reads the values in between, an operand varies along another
    axis than the last, or there is no reshape further up to merge with.
"""

from __future__ import annotations

from collections.abc import Callable

from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Match, New, Patch, any_value, op, rewrite, rule
from strop.ir.op import Op
from strop.ops.data import Reshape
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm, RMSNorm
from strop.ops.softmax import LogSoftmax, Softmax
from strop.optimize.base import Options, along_axis
from strop.trace import Trace

NAME = "hoist_reshapes"


def _row_operand(node: Node) -> int | None:
    """The operand along whose last axis a node works row by row; None when it does not."""
    if len(node.outputs) != 1:
        return None
    rank = len(node.output.shape)
    if isinstance(node.op, (Softmax, LogSoftmax, LayerNorm, RMSNorm)):
        return 0 if node.op.axis % rank == rank - 1 else None
    if isinstance(node.op, MatMul):
        a, b = node.operand(0), node.operand(1)
        rows = len(a.shape) >= 2 and len(b.shape) == 2 and b.const is not None
        return 0 if rows and not node.op.transpose_a else None
    if not isinstance(node.op, (Elementwise, Cast)):
        return None
    rows_at = [i for i, v in enumerate(node.inputs) if v is not None and v.const is None]
    if len(rows_at) != 1 or node.operand(rows_at[0]).shape != node.output.shape:
        return None
    for value in node.operands:
        if value.const is not None and along_axis(value.const, node.output.shape, rank - 1) is None:
            return None
    return rows_at[0]


def _element_operand(node: Node) -> int | None:
    """The operand that a node works on element by element, all others being single constants; None when it does not."""
    if len(node.outputs) != 1 or not isinstance(node.op, (Elementwise, Cast)):
        return None
    varying = [i for i, v in enumerate(node.inputs) if v is not None and (v.const is None or v.const.size != 1)]
    return varying[0] if len(varying) == 1 and node.operand(varying[0]).shape == node.output.shape else None


def _chain(m: Match, operand_of: Callable[[Node], int | None]) -> tuple[list[tuple[Node, int]], Value] | None:
    """The nodes between the root and the next reshape above it, each with the operand it works on, the last one first; and what that
    reshape makes."""
    value, chain = m["x"], []
    while value.producer is not None and not isinstance(value.producer.op, Reshape):
        node = value.producer
        index = operand_of(node) if value.shape else None
        if index is None or len(value.uses) != 1 or m.graph.is_output(value):
            return None
        chain.append((node, index))
        value = node.operand(index)
    if value.producer is None or not chain or len(value.uses) != 1 or m.graph.is_output(value):
        return None
    return chain, value


@rule(op("reshape", any_value("x")))
def reshape_of_elements(m: Match) -> Patch | None:
    """The reshape moves above all work on single elements up to the next reshape."""
    found = _chain(m, _element_operand)
    if found is None:
        return None
    chain, value = found
    patch = Patch(m.graph)
    made: New = patch.add(Reshape(m.root.output.shape), value, source=value.producer.source if value.producer else ())
    for node, index in reversed(chain):
        operands: list[Value | New | None] = [
            made if i == index else v if v is None or v.const is None or not v.shape else patch.const(v.const.reshape(()), v.name)
            for i, v in enumerate(node.inputs)
        ]
        source = (*node.source, *m.root.source) if node is chain[0][0] else node.source
        made = patch.add(node.op, *operands, name=node.name, source=source)
    return patch.replace_if_same(m.root.output, made)


@rule(op("reshape", any_value("x")))
def reshape_of_rows(m: Match) -> Patch | None:
    """The reshape moves above all row-wise nodes up to the next reshape."""
    shape = m.root.output.shape
    if len(shape) < 2 or not m["x"].shape or shape[-1] != m["x"].shape[-1]:
        return None
    found = _chain(m, _row_operand)
    if found is None:
        return None
    chain, value = found
    assert value.producer is not None
    patch = Patch(m.graph)
    above = value.producer.source
    rows: New = patch.add(Reshape((*shape[:-1], value.shape[-1])), value, source=above)
    for node, index in reversed(chain):
        operands: list[Value | New | None] = [
            rows if i == index else _leading_ones_dropped(patch, node, v)
            for i, v in enumerate(node.inputs)
        ]
        last = node is chain[0][0]
        rows = patch.add(
            _renumbered(node, len(shape)),
            *operands,
            name=node.name,
            source=(*node.source, *m.root.source) if last else node.source,
        )
    return patch.replace_if_same(m.root.output, rows)


def _renumbered(node: Node, rank: int) -> Op:
    """The node's op with the last axis counted in the new rank."""
    has_axis = "axis" in node.op.attributes()
    return node.op.replace(axis=rank - 1) if has_axis else node.op


def _leading_ones_dropped(patch: Patch, node: Node, value: Value | None) -> Value | New | None:
    """A constant operand of an elementwise node as a vector along the last axis, or a scalar."""
    if value is None or value.const is None or value.const.ndim <= 1:
        return value
    if not isinstance(node.op, Elementwise):
        return value
    return patch.const(value.const.reshape(-1), value.name)


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (reshape_of_elements, reshape_of_rows), trace, NAME)
