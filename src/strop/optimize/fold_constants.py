"""Computes at build time what depends on constants only.

Before:
    shape = reshape(transpose(w), ...); y = conv(x, shape)
After:
    y = conv(x, w')   with w' a constant
Unless:
    a result would be larger than ``fold_bytes`` and than ``GROWTH`` times the constants that it is made of (an
    expanded scalar, say; weights of 8 bits made f32 are not), it depends on symbols, the op is not pure, it would take more than
    ``MAX_FLOPS`` operations, or the op's reference refuses the operands (an index out of range): then it is left to fail, or not,
    at run time. A Dequantize of known weights stays, so that they are kept as integers.
"""

from __future__ import annotations

import numpy as np

from strop.errors import StropError
from strop.ir import shape as sh
from strop.ir.graph import Graph, Node
from strop.ir.interp import ABSENT
from strop.ir.match import Patch, apply
from strop.ops.quantize import Dequantize
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "fold_constants"
MAX_FLOPS = 1 << 30
GROWTH = 4


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    for node in list(graph.nodes):
        if not _foldable(node, options):
            continue
        if not trace.may_patch():
            return
        operands = [ABSENT if v is None or v.const is None else v.const for v in node.inputs]
        try:
            results = node.op.reference(*operands)
        except StropError as error:
            trace.log(3, f"{NAME}: {node.name} is not folded: {error.what}")
            continue
        patch = Patch(graph)
        for value, array in zip(node.outputs, results, strict=True):
            patch.replace(value, patch.const(np.asarray(array), value.name))
        apply(graph, patch, trace, NAME, "evaluate")


def _foldable(node: Node, options: Options) -> bool:
    if not node.op.pure or any(v.const is None for v in node.operands) or isinstance(node.op, Dequantize):
        return False
    if node.op.symbols or node.op.lasting:
        return False
    if not all(sh.is_static(v.shape) for v in node.outputs):
        return False
    made_of = sum(v.const.nbytes for v in node.operands if v.const is not None)
    if any(v.type.nbytes > max(options.fold_bytes, GROWTH * made_of) for v in node.outputs):
        return False
    types = [v.type for v in node.operands]
    return node.op.cost(types, [v.type for v in node.outputs]).flops <= MAX_FLOPS
