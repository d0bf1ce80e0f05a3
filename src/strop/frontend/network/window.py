"""Windows that slide over axes: pads of every padding mode."""

from __future__ import annotations

from collections.abc import Sequence

from strop.errors import OptionError
from strop.frontend.network.layer import Emitter
from strop.ir.shape import Dim

#: Names are TensorRT's PaddingMode in lower case.
PADDING_MODES = (
    "explicit_round_down",
    "explicit_round_up",
    "same_upper",
    "same_lower",
    "caffe_round_down",
    "caffe_round_up",
)


def check_mode(mode: str, where: str) -> None:
    """OptionError unless the mode is one of PADDING_MODES."""
    if mode not in PADDING_MODES:
        raise OptionError("unknown padding mode", where=where, got=mode, expected=", ".join(PADDING_MODES))


def pads(
    e: Emitter,
    sizes: Sequence[Dim],
    window: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pre: Sequence[int],
    post: Sequence[int],
    mode: str,
) -> tuple[int, ...]:
    """Pads before every axis, then after every axis, such that a plain floor((size + pads - extent) / stride) + 1 gives the
    mode's number of windows (TensorRT, enum PaddingMode). Those that rounding adds come after."""
    before, after = [], []
    for size, k, stride, dilation, first, last in zip(sizes, window, strides, dilations, pre, post, strict=True):
        extent = (k - 1) * dilation + 1
        if mode.startswith("same"):
            total = _same_total(e, size, extent, stride)
            small, large = total // 2, total - total // 2
            first, last = (small, large) if mode == "same_upper" else (large, small)
        elif mode.endswith("up") or mode == "caffe_round_down":
            if mode.startswith("caffe"):
                last = first
            last += _rest(e, size, extent, stride, first, last, mode)
        before.append(first)
        after.append(last)
    return (*before, *after)


def _same_total(e: Emitter, size: Dim, extent: int, stride: int) -> int:
    if stride == 1:
        return extent - 1
    known = _known(e, size, stride)
    return max((-(-known // stride) - 1) * stride + extent - known, 0)


def _rest(e: Emitter, size: Dim, extent: int, stride: int, first: int, last: int, mode: str) -> int:
    """Elements that a mode adds (or, below 0, leaves out) after the last pad."""
    if stride == 1 and not (mode.startswith("caffe") and first):
        return 0
    known = _known(e, size, stride)
    room = known + first + last - extent
    count = (-(-room // stride) if mode.endswith("up") else room // stride) + 1
    if mode.startswith("caffe") and first > 0 and (count - 1) * stride >= known + first:
        count -= 1
    more = count - 1 - room // stride
    return (count - 1) * stride - room if more > 0 else count * stride - 1 - room if more < 0 else 0


def _known(e: Emitter, size: Dim, stride: int) -> int:
    if not isinstance(size, int):
        raise e.unsupported(
            "this padding mode needs a fixed size where the stride is not 1",
            got=f"an axis of {size}, stride {stride}",
            hint="use explicit_round_down, or fix the size",
        )
    return size
