"""TFLite's reductions. Axes are known; keep_dims leaves them with size 1."""

from __future__ import annotations

from functools import partial

from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.emission import NodeWriter
from strop.frontend.tflite.registry import tflite_op, writes
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.reduce import Reduce

KINDS = {"MEAN": "mean", "SUM": "sum", "REDUCE_MAX": "max", "REDUCE_MIN": "min", "REDUCE_PROD": "prod"}


def _op(node: NodeContext, kind: str) -> Reduce:
    rank = node.stored(0).type.rank
    axes = {node.axis(a, rank) for a in node.ints(1, "axis")}
    return Reduce(kind, tuple(sorted(axes)), bool(node.option("KeepDims", False)))


def _reduce(node: NodeContext, kind: str) -> Value:
    return node.step(_op(node, kind), node.moved(0) if kind in ("max", "min") else node.real(0))


for _name, _kind in KINDS.items():
    tflite_op(_name)(partial(_reduce, kind=_kind))


@tflite_op("REDUCE_ANY", "REDUCE_ALL")
def reduce_any(node: NodeContext) -> Value:
    kind = "max" if node.operator.code == "REDUCE_ANY" else "min"
    return node.cast(node.step(_op(node, kind), node.cast(node.stored(0), dt.u8)), dt.boolean)


# ---- written

_CODES = {kind: code for code, kind in KINDS.items()}


@writes(Reduce)
def write_reduce(w: NodeWriter) -> None:
    """Other kinds are taken apart before."""
    op, x = w.op, w.value(0)
    assert isinstance(op, Reduce)
    code, kinds = _CODES.get(op.kind), (dt.f32, dt.i32, dt.i64)
    if code is None or x.dtype not in kinds or (op.kind == "mean" and x.dtype is not dt.f32):
        raise w.refused(f"{op.kind} of these types is not supported", got=x.type, expected="f32, i32 or i64")
    axes = tuple(a % x.type.rank for a in op.axes)
    w.emit(code, [w.operand(0), w.ints(axes, "axes")], None, "ReducerOptions", KeepDims=op.keepdims)
