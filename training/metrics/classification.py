"""Yes or no: confusion counts and what follows from them, ROC, reliability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from training.metrics.ranks import mean_ranks


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

    @property
    def false_positive_rate(self) -> float:
        """Share of the negatives that were called positive; NaN without negatives in the reference."""
        return ratio(self.fp, self.tn + self.fp)


def counts(reference: ArrayLike, predicted: ArrayLike) -> Counts:
    """Count agreements; anything above 0 is positive (booleans, or scores)."""
    x, y = np.asarray(reference) > 0, np.asarray(predicted) > 0
    if x.shape != y.shape:
        raise ValueError(f"expected equal shapes, got {x.shape} and {y.shape}")
    return Counts(int((x & y).sum()), int((~x & y).sum()), int((x & ~y).sum()), int((~x & ~y).sum()))


def area_under_roc(positive: ArrayLike, probability: ArrayLike) -> float:
    """Chance that a positive gets a higher probability than a negative; ties count one half."""
    truth, p = np.asarray(positive, dtype=bool), np.asarray(probability, dtype=np.float64)
    n, m = int(truth.sum()), int((~truth).sum())
    return ratio(float(mean_ranks(p)[truth].sum()) - n * (n + 1) / 2, n * m) if truth.size else math.nan


def sensitivity_at(positive: ArrayLike, probability: ArrayLike, specificity: float) -> float:
    """Share of positives above the lowest cut-off that keeps this share of negatives at or below it.

    Examples
    --------
    >>> sensitivity_at([False] * 4 + [True] * 2, [0.1, 0.2, 0.3, 0.4, 0.25, 0.5], 0.75)
    0.5
    """
    truth, p = np.asarray(positive, dtype=bool), np.asarray(probability, dtype=np.float64)
    if truth.all() or not truth.any():
        return math.nan
    negatives = np.sort(p[~truth])
    cut = negatives[math.ceil(specificity * negatives.size) - 1]
    return float((p[truth] > cut).mean())


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


def ratio(part: float, whole: float) -> float:
    """Share part / whole; NaN for 0 / 0 and for anything / 0."""
    return part / whole if whole else math.nan
