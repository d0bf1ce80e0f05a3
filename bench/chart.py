"""Results as a bar chart in SVG: how many times as long as Strop every other runtime takes, net by net."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from bench.results import Result, Results
from strop.engine.ratios import Ratio, geometric_mean
from strop.engine.versus_report import runtimes

#: Fill per runtime, in the order of their first appearance (Okabe and Ito, 2008: told apart by colour-blind readers too).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
_FONT = "font-family='Helvetica, Arial, DejaVu Sans, sans-serif'"
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 170, 60, 76, 54
_BAR, _GAP = 11, 9


def chart(results: Results) -> str:
    """The SVG text; one panel per target, number of threads and batch."""
    panels = [(_title(key), group) for key, group in results.groups().items() if any(r.row.ratios for r in group)]
    names = runtimes([result.row for result in results.results])
    colours = {name: _COLOURS[k % len(_COLOURS)] for k, name in enumerate(names)}
    parts: list[str] = []
    top = 0.0
    for title, group in panels:
        text, height = _panel(title, group, top, colours)
        parts += text
        top += height
    if not panels:
        top = _TOP
        parts.append(_text(_LEFT, 40, "no net was compared", size=14))
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{top:.0f}' viewBox='0 0 {_WIDTH} {top:.0f}' {_FONT}>",
            f"<rect width='{_WIDTH}' height='{top:.0f}' fill='#ffffff'/>",
            *parts,
            "</svg>",
            "",
        ]
    )


def _title(key: tuple[str, int, int]) -> str:
    target, threads, batch = key
    return f"{target}, {threads} thread{'s' * (threads != 1)}, batch {batch}, f32"


def _panel(title: str, group: Sequence[Result], top: float, colours: Mapping[str, str]) -> tuple[list[str], float]:
    rows = [r.row for r in group if r.row.ratios]
    names = [n for n in colours if any(n in row.ratios for row in rows)]
    lines = [(row.net, [row.ratios.get(n) for n in names]) for row in rows]
    means = [geometric_mean([row.ratios[n].median for row in rows if n in row.ratios]) for n in names]
    lines.append(("geometric mean", [Ratio(m, m, m, 0.0) for m in means]))
    step = len(names) * _BAR + _GAP
    bottom = top + _TOP + len(lines) * step
    ticks = _ticks(max(r.high for _, ratios in lines for r in ratios if r is not None))
    scale = (_WIDTH - _LEFT - _RIGHT) / ticks[-1]
    parts = [_text(_LEFT, top + 24, title, size=15, weight="bold"), *_legend({n: colours[n] for n in names}, top + 46)]
    for tick in ticks:
        x = _LEFT + tick * scale
        parts.append(_line(x, top + _TOP - 6, x, bottom, "#dddddd", 1))
        parts.append(_text(x, bottom + 16, f"{tick:g}", anchor="middle"))
    parts.append(_text(_LEFT + scale + 4, top + _TOP - 9, "Strop", size=11))
    label = "time of the runtime / time of Strop: median of the rounds, whiskers from the least to the greatest; above 1 Strop is faster"
    parts.append(_text(_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2 - 30, bottom + 36, label, size=11, anchor="middle"))
    values: list[str] = []
    for index, (net, ratios) in enumerate(lines):
        y = top + _TOP + index * step + _GAP / 2
        last = index == len(lines) - 1
        middle = y + len(names) * _BAR / 2
        parts.append(_text(_LEFT - 8, middle + 4, net, anchor="end", weight="bold" if last else "normal"))
        for bar, ratio in enumerate(ratios):
            if ratio is not None:
                place = y + bar * _BAR
                parts += _bar(ratio, place, scale, colours[names[bar]], whiskers=not last)
                values.append(_text(_LEFT + ratio.high * scale + 4, place + _BAR / 2 + 3.5, f"{ratio.median:.2f}", size=10, halo=True))
    parts.append(_line(_LEFT + scale, top + _TOP - 6, _LEFT + scale, bottom, "#000000", 1.5))
    return parts + values, _TOP + len(lines) * step + _BOTTOM


def _bar(ratio: Ratio, y: float, scale: float, colour: str, whiskers: bool) -> list[str]:
    middle, end = y + _BAR / 2, _LEFT + ratio.median * scale
    parts = [f"<rect x='{_LEFT}' y='{y + 0.5:.1f}' width='{end - _LEFT:.1f}' height='{_BAR - 1}' fill='{colour}'/>"]
    low, high = _LEFT + ratio.low * scale, _LEFT + ratio.high * scale
    if whiskers:
        parts.append(_line(low, middle, high, middle, "#333333", 1))
        parts += [_line(x, middle - 2.5, x, middle + 2.5, "#333333", 1) for x in (low, high)]
    return parts


def _legend(colours: Mapping[str, str], y: float) -> list[str]:
    parts, x = [], float(_LEFT)
    for name, colour in colours.items():
        parts.append(f"<rect x='{x:.0f}' y='{y - 9:.1f}' width='10' height='10' fill='{colour}'/>")
        parts.append(_text(x + 14, y, name))
        x += 14 + 7.5 * len(name) + 20
    return parts


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to at least ``most``, 1 among them."""
    step = next(s for s in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, math.inf) if most / s <= 8)
    if step == math.inf:
        step = 10 ** math.ceil(math.log10(most / 8))
    ticks = [k * step for k in range(math.ceil(most / step) + 1)]
    return ticks if 1 in ticks else sorted([*ticks, 1])


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' stroke-width='{width}'/>"


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "normal", halo: bool = False
) -> str:
    style = f"font-size='{size}' text-anchor='{anchor}' font-weight='{weight}' fill='#222222'"
    style += " stroke='#ffffff' stroke-width='3' paint-order='stroke'" * halo
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"
