"""What the comparisons of many patients amount to, with intervals: the numbers behind every table and figure.

A statistic has a name, such as ``category.dino-lg.linear_kappa``, that means one thing in every report, and is a
function of which patients were drawn. Where patients came from is not known here. Definitions: docs/method.md,
section 9. F1 has four kinds, which are four names: ``slices.f1``, ``voxels.….f1``, and of lesions ``….f1_by_count`` and
``….f1_by_volume``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import CORONARY
from heartlens.risk.categories import SCHEMES, category
from training.evaluation.classifiers import SLICE_STATISTICS, add_probabilities
from training.evaluation.estimates import Drawn, Statistics, estimate_all
from training.evaluation.recall import add_answers
from training.evaluation.results import (
    NEIGHBORS,
    LesionTotals,
    Patient,
    SizeBin,
    StageSummary,
    Summary,
    TrapResult,
)
from training.metrics import agreement, classification
from training.metrics.classification import Counts
from training.metrics.overlap import ALL, MATCH_RULES, ROWS, Comparison, count_slices

RISK_SCHEMES = ("dino-lg", "heartlens")

SIZE_EDGES_MM3 = (0.0, 10.0, 30.0, 100.0, 300.0, math.inf)
"""Bins of lesion volume; a COCA object of mean size (119 pixels of one slice) has about 44 mm3."""

AREA_EDGES_MM2 = (0.0, 10.0, 30.0, math.inf)
"""Bins of the calcified area of a slice."""

AVERAGE = "average"
"""Row of the voxel table: mean over the arteries where the statistic is defined; the paper's Table 6 has such a row."""

_LIMITS = ("bias", "sd", "lower", "upper")
_SCORE_STATISTICS = ("icc_absolute", "icc_consistency", "pearson", "spearman")
_CATEGORY_SHARES = ("accuracy", "within_one", "up", "down")
_CATEGORY_STATISTICS = (*_CATEGORY_SHARES, "kappa", "linear_kappa", "quadratic_kappa")
_ZERO_STATISTICS = ("sensitivity", "specificity", "npv", "false_zero_rate", "false_positive_rate")
_VOXEL_STATISTICS = ("precision", "recall", "f1", "iou")
LESION_STATISTICS = ("sensitivity", "ppv", "f1_by_count", "volume_sensitivity", "volume_ppv", "f1_by_volume")
_TRAP_ROWS = ("all", "in_heart", "decoys")


def summarize(
    patients: Sequence[Patient],
    *,
    draws: int,
    seed: int,
    differences: Sequence[tuple[str, str]] = (),
    wanted: Collection[str] | None = None,
) -> Summary:
    """All statistics of every stage.

    Parameters
    ----------
    patients
        At least one; all have the stages of the first.
    differences
        Pairs of stages.
    wanted
        Names of statistics; None is all that these patients can have.
    """
    parts = {stage: stage_statistics(patients, stage, wanted) for stage in patients[0].stages}
    statistics = {stage: part for stage, (part, _) in parts.items()}
    persons = [patient.person or f"patient {n}" for n, patient in enumerate(patients)]
    by_stage, by_difference = estimate_all(statistics, differences=differences, draws=draws, seed=seed, persons=persons)
    stages = {
        stage: replace(counted, estimates=by_stage[stage], shares=dict(part.shares))
        for stage, (part, counted) in parts.items()
    }
    return Summary(len(patients), stages, by_difference)


