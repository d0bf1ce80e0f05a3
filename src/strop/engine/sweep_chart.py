"""A sweep as a picture in SVG: over latency the accuracy that is lost, the size and the energy, the Pareto front as a line."""

from __future__ import annotations

import math
from collections.abc import Callable
from xml.sax.saxutils import escape

from strop.engine.sweep import Point, Sweep

#: Fill per precision (Okabe and Ito, 2008: told apart by colour-blind readers too).
_COLOURS = {"fp32": "#777777", "bf16": "#e69f00", "fp16": "#009e73", "int8": "#0072b2", "int8x7": "#56b4e9", "auto": "#cc79a7"}
_WIDTH, _LEFT, _RIGHT, _TOP, _PANEL, _BOTTOM = 900, 84, 36, 86, 200, 52
_STYLE = """<style>
  svg { color-scheme: light dark; font-family: system-ui, "Segoe UI", Helvetica, Arial, "DejaVu Sans", sans-serif; }
  .paper { fill: #ffffff; } text { fill: #22262b; font-size: 12px; } .soft { fill: #6b6863; } .grid { stroke: #e6e2dc; }
  .front { fill: none; stroke: #22262b; stroke-width: 1.4; stroke-dasharray: 5 4; } .ring { fill: none; stroke: #22262b; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #16181c; } text { fill: #e6e3de; } .soft { fill: #9c988f; } .grid { stroke: #2d3138; } .front, .ring { stroke: #e6e3de; }
  }
</style>"""


def chart(found: Sweep) -> str:
    """The SVG text: a panel per factor, all over the same latency."""
    points = found.points
    panels: list[tuple[str, Callable[[Point], float]]] = []
    if points:
        panels = [(f"points of {points[0].score.metric} lost", lambda p: max(p.drop, 0.0)), ("engine, MiB", lambda p: p.bytes / 2**20)]
    if points and all(p.joules_per_sample is not None for p in points):
        panels.append(("mJ per sample", lambda p: 1e3 * (p.joules_per_sample or 0.0)))
    height = _TOP + len(panels) * _PANEL + _BOTTOM
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{height}' viewBox='0 0 {_WIDTH} {height}'>", _STYLE,
        f"<rect class='paper' width='{_WIDTH}' height='{height}'/>",
        _text(24, 34, f"{found.model}: {len(points)} combinations", size=17, weight=600), *_legend(found),
    ]  # fmt: skip
    if not points:
        return "\n".join([*parts, "</svg>", ""])
    times = [p.latency.p50 for p in points]
    x0, x1 = min(times) / 1.2, max(times) * 1.2

    def x(ms: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(ms / x0) / math.log(x1 / x0)

    for number, (title, value) in enumerate(panels):
        parts += _panel(found, title, value, x, (x0, x1), _TOP + number * _PANEL)
    for tick in _ticks(x0, x1):
        parts.append(_text(x(tick), height - _BOTTOM + 18, f"{tick:g}", anchor="middle", soft=True))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, height - 16, "median latency of a run, ms", anchor="middle", soft=True))
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    found: Sweep, title: str, value: Callable[[Point], float], x: Callable[[float], float], span: tuple[float, float], top: float
) -> list[str]:
    """Less is better, and stands lower."""
    most = max([value(p) for p in found.points] + [1e-9]) * 1.2
    low, high = top + _PANEL - 26, top + 24

    def y(number: float) -> float:
        return low - (low - high) * number / most

    parts = [_text(24, top + 10, title, weight=600)]
    parts += [f"<line class='grid' x1='{x(t):.1f}' x2='{x(t):.1f}' y1='{high:.1f}' y2='{low:.1f}'/>" for t in _ticks(*span)]
    for k in range(4):
        number = most * k / 3
        parts.append(f"<line class='grid' x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y(number):.1f}' y2='{y(number):.1f}'/>")
        parts.append(_text(_LEFT - 10, y(number) + 4, f"{number:.2g}" if most > 1e-6 else "0" * (k == 0), anchor="end", soft=True))
    front = sorted((p for p in found.points if p.front), key=lambda p: (p.latency.p50, value(p)))
    line = "".join(f"{'L' if k else 'M'}{x(p.latency.p50):.1f} {y(value(p)):.1f}" for k, p in enumerate(front))
    parts.append(f"<path class='front' d='{line}'/>")
    for number, point in enumerate(found.points):
        parts += _mark(point, x(point.latency.p50), y(value(point)), number == found.best)
    return parts


def _mark(point: Point, x: float, y: float, best: bool) -> list[str]:
    energy = "" if point.joules_per_sample is None else f", {1e3 * point.joules_per_sample:.3g} mJ per sample"
    title = f"{point.name} for {point.target}: {point.latency.p50:.3f} ms, {point.samples_per_s:.1f} samples/s, {point.bytes / 2**20:.1f} MiB{energy}"
    colour = _COLOURS.get(point.precision, "#000000")
    parts = [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='7' fill='{colour}' fill-opacity='{0.9 if point.front else 0.4}'><title>{escape(title)}</title></circle>"]
    if best:
        parts.append(f"<circle class='ring' cx='{x:.1f}' cy='{y:.1f}' r='11'/>")
    return [*parts, _text(x, y - (17 if best else 12), f"{point.threads}t b{point.batch}", anchor="middle", size=11, soft=not best, weight=600 if best else 400)]


def _legend(found: Sweep) -> list[str]:
    parts, x = [], 24.0
    for name in (p for p in _COLOURS if any(point.precision == p for point in found.points)):
        parts += [f"<circle cx='{x + 5:.0f}' cy='56' r='5' fill='{_COLOURS[name]}'/>", _text(x + 15, 60, name)]
        x += 62
    energy = f", energy by {found.energy.meter}" if found.energy.meter else ", energy unavailable"
    return [*parts, _text(x + 8, 60, f"joined: Pareto front; ring: recommended; 2t b4: 2 threads, batch 4{energy}", soft=True)]


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: int = 400, soft: bool = False) -> str:
    kind = " class='soft'" if soft else ""
    return f"<text x='{x:.1f}' y='{y:.1f}'{kind} style='font-size:{size}px;font-weight:{weight}' text-anchor='{anchor}'>{escape(text)}</text>"
