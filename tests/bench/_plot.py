"""The charts as one SVG, drawn by hand so that writing them needs no library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from tests.bench._report import Chart

_WIDE, _HIGH, _LEFT, _TOP, _BOTTOM = 420, 250, 62, 34, 34
_PER_ROW = 2
# Told apart by people who do not see red from green (Okabe and Ito), on light and on dark.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c8c8c")
_STYLE = (
    "text{font:11px sans-serif;fill:#222}.title{font-weight:bold}"
    ".axis{stroke:#999;fill:none}.grid{stroke:#ddd}rect{fill:#fff}"
)


def drawn(charts: Sequence[Chart]) -> str:
    """Return the charts, two in a row."""
    rows = math.ceil(len(charts) / _PER_ROW)
    width, height = _WIDE * min(len(charts), _PER_ROW), _HIGH * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}"/>',
    ]
    for index, chart in enumerate(charts):
        across, down = index % _PER_ROW * _WIDE, index // _PER_ROW * _HIGH
        parts.append(f'<g transform="translate({across} {down})">')
        parts += _chart(chart)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _chart(chart: Chart) -> Iterator[str]:
    yield f'<text class="title" x="10" y="18">{escape(chart.title)}</text>'
    ticks = _ticks(chart)
    for tick in ticks:
        y = _y(tick, ticks, log=chart.log)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDE - 15}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
    for index, place in enumerate(chart.places):
        x = _x(index, len(chart.places))
        yield f'<text x="{x:.1f}" y="{_HIGH - 18}" text-anchor="middle">{escape(place)}</text>'
    yield f'<path class="axis" d="M{_LEFT} {_TOP}V{_HIGH - _BOTTOM}H{_WIDE - 15}"/>'
    for index, series in enumerate(chart.series):
        colour = _COLOURS[index % len(_COLOURS)]
        dots = [
            (_x(place, len(chart.places)), _y(value, ticks, log=chart.log))
            for place, value in enumerate(series.values)
            if not math.isnan(value)
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
        yield f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>'
        for x, y in dots:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        legend = _LEFT + index % 3 * 115, _HIGH - 4 if index < 3 else _TOP - 4
        yield f'<circle cx="{legend[0]}" cy="{legend[1] - 4}" r="4" fill="{colour}"/>'
        yield f'<text x="{legend[0] + 8}" y="{legend[1]}">{escape(series.name)}</text>'


def _ticks(chart: Chart) -> list[float]:
    values = [v for series in chart.series for v in series.values if not math.isnan(v)]
    if chart.log:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return [10.0**power for power in range(low, max(high, low + 1) + 1)]
    step = 10 ** math.floor(math.log10(max(values)))
    step = next(step * part for part in (0.2, 0.5, 1, 2) if max(values) <= step * part * 5)
    return [step * n for n in range(math.ceil(max(values) / step) + 1)]


def _x(index: int, places: int) -> float:
    return _LEFT + (_WIDE - 15 - _LEFT) * (index + 0.5) / places


def _y(value: float, ticks: Sequence[float], *, log: bool) -> float:
    low, high, at = (math.log10(n) if log else n for n in (ticks[0], ticks[-1], value))
    return _HIGH - _BOTTOM - (_HIGH - _BOTTOM - _TOP) * (at - low) / (high - low)


def _short(tick: float) -> str:
    return f"{tick / 1000:g}k" if tick >= 1000 else f"{tick:g}"
