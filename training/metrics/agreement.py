"""How well two sets of numbers agree: scores, categories, yes or no, probabilities; and how sure that is.

Definitions: docs/method.md, section 9. x is what the reference says, y what was predicted; one entry a patient.
A statistic that is not defined for its data (a ratio of 0 to 0) is NaN, never 0 and never 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BOOTSTRAP_DRAWS = 2000
BOOTSTRAP_SEED = 20241113
"""Fixed, so that the same patients always get the same intervals."""

LIMIT_SD = 1.96
"""Half width of the limits of agreement in standard deviations; Bland and Altman, Lancet 1986, 327:307."""

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


def mean_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """(n,) ranks from 1; equal values share the mean of theirs.

    Examples
    --------
    >>> mean_ranks([10, 0, 0, 5])
    array([4. , 1.5, 1.5, 3. ])
    """
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place.reshape(-1)]


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


class Counts(NamedTuple):
    """True and false positives and negatives. `tn` is 0 where negatives are not counted (lesions, voxels)."""

    tp: int
    fp: int
    fn: int
    tn: int = 0

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN); NaN without positives in the reference."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def recall(self) -> float:
        """The same as `sensitivity`."""
        return self.sensitivity

    @property
    def specificity(self) -> float:
        """TN / (TN + FP); NaN without negatives in the reference."""
        return ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN when nothing was called positive."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> float:
        """TN / (TN + FN), the negative predictive value; NaN when nothing was called negative."""
        return ratio(self.tn, self.tn + self.fn)

    @property
    def f1(self) -> float:
        """Also Dice, when voxels are counted."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), intersection over union; NaN when there is no positive on either side."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """Share of all that was called right; NaN when there is nothing."""
        return ratio(self.tp + self.tn, sum(self))

    @property
    def prevalence(self) -> float:
        """Share of positives in the reference."""
        return ratio(self.tp + self.fn, sum(self))

    @property
    def false_zero_rate(self) -> float:
        """Share of the positives that were called negative: patients with calcium who got a score of 0."""
        return ratio(self.fn, self.tp + self.fn)


def counts(reference: ArrayLike, predicted: ArrayLike) -> Counts:
    """Count agreements; anything above 0 is positive (booleans, or scores)."""
    x, y = np.asarray(reference) > 0, np.asarray(predicted) > 0
    if x.shape != y.shape:
        raise ValueError(f"expected equal shapes, got {x.shape} and {y.shape}")
    return Counts(int((x & y).sum()), int((~x & y).sum()), int((x & ~y).sum()), int((~x & ~y).sum()))


# Probabilities


def area_under_roc(positive: ArrayLike, probability: ArrayLike) -> float:
    """Chance that a positive gets a higher probability than a negative; ties count one half."""
    truth, p = np.asarray(positive, dtype=bool), np.asarray(probability, dtype=np.float64)
    n, m = int(truth.sum()), int((~truth).sum())
    return ratio(float(mean_ranks(p)[truth].sum()) - n * (n + 1) / 2, n * m) if truth.size else math.nan


class ReliabilityBin(NamedTuple):
    """Probabilities in [low, high), the last bin with its end: how many, their mean, and the share of positives."""

    low: float
    high: float
    n: int
    mean_probability: float
    share_positive: float


def reliability(positive: ArrayLike, probability: ArrayLike, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width from 0 to 1; empty ones have n = 0 and NaN."""
    truth, p = np.asarray(positive, dtype=bool), np.asarray(probability, dtype=np.float64)
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"a probability must lie in 0..1, got {p.min():g}..{p.max():g}")
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    rows = []
    for n in range(bins):
        inside = place == n
        size = int(inside.sum())
        mean, share = ratio(float(p[inside].sum()), size), ratio(int(truth[inside].sum()), size)
        rows.append(ReliabilityBin(n / bins, (n + 1) / bins, size, mean, share))
    return tuple(rows)


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Expected calibration error: mean distance of probability and share of positives, weighted by n."""
    filled = [b for b in bins if b.n]
    return ratio(sum(b.n * abs(b.mean_probability - b.share_positive) for b in filled), sum(b.n for b in filled))


# How sure


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


def ratio(part: float, whole: float) -> float:
    """Share part / whole; NaN for 0 / 0 and for anything / 0."""
    return part / whole if whole else math.nan


def _scores(reference: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(reference, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(f"expected two lists of one number a patient, got shapes {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("scores must be finite, found NaN or infinity; leave the patient out and count it as failed")
    return x, y
