"""Cut-offs and calibration of probabilities, from truth and probability alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartlens.core.errors import InputRefused

CUT_OFF_RULES = ("youden", "f1", "balanced")


DEFAULT = 0.5
"""The cut-off of a network that nobody could ask."""


SMALLEST = 1e-6
"""A probability of 0 or 1 has no logit."""


ENOUGH = 10
"""Islands of each kind below which a calibration would follow chance."""


def choose_cut_off(is_positive: NDArray[np.bool_], probability: NDArray[np.float64], rule: str) -> float:
    """The cut-off that is best by a rule: at or above it a slice is calcified, or an island coronary.

    It lies midway between two probabilities that occurred, so that rounding on another device moves nothing across;
    of equally good ones the lowest, because a miss loses calcium and a false alarm only costs time.

    Parameters
    ----------
    is_positive, probability
        (n,)
    rule
        "youden" (sensitivity + specificity is largest), "f1", or "balanced": as many are missed as are called falsely,
        so that neither pulls a sum of what was found to its side

    Raises
    ------
    InputRefused
        "input": only one kind is there

    Examples
    --------
    >>> choose_cut_off(np.array([False, False, True, True]), np.array([0.1, 0.3, 0.5, 0.9]), "youden")
    0.4
    >>> choose_cut_off(np.array([False, True, False, True]), np.array([0.1, 0.3, 0.5, 0.9]), "balanced")
    0.4
    """
    if rule not in CUT_OFF_RULES:
        raise ValueError(f"rule must be {', '.join(CUT_OFF_RULES)}, got {rule!r}")
    if is_positive.all() or not is_positive.any():
        raise InputRefused(
            "input", "validation needs slices with and without calcium to choose a cut-off; give it more patients"
        )
    values = np.unique(probability)
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2])
    is_called = probability >= candidates[:, None]  # (candidates, n)
    hit = (is_called & is_positive).sum(1)
    false = (is_called & ~is_positive).sum(1)
    if rule == "youden":
        merit = hit / is_positive.sum() - false / (~is_positive).sum()
    elif rule == "balanced":
        merit = -np.abs(is_positive.sum() - hit - false).astype(float)
    else:
        merit = 2 * hit / (hit + false + is_positive.sum())
    return float(candidates[np.flatnonzero(merit >= merit.max() - 1e-12)[0]])


def cut_off_at_sensitivity(truth: NDArray[np.bool_], p: NDArray[np.float64], sensitivity: float) -> float:
    """The highest cut-off at which so large a share of positives passes, midway to the next lower probability.

    Examples
    --------
    >>> cut_off_at_sensitivity(np.array([True, True, False, True]), np.array([0.9, 0.6, 0.5, 0.2]), 0.6)
    0.55

    Raises
    ------
    InputRefused
        "input": no positives
    """
    if not truth.any():
        raise InputRefused(
            "input", "validation has no calcified slice among those with candidates; give it more patients"
        )
    positives = np.sort(p[truth])[::-1]
    edge = positives[int(np.ceil(sensitivity * positives.size - 1e-9)) - 1]
    lower = p[p < edge]
    return float((edge + (lower.max() if lower.size else 0.0)) / 2)


def fit_calibration(is_positive: NDArray[np.bool_], probability: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of logit p -> logit of how often it is right (Platt 1999, with his targets).

    Platt's targets, (n + 1) / (n + 2) and 1 / (m + 2) in the place of 1 and 0, keep few islands from saying "surely".

    Parameters
    ----------
    is_positive, probability
        (n,)

    Returns
    -------
    tuple[float, float]
        (1, 0), which changes nothing, when there are fewer than `ENOUGH` of a kind or a higher p is not righter

    Examples
    --------
    Twenty said 0.9 and twelve of them right, twenty said 0.1 and eight of them right: the truth is nearer to even.

    >>> said = np.repeat([0.9, 0.1], 20)
    >>> right = np.r_[np.arange(20) < 12, np.arange(20) < 8]
    >>> slope, intercept = fit_calibration(right, said)
    >>> round(slope, 2), round(abs(intercept), 2)
    (0.17, 0.0)
    """
    n, m = int(is_positive.sum()), int((~is_positive).sum())
    if min(n, m) < ENOUGH:
        return 1.0, 0.0
    target = np.where(is_positive, (n + 1) / (n + 2), 1 / (m + 2))
    kept = np.clip(probability, SMALLEST, 1 - SMALLEST)
    x = np.stack([np.log(kept / (1 - kept)), np.ones(kept.size)], axis=1)
    line = np.zeros(2)
    for _ in range(100):  # Newton's steps of a logistic regression: a handful are enough
        p = 1 / (1 + np.exp(-x @ line))
        step = np.linalg.lstsq((x * (p * (1 - p))[:, None]).T @ x, x.T @ (target - p), rcond=None)[0]
        line += step
        if np.abs(step).max() < 1e-10:
            break
    return (float(line[0]), float(line[1])) if line[0] > 0 and np.isfinite(line).all() else (1.0, 0.0)
