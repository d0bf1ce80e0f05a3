"""ONNX Einsum as transposes, matrix products and sums."""

from __future__ import annotations

from collections.abc import Sequence

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.registry import onnx_op
from strop.ir import shape as sh
from strop.ops.data import Reshape, Slice, Transpose
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.reduce import Reduce

#: Labels of an operand's axes: letters, and negative numbers for the axes of an ellipsis, counted from its end.
Labels = tuple[str | int, ...]


@onnx_op("Einsum", since=12)
def einsum(node: NodeContext) -> Operand:
    """Operands are contracted two by two from the left; of a letter twice in one operand the diagonal counts."""
    equation = node.text("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    operands = list(node.required())
    if len(terms) != len(operands):
        raise node.malformed(
            "equation does not fit the operands", got=equation, expected=f"{len(operands)} terms"
        )
    labels = [_labels(node, t, o.type.rank) for t, o in zip(terms, operands, strict=True)]
    for index, own in enumerate(labels):
        while len(set(own)) != len(own):
            operands[index], own = _diagonal(node, operands[index], own)
        labels[index] = own
    result = _result(node, labels, right if arrow else None)
    value, have = operands[0], labels[0]
    for index in range(1, len(operands)):
        later = {label for own in labels[index + 1 :] for label in own} | set(result)
        value, have = _contract(node, value, have, operands[index], labels[index], later)
    value, have = _summed(node, value, have, set(result))
    return _ordered(node, value, have, result)


def _diagonal(node: NodeContext, x: Operand, labels: Labels) -> tuple[Operand, Labels]:
    """x with the first two axes of one label made one, which comes last."""
    label = next(label for label in labels if labels.count(label) > 1)
    first = labels.index(label)
    second = labels.index(label, first + 1)
    rest = [k for k in range(len(labels)) if k not in (first, second)]
    moved = node.step(Transpose((*rest, first, second)), x)
    lead, (rows, columns) = moved.type.shape[:-2], sh.static(moved.type.shape[-2:], node.where)
    if rows != columns:
        raise node.malformed("a letter names axes of different sizes", got=f"{label}: {x.type}")
    flat = node.step(Reshape((*lead, rows * columns)), moved)
    cut = Slice.of(flat.type.shape, [0], [rows * columns], [len(lead)], [rows + 1])
    return node.step(cut, flat), (*(labels[k] for k in rest), label)


def _labels(node: NodeContext, term: str, rank: int) -> Labels:
    """One label per axis."""
    before, dots, after = term.partition("...")
    letters = before + after
    rest = rank - len(letters)
    if not all(c.isascii() and c.isalpha() for c in letters) or rest < 0 or (rest and not dots):
        raise node.malformed("equation does not fit an operand", got=f"{term} for rank {rank}")
    return (*before, *range(-rest, 0), *after) if dots else tuple(letters)


def _result(node: NodeContext, labels: Sequence[Labels], right: str | None) -> Labels:
    """Labels of the result: those after the arrow, else the ellipsis and the letters that occur once, in order."""
    every = [label for own in labels for label in own]
    dots = sorted({label for label in every if isinstance(label, int)})
    if right is None:
        once = sorted(c for c in set(every) if isinstance(c, str) and every.count(c) == 1)
        return (*dots, *once)
    before, ellipsis, after = right.partition("...")
    found: Labels = (*before, *dots, *after) if ellipsis else tuple(right)
    if len(set(found)) != len(found) or not set(found) <= set(every):
        raise node.malformed("equation names letters twice or out of nowhere", got=right)
    return found


def _summed(
    node: NodeContext, x: Operand, labels: Labels, kept: set[str | int]
) -> tuple[Operand, Labels]:
    """x without the axes that nothing asks for."""
    gone = tuple(k for k, label in enumerate(labels) if label not in kept)
    if not gone:
        return x, labels
    rest = tuple(label for label in labels if label in kept)
    return node.step(Reduce("sum", gone, False), x), rest


def _ordered(node: NodeContext, x: Operand, have: Labels, wanted: Labels) -> Operand:
    """Axes in another order; axes that x lacks get size 1."""
    missing = tuple(label for label in wanted if label not in have)
    if missing:
        x = node.step(Reshape((*(1 for _ in missing), *x.type.shape)), x)
        have = (*missing, *have)
    perm = tuple(have.index(label) for label in wanted)
    return x if perm == tuple(range(len(perm))) else node.step(Transpose(perm), x)


def _contract(
    node: NodeContext,
    a: Operand,
    a_labels: Labels,
    b: Operand,
    b_labels: Labels,
    later: set[str | int],
) -> tuple[Operand, Labels]:
    """The product of two operands, summed over what both have and nothing later asks for."""
    a, a_labels = _summed(node, a, a_labels, later | set(b_labels))
    b, b_labels = _summed(node, b, b_labels, later | set(a_labels))
    inner = tuple(label for label in a_labels if label in b_labels and label not in later)
    batch = tuple(
        sorted(
            {label for label in (*a_labels, *b_labels) if isinstance(label, int)}
            | {label for label in a_labels if label in b_labels and label in later},
            key=lambda label: (isinstance(label, str), label),
        )
    )
    rows = tuple(label for label in a_labels if label not in (*batch, *inner))
    columns = tuple(label for label in b_labels if label not in (*batch, *inner))
    left = _ordered(node, a, a_labels, (*batch, *rows, *inner))
    right = _ordered(node, b, b_labels, (*batch, *inner, *columns))
    left_shape, right_shape = left.type.shape, right.type.shape
    r, c, lead = len(rows), len(columns), len(batch)
    if not inner:  # nothing to sum: a product of broadcast operands
        spread = node.step(Reshape((*left_shape, *(1,) * c)), left)
        other = node.step(Reshape((*right_shape[:lead], *(1,) * r, *right_shape[lead:])), right)
        return node.step(make("mul"), spread, other), (*batch, *rows, *columns)
    depth = sh.volume(left_shape[lead + r :])
    matrix = node.step(
        Reshape((*left_shape[:lead], sh.volume(left_shape[lead : lead + r]), depth)), left
    )
    other = node.step(
        Reshape((*right_shape[:lead], depth, sh.volume(right_shape[len(right_shape) - c :]))), right
    )
    product = node.step(MatMul(), matrix, other)
    shape = (
        *product.type.shape[:lead],
        *left_shape[lead : lead + r],
        *right_shape[len(right_shape) - c :],
    )
    return node.step(Reshape(shape), product), (*batch, *rows, *columns)
