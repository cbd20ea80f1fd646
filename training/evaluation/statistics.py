"""What the comparisons of many patients amount to, with intervals: the numbers behind every table and figure.

Definitions: docs/method.md, section 9. Estimates have names such as ``category.dino-lg.linear_kappa``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import CORONARY
from heartlens.risk.categories import SCHEMES, category
from training.evaluation.results import (
    SEGMENTATION,
    ClassifierSummary,
    Estimate,
    LesionTotals,
    Patient,
    SizeBin,
    StageSummary,
)
from training.metrics import agreement, classification, intervals
from training.metrics.classification import Counts
from training.metrics.overlap import ALL, MATCH_RULES, ROWS, Comparison, count_slices

RISK_SCHEMES = ("dino-lg", "heartlens")

SIZE_EDGES_MM3 = (0.0, 10.0, 30.0, 100.0, 300.0, math.inf)
"""Bins of lesion volume; a COCA object of mean size (119 pixels of one slice) has about 44 mm3."""

AVERAGE = "average"
"""Row of the voxel table: mean over the arteries in which the statistic is defined, as in the paper's Table 6."""

_SCORE_STATISTICS = ("icc_absolute", "icc_consistency", "pearson", "spearman")
_LIMITS = ("bias", "sd", "lower", "upper")
_CATEGORY_STATISTICS = ("accuracy", "within_one", "up", "down", "kappa", "linear_kappa", "quadratic_kappa")
_ZERO_STATISTICS = ("sensitivity", "specificity", "npv", "false_zero_rate")
_SLICE_STATISTICS = ("sensitivity", "specificity", "precision", "f1", "accuracy", "prevalence")
_VOXEL_STATISTICS = ("precision", "recall", "f1", "iou")
_LESION_STATISTICS = ("sensitivity", "ppv", "volume_sensitivity", "volume_ppv", "f1")


def summarize_patients(comparisons: Sequence[Comparison], *, draws: int, seed: int) -> StageSummary:
    """All statistics of one stage.

    Parameters
    ----------
    comparisons
        One per patient, at least one.
    """
    estimates = _Estimates(len(comparisons))
    _add_scores(estimates, comparisons)
    confusion = {scheme: _add_categories(estimates, comparisons, scheme) for scheme in RISK_SCHEMES}
    zeros = _add_counts(
        estimates,
        "zero",
        [classification.counts([c.reference_agatston[ALL]], [c.predicted_agatston[ALL]]) for c in comparisons],
        _ZERO_STATISTICS,
    )
    slices = _add_counts(
        estimates,
        "slices",
        [count_slices(c.reference_slices, c.predicted_slices) for c in comparisons],
        _SLICE_STATISTICS,
    )
    voxels = {
        row: _add_counts(estimates, f"voxels.{row}", [c.voxels[row] for c in comparisons], _VOXEL_STATISTICS)
        for row in ROWS
    }
    _add_average(estimates, comparisons)
    overlapping = {row: _add_overlap(estimates, comparisons, row) for row in ROWS}
    lesions = _add_lesions(estimates, comparisons)
    sizes = _add_sizes(estimates, comparisons)
    computed = estimates.computed(draws, seed)
    _widen(computed, {f"zero.{name}": share for name, share in _zero_shares(zeros).items()})
    for scheme, matrix in confusion.items():
        shares = _category_shares(matrix)
        _widen(computed, {f"category.{scheme}.{name}": share for name, share in shares.items()})
    return StageSummary(
        confusion=confusion,
        zeros=zeros,
        slices=slices,
        voxels=voxels,
        overlapping=overlapping,
        both_empty={row: len(comparisons) - n for row, n in overlapping.items()},
        lesions=lesions,
        sizes=sizes,
        estimates=computed,
    )


def summarize_classifier(
    patients: Sequence[Patient], cutoff: float | None, *, draws: int, seed: int
) -> ClassifierSummary | None:
    """The slice stage against the reference's calcified slices; None when no patient has probabilities."""
    slices = [
        (p.stages[SEGMENTATION].reference_slices, np.array(p.slice_probability, np.float64))
        for p in patients
        if p.slice_probability
    ]
    return summarize_slices(slices, cutoff, draws=draws, seed=seed) if slices else None


def summarize_slices(
    slices: Sequence[tuple[Sequence[bool], NDArray[np.float64]]], cutoff: float | None, *, draws: int, seed: int
) -> ClassifierSummary:
    """A slice classifier on the slices of some patients.

    Parameters
    ----------
    slices
        Of each patient, which slices show calcium, and the probability of it; NaN where it was not asked.
    """
    truth = np.concatenate([np.array(reference, bool) for reference, _ in slices])
    probability = np.concatenate([p for _, p in slices])
    has_probability = np.isfinite(probability)
    bins = classification.reliability(truth[has_probability], probability[has_probability])
    estimates = _Estimates(len(slices))
    classified = [(np.array(reference, bool)[np.isfinite(p)], p[np.isfinite(p)]) for reference, p in slices]

    def statistics(drawn: Drawn) -> list[float]:
        known, probability_drawn = (np.concatenate([classified[n][side] for n in drawn]) for side in (0, 1))
        return [
            classification.area_under_roc(known, probability_drawn),
            classification.calibration_error(classification.reliability(known, probability_drawn)),
        ]

    estimates.add("", ("area_under_roc", "calibration_error"), statistics)
    total = None
    if cutoff is not None:
        each = [count_slices(reference, (p >= cutoff).tolist()) for reference, p in slices]  # NaN is below
        total = _add_counts(estimates, "slices", each, _SLICE_STATISTICS)
    return ClassifierSummary(
        slices=int(truth.size),
        asked=int(has_probability.sum()),
        cut_off=cutoff,
        counts=total,
        reliability=tuple(b for b in bins if b.n),
        estimates=estimates.computed(draws, seed),
    )


