"""What a region's results must be: the anchor's numpy reference, then the epilogue. Tests and
tuning compare kernels with it.

Problems too large for the reference are checked by parts: ``rows`` says along which axis of the
result a part can be computed alone, and ``expected`` computes the indices [low, high) of that axis
from a crop of the operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.interp import ABSENT
from strop.ir.op import Array, Op
from strop.kernels.base import Region
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul
from strop.ops.recurrent import Recurrent

#: Largest error of a result element, relative to the element and to the largest element of the
#: result.
TOLERANCE = {"f64": 1e-9, "f32": 1e-4, "f16": 4e-3, "bf16": 3e-2, "f8e4m3": 1.3e-1}
#: Rounding of one step of a recurrence, relative to the largest element of x, and how many of its effects are allowed.
_STEP_ROUNDING = {"f64": 1e-12, "f32": 1e-6, "f16": 1e-3, "bf16": 1e-2}
_EFFECTS = 64.0
#: Share of integer results that may be off by one where floats are rounded on the way, or as many as their tolerance is where these have 16 bits; one may in
#: any case.
_OFF_BY_ONE = 1e-3


def random_operands(region: Region, rng: np.random.Generator) -> list[Array | None]:
    """An array of the view's logical shape per operand; None for constants and operands left out.

    Floats are standard normal. Integers of 16 bits and more may be indices and stay below the
    smallest dim of any operand; smaller integers cover their range.
    """
    dims = [d for o in region.operands if o is not None for d in o.view.shape]
    limit = max(1, min(dims, default=8))
    arrays: list[Array | None] = []
    for operand in region.operands:
        if operand is None or operand.const is not None:
            arrays.append(None)
            continue
        view = operand.view
        once = tuple(1 if s == 0 else d for d, s in zip(view.shape, view.strides, strict=True))
        arrays.append(np.broadcast_to(_random(view.dtype, once, limit, rng), view.shape))
    return arrays


def _random(dtype: DType, shape: tuple[int, ...], limit: int, rng: np.random.Generator) -> Array:
    if dtype.is_float:
        return rng.standard_normal(shape, np.float32).astype(dtype.numpy)
    if dtype is dt.boolean:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.size > 1:
        return rng.integers(0, limit, shape).astype(dtype.numpy)
    info = np.iinfo(str(dtype.numpy))
    return rng.integers(info.min, info.max + 1, shape).astype(dtype.numpy)


def work(region: Region) -> int:
    """Operations that ``expected`` takes."""
    if region.op is None:
        return sh.count(region.out.shape)
    types = [o.view.type for o in region.operands[: region.anchors] if o is not None]
    return region.op.cost(types, [v.type for v in region.outs]).flops


def rows(region: Region) -> int | None:
    """The axis of the result along which a part can be computed alone, or None."""
    rank = len(region.out.shape)
    if isinstance(region.op, Conv):
        return region.op.spatial_axes(rank)[0]
    if isinstance(region.op, MatMul) and not region.op.transpose_a:
        left, right = (region.operand(k).view.shape for k in (0, 1))
        return rank - 2 if len(left) >= 2 and len(right) >= 2 else None
    return 0 if region.op is None and rank else None


def expected(
    region: Region, arrays: Sequence[Array | None], low: int = 0, high: int | None = None
) -> list[Array]:
    """The results.

    Args:
        region: the kernel launch.
        arrays: an array per operand, broadcastable to its view's shape; None for constants and
            operands left out.
        low: first index along ``rows(region)``.
        high: end of the indices; None for all.

    Returns:
        An array per result, of the result's logical shape, or of the part [low, high) of it along
        ``rows(region)``.
    """
    given = [
        o.logical if o is not None and o.const is not None else a
        for o, a in zip(region.operands, arrays, strict=True)
    ]
    given = [None if a is None or o is None else np.broadcast_to(a, o.view.shape)
             for a, o in zip(given, region.operands, strict=True)]  # fmt: skip
    if region.has_prologue:
        end = len(given) - region.prologues
        given = [
            ex.evaluate(region.prologue, [_array(given[0]), *(_array(a) for a in given[end:])]),
            *given[1:end],
        ]
    shape = list(region.out.shape)
    op = region.op
    axis = rows(region)
    if high is not None:
        assert axis is not None, f"{region.name}: {region.kind} has no parts"
        extras = [np.take(_array(a), range(low, high), axis) for a in given[region.anchors :]]
        op, anchors = _crop(region, [*given[: region.anchors]], axis, low, high)
        given = [*anchors, *extras]
        shape[axis] = high - low
    if op is None:
        result = ex.evaluate(region.epilogue, [_wide(_array(a)) for a in given])
        return [np.broadcast_to(ex.cast_array(result, region.out.dtype), shape)]
    anchored = [ABSENT if a is None else a for a in given[: region.anchors]]
    results = list(op.reference(*anchored))
    if region.has_epilogue:
        results[0] = ex.evaluate(
            region.epilogue, [results[0], *(_array(a) for a in given[region.anchors :])]
        )
        results[0] = np.broadcast_to(results[0], shape)
    return results


def _array(array: Array | None) -> Array:
    assert array is not None, "an epilogue operand was left out"
    return array


def _wide(array: Array) -> Array:
    """f16 and bf16 as f32, in which elementwise functions of them are computed."""
    return array.astype(np.float32) if array.dtype in (dt.f16.numpy, dt.bf16.numpy) else array


def _crop(
    region: Region, anchors: list[Array | None], axis: int, low: int, high: int
) -> tuple[Op | None, list[Array | None]]:
    """The op and the anchor's operands that give the indices [low, high) of the result's
    ``axis``."""
    op = region.op
    if isinstance(op, Conv):
        x, w = _array(anchors[0]), _array(anchors[1])
        rank = len(op.strides)
        first = low * op.strides[0] - op.pads[0]
        last = (high - 1) * op.strides[0] - op.pads[0] + op.dilations[0] * (w.shape[2] - 1) + 1
        size = x.shape[axis]
        start, stop = min(max(first, 0), size), min(max(last, 0), size)
        before = max(0, min(-first, last - first))
        pads = list(op.pads)
        pads[0], pads[rank] = before, (last - first) - before - (stop - start)
        anchors[0] = np.take(x, range(start, stop), axis)
        return op.replace(pads=tuple(pads)), anchors
    if isinstance(op, MatMul):
        anchors[0] = _array(anchors[0])[..., low:high, :]
    return op, anchors


def slack(region: Region, arrays: Sequence[Array | None], wanted: Sequence[Array]) -> list[Array] | None:
    """How much more than the tolerance results may be off because a recurrence lets the rounding of early steps grow.

    Weights decide whether it grows or dies out. It is measured: what a rounding of x at every step does to the results in exact
    arithmetic, the largest effect on a sample's units at a step.

    Args:
        region: the kernel launch.
        arrays: as for ``expected``.
        wanted: all of the results.

    Returns:
        An array per result, broadcastable to it; None for an op that is no recurrence.
    """
    if not isinstance(region.op, Recurrent):
        return None
    first = region.operand(0)
    x = _array(first.logical if first.const is not None else arrays[0]).astype(np.float64)
    size = _STEP_ROUNDING[first.view.dtype.name] * float(np.abs(x).max(initial=0.0))
    signs = np.random.default_rng(0).choice((-1.0, 1.0), x.shape)
    rounded = (x + size * signs).astype(first.view.dtype.numpy)
    changed = replace(region, operands=(replace(first, const=None), *region.operands[1:]))
    moved = expected(changed, [rounded, *arrays[1:]])
    return [
        _EFFECTS * np.abs(a.astype(np.float64) - b.astype(np.float64)).max(-1, keepdims=True, initial=0.0)
        for a, b in zip(moved, wanted, strict=True)
    ]


def difference(
    region: Region, index: int, got: Array, want: Array, extra: Array | None = None
) -> str | None:
    """None when result ``index`` is as exact as it must be, else what is wrong with it, in
    words; ``extra`` is its ``slack``."""
    dtype = region.outs[index].dtype
    if got.size == 0:
        return None
    if dtype.is_float:
        step = _step(want) if index == 0 and _rounds(region) else 0.0
        return _float_difference(
            np.asarray(got, np.float64),
            np.asarray(want, np.float64),
            _tolerance(region, dtype),
            0.0 if extra is None else extra,
            step,
        )
    unequal = got != want
    count = int(np.count_nonzero(unequal))
    if count == 0:
        return None
    floats = any(o is not None and o.view.dtype.is_float for o in region.operands)
    far = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
    if floats and far <= 1 and count <= max(1, max(_OFF_BY_ONE, _tolerance(region)) * got.size):
        return None
    at = _place(unequal)
    text = f"{count} of {got.size} elements differ, first at {list(at)}"
    return f"{text}: got {got[at]}, expected {want[at]}"


def _tolerance(region: Region, *results: DType) -> float:
    """That of the narrowest float among results, the operands and the casts on the way: where values of 16 bits are rounded before they become an f32, another
    order of summing may round one to its neighbour."""
    kinds = {*results, *(o.view.dtype for o in region.operands if o is not None and o.view.dtype.is_float)}
    for part in (*ex.walk(region.prologue), *ex.walk(region.epilogue)):
        if isinstance(part, ex.Cast) and part.to.is_float:
            kinds.add(part.to)
    return max(TOLERANCE[kind.name] for kind in kinds)


def _rounds(region: Region) -> bool:
    """True when the epilogue rounds to whole numbers: a sum near the middle of two becomes either, depending on its order."""
    return any(isinstance(part, ex.Call) and part.fn == "round" for part in ex.walk(region.epilogue))


def _step(want: Array) -> float:
    """The least distance of two different elements: of a grid that all are on, its step; 0 where all are alike."""
    values = np.unique(want[np.isfinite(want)])
    return float(np.diff(values).min()) if len(values) > 1 else 0.0


def _float_difference(
    got: Array, want: Array, tolerance: float, extra: Array | float, step: float
) -> str | None:
    """As ``difference``; ``step`` is what a small share of the elements may be off by, as integers may be."""
    finite = np.isfinite(want)
    scale = max(1e-6, float(np.abs(want[finite]).max(initial=0.0)))
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
        wrong = np.where(
            finite,
            ~(error <= tolerance * (np.abs(want) + scale) + extra),
            ~((got == want) | np.isnan(got) & np.isnan(want)),
        )
    if not wrong.any():
        return None
    ranked = np.where(wrong, np.nan_to_num(error, nan=np.inf, posinf=np.inf), -1.0)
    at = tuple(int(k) for k in np.unravel_index(int(ranked.argmax()), got.shape))
    count = int(np.count_nonzero(wrong))
    if count <= max(_OFF_BY_ONE, tolerance) * got.size and error[wrong].max() <= (1.0 + tolerance) * step:
        return None
    text = f"{count} of {got.size} elements differ, most at {list(at)}"
    return f"{text}: got {got[at]:.6g}, expected {want[at]:.6g}"


def _place(mask: Array) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(int(mask.argmax()), mask.shape))
