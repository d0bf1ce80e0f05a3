"""ATen ops that make tensors out of nothing."""

from __future__ import annotations

import numpy as np

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.registry import torch_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.data import Slice

#: Most elements of a range whose length depends on a dynamic dim.
MAX_RANGE = 1 << 22


@torch_op("aten.full.default", "aten.full_like.default", "aten.new_full.default")
def full(node: NodeContext) -> Value:
    result = node.result
    value = node.arg("fill_value")
    return node.filled(result.shape, value if isinstance(value, bool) else node.number("fill_value"), result.dtype)


@torch_op(
    *(f"aten.{name}.default" for name in ("zeros", "zeros_like", "new_zeros", "empty_like", "new_empty")), "aten.empty.memory_format"
)
def zeros(node: NodeContext) -> Value:
    """What is empty in PyTorch is zero here."""
    return node.filled(node.result.shape, 0, node.result.dtype)


@torch_op("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default")
def ones(node: NodeContext) -> Value:
    return node.filled(node.result.shape, 1, node.result.dtype)


@torch_op("aten.scalar_tensor.default")
def scalar_tensor(node: NodeContext) -> Value:
    value = node.arg("s")
    return node.scalar(value if isinstance(value, bool) else node.number("s"), node.result.dtype)


@torch_op("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(node: NodeContext) -> Value:
    """start + i * step; over a dynamic dim the first elements of the longest one."""
    result = node.result
    step = node.args.get("step")
    step = 1 if step is None else node.number("step")
    first = node.args.get("start")
    first = 0 if first is None else node.number("start")
    (length,) = result.shape
    count = length if isinstance(length, int) else sh.bounds(length)[1]
    if count > MAX_RANGE:
        raise node.unsupported(
            "the dim it counts to has no bound", got=length, expected=f"at most {MAX_RANGE}", hint="give the dim a range with --shape"
        )
    wide = np.float64 if result.dtype.is_float else np.int64
    elements = np.asarray(first, wide) + np.arange(count).astype(wide) * np.asarray(step, wide)
    whole = node.const(elements.astype(result.dtype.numpy))
    return whole if isinstance(length, int) else node.step(Slice((0,), (length,), (0,), (1,)), whole)


@torch_op("aten.eye.default", "aten.eye.m")
def eye(node: NodeContext) -> Value:
    rows, columns = node.static(node.result.shape)
    return node.const(np.eye(rows, columns).astype(node.result.dtype.numpy))


@torch_op("aten.linspace.default")
def linspace(node: NodeContext) -> Value:
    """Both ends count; computed from both sides as PyTorch does."""
    (count,) = node.static(node.result.shape)
    start, end = node.number("start"), node.number("end")
    kind = np.float32 if node.result.dtype in (dt.f32, dt.f16, dt.bf16) else np.float64
    step = np.asarray((end - start) / max(count - 1, 1), kind)
    index = np.arange(count)
    low = np.asarray(start, kind) + step * index.astype(kind)
    high = np.asarray(end, kind) - step * index[::-1].astype(kind)
    return node.const(np.where(index < count // 2, low, high).astype(node.result.dtype.numpy))
