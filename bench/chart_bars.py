"""Draw ratios as SVG: for each kind of work a row of bars on one logarithmic scale, 1 in the middle of attention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

LEFT, WIDTH, ROW, GAP, TOP = 170, 520, 17, 26, 44
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
WON, LOST = "#246", "#c33"


def draw(title: str, groups: list[tuple[str, list[tuple[str, float]]]]) -> str:
    """A bar from 1 to each ratio, to the right above 1 and to the left, in red, below."""
    ratios = [ratio for _, bars in groups for _, ratio in bars]
    least = min([0.5, *ratios]) * 0.6  # which leaves room for the number
    most = max([2.0, *ratios]) * 1.4
    height = TOP + sum(GAP + ROW * len(bars) for _, bars in groups) + 20
    width = LEFT + WIDTH + 60
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="18" font-size="14">{escape(title)}</text>',
    ]

    def at(ratio: float) -> float:
        return LEFT + WIDTH * math.log(ratio / least) / math.log(most / least)

    for tick in TICKS:
        if least <= tick <= most:
            shade = "#333" if tick == 1 else "#ddd"
            parts.append(f'<line x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="32" y2="{height - 18}" stroke="{shade}"/>')
            parts.append(f'<text x="{at(tick):.1f}" y="{height - 5}" text-anchor="middle">{tick:g}</text>')
    y = TOP
    for name, bars in groups:
        parts.append(f'<text x="8" y="{y + 10}" font-weight="bold">{escape(name)}</text>')
        y += GAP - 10
        for label, ratio in bars:
            parts += _bar(label, ratio, at(1.0), at(ratio), y)
            y += ROW
        y += 10
    return "\n".join([*parts, "</svg>", ""])


def _bar(label: str, ratio: float, one: float, end: float, y: int) -> Iterator[str]:
    colour = WON if ratio >= 1 else LOST
    yield f'<text x="{LEFT - 6}" y="{y + 11}" text-anchor="end">{escape(label)}</text>'
    yield (
        f'<rect x="{min(one, end):.1f}" y="{y + 2}" width="{abs(end - one):.1f}" height="{ROW - 5}" fill="{colour}"/>'
    )
    beside, anchor = (end + 4, "start") if ratio >= 1 else (end - 4, "end")
    yield f'<text x="{beside:.1f}" y="{y + 11}" text-anchor="{anchor}" fill="{colour}">{ratio:.2f}</text>'
