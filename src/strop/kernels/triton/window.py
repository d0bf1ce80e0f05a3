"""Kernels that slide a window over channels-last values without mixing channels: tiles of places by channels, a loop over taps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strop.ir.dtype import DType
from strop.kernels.base import Region, View
from strop.kernels.triton.emit import (
    VALUE,
    Block,
    Launch,
    Tile,
    Writer,
    ceil_div,
    masked,
    power_of_two,
    times,
    wide_of,
)
from strop.kernels.triton.integers import is_integer
from strop.kernels.triton.parts import finish, traffic
from strop.target.base import Target

#: Taps that are written out one by one; longer windows loop over their first axis.
_UNROLLED = 25


@dataclass(frozen=True)
class Params:
    """Places and channels of a tile, and warps."""

    places: int
    channels: int
    warps: int


@dataclass(frozen=True)
class Window:
    """Geometry per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def taps(self) -> int:
        """Elements of a window."""
        return math.prod(self.kernel)


def space(region: Region) -> list[Params]:
    """Parameter sets worth trying."""
    channels = power_of_two(region.out.shape[1])
    count = region.out.count // max(1, region.out.shape[1])
    found = []
    for size in (16, 32, 64, 128, 256):
        if size > max(16, channels):
            continue
        for places in (1, 2, 4, 8, 16, 32, 64, 128):
            for warps in (1, 2, 4, 8):
                each = places * size // (32 * warps)
                if each in (1, 2, 4, 8, 16) and places <= max(1, power_of_two(count)):
                    found.append(Params(places, size, warps))
    return found


def cost(region: Region, taps: int, p: Params, target: Target) -> float:
    """Estimated seconds: by memory, by loads issued, by waves."""
    out = region.out
    channels = out.shape[1]
    programs = ceil_div(out.count // channels, p.places) * ceil_div(channels, p.channels)
    vector = min(8, max(1, p.places * p.channels // (32 * p.warps)))
    instructions = p.places * p.channels / 32 / vector * (taps * (2 + vector * 1.5) + 20 + vector * 6)
    resident = max(1, min(32, 64 // p.warps))
    waves = ceil_div(programs, target.cores * resident)
    cycles = waves * (900 + 30 * min(taps, 16)) + programs / target.cores * instructions / 3.0
    waste = ceil_div(channels, p.channels) * p.channels / channels
    return max(traffic(region, target), waste * cycles / (target.ghz * 1e9) + 2e-6) * (1.0 + 0.02 * (vector < 4))


def write(
    w: Writer, region: Region, x: View, window: Window, p: Params, start: Callable[[Tile], None],
    tap: Callable[[str, str, Sequence[str]], None], fill: str, last: Callable[[Tile], str], dtype: DType,
) -> Launch:  # fmt: skip
    """Writes the kernel's body.

    Args:
        start: writes what comes before the taps.
        tap: takes the text of a tap's number, of the loaded element and of its indices, and writes its contribution.
        fill: text of an element outside of x.
        last: writes what comes behind the taps; returns the value's text.
        dtype: of that value, the anchor's element.
    """
    shape = region.out.shape
    axes = (0, *range(2, len(shape)))
    tiles = ceil_div(shape[1], p.channels)
    w("program = tl.program_id(0)")
    w(f"m = {'program' if tiles == 1 else f'program // {tiles}'} * {p.places} + tl.arange(0, {p.places})")
    w(f"c = {'' if tiles == 1 else f'(program % {tiles}) * {p.channels} + '}tl.arange(0, {p.channels})")
    count = region.out.count // shape[1]
    m = Block("m", axes, tuple(shape[a] for a in axes), p.places, count % p.places != 0)
    c = Block("c", (1,), (shape[1],), p.channels, shape[1] % p.channels != 0)
    tile = Tile(w, (m, c))
    inner = tile.mask((m, c))
    strides = [x.strides[0], *(s * t for s, t in zip(window.strides, x.strides[2:], strict=True))]
    for k in range(len(window.kernel)):
        w(f"at{k} = {m.axis(w, 1 + k)} * {window.strides[k]} - {window.pads[k]}")
    shift = sum(pad * s for pad, s in zip(window.pads, x.strides[2:], strict=False))
    rows = m.offset(w, strides, wide_of(x)) or "m * 0"
    w(f"x_tile = x + ({rows}{f' - {shift}' if shift else ''})[:, None] + {times('c[None, :]', x.strides[1])}")
    start(tile)

    def one(number: str, index: Sequence[str]) -> None:
        moved = []
        for k, text in enumerate(index):
            step = times(text, window.dilations[k])
            place = f"at{k}" if step == "0" else f"(at{k} + {step})"
            lowest, highest = _reach(x, region.out, window, k)
            moved += [f"({place} >= 0)"] if lowest < 0 else []
            moved += [f"({place} < {x.shape[2 + k]})"] if highest >= x.shape[2 + k] else []
        terms = [t for k, text in enumerate(index) if (t := times(text, window.dilations[k] * x.strides[2 + k])) != "0"]
        masks = [f"({' & '.join(moved)})[:, None]"] if moved else []
        masks += [inner] if inner else []
        where = " + ".join(["x_tile", *terms])
        if masks and is_integer(x.dtype):  # what lies outside is chosen in registers: not every compiler fills vectors of bytes with numbers below 0
            kind = VALUE[x.dtype.name]
            tap(number, f"tl.where({' & '.join(masks)}, tl.load({where}{masked(masks, '0')}), tl.full((), {fill}, {kind}))", index)
        else:
            tap(number, f"tl.load({where}{masked(masks, fill)})", index)

    if window.taps <= _UNROLLED:
        for number in range(window.taps):
            one(str(number), _unflattened(number, window.kernel))
    else:
        first = window.kernel[0]
        each = window.taps // first
        with w.block(f"for k0 in range({first})"):
            for number in range(each):
                one(f"(k0 * {each} + {number})", ["k0", *_unflattened(number, window.kernel[1:])])
    value = last(tile)
    finish(region, tile, value, dtype)
    return Launch(w.text(), (ceil_div(count, p.places) * tiles, 1, 1), p.warps, 2)


def _unflattened(number: int, extents: Sequence[int]) -> list[str]:
    """Texts of the indices of an element by its number."""
    index: list[str] = []
    for extent in reversed(extents):
        index.insert(0, str(number % extent))
        number //= extent
    return index


def _reach(x: View, out: View, window: Window, k: int) -> tuple[int, int]:
    """Lowest and highest index along spatial axis k that some tap has."""
    return -window.pads[k], (out.shape[2 + k] - 1) * window.strides[k] - window.pads[k] + (window.kernel[k] - 1) * window.dilations[k]
