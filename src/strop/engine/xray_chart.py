"""An accuracy report as a picture in SVG: per layer, in the order of the network's blame, its share of the noise and its SQNR."""

from __future__ import annotations

import math
from collections.abc import Mapping
from xml.sax.saxutils import escape

from strop.engine.xray import AccuracyReport, LayerReport

#: Fill per precision (Okabe and Ito, 2008: told apart by colour-blind readers too).
_COLOURS: Mapping[str, str] = {"int8": "#0072b2", "int8x7": "#56b4e9", "bf16": "#e69f00", "fp16": "#009e73", "fp32": "#999999"}
_FONT = "font-family='Helvetica, Arial, DejaVu Sans, sans-serif'"
_WIDTH, _NAMES, _TOP, _STEP, _BAR = 860, 200, 88, 18, 12
#: Left edge and width of both panels.
_BLAME, _SQNR, _PANEL = 210, 540, 270
#: Layers that are drawn; the others have less blame.
_MOST = 60


def chart(report: AccuracyReport) -> str:
    """The SVG text."""
    rows = report.layers[:_MOST]
    height = _TOP + _STEP * len(rows) + 40
    most = max([r.blame for r in rows] + [1e-9])
    finite = [r.sqnr for r in rows if math.isfinite(r.sqnr)]
    loudest = max([10.0, *finite])
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{height}' viewBox='0 0 {_WIDTH} {height}' {_FONT}>",
        f"<rect width='{_WIDTH}' height='{height}' fill='#ffffff'/>",
        _text(12, 24, f"{report.model}: {report.sqnr:.1f} dB at the outputs", size=15, weight="bold"),
        *_legend(rows),
        _text(_BLAME, _TOP - 12, "share of the noise that the layer alone brings to the outputs", size=11),
        _text(_SQNR, _TOP - 12, "SQNR of the layer's result, dB", size=11),
    ]
    for index, row in enumerate(rows):
        parts += _row(row, _TOP + index * _STEP, most, loudest)
    if len(report.layers) > len(rows):
        parts.append(_text(12, height - 14, f"{len(report.layers) - len(rows)} layers with less blame are not shown", size=11))
    return "\n".join([*parts, "</svg>", ""])


def _row(row: LayerReport, y: float, most: float, loudest: float) -> list[str]:
    colour = _COLOURS.get(row.precision, "#000000")
    share = row.blame / most * (_PANEL - 50)
    name = row.name if len(row.name) <= 30 else "..." + row.name[-28:]
    parts = [
        _text(_NAMES, y + _BAR - 2, name, anchor="end"),
        _bar(_BLAME, y, share, colour),
        _text(_BLAME + share + 4, y + _BAR - 2, f"{100 * row.blame:.1f} %", size=10),
    ]
    if math.isfinite(row.sqnr):
        length = max(0.0, row.sqnr) / loudest * (_PANEL - 50)
        parts += [_bar(_SQNR, y, length, colour), _text(_SQNR + length + 4, y + _BAR - 2, f"{row.sqnr:.1f}", size=10)]
    else:
        parts.append(_text(_SQNR, y + _BAR - 2, "exact" if row.sqnr > 0 else "all noise", size=10))
    return parts


def _legend(rows: tuple[LayerReport, ...]) -> list[str]:
    parts, x = [], 12.0
    for name in (p for p in _COLOURS if any(r.precision == p for r in rows)):
        parts.append(f"<rect x='{x:.0f}' y='39' width='10' height='10' fill='{_COLOURS[name]}'/>")
        parts.append(_text(x + 14, 48, name))
        x += 64
    return parts


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0.5):.1f}' height='{_BAR}' fill='{colour}'/>"


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' font-weight='{weight}' fill='#222222'>{escape(text)}</text>"
