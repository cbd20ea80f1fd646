"""The scale of risk categories, with the place of a score or of a range on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from heartlens.risk.categories import Category
from heartlens.risk.population_tables import rounded_agatston

WIDTH, GAP, HEIGHT, TOP = 520.0, 2.0, 26.0, 16.0


def scale_ruler(categories: Sequence[Category], low: float, high: float, possible: Collection[Category]) -> str:
    """The ranges of a scheme as boxes of equal width, with a mark where the score lies.

    Parameters
    ----------
    categories
        Ascending.
    low, high
        The score, or the range that it lies in, unrounded; a place in a box is logarithmic, an open box ends at ten
        times its lower bound.
    possible
        The categories that it may have.
    """
    box = (WIDTH + GAP) / len(categories) - GAP
    parts, places = [], []
    chosen = [n for n, row in enumerate(categories) if row in possible]
    for n, row in enumerate(categories):
        x, kind = n * (box + GAP), "chosen" if n in chosen else "box"
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{TOP:g}" width="{box:.1f}" height="{HEIGHT:g}"/>'
            f'<text class="{kind}" x="{x + box / 2:.1f}" y="33" text-anchor="middle">'
            f"{row.shown.split(' or ')[0]}</text>"
        )
    for score in (low, high) if chosen else ():
        # Of the possible categories the one that the score lies in: the likeliest may be beyond the range.
        n = max((n for n in chosen if categories[n].low <= rounded_agatston(score)), default=chosen[0])
        row = categories[n]
        least = max(row.low, 1)
        most = 10.0 * least if row.high is None else max(row.high, 1)
        within = 0.5 if most == least else np.log(max(score, least) / least) / np.log(most / least)
        places.append(n * (box + GAP) + box * min(max(within, 0.04), 0.96))
    if len(places) == 2 and places[0] < places[1]:
        parts.append(f'<path class="span" d="M{places[0]:.1f} 8H{places[1]:.1f}"/>')
    for at in dict.fromkeys(places):
        parts.append(f'<path class="mark" d="M{at:.1f} 14l-6 -10h12z"/>')
    words = " or ".join(categories[n].shown for n in chosen) or "none"
    name = f"Scale of {len(categories)} categories; this score lies in {words}"
    return f'<svg viewBox="0 0 {WIDTH:.1f} {TOP + HEIGHT:g}" role="img" aria-label="{name}">{"".join(parts)}</svg>'
