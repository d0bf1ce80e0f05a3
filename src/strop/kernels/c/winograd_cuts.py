"""How the outputs of a convolution are cut into tiles for Winograd's algorithm, and which products that makes.

An axis is cut into at most two segments, each of equal tiles, that share one set of transformed filters: 28 = 6 * 4 + 4 with F(6, 3) and F(4, 3). The
last tile may reach beyond the end. An axis whose extent only a run knows is cut into equal tiles. Two axes make up to four types of tiles. Each transformed filter (one per pair of the axes' filters) is multiplied
with all points, of tiles of any type, that own it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from strop.ir.op import Array
from strop.kernels.c.positions import Geometry
from strop.kernels.c.winograd_matrices import Filtering, Form, filtering, floats, points_of
from strop.kernels.c.winograd_transform import operations
from strop.kernels.extent import is_symbolic, typical

#: (taps, stride) -> largest tile sizes to try, most saving first: up to eight points, twelve where the other axis has a single tap, round
#: little enough.
_LARGEST: dict[tuple[int, int], tuple[int, ...]] = {
    (3, 1): (6, 4, 3, 2),
    (5, 1): (4, 2),
    (7, 1): (2,),
    (3, 2): (4, 3, 2),
    (5, 2): (4, 3, 2),
    (7, 2): (3, 2),
}
_LARGEST_ALONE: dict[tuple[int, int], tuple[int, ...]] = {**_LARGEST, (3, 1): (6, 4, 2), (5, 1): (6, 4, 2), (7, 1): (6, 4, 2)}
#: Sizes of tiles; 5 would need a point without its negative.
_SIZES = (6, 4, 3, 2, 1)


@dataclass(frozen=True)
class Segment:
    """``count`` tiles of ``m`` outputs, the first one at output ``start``; ``over``: outputs that the last one computes in vain."""

    m: int
    start: int
    count: int
    over: int = 0


@lru_cache(maxsize=1024)
def cut(extent: int, largest: int, taps: int, stride: int, even: bool = False) -> tuple[Segment, ...]:
    """Segments that cover ``extent`` outputs with fewest products, with tiles of up to ``largest``; large tiles first. ``even``: all tiles are of
    the largest size; ``over`` is then the most that a run may have."""
    if even:
        rest = extent % largest
        return (Segment(largest, 0, -(-extent // largest), largest - 1 if is_symbolic(rest) else -rest % largest),)

    def rank(way: tuple[int, int, int, int]) -> tuple[int, ...]:
        a, many, b, few = way
        products = many * points_of(a, taps, stride) + few * points_of(b, taps, stride)
        return products, many + few, many * a + few * b, int(few > 0), -a * many

    a, many, b, few = min(_ways(extent, largest), key=rank)
    rest = extent - many * a
    segments = []
    if many:
        segments.append(Segment(a, 0, many, max(0, -rest)))
    if few:
        segments.append(Segment(b, many * a, few, few * b - rest))
    return tuple(segments)


def _ways(extent: int, largest: int) -> Iterator[tuple[int, int, int, int]]:
    """All (a, many, b, few): ``many`` tiles of ``a`` and ``few`` of the smaller ``b`` that just cover the extent."""
    sizes = [m for m in _SIZES if m <= largest]
    for a in sizes:
        yield a, -(-extent // a), 0, 0
        for b in (m for m in sizes if m < a):
            for many in range(max(1, extent // a - 3), (extent - 1) // a + 1):
                yield a, many, b, -(-(extent - many * a) // b)


@dataclass(frozen=True)
class TileType:
    """Tiles of one size: the forms and segments of both axes.

    Attributes:
        fh, fw: forms of rows and columns.
        h, w: segments of rows and columns.
        filters: per point (rows outer) the number of its filter.
    """

    fh: Form
    fw: Form
    h: Segment
    w: Segment
    filters: tuple[int, ...]

    @property
    def count(self) -> int:
        """Tiles per image."""
        return self.h.count * self.w.count

    @cached_property
    def work_in(self) -> int:
        """Vector operations of the data transform, per vector of channels."""
        return self.fw.inputs * operations(self.fh.bt) + self.fh.points * operations(self.fw.bt)

    @cached_property
    def work_out(self) -> int:
        """Vector operations of the output transform, per vector of channels."""
        return self.fw.points * operations(self.fh.at) + self.fh.m * operations(self.fw.at)


@dataclass(frozen=True)
class Cuts:
    """The tiles of a convolution.

    Attributes:
        rows, columns: the filters of the axes.
        types: types of tiles, largest first.
        images: how many.
    """

    rows: Filtering
    columns: Filtering
    types: tuple[TileType, ...]
    images: int

    @property
    def filters(self) -> int:
        """Transformed filters per input and output channel."""
        return len(self.rows.g) * len(self.columns.g)

    @property
    def tiles(self) -> int:
        """Tiles of all images."""
        return self.images * sum(t.count for t in self.types)

    @property
    def products(self) -> int:
        """Multiplications per input and output channel."""
        return self.images * sum(t.count * len(t.filters) for t in self.types)

    def counts(self, block: int, blocks: int) -> tuple[int, ...]:
        """Tiles of each type in one of ``blocks`` equal shares."""
        totals = [self.images * t.count for t in self.types]
        return tuple((block + 1) * n // blocks - block * n // blocks for n in totals)

    def filter_rows(self, counts: tuple[int, ...]) -> Counter[int]:
        """Products of each filter for that many tiles of each type."""
        found: Counter[int] = Counter()
        for tile, count in zip(self.types, counts, strict=True):
            for number in tile.filters:
                found[number] += count
        return found

    def transformed(self, taps: Array) -> list[Array]:
        """Filters of all points, f64 [c, o] each, from taps [rows, columns, c, o]."""
        gh, gw = floats(self.rows.g), floats(self.columns.g)
        half = [[sum(g * taps[r, s] for s, g in enumerate(line) if g) for line in gw] for r in range(len(taps))]
        return [sum(g * half[r][j] for r, g in enumerate(line) if g) for line in gh for j in range(len(gw))]


def largest_tiles(g: Geometry) -> list[tuple[int, int]]:
    """Largest tile (rows, columns) of each family for a geometry, most saving first; empty when there is none."""
    axes = []
    table = _LARGEST_ALONE if min(g.kh, g.kw) == 1 else _LARGEST
    for taps, stride, extent in ((g.kh, g.sh, g.h), (g.kw, g.sw, g.w)):
        sizes = table.get((taps, stride), ()) if taps > 1 else (1,)
        axes.append([m for m in sizes if m <= typical(extent)] or list(sizes[-1:]))
    if not axes[0] or not axes[1] or (g.kh, g.kw) == (1, 1):
        return []
    depth = max(map(len, axes))
    pairs = [(axes[0][min(k, len(axes[0]) - 1)], axes[1][min(k, len(axes[1]) - 1)]) for k in range(depth)]
    return list(dict.fromkeys(pairs))


@lru_cache(maxsize=512)
def cuts_of(g: Geometry, mh: int, mw: int, even: tuple[bool, bool] = (False, False)) -> Cuts:
    """The tiles of a geometry with tiles of up to ``mh`` by ``mw`` outputs; ``even``: see ``cut``, of rows and columns."""
    h, w = cut(g.h, mh, g.kh, g.sh, even[0]), cut(g.w, mw, g.kw, g.sw, even[1])
    rows = filtering(tuple(s.m for s in h), g.kh, g.sh)
    columns = filtering(tuple(s.m for s in w), g.kw, g.sw)
    types = []
    for sh, fh in zip(h, rows.forms, strict=True):
        for sw, fw in zip(w, columns.forms, strict=True):
            numbers = tuple(i * len(columns.g) + j for i in fh.filters for j in fw.filters)
            types.append(TileType(fh, fw, sh, sw, numbers))
    return Cuts(rows, columns, tuple(types), g.n)
