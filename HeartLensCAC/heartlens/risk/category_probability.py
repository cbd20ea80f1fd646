"""How likely each risk category is, when each lesion is only probably coronary calcium.

Lesions count or not, independently of each other, each with its own probability; the score is the sum of those that do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heartlens.risk.categories import SCHEMES
from heartlens.risk.population_tables import rounded_agatston


def category_probabilities(
    agatston: Sequence[float], probability: Sequence[float], *, unit: float, scheme: str = "heartlens"
) -> tuple[tuple[str, float], ...] | None:
    """The probability of each category of a scheme, exactly.

    Every Agatston score of a scan is a whole number of units, because weights and pixels are whole numbers; so the
    distribution of the sum is a table of whole numbers, to which one lesion after the other is added.

    Parameters
    ----------
    agatston
        (n,) of each lesion, unrounded
    probability
        (n,) that it counts
    unit
        Agatston score of one pixel of weight 1: pixel area times the slice factor.
    scheme
        Name of the category scheme.

    Returns
    -------
    tuple[tuple[str, float], ...] | None
        (category, probability) in the scheme's order; None for a scheme that also asks for a percentile

    Raises
    ------
    ValueError
        A probability outside 0 to 1, or a score that is no whole number of units.

    Examples
    --------
    A lesion of 8 that is surely there and one of 4 that is there in three cases of four:

    >>> category_probabilities([8.0, 4.0], [1.0, 0.75], unit=0.5)[:3]
    (('absent', 0.0), ('minimal', 0.25), ('mild', 0.75))
    """
    rows = SCHEMES[scheme].categories
    if any(row.percentile_from is not None for row in rows):
        return None
    chance = np.ones(1)
    for score, p in zip(agatston, probability, strict=True):
        units = round(score / unit)
        if abs(units * unit - score) > 1e-6 * max(score, unit):
            raise ValueError(f"a lesion's score must be a whole number of units of {unit:g}, got {score:g}")
        if not 0 <= p <= 1:
            raise ValueError(f"a probability must lie in 0..1, got {p}")
        chance = _with_lesion(chance, units, p)
    total = range(chance.size)
    first = [bisect_left(total, row.low, key=lambda n: rounded_agatston(n * unit)) for row in rows]
    ends = [*first[1:], chance.size]
    return tuple(
        (row.category, float(chance[start:end].sum())) for row, start, end in zip(rows, first, ends, strict=True)
    )


def display_percent(p: float) -> str:
    """A probability as it is shown: whole percent, and neither 0 nor 100 for what is neither.

    Examples
    --------
    >>> [display_percent(p) for p in (0.0, 0.001, 0.254, 0.998, 1.0)]
    ['0 %', '<1 %', '25 %', '>99 %', '100 %']
    """
    if 0 < p < 0.005:
        return "<1 %"
    if 0.995 <= p < 1:
        return ">99 %"
    return f"{100 * p:.0f} %"


def _with_lesion(chance: NDArray[np.float64], units: int, p: float) -> NDArray[np.float64]:
    """(total,) probability of each total when one more lesion may count."""
    wider = np.zeros(chance.size + units)
    wider[: chance.size] = chance * (1 - p)
    wider[units:] += chance * p
    return wider
