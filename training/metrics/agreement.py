"""How well two sets of numbers agree: scores, categories, yes or no, probabilities; and how sure that is.

Definitions: docs/method.md, section 9. x is what the reference says, y what was predicted; one entry a patient.
A statistic that is not defined for its data (a ratio of 0 to 0) is NaN, never 0 and never 1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.metrics.classification import ratio
from training.metrics.intervals import LIMIT_SD
from training.metrics.ranks import mean_ranks

KAPPA_WEIGHTS = ("none", "linear", "quadratic")


# Scores


def icc_absolute(reference: ArrayLike, predicted: ArrayLike) -> float:
    """ICC(2,1): absolute agreement of single scores, two-way random effects (Shrout and Fleiss 1979).

    Parameters
    ----------
    reference, predicted
        (n,)

    Examples
    --------
    >>> round(icc_absolute([0, 12, 95, 120, 410, 900], [0, 10, 110, 118, 395, 950]), 5)
    0.99807
    """
    n, rows, columns, error = _mean_squares(reference, predicted)
    return ratio(rows - error, rows + error + 2 * (columns - error) / n)


def icc_consistency(reference: ArrayLike, predicted: ArrayLike) -> float:
    """ICC(3,1): as `icc_absolute`, but a constant difference between the two does not count.

    Examples
    --------
    >>> icc_consistency([1, 2, 3], [11, 12, 13])
    1.0
    """
    _, rows, _, error = _mean_squares(reference, predicted)
    return ratio(rows - error, rows + error)


def _mean_squares(reference: ArrayLike, predicted: ArrayLike) -> tuple[int, float, float, float]:
    """n, and mean squares of rows (patients), columns (methods) and residual, written out for two methods."""
    x, y = _scores(reference, predicted)
    n = x.size
    if n < 2:
        return n, math.nan, math.nan, math.nan
    x, y = x - x[0], y - x[0]  # a constant list is then exactly 0, and its sums of squares are too
    difference, mean = y - x, (x + y) / 2
    rows = 2 * float(np.sum((mean - mean.mean()) ** 2)) / (n - 1)
    columns = n * float(difference.mean()) ** 2 / 2
    error = float(np.sum((difference - difference.mean()) ** 2)) / 2 / (n - 1)
    return n, rows, columns, error


def pearson(reference: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson's r; NaN when one side is constant."""
    x, y = _scores(reference, predicted)
    x, y = x - x[0], y - y[0]  # a constant list is then exactly 0
    x, y = x - x.mean(), y - y.mean()
    return ratio(float(x @ y), math.sqrt(float(x @ x)) * math.sqrt(float(y @ y)))


def spearman(reference: ArrayLike, predicted: ArrayLike) -> float:
    """Spearman's rho: Pearson's r of ranks, ties at their mean rank."""
    x, y = _scores(reference, predicted)
    return pearson(mean_ranks(x), mean_ranks(y))


class BlandAltman(NamedTuple):
    """Differences, predicted - reference.

    Parameters
    ----------
    bias
        Mean.
    sd
        With n - 1.
    lower, upper
        Limits of agreement, bias -+ 1.96 sd.
    """

    bias: float
    sd: float
    lower: float
    upper: float


def bland_altman(reference: ArrayLike, predicted: ArrayLike, *, log: bool = False) -> BlandAltman:
    """Bias and limits of agreement.

    Parameters
    ----------
    log
        Of ln(score + 1), because the error grows with the score; exp(bias) is then a ratio of (score + 1).
    """
    x, y = _scores(reference, predicted)
    if log:
        x, y = log_score(x), log_score(y)
    difference = y - x
    bias = float(difference.mean())
    sd = float(difference.std(ddof=1)) if difference.size > 1 else math.nan
    return BlandAltman(bias, sd, bias - LIMIT_SD * sd, bias + LIMIT_SD * sd)


