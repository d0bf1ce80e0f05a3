"""ATen upsampling: nearest, linear and cubic, with and without antialiasing."""

from __future__ import annotations

from collections.abc import Sequence

from strop.frontend.dims import ratio
from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.registry import torch_op
from strop.ir.graph import Value
from strop.ops.resize import Resize

_RANKED = (1, 2, 3)


def _resized(node: NodeContext, mode: str, coordinates: str, nearest: str = "floor", **options: float | bool) -> Value:
    """``self`` or ``input`` at the size of the result; positions use the given scales, else the ratio of the sizes."""
    x = node.tensor("input" if "input" in node.args else "self")
    sizes, spatial = node.result.shape, x.type.rank - 2
    given = _given(node, spatial)
    scales = [1.0, 1.0]
    for k in range(spatial):
        have, size = x.shape[2 + k], sizes[2 + k]
        scale = given[k] if given[k] is not None and coordinates != "align_corners" else ratio(have, size)
        if scale is None:
            raise node.unsupported(
                "a dynamic dim cannot be resized to a size", got=f"{have} to {size}", expected="a whole multiple, or a whole part",
                hint="export the dim in steps: 32 * torch.export.Dim(name)",
            )  # fmt: skip
        scales.append(scale)
    if x.shape == sizes and all(s == 1.0 for s in scales):
        return x
    return node.step(Resize(sizes, tuple(scales), mode, coordinates, nearest, **options), x)  # type: ignore[arg-type]


def _given(node: NodeContext, spatial: int) -> Sequence[float | None]:
    """The scales that the caller gave, per spatial axis."""
    if "scale_factors" in node.args:
        factors = node.arg("scale_factors")
        return [None] * spatial if factors is None else [float(f) for f in factors]
    if spatial == 1:
        return [node.arg("scales")]
    return [node.arg(f"scales_{axis}") for axis in "dhw"[3 - spatial :]]


def _names(kind: str, ranks: Sequence[int]) -> list[str]:
    return [f"aten.{kind}{k}d.{overload}" for k in ranks for overload in ("default", "vec")]


@torch_op(*_names("upsample_nearest", _RANKED))
def nearest(node: NodeContext) -> Value:
    """floor(i / scale)."""
    return _resized(node, "nearest", "asymmetric", "floor")


@torch_op(*_names("_upsample_nearest_exact", _RANKED))
def nearest_exact(node: NodeContext) -> Value:
    """floor((i + 1/2) / scale)."""
    return _resized(node, "nearest", "half_pixel", "round_prefer_ceil")


def _coordinates(node: NodeContext) -> str:
    return "align_corners" if node.flag("align_corners") else "half_pixel"


@torch_op(*_names("upsample_linear", (1,)), *_names("upsample_bilinear", (2,)), *_names("upsample_trilinear", (3,)))
def linear(node: NodeContext) -> Value:
    return _resized(node, "linear", _coordinates(node))


@torch_op(*_names("upsample_bicubic", (2,)))
def cubic(node: NodeContext) -> Value:
    return _resized(node, "cubic", _coordinates(node), cubic_a=-0.75)


@torch_op("aten._upsample_bilinear2d_aa.default", "aten._upsample_bilinear2d_aa.vec")
def linear_antialias(node: NodeContext) -> Value:
    return _resized(node, "linear", _coordinates(node), exclude_outside=True, antialias=True)


@torch_op("aten._upsample_bicubic2d_aa.default", "aten._upsample_bicubic2d_aa.vec")
def cubic_antialias(node: NodeContext) -> Value:
    """With another coefficient than without antialiasing."""
    return _resized(node, "cubic", _coordinates(node), cubic_a=-0.5, exclude_outside=True, antialias=True)
