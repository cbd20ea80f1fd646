"""Confidence intervals: bootstrap of patients, and Wilson's for a share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_DRAWS = 2000


BOOTSTRAP_SEED = 20241113
"""Fixed, so that the same patients always get the same intervals."""


class Interval(NamedTuple):
    """95 % percentile interval; NaN when the statistic was undefined in most draws."""

    low: float
    high: float


def bootstrap(
    statistics: Callable[[NDArray[np.int64]], Sequence[float]],
    n: int,
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> list[Interval]:
    """Intervals by drawing patients with replacement; everything of a patient is drawn together.

    Parameters
    ----------
    statistics
        Takes (n,) indices of the drawn patients, gives one number per statistic.
    n
        Number of patients.

    Returns
    -------
    list[Interval]
        One interval per statistic, over the draws in which it was defined; NaN if those are fewer than half.
    """
    if n < 1 or draws < 1:
        raise ValueError(f"expected at least one patient and one draw, got {n} and {draws}")
    generator = np.random.default_rng(seed)
    values = np.array([statistics(generator.integers(0, n, n)) for _ in range(draws)], dtype=np.float64)
    return [_interval(column) for column in values.T]


def _interval(values: NDArray[np.float64]) -> Interval:
    defined = values[np.isfinite(values)]
    if 2 * defined.size < values.size:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(defined, (0.025, 0.975))
    return Interval(float(low), float(high))


def wilson(events: int, n: int) -> Interval:
    """95 % interval of a share of independent patients, also where none or all have the event (Wilson 1927).

    Examples
    --------
    >>> [round(v, 3) for v in wilson(0, 20)]
    [0.0, 0.161]
    """
    if n == 0:
        return Interval(math.nan, math.nan)
    z2, share = LIMIT_SD**2, events / n
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = LIMIT_SD * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Interval(max(0.0, center - half), min(1.0, center + half))


LIMIT_SD = 1.96
"""Half width of the limits of agreement in standard deviations; Bland and Altman, Lancet 1986, 327:307."""