def mean_of_patients(values: Sequence[Sequence[float]], *, draws: int, seed: int) -> Estimate:
    """Mean of values that lie in groups, one group a patient; without value when there are none."""
    sums = np.array([(math.fsum(group), len(group)) for group in values if group], np.float64)
    if not sums.size:
        return Estimate(None)

    def statistics(drawn: Drawn) -> list[float]:
        total, n = sums[drawn].sum(axis=0).tolist()
        return [classification.ratio(total, n)]

    (interval,) = intervals.bootstrap(statistics, len(sums), draws=draws, seed=seed)
    return Estimate(statistics(np.arange(len(sums)))[0], _or_none(interval.low), _or_none(interval.high))


Drawn = NDArray[np.int64]
"""(n,) indices of patients: all of them once, or a bootstrap draw."""


class _Estimates:
    """Statistics by name, computed once on all patients and then on every draw of them."""

    def __init__(self, patients: int) -> None:
        self.patients = patients
        self.names: list[str] = []
        self.functions: list[Callable[[Drawn], Sequence[float]]] = []

    def add(self, prefix: str, names: Sequence[str], function: Callable[[Drawn], Sequence[float]]) -> None:
        self.names += [f"{prefix}.{name}" if prefix else name for name in names]
        self.functions.append(function)

    def computed(self, draws: int, seed: int) -> dict[str, Estimate]:
        def everything(drawn: Drawn) -> list[float]:
            return [value for function in self.functions for value in function(drawn)]

        values = everything(np.arange(self.patients))
        ranges = intervals.bootstrap(everything, self.patients, draws=draws, seed=seed)
        return {
            name: Estimate(_or_none(value), _or_none(interval.low), _or_none(interval.high))
            for name, value, interval in zip(self.names, values, ranges, strict=True)
        }


def _add_scores(estimates: _Estimates, comparisons: Sequence[Comparison]) -> None:
    names = (*_SCORE_STATISTICS, *_LIMITS, *(f"log_{name}" for name in _LIMITS))
    for row in ROWS:
        x = np.array([c.reference_agatston[row] for c in comparisons])
        y = np.array([c.predicted_agatston[row] for c in comparisons])

        def statistics(drawn: Drawn, x: NDArray[np.float64] = x, y: NDArray[np.float64] = y) -> list[float]:
            a, b = x[drawn], y[drawn]
            values = [getattr(agreement, name)(a, b) for name in _SCORE_STATISTICS]
            return [*values, *agreement.bland_altman(a, b), *agreement.bland_altman(a, b, log=True)]

        estimates.add(f"agatston.{row}", names, statistics)


def _add_categories(
    estimates: _Estimates, comparisons: Sequence[Comparison], scheme: str
) -> tuple[tuple[int, ...], ...]:
    ids = [row.category for row in SCHEMES[scheme].categories]
    x, y = (
        np.array([ids.index(category(side[ALL], scheme).category) for side in sides], np.int64)
        for sides in ([c.reference_agatston for c in comparisons], [c.predicted_agatston for c in comparisons])
    )

    def matrix_of(drawn: Drawn) -> NDArray[np.int64]:
        return np.bincount(x[drawn] * len(ids) + y[drawn], minlength=len(ids) ** 2).reshape(len(ids), len(ids))

    def statistics(drawn: Drawn) -> list[float]:
        matrix = matrix_of(drawn)
        return [*agreement.reclassification(matrix), *(agreement.kappa(matrix, w) for w in agreement.KAPPA_WEIGHTS)]

    estimates.add(f"category.{scheme}", _CATEGORY_STATISTICS, statistics)
    return tuple(tuple(int(v) for v in row) for row in matrix_of(np.arange(len(comparisons))))


def _category_shares(matrix: tuple[tuple[int, ...], ...]) -> dict[str, tuple[int, int]]:
    """(patients, of all) of every statistic that is a share of patients."""
    n = sum(map(sum, matrix))
    moved = agreement.reclassification(matrix)
    return {name: (round(share * n), n) for name, share in zip(_CATEGORY_STATISTICS, moved, strict=False)}


def _zero_shares(zeros: Counts) -> dict[str, tuple[int, int]]:
    sick, well = zeros.tp + zeros.fn, zeros.tn + zeros.fp
    return {
        "sensitivity": (zeros.tp, sick),
        "specificity": (zeros.tn, well),
        "npv": (zeros.tn, zeros.tn + zeros.fn),
        "false_zero_rate": (zeros.fn, sick),
    }