def stage_statistics(
    patients: Sequence[Patient], stage: str, wanted: Collection[str] | None = None
) -> tuple[Statistics, StageSummary]:
    """Statistics of one stage, not yet computed, and its counts without estimates."""
    comparisons = [patient.stages[stage] for patient in patients]
    statistics = Statistics(len(patients), wanted)
    rows = [row for row in ROWS if all(row in c.reference_agatston for c in comparisons)]
    reference, predicted = (
        {row: np.array([getattr(c, side)[row] for c in comparisons]) for row in rows}
        for side in ("reference_agatston", "predicted_agatston")
    )
    for row in rows:
        _add_scores(statistics, f"agatston.{row}", reference[row], predicted[row])
    confusion: dict[str, tuple[tuple[int, ...], ...]] = {}
    zeros = Counts(0, 0, 0)
    if ALL in rows:
        confusion, zeros = _add_patient_level(statistics, "", reference[ALL], predicted[ALL])
    slices = _add_slices(statistics, patients, comparisons)
    _add_slice_probabilities(statistics, patients, stage)
    in_voxels = [row for row in ROWS if all(row in c.voxels for c in comparisons)]
    voxels = {
        row: statistics.add_counts(
            f"voxels.{row}", [c.voxels[row] for c in comparisons], _VOXEL_STATISTICS, voxels=True
        )
        for row in in_voxels
    }
    if {artery.name for artery in CORONARY} <= set(in_voxels):
        _add_average(statistics, comparisons)
    overlapping = {row: _add_overlap(statistics, comparisons, row) for row in in_voxels}
    lesions = {
        rule: {row: _add_lesions(statistics, comparisons, n, row) for row in ROWS} for n, rule in enumerate(MATCH_RULES)
    }
    sizes = _add_sizes(statistics, comparisons)
    if ALL in rows:
        _add_presence(statistics, reference, predicted)
        _add_synthetic(statistics, patients, stage, predicted[ALL])
    if all(stage in patient.answers for patient in patients):
        add_answers(statistics, [patient.answers[stage] for patient in patients])
    counted = StageSummary(
        confusion=confusion,
        zeros=zeros,
        slices=slices,
        voxels=voxels,
        overlapping=overlapping,
        both_empty={row: len(comparisons) - n for row, n in overlapping.items()},
        lesions=lesions,
        sizes=sizes,
        estimates={},
    )
    return statistics, counted


def risk_places(scores: Sequence[float] | NDArray[np.float64], scheme: str) -> NDArray[np.int64]:
    """(n,) number of each score's category, from 0."""
    names = [row.category for row in SCHEMES[scheme].categories]
    return np.array([names.index(category(float(score), scheme).category) for score in scores], np.int64)


def lesion_f1(reference: float, matched: float, predicted: float, right: float) -> float:
    """Harmonic mean of sensitivity (of the reference's lesions those found) and PPV (of the predicted those right).

    Parameters
    ----------
    reference, matched, predicted, right
        Numbers of lesions for F1 by count, their volumes for F1 by volume.

    Returns
    -------
    float
        0 where nothing is found or nothing right; NaN only without any lesion on either side.

    Examples
    --------
    >>> lesion_f1(4, 3, 6, 3)
    0.6
    """
    if not reference and not predicted:
        return math.nan
    sensitivity, ppv = classification.ratio(matched, reference), classification.ratio(right, predicted)
    return classification.ratio(2 * sensitivity * ppv, sensitivity + ppv) if matched and right else 0.0


