"""Draw curves over time as SVG: columns of panels that share their axes."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 300, 120  # of a panel
LEFT, TOP, GAP = 56, 40, 34
POINTS_MAX = 400


@dataclass(frozen=True, slots=True)
class Curve:
    """One value a second."""

    values: list[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """A curve with its title; `end_s` is marked by a line."""

    title: str
    curve: Curve
    end_s: int


def draw(columns: list[tuple[str, list[Panel]]], until_s: int) -> str:
    """The picture. Panels of one row have the same scale."""
    rows = len(columns[0][1])
    tops = [max(max(column[1][row].curve.values) for column in columns) * 1.08 for row in range(rows)]
    width = LEFT + len(columns) * (WIDTH + GAP)
    height = TOP + rows * (HEIGHT + GAP) + 16
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, (title, panels) in enumerate(columns):
        x = LEFT + place * (WIDTH + GAP)
        parts.append(f'<text x="{x}" y="18" font-size="14">{escape(title)}</text>')
        for row, panel in enumerate(panels):
            parts += _panel(panel, x, TOP + row * (HEIGHT + GAP), tops[row], until_s)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, x: int, y: int, top: float, until_s: int) -> list[str]:
    values = panel.curve.values
    step = max(1, len(values) // POINTS_MAX)
    means = [sum(values[at : at + step]) / len(values[at : at + step]) for at in range(0, len(values), step)]
    points = " ".join(
        f"{x + at * step / until_s * WIDTH:.1f},{y + HEIGHT - value / top * HEIGHT:.1f}"
        for at, value in enumerate(means)
    )
    end = x + panel.end_s / until_s * WIDTH
    parts = [
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>',
        f'<line x1="{end:.1f}" y1="{y}" x2="{end:.1f}" y2="{y + HEIGHT}" stroke="#c33" stroke-dasharray="3 3"/>',
        f'<polyline points="{points}" fill="none" stroke="#246" stroke-width="1.3"/>',
        f'<text x="{x}" y="{y - 5}">{escape(panel.title)}</text>',
    ]
    parts += [
        f'<text x="{x + at / until_s * WIDTH:.0f}" y="{y + HEIGHT + 13}" text-anchor="middle" fill="#666">{at} s</text>'
        for at in range(0, until_s, 400)
    ]
    parts += [
        f'<text x="{x - 4}" y="{y + HEIGHT - part * HEIGHT + 4:.0f}" text-anchor="end" fill="#666">'
        f"{part * top:.1f}</text>"
        for part in (0.0, 0.5, 1.0)
    ]
    return parts