def _widen(estimates: dict[str, Estimate], shares: Mapping[str, tuple[int, int]]) -> None:
    """Give shares that no draw changed (none or all of the patients) Wilson's interval: 0 of 20 is not surely 0."""
    for name, (events, n) in shares.items():
        estimate = estimates[name]
        if estimate.value is not None and (estimate.low is None or estimate.low == estimate.high):
            estimates[name] = Estimate(estimate.value, *intervals.wilson(events, n))


def _add_counts(estimates: _Estimates, prefix: str, each: Sequence[Counts], names: Sequence[str]) -> Counts:
    table = np.array(each, np.int64)  # (patients, 4)

    def total(drawn: Drawn) -> Counts:
        return Counts(*table[drawn].sum(axis=0).tolist())

    estimates.add(prefix, names, lambda drawn: [getattr(total(drawn), name) for name in names])
    return total(np.arange(len(each)))


def _add_average(estimates: _Estimates, comparisons: Sequence[Comparison]) -> None:
    table = np.array([[c.voxels[artery.name] for artery in CORONARY] for c in comparisons], np.int64)

    def statistics(drawn: Drawn) -> list[float]:
        rows = [Counts(*row) for row in table[drawn].sum(axis=0).tolist()]
        return [_mean_of_defined([getattr(row, name) for row in rows]) for name in _VOXEL_STATISTICS]

    estimates.add(f"voxels.{AVERAGE}", _VOXEL_STATISTICS, statistics)


def _add_overlap(estimates: _Estimates, comparisons: Sequence[Comparison], row: str) -> int:
    """Mean Dice and IoU over patients with calcium in the row in either map; returns how many these are."""
    values = np.array([(c.voxels[row].f1, c.voxels[row].iou) for c in comparisons])
    estimates.add(
        f"overlap.{row}", ("dice", "iou"), lambda drawn: [_mean_of_defined(column) for column in values[drawn].T]
    )
    return int(np.isfinite(values[:, 0]).sum())


def _add_lesions(estimates: _Estimates, comparisons: Sequence[Comparison]) -> dict[str, dict[str, LesionTotals]]:
    totals: dict[str, dict[str, LesionTotals]] = {}
    for n, rule in enumerate(MATCH_RULES):
        totals[rule] = {}
        for row in ROWS:
            table = np.array([_lesion_sums(c, n, row) for c in comparisons])  # (patients, 8)

            def statistics(drawn: Drawn, table: NDArray[np.float64] = table) -> list[float]:
                reference, matched, predicted, right, *mm3 = table[drawn].sum(axis=0).tolist()
                sensitivity, ppv = classification.ratio(mm3[1], mm3[0]), classification.ratio(mm3[3], mm3[2])
                # Nothing found or nothing right is 0; only without any lesion on either side there is no F1.
                f1 = classification.ratio(2 * sensitivity * ppv, sensitivity + ppv) if matched and right else 0.0
                f1 = f1 if reference or predicted else math.nan
                return [
                    classification.ratio(matched, reference),
                    classification.ratio(right, predicted),
                    sensitivity,
                    ppv,
                    f1,
                ]

            estimates.add(f"lesions.{rule}.{row}", _LESION_STATISTICS, statistics)
            sums = table.sum(axis=0).tolist()
            totals[rule][row] = LesionTotals(*(int(v) for v in sums[:4]), *sums[4:])
    return totals


def _lesion_sums(comparison: Comparison, rule: int, row: str) -> list[float]:
    reference = [x for x in comparison.reference_lesions if row in (ALL, x.artery)]
    predicted = [x for x in comparison.predicted_lesions if row in (ALL, x.artery)]
    matched, right = ([x for x in side if x.matched[rule]] for side in (reference, predicted))
    groups = (reference, matched, predicted, right)
    return [*(len(group) for group in groups), *(sum(x.volume_mm3 for x in group) for group in groups)]


def _add_sizes(estimates: _Estimates, comparisons: Sequence[Comparison]) -> tuple[SizeBin, ...]:
    bins = []
    for n, (low, high) in enumerate(pairwise(SIZE_EDGES_MM3)):
        inside = [[x for x in c.reference_lesions if low < x.volume_mm3 <= high] for c in comparisons]
        table = np.array([[len(g), *(sum(x.matched[rule] for x in g) for rule in (0, -1))] for g in inside], np.int64)

        def statistics(drawn: Drawn, table: NDArray[np.int64] = table) -> list[float]:
            size, same, anywhere = table[drawn].sum(axis=0).tolist()
            return [classification.ratio(same, size), classification.ratio(anywhere, size)]

        estimates.add(f"size.{n}", ("same_vessel", "any_vessel"), statistics)
        bins.append(SizeBin(low, high if math.isfinite(high) else None, *map(int, table.sum(axis=0))))
    return tuple(bins)


def _mean_of_defined(values: Sequence[float] | NDArray[np.float64]) -> float:
    numbers = np.asarray(values, dtype=np.float64)
    defined = numbers[np.isfinite(numbers)]
    return classification.ratio(float(defined.sum()), defined.size)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
