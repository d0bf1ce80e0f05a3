"""Makes floats of weights that are stored as integers where nothing is gained by keeping them so.

Before:
    y = conv(x, dequantize(w, scale))
After:
    y = conv(x, w')   with w' = (w - zero) * scale
Unless:
    the other factor is dequantized too, so that the product may be one of integers; a product has up to ``FEW_ROWS`` rows, so that reading the
    weights takes most of its time; a reader is elementwise or only moves values; or the floats are larger than ``fold_bytes`` and another op than a
    product reads them.
"""

from __future__ import annotations

import numpy as np

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Patch, apply
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Identity, Pad, Reshape, Slice, Transpose
from strop.ops.elementwise import Elementwise
from strop.ops.matmul import MatMul
from strop.ops.pool import MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "fold_dequantized"
_MOVING = (Reshape, Transpose, Slice, Identity, MaxPool)
#: Rows of a matrix product up to which its weights stay integers.
FEW_ROWS = 64


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    for node in list(graph.nodes):
        if not isinstance(node.op, Dequantize) or any(v.const is None for v in node.operands):
            continue
        if graph.is_output(node.output) or not all(_folds(reader, node.output, options) for reader in node.output.users):
            continue
        if not trace.may_patch():
            return
        (real,) = node.op.reference(*(v.const for v in node.operands if v.const is not None))
        patch = Patch(graph)
        apply(graph, patch.replace(node.output, patch.const(np.asarray(real), node.output.name)), trace, NAME, "evaluate")


def _folds(reader: Node, weights: Value, options: Options) -> bool:
    if isinstance(reader.op, (Elementwise, Quantize, *_MOVING)) or reader.operand(0) is weights:
        return False
    if not isinstance(reader.op, (Conv, ConvTranspose, MatMul)):
        return weights.type.nbytes <= options.fold_bytes
    if reader.operand(1) is not weights:  # a bias
        return not _dequantized(reader.operand(0))
    if _dequantized(reader.operand(0)):
        return False
    return not (isinstance(reader.op, MatMul) and len(weights.shape) == 2 and _rows(reader) <= FEW_ROWS)


def _dequantized(value: Value) -> bool:
    node = value.producer
    while node is not None and isinstance(node.op, (*_MOVING, Pad)):  # convolutions take padding over
        node = node.operand(0).producer
    return node is not None and isinstance(node.op, Dequantize)


def _rows(product: Node) -> int:
    """Rows of a matrix product at the optimum of its symbols."""
    lead = product.output.shape[:-1]
    known = {s.name: s.opt for s in sh.symbols(lead)}
    return sh.count(tuple(sh.evaluate(d, known) for d in lead))
