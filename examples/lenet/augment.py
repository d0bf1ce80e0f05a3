"""Random distortions of digit images, each image with its own."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Distortion:
    """How far an image may be moved: the largest uniform value, unless a field says otherwise."""

    rotate: float = 12.0
    """Turn either way, degrees."""
    scale: float = 0.12
    """Stretch of width and of height, each on its own, as a fraction."""
    shear: float = 0.2
    """Sideways slant, pixels per pixel."""
    shift: float = 1.5
    """Move along each axis, pixels."""
    elastic: float = 0.5
    """Standard deviation of the smooth displacement at a control point, pixels."""
    control: int = 6
    """Control points of the smooth displacement along each axis."""


def distort(images: torch.Tensor, how: Distortion, random: torch.Generator) -> torch.Tensor:
    """Return `images` (float32 [N, 1, H, W]) resampled bilinearly; what comes from outside is 0.

    The map is a random affine one followed by a smooth displacement that is interpolated
    bicubically between normally distributed control points.
    """
    count, _, height, width = images.shape
    affine = _affine(count, how, random) / torch.tensor([1.0, 1.0, width / 2])
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    points = torch.randn(count, 2, how.control, how.control, generator=random)
    bend = functional.interpolate(points, size=(height, width), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1) * (how.elastic * 2 / width)
    return functional.grid_sample(images, grid, mode="bilinear", align_corners=False)


def _affine(count: int, how: Distortion, random: torch.Generator) -> torch.Tensor:
    """Return maps [count, 2, 3] from output to input positions, the last column in pixels."""

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(count, generator=random) * 2 - 1) * limit

    angle = uniform(math.radians(how.rotate))
    slant = uniform(how.shear)
    wide, high = 1 / (1 + uniform(how.scale)), 1 / (1 + uniform(how.scale))
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [
        torch.stack([cos * wide, (cos * slant - sin) * high, uniform(how.shift)], dim=1),
        torch.stack([sin * wide, (sin * slant + cos) * high, uniform(how.shift)], dim=1),
    ]
    return torch.stack(rows, dim=1)