def _add_scores(statistics: Statistics, prefix: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    def values(drawn: Drawn) -> list[float]:
        a, b = x[drawn], y[drawn]
        by_name = [getattr(agreement, name)(a, b) for name in _SCORE_STATISTICS]
        return [*by_name, *agreement.bland_altman(a, b), *agreement.bland_altman(a, b, log=True)]

    statistics.add(prefix, (*_SCORE_STATISTICS, *_LIMITS, *(f"log_{name}" for name in _LIMITS)), values)


def _add_patient_level(
    statistics: Statistics, prefix: str, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[dict[str, tuple[tuple[int, ...], ...]], Counts]:
    """Risk categories and zeros of total scores; gives the matrix of each scheme, and counts above 0."""
    confusion = {
        scheme: _add_categories(statistics, f"{prefix}category.{scheme}", scheme, x, y) for scheme in RISK_SCHEMES
    }
    each = [classification.counts([a], [b]) for a, b in zip(x, y, strict=True)]
    return confusion, statistics.add_counts(f"{prefix}zero", each, _ZERO_STATISTICS)


def _add_categories(
    statistics: Statistics, prefix: str, scheme: str, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[tuple[int, ...], ...]:
    c = len(SCHEMES[scheme].categories)
    pair = risk_places(x, scheme) * c + risk_places(y, scheme)

    def matrix_of(drawn: Drawn) -> NDArray[np.int64]:
        return np.bincount(pair[drawn], minlength=c * c).reshape(c, c)

    def values(drawn: Drawn) -> list[float]:
        matrix = matrix_of(drawn)
        return [*agreement.reclassification(matrix), *(agreement.kappa(matrix, w) for w in agreement.KAPPA_WEIGHTS)]

    whole = matrix_of(np.arange(len(x)))
    moved = agreement.reclassification(whole)
    shares = {name: (round(share * len(x)), len(x)) for name, share in zip(_CATEGORY_SHARES, moved, strict=True)}
    statistics.add(prefix, _CATEGORY_STATISTICS, values, shares)
    return tuple(tuple(int(v) for v in row) for row in whole)


def _add_presence(
    statistics: Statistics, x: Mapping[str, NDArray[np.float64]], y: Mapping[str, NDArray[np.float64]]
) -> None:
    """Whether each artery has any calcium, by patients."""
    for row in x:
        if row != ALL:
            each = [classification.counts([a], [b]) for a, b in zip(x[row], y[row], strict=True)]
            statistics.add_counts(f"presence.{row}", each, ("sensitivity", "precision", "f1"))


def _add_slices(statistics: Statistics, patients: Sequence[Patient], comparisons: Sequence[Comparison]) -> Counts:
    """Of all slices, of those with candidates, and recall by the area of calcium."""
    each = [count_slices(c.reference_slices, c.predicted_slices) for c in comparisons]
    total = statistics.add_counts("slices", each, SLICE_STATISTICS)
    known = [p.synthetic for p in patients if p.synthetic is not None]
    if len(known) == len(patients) and all(truth.candidate_slices for truth in known):
        masks = [np.array(truth.candidate_slices, bool) for truth in known]
        each = [
            count_slices(*(np.array(side, bool)[mask].tolist() for side in (c.reference_slices, c.predicted_slices)))
            for c, mask in zip(comparisons, masks, strict=True)
        ]
        statistics.add_counts("candidates", each, SLICE_STATISTICS)
    if len(known) == len(patients) and all(truth.slice_area_mm2 for truth in known):
        for n, (low, high) in enumerate(pairwise(AREA_EDGES_MM2)):
            areas = [np.array(truth.slice_area_mm2) for truth in known]
            inside = [
                count_slices(
                    (np.array(c.reference_slices, bool) & (low < area) & (area <= high)).tolist(), c.predicted_slices
                )
                for c, area in zip(comparisons, areas, strict=True)
            ]
            statistics.add_counts(f"slices.area.{n}", inside, ("recall",))
    return total


def _add_slice_probabilities(statistics: Statistics, patients: Sequence[Patient], stage: str) -> None:
    """Of the classifier that goes by the name of the stage, and of the neighbors in its embedding."""
    for who, prefix in ((stage, "probability"), (f"{stage} {NEIGHBORS}", NEIGHBORS)):
        if all(who in p.slice_probability for p in patients):
            groups = [
                (p.stages[stage].reference_slices, np.array(p.slice_probability[who], np.float64)) for p in patients
            ]
            add_probabilities(statistics, prefix, groups)


def _add_average(statistics: Statistics, comparisons: Sequence[Comparison]) -> None:
    table = np.array([[c.voxels[artery.name] for artery in CORONARY] for c in comparisons], np.int64)

    def values(drawn: Drawn) -> list[float]:
        rows = [Counts(*row) for row in table[drawn].sum(axis=0).tolist()]
        return [_mean_of_defined([getattr(row, name) for row in rows]) for name in _VOXEL_STATISTICS]

    statistics.add(f"voxels.{AVERAGE}", _VOXEL_STATISTICS, values)


def _add_overlap(statistics: Statistics, comparisons: Sequence[Comparison], row: str) -> int:
    """Mean Dice and IoU over patients with calcium in the row in either map; returns how many these are."""
    values = np.array([(c.voxels[row].f1, c.voxels[row].iou) for c in comparisons])
    statistics.add(
        f"overlap.{row}", ("dice", "iou"), lambda drawn: [_mean_of_defined(part) for part in values[drawn].T]
    )
    return int(np.isfinite(values[:, 0]).sum())


def _add_lesions(statistics: Statistics, comparisons: Sequence[Comparison], rule: int, row: str) -> LesionTotals:
    table = np.array([_lesion_sums(c, rule, row) for c in comparisons])  # (patients, 8)

    def values(drawn: Drawn) -> list[float]:
        sums = table[drawn].sum(axis=0).tolist()
        return [
            value
            for reference, matched, predicted, right in (sums[:4], sums[4:])
            for value in (
                classification.ratio(matched, reference),
                classification.ratio(right, predicted),
                lesion_f1(reference, matched, predicted, right),
            )
        ]

    sums = table.sum(axis=0).tolist()
    reference, matched, predicted, right = (int(v) for v in sums[:4])
    agreed = min(matched, right)
    f1 = (agreed, reference + predicted - agreed)
    shares = {"sensitivity": (matched, reference), "ppv": (right, predicted), "f1_by_count": f1}
    statistics.add(f"lesions.{MATCH_RULES[rule]}.{row}", LESION_STATISTICS, values, shares)
    return LesionTotals(reference, matched, predicted, right, *sums[4:])


def _lesion_sums(comparison: Comparison, rule: int, row: str) -> list[float]:
    reference = [x for x in comparison.reference_lesions if row in (ALL, x.artery)]
    predicted = [x for x in comparison.predicted_lesions if row in (ALL, x.artery)]
    matched, right = ([x for x in side if x.matched[rule]] for side in (reference, predicted))
    groups = (reference, matched, predicted, right)
    return [*(len(group) for group in groups), *(sum(x.volume_mm3 for x in group) for group in groups)]


def _add_sizes(statistics: Statistics, comparisons: Sequence[Comparison]) -> tuple[SizeBin, ...]:
    bins = []
    for n, (low, high) in enumerate(pairwise(SIZE_EDGES_MM3)):
        inside = [[x for x in c.reference_lesions if low < x.volume_mm3 <= high] for c in comparisons]
        table = np.array([[len(g), *(sum(x.matched[rule] for x in g) for rule in (0, -1))] for g in inside], np.int64)

        def values(drawn: Drawn, table: NDArray[np.int64] = table) -> list[float]:
            size, same, anywhere = table[drawn].sum(axis=0).tolist()
            return [classification.ratio(same, size), classification.ratio(anywhere, size)]

        size, same, anywhere = (int(v) for v in table.sum(axis=0))
        shares = {"same_vessel": (same, size), "any_vessel": (anywhere, size)}
        statistics.add(f"size.{n}", ("same_vessel", "any_vessel"), values, shares)
        bins.append(SizeBin(low, high if math.isfinite(high) else None, size, same, anywhere))
    return tuple(bins)


def _add_synthetic(
    statistics: Statistics, patients: Sequence[Patient], stage: str, predicted: NDArray[np.float64]
) -> None:
    """Traps, lesions on nothing, and agreement with the image without noise, where all patients have them."""
    known = [p.synthetic for p in patients if p.synthetic is not None]
    if len(known) < len(patients):
        return
    if all(ALL in truth.noise_free for truth in known):
        clean = np.array([truth.noise_free[ALL] for truth in known])
        _add_scores(statistics, f"noise_free.agatston.{ALL}", clean, predicted)
        _add_patient_level(statistics, "noise_free.", clean, predicted)
    if all(stage in truth.traps for truth in known):
        table = np.array([_trap_sums(truth.traps[stage]) for truth in known], np.int64)  # (patients, rows, 2)

        def called(drawn: Drawn) -> list[float]:
            return [classification.ratio(part, of) for part, of in table[drawn].sum(axis=0).tolist()]

        shares = {row: (int(part), int(of)) for row, (part, of) in zip(_TRAP_ROWS, table.sum(axis=0), strict=True)}
        statistics.add("traps", _TRAP_ROWS, called, shares)
    if all(stage in truth.on_nothing for truth in known):
        lesions = np.array([truth.on_nothing[stage] for truth in known], np.float64)
        statistics.add("on_nothing", ("per_scan",), lambda drawn: [float(lesions[drawn].mean())])


def _trap_sums(traps: Sequence[TrapResult]) -> list[tuple[int, int]]:
    rows = (traps, [t for t in traps if t.in_heart], [t for t in traps if t.kind.startswith("decoy_")])
    return [(sum(t.called for t in row), len(row)) for row in rows]


def _mean_of_defined(values: Sequence[float] | NDArray[np.float64]) -> float:
    numbers = np.asarray(values, dtype=np.float64)
    defined = numbers[np.isfinite(numbers)]
    return classification.ratio(float(defined.sum()), defined.size)
