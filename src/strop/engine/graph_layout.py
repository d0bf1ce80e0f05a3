"""Where the boxes and lines of a drawn graph lie: layers from top to bottom, few crossings, straight long lines.

The steps are those of K. Sugiyama et al., 1981, "Methods for visual understanding of hierarchical system structures": longest-path layers,
dummy boxes where a line passes a layer, orders by barycentres, and places by weighted least squares under the order (pool
adjacent violators).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

#: Room between boxes of a layer, between a line and its neighbours, and between layers.
GAP, LINE_GAP, RANK_GAP = 28.0, 14.0, 34.0
_SWEEPS = 12
#: How much straighter lines want to be than boxes.
_LINE_WEIGHT = 4.0


@dataclass(frozen=True)
class Drawing:
    """Places.

    Attributes:
        boxes: centre x and top y per box.
        lines: per edge the points it goes through, from the bottom of one box to the top of the other.
        width, height: of everything.
    """

    boxes: tuple[tuple[float, float], ...]
    lines: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


@dataclass(eq=False)
class _Cell:
    """A box, or the point where a line passes a layer."""

    rank: int
    width: float
    box: int = -1
    x: float = 0.0
    up: list[_Cell] = field(default_factory=list)
    down: list[_Cell] = field(default_factory=list)


def arrange(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Drawing:
    """Places boxes of (width, height). Every edge leads from a box to a later one."""
    ranks = _ranks(len(sizes), edges)
    cells = [_Cell(rank, size[0], k) for k, (rank, size) in enumerate(zip(ranks, sizes))]
    rows: list[list[_Cell]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for cell in cells:
        rows[cell.rank].append(cell)
    chains = [_chain(cells[a], cells[b], rows) for a, b in edges]
    for sweep in range(_SWEEPS):
        _order(rows, downwards=sweep % 2 == 0)
    for row in rows:
        _spread(row)
    for sweep in range(_SWEEPS):
        _place(rows, downwards=sweep % 2 == 0)
    low = min((c.x - c.width / 2 for row in rows for c in row), default=0.0)
    high = max((c.x + c.width / 2 for row in rows for c in row), default=0.0)
    tops, bottoms, y = [], [], 0.0
    for row in rows:
        tall = max((sizes[c.box][1] for c in row if c.box >= 0), default=0.0)
        tops.append(y)
        bottoms.append(y + tall)
        y += tall + RANK_GAP
    boxes = tuple((c.x - low, tops[c.rank]) for c in cells)
    lines = []
    for (a, _), chain in zip(edges, chains):
        points = [(chain[0].x - low, tops[chain[0].rank] + sizes[a][1])]
        for cell in chain[1:-1]:
            points += [(cell.x - low, tops[cell.rank]), (cell.x - low, bottoms[cell.rank])]
        lines.append((*points, (chain[-1].x - low, tops[chain[-1].rank])))
    return Drawing(boxes, tuple(lines), high - low, max(0.0, y - RANK_GAP))


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The length of the longest path to each box; what begins a path lies right above what it leads to."""
    ranks = [0] * count
    later: list[list[int]] = [[] for _ in range(count)]
    first = [True] * count
    for a, b in sorted(edges, key=lambda edge: edge[1]):
        ranks[b] = max(ranks[b], ranks[a] + 1)
        later[a].append(b)
        first[b] = False
    for k in range(count):
        if first[k] and later[k]:
            ranks[k] = min(ranks[b] for b in later[k]) - 1
    return ranks


def _chain(a: _Cell, b: _Cell, rows: list[list[_Cell]]) -> list[_Cell]:
    """The cells that a line goes through, new ones in the layers between."""
    chain = [a]
    for rank in range(a.rank + 1, b.rank):
        cell = _Cell(rank, LINE_GAP)
        rows[rank].append(cell)
        chain.append(cell)
    chain.append(b)
    for upper, lower in pairwise(chain):
        upper.down.append(lower)
        lower.up.append(upper)
    return chain


def _order(rows: list[list[_Cell]], downwards: bool) -> None:
    """Orders every layer by the mean position of what its cells are joined to in the layer before it."""
    for row in rows:
        for place, cell in enumerate(row):
            cell.x = place
    for row in rows if downwards else reversed(rows):
        keys = {}
        for place, cell in enumerate(row):
            near = cell.up if downwards else cell.down
            keys[cell] = sum(c.x for c in near) / len(near) if near else float(place)
        row.sort(key=keys.__getitem__)
        for place, cell in enumerate(row):
            cell.x = place


def _spread(row: list[_Cell]) -> None:
    """First places, side by side around 0."""
    x = 0.0
    for before, cell in zip([None, *row], row):
        x += 0.0 if before is None else _distance(before, cell)
        cell.x = x
    middle = (row[0].x + row[-1].x) / 2 if row else 0.0
    for cell in row:
        cell.x -= middle


def _distance(a: _Cell, b: _Cell) -> float:
    gap = GAP if a.box >= 0 and b.box >= 0 else LINE_GAP
    return (a.width + b.width) / 2 + gap


def _place(rows: list[list[_Cell]], downwards: bool) -> None:
    """Moves every layer as near as its order allows to what it is joined to: above, or below."""
    for row in rows if downwards else reversed(rows):
        wanted, weights, shift, total = [], [], [], 0.0
        for before, cell in zip([None, *row], row):
            total += 0.0 if before is None else _distance(before, cell)
            near = (cell.up if downwards else cell.down) or (cell.down if downwards else cell.up)
            shift.append(total)
            wanted.append((sum(c.x for c in near) / len(near) if near else cell.x) - total)
            straight = cell.box < 0 or any(c.box < 0 for c in near)
            weights.append(_LINE_WEIGHT if straight else 1.0 if near else 0.1)
        for cell, value, offset in zip(row, _isotonic(wanted, weights), shift):
            cell.x = value + offset


def _isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence that is nearest to ``values`` in weighted squares."""
    blocks: list[list[float]] = []  # mean, weight, count
    for value, weight in zip(values, weights):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, w, n = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * w) / (last[1] + w)
            last[1] += w
            last[2] += n
    return [mean for mean, _, n in blocks for _ in range(int(n))]
