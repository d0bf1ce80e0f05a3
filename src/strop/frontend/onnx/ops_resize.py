"""ONNX Resize in its four forms, and Upsample."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np

from strop.frontend.dims import ratio
from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand
from strop.frontend.onnx.registry import onnx_op
from strop.ir import shape as sh
from strop.ir.shape import Dim
from strop.ops.resize import COORDINATES, MODES, NEAREST, Resize


def _positive(node: NodeContext, scales: Sequence[float]) -> tuple[float, ...]:
    if any(not (0.0 < s < 2.0**31) for s in scales):
        raise node.malformed("scales must be positive", got=tuple(scales))
    return tuple(float(s) for s in scales)


def _scales(node: NodeContext, index: int) -> tuple[float, ...]:
    """A known list of scale factors."""
    array = node.constant(index, "scales")
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
        raise node.malformed(
            "scales must be a list of floats", got=f"{array.dtype}{list(array.shape)}"
        )
    return _positive(node, [float(v) for v in array])


def _grown(node: NodeContext, dim: Dim, scale: float) -> Dim:
    """floor(dim * scale), also of a symbolic dim when the scale is a whole number or one part of one."""
    if isinstance(dim, int):
        return floor(dim * scale)
    if scale == 1.0 or float(scale).is_integer():
        return sh.mul(dim, int(scale))
    if (1.0 / scale).is_integer():
        return sh.floordiv(dim, int(1.0 / scale))
    raise node.unsupported(
        "a symbolic dim cannot be scaled by a fraction",
        got=f"{dim} * {scale}",
        hint="give the symbols values with --shape",
    )


@onnx_op("Upsample", since=7, until=9)
@onnx_op("Resize", since=10, until=10)
def upsample(node: NodeContext) -> Operand:
    """Positions are index / scale; nearest rounds down when enlarging and up when shrinking, as ONNX Runtime does."""
    x = node.operand(0)
    mode = node.text("mode", "nearest", ("nearest", "linear", "bilinear"))
    scales = _positive(node, node.floats("scales")) if node.has("scales") else _scales(node, 1)
    if len(scales) != x.type.rank:
        raise node.malformed("scales do not fit", got=scales, expected=f"{x.type.rank} numbers")
    shrinks, grows = any(s < 1.0 for s in scales), any(s > 1.0 for s in scales)
    if mode == "nearest" and shrinks and grows:
        raise node.unsupported(
            "nearest that shrinks one axis and enlarges another is not supported", got=scales
        )
    sizes = tuple(_grown(node, d, s) for d, s in zip(x.type.shape, scales, strict=True))
    op = Resize(
        sizes,
        scales,
        "nearest" if mode == "nearest" else "linear",
        coordinates="asymmetric",
        nearest="ceil" if shrinks else "floor",
    )
    return node.step(op, x)


@onnx_op("Resize", since=11)
def resize(node: NodeContext) -> Operand:
    x = node.operand(0)
    rank = x.type.rank
    mode = node.text("mode", "nearest", MODES)
    coordinates = node.text("coordinate_transformation_mode", "half_pixel", COORDINATES)
    nearest = node.text("nearest_mode", "round_prefer_floor", NEAREST)
    policy = node.text(
        "keep_aspect_ratio_policy", "stretch", ("stretch", "not_larger", "not_smaller")
    )
    given = node.optional_integers("axes")
    axes = tuple(range(rank)) if given is None else node.normal_axes(given, rank)
    crop = _crop(node, axes, rank) if coordinates == "tf_crop_and_resize" else ()
    has_scales, has_sizes = _given(node, 2), _given(node, 3)
    if has_scales == has_sizes:
        raise node.malformed("needs either scales or sizes", got="both" if has_sizes else "none")
    if has_scales:
        sizes, scales = _from_scales(node, axes, crop)
    else:
        sizes, scales = _from_sizes(node, axes, crop, policy)
    op = Resize(
        sizes,
        scales,
        mode,
        coordinates,
        nearest,
        cubic_a=node.number("cubic_coeff_a", -0.75),
        exclude_outside=node.flag("exclude_outside"),
        extrapolation=node.number("extrapolation_value", 0.0),
        roi=crop,
        antialias=node.flag("antialias"),
    )
    return node.step(op, x)


def _given(node: NodeContext, index: int) -> bool:
    """Whether an optional operand is there; older exporters give an empty tensor instead of leaving it out."""
    found = node.optional(index)
    return found is not None and not (isinstance(found, Known) and found.array.size == 0)


def _crop(node: NodeContext, axes: tuple[int, ...], rank: int) -> tuple[float, ...]:
    """The region of interest over all axes: starts, then ends."""
    roi = node.constant(1, "roi").astype(np.float64).reshape(-1)
    if roi.size != 2 * len(axes) or not np.all(np.isfinite(roi)):
        raise node.malformed(
            "roi does not fit", got=roi.tolist(), expected=f"{2 * len(axes)} numbers"
        )
    starts, ends = [0.0] * rank, [1.0] * rank
    for index, axis in enumerate(axes):
        starts[axis], ends[axis] = float(roi[index]), float(roi[len(axes) + index])
    return (*starts, *ends)


def _from_scales(
    node: NodeContext, axes: tuple[int, ...], crop: tuple[float, ...]
) -> tuple[tuple[Dim, ...], tuple[float, ...]]:
    """(sizes, scales) over all axes from the operand scales."""
    shape, given = node.shape(0), _scales(node, 2)
    if len(given) != len(axes):
        raise node.malformed("scales do not fit", got=given, expected=f"{len(axes)} numbers")
    sizes, scales = list(shape), [1.0] * len(shape)
    for axis, scale in zip(axes, given, strict=True):
        extent = crop[len(shape) + axis] - crop[axis] if crop else 1.0
        scales[axis] = scale
        sizes[axis] = _grown(node, shape[axis], scale * extent)
    return tuple(sizes), tuple(scales)


def _from_sizes(
    node: NodeContext, axes: tuple[int, ...], crop: tuple[float, ...], policy: str
) -> tuple[tuple[Dim, ...], tuple[float, ...]]:
    """(sizes, scales) over all axes from the operand sizes; a policy keeps one scale for all axes in question."""
    shape, wanted = node.shape(0), node.dims(3, "sizes")
    if len(wanted) != len(axes):
        raise node.malformed("sizes do not fit", got=wanted, expected=f"{len(axes)} numbers")
    node.check_dims(wanted)
    sizes, scales = list(shape), [1.0] * len(shape)
    for axis, size in zip(axes, wanted, strict=True):
        have = shape[axis]
        sizes[axis] = size
        if size == have:
            continue
        scale = ratio(have, size)
        if scale is None:
            raise node.unsupported(
                "a symbolic dim cannot be resized to a size",
                got=f"{have} to {size}",
                expected="a whole multiple, or a whole part",
                hint="give the symbols values with --shape, or ranges in steps",
            )
        scales[axis] = scale
    if policy != "stretch":
        pick = min if policy == "not_larger" else max
        chosen = pick(scales[axis] for axis in axes)
        for axis in axes:
            (have_int,) = sh.static((shape[axis],), node.where)
            sizes[axis], scales[axis] = floor(have_int * chosen + 0.5), chosen
    return tuple(sizes), tuple(scales)
