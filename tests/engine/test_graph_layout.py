"""Places of boxes and lines."""

from __future__ import annotations

import random
from itertools import pairwise

from strop.engine.graph_layout import GAP, RANK_GAP, _isotonic, arrange

SIZE = (100.0, 30.0)


def test_a_chain_is_straight() -> None:
    drawing = arrange([SIZE] * 4, [(0, 1), (1, 2), (2, 3)])
    assert {x for x, _ in drawing.boxes} == {50.0}
    assert [y for _, y in drawing.boxes] == [k * (30 + RANK_GAP) for k in range(4)]
    assert (drawing.width, drawing.height) == (100.0, 4 * 30 + 3 * RANK_GAP)
    assert drawing.lines[0] == ((50.0, 30.0), (50.0, 30.0 + RANK_GAP))


def test_a_line_passes_beside_the_boxes_between() -> None:
    drawing = arrange([SIZE] * 4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    passing = drawing.lines[3]
    for x, y in passing[1:-1]:
        for bx, by in drawing.boxes[1:3]:
            assert not (abs(x - bx) < 50 and by <= y <= by + 30)


def test_boxes_of_random_graphs_do_not_overlap_and_lines_go_down() -> None:
    rng = random.Random(0)
    for count in (0, 1, 2, 7, 60):
        edges = sorted({(a, b) for b in range(count) for a in rng.sample(range(b), min(b, rng.randint(0, 3)))})
        sizes = [(rng.uniform(20, 200), rng.uniform(10, 90)) for _ in range(count)]
        drawing = arrange(sizes, edges)
        rows: dict[float, list[tuple[float, float]]] = {}
        for (x, y), (width, height) in zip(drawing.boxes, sizes):
            rows.setdefault(y, []).append((x - width / 2, x + width / 2))
            assert x - width / 2 >= -1e-6 and x + width / 2 <= drawing.width + 1e-6 and y + height <= drawing.height + 1e-6
        for row in rows.values():
            assert all(a[1] + GAP <= b[0] + 1e-6 for a, b in pairwise(sorted(row)))
        for (a, b), line in zip(edges, drawing.lines):
            assert line[0][1] == drawing.boxes[a][1] + sizes[a][1] and line[-1] == drawing.boxes[b]
            assert all(p[1] <= q[1] for p, q in pairwise(line))


def test_isotonic() -> None:
    assert _isotonic([1, 2, 3], [1, 1, 1]) == [1, 2, 3]
    assert _isotonic([3, 1], [1, 1]) == [2, 2]
    assert _isotonic([4, 1, 9], [1, 2, 1]) == [2, 2, 9]
    assert _isotonic([], []) == []
