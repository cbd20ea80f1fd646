"""Two measurements of the same patients: mean difference, interval, and how many patients would settle it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, stdtrit

MOST_PAIRS = 100_000
"""A difference that needs more patients than this is none that anybody will show."""


class PairedMean(NamedTuple):
    """Mean of paired differences, with Student's 95 % interval.

    Parameters
    ----------
    n
        Patients.
    mean, sd
        Of the differences; NaN where there are too few.
    low, high
        The interval; NaN for fewer than two patients.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


def paired_mean(differences: Sequence[float]) -> PairedMean:
    """Mean difference of independent patients.

    Student's interval and no bootstrap: of five patients a bootstrap draws far too narrow.

    Parameters
    ----------
    differences
        One a patient.

    Examples
    --------
    Of 1, 2 and 3 the standard error is 1 / sqrt(3), and t with two degrees of freedom is 4.303:

    >>> [round(v, 3) for v in paired_mean([1.0, 2.0, 3.0])]
    [3, 2.0, 1.0, -0.484, 4.484]
    """
    n = len(differences)
    if n == 0:
        return PairedMean(0, math.nan, math.nan, math.nan, math.nan)
    mean = float(np.mean(differences))
    if n == 1:
        return PairedMean(1, mean, math.nan, math.nan, math.nan)
    sd = float(np.std(differences, ddof=1))
    half = _half_width(n, sd)
    return PairedMean(n, mean, sd, mean - half, mean + half)


def pairs_to_settle(found: PairedMean) -> tuple[int | None, tuple[int | None, int | None]]:
    """How many patients in all would tell the mean difference from 0, if mean and spread stayed what they are.

    Parameters
    ----------
    found
        So far.

    Returns
    -------
    needed : int | None
        The smallest number whose interval leaves 0 out; None where no number below `MOST_PAIRS` would.
    interval : tuple[int | None, int | None]
        The same for the ends of the 95 % interval of the spread (chi squared).

    Examples
    --------
    A mean of 2 with a spread of 1: of three the half width is 2.48, of four 1.59.

    >>> pairs_to_settle(paired_mean([1.0, 2.0, 3.0]))
    (4, (3, 41))
    """
    if found.n < 2 or not found.mean:
        return None, (None, None)
    squares = found.sd**2 * (found.n - 1)
    low, high = (math.sqrt(squares / float(chdtri(found.n - 1, tail))) for tail in (0.025, 0.975))
    return _smallest(found.mean, found.sd), (_smallest(found.mean, low), _smallest(found.mean, high))


def _half_width(n: int, sd: float) -> float:
    return float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)


def _smallest(mean: float, sd: float) -> int | None:
    low, high = 2, MOST_PAIRS
    if _half_width(high, sd) >= abs(mean):
        return None
    while low < high:  # the half width falls with n
        middle = (low + high) // 2
        low, high = (low, middle) if _half_width(middle, sd) < abs(mean) else (middle + 1, high)
    return low
