"""The chart."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.chart import _ticks, chart
from tests.bench import made

SVG = "{http://www.w3.org/2000/svg}"


def parts(svg: str, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(SVG + kind))


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in parts(svg, "text")]


def bars(svg: str) -> list[tuple[str, float]]:
    """(fill, width) of every bar, without background and legend."""
    found = [(r.get("fill", ""), float(r.get("width", "0"))) for r in parts(svg, "rect")]
    return [(fill, width) for fill, width in found[1:] if width != 10]


def two() -> made.Results:
    first = made.row("first & last", (1.0, 1.0, 1.0), a=(2.0, 2.1, 1.9), b=(4.0, 4.0, 4.0))
    second = made.row("second", (1.0, 1.0, 1.0), b=(1.0, 1.0, 1.0))
    return made.results(made.result(first), made.result(second), made.result(made.bad("bad", "wrong")))


def test_a_bar_is_as_long_as_its_ratio() -> None:
    found = bars(chart(two()))
    assert len(found) == 5  # two and one, and two means
    (a, wide), (b, wider), (same, unit), (_, mean_a), (_, mean_b) = found
    assert a != b == same
    assert wider == pytest.approx(2 * wide, abs=0.2) and wide == pytest.approx(2 * unit, abs=0.2)
    assert mean_a == pytest.approx(wide, abs=0.2) and mean_b == pytest.approx(2 * unit, abs=0.2)


def test_everything_is_labelled() -> None:
    found = texts(chart(two()))
    for text in ("x86-64-v4, 1 thread, batch 1, f32", "first & last", "second", "geometric mean", "a", "b", "Strop", "2.00", "4.00", "1"):
        assert text in found
    assert any("time of the runtime / time of Strop" in text for text in found)
    assert "bad" not in found


def test_a_panel_per_group() -> None:
    pair = made.row("net", (1.0,), 2, a=(2.0,))
    results = made.results(*two().results, made.result(pair), made.result(pair, batch=8))
    found = texts(chart(results))
    assert [t for t in found if t.endswith("f32")] == [
        "x86-64-v4, 1 thread, batch 1, f32",
        "x86-64-v4, 2 threads, batch 1, f32",
        "x86-64-v4, 2 threads, batch 8, f32",
    ]


def test_a_runtime_has_one_colour_in_all_panels() -> None:
    only_b = made.row("net", (1.0,), 2, b=(2.0,))
    found = bars(chart(made.results(*two().results, made.result(only_b))))
    assert found[-1][0] == found[1][0] != found[0][0]


def test_nothing_lies_outside() -> None:
    svg = chart(two())
    root = ElementTree.fromstring(svg)
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for text in parts(svg, "text"):
        assert 0 <= float(text.get("x", "-1")) <= width and 0 <= float(text.get("y", "-1")) <= height
    for line in parts(svg, "line"):
        assert all(0 <= float(line.get(k, "-1")) <= width for k in ("x1", "x2"))


def test_no_results() -> None:
    assert "no net was compared" in texts(chart(made.results(made.result(made.bad("bad", "wrong")))))


@pytest.mark.parametrize("most", [0.3, 0.99, 1.0, 1.3, 2.5, 9.0, 47.0, 3000.0, 1e7])
def test_ticks(most: float) -> None:
    ticks = _ticks(most)
    assert ticks[0] == 0 and 1 in ticks and ticks[-1] >= max(most, 1) and len(ticks) <= 11
    assert ticks == sorted(ticks)
