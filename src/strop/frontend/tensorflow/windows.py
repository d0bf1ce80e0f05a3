"""Convolutions and pools as TensorFlow means them: padding SAME or VALID, channels last."""

from __future__ import annotations

from collections.abc import Sequence

from strop.frontend.tensorflow.node import TensorFlowNode
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.pool import AveragePool, MaxPool


def same_padding(sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...] | None:
    """SAME padding before all axes, then after: it gives ceil(size / stride) windows, the odd element last. None where it depends on a free size."""
    totals = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = sh.add(sh.mul(sh.sub(sh.ceildiv(size, stride), 1), stride), (k - 1) * dilation + 1)
        total = sh.maximum(sh.sub(reach, size), 0)
        if not isinstance(total, int):
            return None
        totals.append(total)
    return (*(t // 2 for t in totals), *(t - t // 2 for t in totals))


def same_pads(
    node: TensorFlowNode, sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """The same.

    Raises:
        UnsupportedError: the padding depends on a free size.
    """
    found = same_padding(sizes, kernel, strides, dilations)
    if found is None:
        raise node.unsupported(
            "SAME padding of a free size depends on its rest by the stride", got=f"sizes {sh.show(sizes)}, strides {tuple(strides)}",
            hint=f"give the sizes ranges in steps of the strides, such as 32..640%{max(strides)}",
        )  # fmt: skip
    return found


def positive(node: TensorFlowNode, numbers: Sequence[int]) -> tuple[int, ...]:
    """Strides, dilations or a kernel; ModelError unless all are positive."""
    if any(n < 1 for n in numbers):
        raise node.malformed("strides, dilations and kernels are positive", got=tuple(numbers))
    return tuple(int(n) for n in numbers)


def kernel_of(node: TensorFlowNode, x: Value, w: Value, spatial: int, depthwise: bool) -> tuple[list[int], int]:
    """Window and groups of weights [O, C / groups, kernel..] for x with channels last.

    Raises:
        ModelError: they do not fit.
    """
    if x.type.rank != spatial + 2:
        raise node.malformed("operand 0 has another rank", got=x.type, expected=spatial + 2)
    outputs, taken, *kernel = sh.static(w.shape, node.where)
    channels = x.shape[-1]
    if not isinstance(channels, int) or taken < 1 or channels % taken or outputs % max(channels // taken, 1) or (depthwise and taken != 1):
        raise node.malformed("the weights do not fit the channels", got=f"{x.type}, {w.type}")
    return kernel, channels // taken


def convolved(
    node: TensorFlowNode, x: Value, w: Value, bias: Value | None, strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int], groups: int
) -> Value:
    """A convolution of x, channels last, with weights [O, C / groups, kernel..]."""
    return node.step(Conv(tuple(strides), tuple(pads), tuple(dilations), groups, "NHWC"), x, w, bias)


def transposed(
    node: TensorFlowNode,
    x: Value,
    w: Value,
    bias: Value | None,
    shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> Value:
    """The gradient of a convolution with respect to its input, channels last.

    Args:
        node: emits it.
        x: [N, spatial.., C].
        w: [C, O, kernel..].
        bias: [O] or None.
        shape: spatial sizes of the result.
        strides: of the convolution that it is the gradient of.
        pads: padding of that convolution, before all axes, then after.
        dilations: of that convolution.
    """
    rank = len(shape)
    kernel, sizes = sh.static(w.shape[2:], node.where), sh.static(x.shape[1:-1], node.where)
    before, after, extra = list(pads[:rank]), [0] * rank, [0] * rank
    for k in range(rank):
        rest = (sizes[k] - 1) * strides[k] + dilations[k] * (kernel[k] - 1) + 1 - before[k] - shape[k]
        after[k], extra[k] = max(rest, 0), max(-rest, 0)
    op = ConvTranspose(tuple(strides), (*before, *after), tuple(dilations), 1, tuple(extra))
    result = node.channels_last(node.step(op, node.channels_first(x), w, bias))
    if result.shape[1:-1] != tuple(shape):
        raise node.malformed("the result has another size than it should", got=result.type, expected=tuple(shape))
    return result


def pooled(
    node: TensorFlowNode, op: type[MaxPool] | type[AveragePool], x: Value, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> Value:
    """A pool, channels last; averages do not count padding."""
    made = op(tuple(kernel), tuple(strides), tuple(pads), (1,) * len(kernel))
    return node.channels_last(node.step(made, node.channels_first(x)))
