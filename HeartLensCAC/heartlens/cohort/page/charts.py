"""Charts of the page as SVG: bars and clouds of points, with the colors of the page in light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

WIDTH, ROW, LABEL = 640.0, 22.0, 150.0
"""Of a chart of bars, in its own units; height of a bar, and width of the words beside it."""

CLOUD_HEIGHT = 260.0

MOST_POINTS = 2000
"""Of a cloud; more make the page large and the cloud no clearer."""


def stacked_bars(rows: Sequence[tuple[str, Sequence[int]]], names: Sequence[str]) -> str:
    """Bars of equal length, each cut into shares.

    Parameters
    ----------
    rows
        Words and counts of each bar; the last count is of those without a category.
    names
        Of the shares, for those who hear the page.
    """
    parts = []
    for n, (label, counts) in enumerate(rows):
        y, total, x = n * ROW, sum(counts), LABEL
        parts.append(f'<text class="t end" x="{LABEL - 8:g}" y="{y + 15:.1f}">{html.escape(label)}</text>')
        for k, count in enumerate(counts):
            width = (WIDTH - LABEL - 80) * count / total if total else 0.0
            title, kind = f"{names[k]}: {count} of {total}", "open" if k == len(names) - 1 else f"c{k}"
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{y + 3:.1f}" width="{width:.1f}" height="{ROW - 6:g}">'
                f"<title>{html.escape(title)}</title></rect>"
            )
            x += width
        parts.append(f'<text class="t" x="{WIDTH - 74:g}" y="{y + 15:.1f}">n = {total}</text>')
    return _svg(WIDTH, ROW * len(rows), "Categories in each group; the table below has the numbers", parts)


def bland_altman(pairs: Sequence[tuple[float, float]], bias: float, limits: tuple[float, float] | None) -> str:
    """Differences against means, on axes that are linear up to 10 and logarithmic beyond.

    Parameters
    ----------
    pairs
        Known score, and ours.
    bias
        Mean difference.
    limits
        Of agreement.
    """
    shown = pairs[:: math.ceil(len(pairs) / MOST_POINTS)]
    lines = [bias, *(limits or ())]
    most = max(max((a + b) / 2 for a, b in pairs), 10.0)
    high = max(*(abs(b - a) for a, b in pairs), *(abs(line) for line in lines), 10.0)

    def x_of(value: float) -> float:
        return 60 + (WIDTH - 130) * _bent(value) / _bent(most)

    def y_of(value: float) -> float:
        return CLOUD_HEIGHT / 2 - (CLOUD_HEIGHT / 2 - 24) * math.copysign(_bent(abs(value)), value) / _bent(high)

    parts = []
    for n, line in enumerate(lines):
        kind = "bias" if n == 0 else "limit"
        parts.append(f'<path class="{kind}" d="M60 {y_of(line):.1f}H{WIDTH - 70:g}"/>')
        parts.append(f'<text class="t" x="{WIDTH - 64:g}" y="{y_of(line) + 4:.1f}">{line:+.1f}</text>')
    parts += [f'<circle class="p" cx="{x_of((a + b) / 2):.1f}" cy="{y_of(b - a):.1f}" r="3"/>' for a, b in shown]
    for tick in (0, 10, 100, 400, 1000, 4000):
        if tick <= most:
            parts.append(f'<text class="t mid" x="{x_of(tick):.1f}" y="{CLOUD_HEIGHT - 4:g}">{tick}</text>')
    for tick in (10, 100, 1000):
        for value in (tick, -tick):
            if tick <= high:
                parts.append(f'<text class="t end" x="52" y="{y_of(value) + 4:.1f}">{value:+d}</text>')
    return _svg(WIDTH, CLOUD_HEIGHT, "Difference of two scores of each scan against their mean", parts)


def spaghetti(lines: Sequence[tuple[float, float, float]]) -> str:
    """Scores at two times, a line for each person.

    Parameters
    ----------
    lines
        Years between, score before, score after.
    """
    shown = lines[:: math.ceil(len(lines) / MOST_POINTS)]
    years = max(max(row[0] for row in lines), 0.5)
    most = max(max(row[1:]) for row in lines) or 10.0

    def y_of(value: float) -> float:
        return CLOUD_HEIGHT - 24 - (CLOUD_HEIGHT - 40) * _bent(value) / _bent(most)

    parts = [
        f'<path class="way" d="M60 {y_of(before):.1f}L{60 + (WIDTH - 90) * apart / years:.1f} {y_of(after):.1f}"/>'
        for apart, before, after in shown
    ]
    for tick in (0, 10, 100, 400, 1000, 4000):
        if tick <= most:
            parts.append(f'<text class="t end" x="52" y="{y_of(tick) + 4:.1f}">{tick}</text>')
    parts.append(f'<text class="t mid" x="60" y="{CLOUD_HEIGHT - 4:g}">0</text>')
    parts.append(f'<text class="t mid" x="{WIDTH - 34:g}" y="{CLOUD_HEIGHT - 4:g}">{years:.1f} years</text>')
    return _svg(WIDTH, CLOUD_HEIGHT, "Agatston score at two times, a line for each person", parts)


def _bent(value: float) -> float:
    """Linear near zero, where a logarithm would run away, and logarithmic beyond.

    Examples
    --------
    >>> [round(_bent(x), 3) for x in (0, 10, 90)]
    [0.0, 0.693, 2.303]
    """
    return math.log1p(value / 10)


def _svg(width: float, height: float, name: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="cohort" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(name)}">'
        f"{''.join(parts)}</svg>"
    )