def log_score(score: ArrayLike) -> NDArray[np.float64]:
    """ln(score + 1).

    Raises
    ------
    ValueError
        A score below 0.
    """
    score = np.asarray(score, dtype=np.float64)
    if score.size and score.min() < 0:
        raise ValueError(f"a score must be 0 or more, got {score.min():g}")
    return np.log1p(score)


# Categories


def confusion_matrix(
    reference: Sequence[Hashable], predicted: Sequence[Hashable], labels: Sequence[Hashable]
) -> NDArray[np.int64]:
    """(c, c) counts, rows reference, columns predicted.

    Parameters
    ----------
    labels
        Every category in order, those that do not occur included.

    Raises
    ------
    ValueError
        Unequal lengths, a repeated label, or a value that is no label.

    Examples
    --------
    >>> confusion_matrix(["low", "high"], ["low", "low"], ["low", "high"])
    array([[1, 0],
           [1, 0]])
    """
    place = {label: n for n, label in enumerate(labels)}
    if len(place) != len(labels):
        raise ValueError(f"labels must differ from each other, got {list(labels)}")
    if len(reference) != len(predicted):
        raise ValueError(f"expected as many predictions as references, got {len(predicted)} and {len(reference)}")
    unknown = sorted({str(v) for v in (*reference, *predicted) if v not in place})
    if unknown:
        raise ValueError(f"values must be among {list(labels)}, got {', '.join(unknown[:5])}")
    c = len(labels)
    flat = [place[r] * c + place[p] for r, p in zip(reference, predicted, strict=True)]
    return np.bincount(np.array(flat, np.int64), minlength=c * c).reshape(c, c)


def kappa(matrix: ArrayLike, weights: str = "none") -> float:
    """Cohen's kappa of a confusion matrix that has a row and a column for every category.

    Parameters
    ----------
    matrix
        (c, c) counts
    weights
        "none", "linear" (|i - j| / (c - 1)) or "quadratic" (its square)
    """
    if weights not in KAPPA_WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(KAPPA_WEIGHTS)}, got {weights!r}")
    observed = np.asarray(matrix, dtype=np.float64)
    c = len(observed)
    if observed.shape != (c, c):
        raise ValueError(f"a confusion matrix is square, got shape {observed.shape}")
    n = float(observed.sum())
    if n == 0 or c < 2:
        return math.nan
    distance = np.abs(np.subtract.outer(np.arange(c), np.arange(c)))
    cost = {"none": (distance > 0) * 1.0, "linear": distance / (c - 1), "quadratic": (distance / (c - 1)) ** 2}[weights]
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / n
    return 1 - ratio(float((cost * observed).sum()), float((cost * expected).sum()))


def cohen_kappa(
    reference: Sequence[Hashable],
    predicted: Sequence[Hashable],
    labels: Sequence[Hashable],
    weights: str = "none",
) -> float:
    """Cohen's kappa; `labels` is the full list of categories, so that empty ones count.

    Examples
    --------
    >>> round(cohen_kappa([0, 2, 2, 3, 4, 4], [0, 1, 3, 3, 3, 4], range(5), "linear"), 4)
    0.6786
    """
    return kappa(confusion_matrix(reference, predicted, labels), weights)


class Reclassification(NamedTuple):
    """Shares of patients whose category is the same, at most one away, higher, or lower than the reference's."""

    same: float
    within_one: float
    up: float
    down: float


def reclassification(matrix: ArrayLike) -> Reclassification:
    """How a confusion matrix (c, c) moves patients; all NaN without any."""
    patients = np.asarray(matrix, dtype=np.float64)
    n = float(patients.sum())
    step = np.subtract.outer(np.arange(len(patients)), np.arange(len(patients)))  # reference - predicted
    chosen = (step == 0, np.abs(step) <= 1, step < 0, step > 0)
    return Reclassification(*(ratio(float(patients[where].sum()), n) for where in chosen))


# Yes or no


# Probabilities


# How sure


def _scores(reference: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(reference, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(f"expected two lists of one number a patient, got shapes {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("scores must be finite, found NaN or infinity; leave the patient out and count it as failed")
    return x, y
