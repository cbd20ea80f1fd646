"""Figures of judged phantoms: for every way of finding calcium, for every kind of scan, and how sure they are.

Phantoms are drawn with replacement and all ways see the same draw, so that the difference which the slice stage makes
is a paired one. Definitions: docs/method.md, section 9; those of traps and candidates: docs/models.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import CORONARY
from heartlens.risk.categories import SCHEMES, category
from training.evaluation.outcomes import BUNDLE, NO_SLICE_STAGE, WAYS, PhantomEvaluation
from training.evaluation.results import Estimate
from training.metrics import agreement, classification, intervals
from training.metrics.classification import Counts
from training.metrics.overlap import ALL, count_slices

SCHEME_NAMES = ("dino-lg", "heartlens")

PAPER_F1 = {"RCA": 1.00, "LAD": 0.85, "LM": 0.64, "LCX": 0.80}
"""DINO-LG, Table 6: the aim for lesions named right."""


class Goal(NamedTuple):
    """What a figure has to reach."""

    least: float | None = None
    most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a value lies within both bounds, where there are any."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"


@dataclass(frozen=True)
class StatisticRow:
    """One figure of the main table.

    Parameters
    ----------
    key
        Its name.
    shown
        In the table.
    goal
        None for what is told without one
    is_share
        Shown in percent.
    """

    key: str
    shown: str
    goal: Goal | None = None
    is_share: bool = False


ROWS = (
    StatisticRow("slice_sensitivity", "slice sensitivity", Goal(least=0.89)),
    StatisticRow("slice_specificity", "slice specificity, all slices", Goal(least=0.90)),
    StatisticRow("candidate_specificity", "slice specificity, slices with candidates", Goal(least=0.90)),
    StatisticRow("accuracy.dino-lg", "risk category right (0-10, 11-100, 101-400, > 400)", Goal(least=0.93)),
    StatisticRow("kappa.dino-lg", "linear kappa, same categories", Goal(least=0.95)),
    StatisticRow("accuracy.heartlens", "risk category right (0, 1-10, 11-100, 101-400, > 400)", Goal(least=0.93)),
    StatisticRow("kappa.heartlens", "linear kappa, same categories", Goal(least=0.95)),
    StatisticRow("false_zero", "false zeros, of scans with calcium", Goal(most=0.02), is_share=True),
    StatisticRow("false_positive", "scores above 0, of scans without calcium", is_share=True),
    StatisticRow("icc", "ICC(2,1) of the Agatston score", Goal(least=0.98)),
    *(StatisticRow(f"f1.{name}", f"F1 of lesions, {name}", Goal(least=least)) for name, least in PAPER_F1.items()),
    StatisticRow("f1.all", "F1 of lesions, any coronary artery"),
    StatisticRow("traps", "traps called coronary", Goal(most=0.02), is_share=True),
    StatisticRow("traps_in_heart", "the same, in the zone of the coronaries", is_share=True),
    StatisticRow("decoys", "the same, decoys like plaques alone", is_share=True),
    StatisticRow("on_nothing", "lesions on noise or bone, per scan"),
    StatisticRow("clean.accuracy.dino-lg", "against the noise-free image: category right (4)"),
    StatisticRow("clean.kappa.dino-lg", "… linear kappa (4)"),
    StatisticRow("clean.accuracy.heartlens", "… category right (5)"),
    StatisticRow("clean.false_zero", "… false zeros", is_share=True),
    StatisticRow("clean.icc", "… ICC(2,1)"),
)

KEYS = tuple(row.key for row in ROWS)


@dataclass(frozen=True, eq=False)
class Columns:
    """One way's facts as arrays, one row a phantom.

    Parameters
    ----------
    counts
        (n, c), sums of which make every share; `NAMES` says which column is what
    score, truth, clean
        (n,) Agatston: found, of the truth, and of the truth without noise
    place, truth_place, clean_place
        By scheme, (n,) number of the category.
    """

    counts: NDArray[np.float64]
    score: NDArray[np.float64]
    truth: NDArray[np.float64]
    clean: NDArray[np.float64]
    place: Mapping[str, NDArray[np.int64]]
    truth_place: Mapping[str, NDArray[np.int64]]
    clean_place: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of(cls, evaluations: Sequence[PhantomEvaluation], way: str) -> Columns:
        """Facts of one way about some phantoms, in their order."""
        comparisons = [j.ways[way].comparison for j in evaluations]
        score = np.array([c.predicted_agatston[ALL] for c in comparisons])
        truth = np.array([c.reference_agatston[ALL] for c in comparisons])
        clean = np.array([j.noise_free[ALL] for j in evaluations])
        return cls(
            np.array([_counts(j, way) for j in evaluations], np.float64).reshape(len(evaluations), len(NAMES)),
            score, truth, clean,
            *({scheme: _places(values, scheme) for scheme in SCHEME_NAMES} for values in (score, truth, clean)),
        )  # fmt: skip


ROWS_OF_LESIONS = (*(artery.name for artery in CORONARY), ALL)

NAMES = (
    *(f"slices.{n}" for n in Counts._fields),
    *(f"candidates.{n}" for n in Counts._fields),
    *(f"zero.{n}" for n in Counts._fields),
    *(f"clean_zero.{n}" for n in Counts._fields),
    *(f"{row}.{n}" for row in ROWS_OF_LESIONS for n in ("reference", "found", "predicted", "right")),
    *(f"{kind}.{n}" for kind in ("traps", "traps_in_heart", "decoys") for n in ("all", "called")),
    "on_nothing",
    "phantoms",
)
_AT = {name: n for n, name in enumerate(NAMES)}


def _counts(evaluation: PhantomEvaluation, way: str) -> list[float]:
    outcome = evaluation.ways[way]
    c = outcome.comparison
    candidate_slices = np.array(evaluation.candidate_slices, bool)
    reference, predicted = np.array(c.reference_slices, bool), np.array(c.predicted_slices, bool)
    score, truth, clean = c.predicted_agatston[ALL], c.reference_agatston[ALL], evaluation.noise_free[ALL]
    counts: list[float] = [
        *count_slices(reference.tolist(), predicted.tolist()),
        *count_slices(reference[candidate_slices].tolist(), predicted[candidate_slices].tolist()),
        *classification.counts([truth], [score]),
        *classification.counts([clean], [score]),
    ]
    for row in ROWS_OF_LESIONS:
        rule = -1 if row == ALL else 0
        for side in (c.reference_lesions, c.predicted_lesions):
            lesions = [x for x in side if row in (ALL, x.artery)]
            counts += [len(lesions), sum(x.matched[rule] for x in lesions)]
    decoys = [t for t in outcome.traps if t.kind.startswith("decoy_")]
    for traps in (outcome.traps, [t for t in outcome.traps if t.in_heart], decoys):
        counts += [len(traps), sum(t.called for t in traps)]
    return [*counts, outcome.on_nothing, 1]


def _places(scores: NDArray[np.float64], scheme: str) -> NDArray[np.int64]:
    names = [row.category for row in SCHEMES[scheme].categories]
    return np.array([names.index(category(float(score), scheme).category) for score in scores], np.int64)


def outcome_statistics(columns: Columns, drawn: NDArray[np.int64]) -> list[float]:
    """`KEYS` of some phantoms, NaN where there is nothing to divide by."""
    total = columns.counts[drawn].sum(axis=0)
    at = lambda name: float(total[_AT[name]])  # noqa: E731
    counts = lambda name: Counts(*(int(at(f"{name}.{n}")) for n in Counts._fields))  # noqa: E731
    slices, candidates, zero, clean_zero = map(counts, ("slices", "candidates", "zero", "clean_zero"))
    statistics = {
        "slice_sensitivity": slices.sensitivity,
        "slice_specificity": slices.specificity,
        "candidate_specificity": candidates.specificity,
        "false_zero": zero.false_zero_rate,
        "false_positive": classification.ratio(zero.fp, zero.fp + zero.tn),
        "icc": _icc(columns.truth[drawn], columns.score[drawn]),
        "on_nothing": classification.ratio(at("on_nothing"), at("phantoms")),
        "clean.false_zero": clean_zero.false_zero_rate,
        "clean.icc": _icc(columns.clean[drawn], columns.score[drawn]),
    }
    for kind in ("traps", "traps_in_heart", "decoys"):
        statistics[kind] = classification.ratio(at(f"{kind}.called"), at(f"{kind}.all"))
    for row in ROWS_OF_LESIONS:
        statistics[f"f1.{row}"] = lesion_f1(*(at(f"{row}.{n}") for n in ("reference", "found", "predicted", "right")))
    for scheme in SCHEME_NAMES:
        for prefix, truth in (("", columns.truth_place), ("clean.", columns.clean_place)):
            matrix = confusion(truth[scheme][drawn], columns.place[scheme][drawn], scheme)
            statistics[f"{prefix}accuracy.{scheme}"] = agreement.reclassification(matrix).same
            statistics[f"{prefix}kappa.{scheme}"] = agreement.kappa(matrix, "linear")
    return [statistics[key] for key in KEYS]


def lesion_f1(reference: float, matched: float, predicted: float, right: float) -> float:
    """F1 of lesions by count: of sensitivity (reference lesions found) and of precision (predicted ones right).

    Examples
    --------
    >>> lesion_f1(4, 3, 6, 3)
    0.6
    """
    if not reference and not predicted:
        return math.nan
    sensitivity, precision = classification.ratio(matched, reference), classification.ratio(right, predicted)
    return classification.ratio(2 * sensitivity * precision, sensitivity + precision) if matched and right else 0.0


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], scheme: str) -> NDArray[np.int64]:
    """(c, c), rows the truth."""
    c = len(SCHEMES[scheme].categories)
    return np.bincount(truth * c + predicted, minlength=c * c).reshape(c, c)


def _icc(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return agreement.icc_absolute(x, y) if x.size > 1 else math.nan


# Tables


@dataclass(frozen=True)
class Summary:
    """Figures of one group of phantoms.

    Parameters
    ----------
    phantoms
        How many.
    ways
        By way, by key.
    slice_stage
        By key, the bundle minus the bundle without its slice stage; empty without a bundle.
    """

    phantoms: int
    ways: Mapping[str, Mapping[str, Estimate]]
    slice_stage: Mapping[str, Estimate]


def summarize_outcomes(evaluations: Sequence[PhantomEvaluation], *, draws: int, seed: int) -> Summary:
    """All figures of some phantoms with intervals; NaN becomes None."""
    ways = [way for way in WAYS if evaluations and way in evaluations[0].ways]
    columns = {way: Columns.of(evaluations, way) for way in ways}
    is_compared = {BUNDLE, NO_SLICE_STAGE} <= set(ways)

    def statistics(drawn: NDArray[np.int64]) -> list[float]:
        by_way = {way: outcome_statistics(columns[way], drawn) for way in ways}
        flat = [value for way in ways for value in by_way[way]]
        if is_compared:
            flat += [a - b for a, b in zip(by_way[BUNDLE], by_way[NO_SLICE_STAGE], strict=True)]
        return flat

    n = len(evaluations)
    point = statistics(np.arange(n))
    ranges = intervals.bootstrap(statistics, n, draws=draws, seed=seed)
    estimates = iter([_estimate(v, i) for v, i in zip(point, ranges, strict=True)])
    by_way = {way: {key: next(estimates) for key in KEYS} for way in ways}
    for way in ways:
        _widen(by_way[way], columns[way])
    difference = {key: next(estimates) for key in KEYS} if is_compared else {}
    return Summary(n, by_way, difference)


def _widen(estimates: dict[str, Estimate], columns: Columns) -> None:
    """Wilson's interval for shares that no draw changed: 0 of 20 is not surely 0."""
    total = columns.counts.sum(axis=0)
    at: Callable[[str], int] = lambda name: int(total[_AT[name]])  # noqa: E731
    n = len(columns.score)
    parts = {
        "slice_sensitivity": (at("slices.tp"), at("slices.tp") + at("slices.fn")),
        "slice_specificity": (at("slices.tn"), at("slices.tn") + at("slices.fp")),
        "candidate_specificity": (at("candidates.tn"), at("candidates.tn") + at("candidates.fp")),
        "false_zero": (at("zero.fn"), at("zero.fn") + at("zero.tp")),
        "clean.false_zero": (at("clean_zero.fn"), at("clean_zero.fn") + at("clean_zero.tp")),
        "false_positive": (at("zero.fp"), at("zero.fp") + at("zero.tn")),
        **{kind: (at(f"{kind}.called"), at(f"{kind}.all")) for kind in ("traps", "traps_in_heart", "decoys")},
        **{
            f"accuracy.{scheme}": (int((columns.place[scheme] == columns.truth_place[scheme]).sum()), n)
            for scheme in SCHEME_NAMES
        },
    }
    for key, (events, of) in parts.items():
        estimate = estimates[key]
        if estimate.value is not None and (estimate.low is None or estimate.low == estimate.high):
            estimates[key] = Estimate(estimate.value, *intervals.wilson(events, of))


def _estimate(value: float, interval: intervals.Interval) -> Estimate:
    return Estimate(*(float(v) if math.isfinite(v) else None for v in (value, *interval)))


class Group(NamedTuple):
    """Some of the phantoms, by one property."""

    property: str
    name: str
    holds: Callable[[PhantomEvaluation], bool]


def _between(key: str, low: float, high: float) -> Callable[[PhantomEvaluation], bool]:
    return lambda evaluation: low <= float(evaluation.parameters[key]) < high


def _field_mm(evaluation: PhantomEvaluation) -> float:
    return float(evaluation.parameters["matrix"]) * min(evaluation.parameters["pixel_mm"])


def _has_category(name: str) -> Callable[[PhantomEvaluation], bool]:
    def holds(evaluation: PhantomEvaluation) -> bool:
        any_way = next(iter(evaluation.ways.values()))
        return category(any_way.comparison.reference_agatston[ALL], "heartlens").category == name

    return holds


GROUPS = (
    *(Group("risk category", row.shown, _has_category(row.category)) for row in SCHEMES["heartlens"].categories),
    Group("field of view", "heart, < 200 mm", lambda j: _field_mm(j) < 200),
    Group("field of view", "heart, 200 to 280 mm", lambda j: 200 <= _field_mm(j) < 280),
    Group("field of view", "chest, >= 280 mm", lambda j: _field_mm(j) >= 280),
    Group("slice thickness", "1 to 1.5 mm", _between("slice_thickness_mm", 0, 1.75)),
    Group("slice thickness", "2 and 2.5 mm", _between("slice_thickness_mm", 1.75, 2.75)),
    Group("slice thickness", "3 mm", _between("slice_thickness_mm", 2.75, 3.5)),
    Group("slice thickness", "4 and 5 mm", _between("slice_thickness_mm", 3.5, 9)),
    Group("noise", "< 10 HU", _between("noise_hu", 0, 10)),
    Group("noise", "10 to 16 HU", _between("noise_hu", 10, 16)),
    Group("noise", ">= 16 HU", _between("noise_hu", 16, 1000)),
    Group("tube voltage", "80 to 110 kVp", _between("kvp", 0, 115)),
    Group("tube voltage", "120 kVp", _between("kvp", 115, 125)),
    Group("tube voltage", "130 and 140 kVp", _between("kvp", 125, 1000)),
    Group("motion", "none", _between("motion_mm", -1, 0.05)),
    Group("motion", "up to 3 mm", _between("motion_mm", 0.05, 3)),
    Group("motion", "more", _between("motion_mm", 3, 1000)),
)
"""Edges were set from how phantoms are drawn, before any was scored."""


def trap_table(evaluations: Sequence[PhantomEvaluation], way: str) -> dict[str, tuple[int, int]]:
    """(in view, called coronary) of each kind."""
    by_kind: dict[str, tuple[int, int]] = {}
    for trap in (t for j in evaluations for t in j.ways[way].traps):
        of, called = by_kind.get(trap.kind, (0, 0))
        by_kind[trap.kind] = (of + 1, called + trap.called)
    return dict(sorted(by_kind.items()))


def classifier_statistics(evaluations: Sequence[PhantomEvaluation], cut_off: float) -> dict[str, Any]:
    """The slice classifier alone, on the slices it was asked about."""
    truth, p = [], []
    for j in evaluations:
        outcome = j.ways[BUNDLE]
        for is_calcified, probability in zip(
            outcome.comparison.reference_slices, outcome.slice_probability, strict=False
        ):
            if probability is not None:
                truth.append(is_calcified)
                p.append(probability)
    if not p:
        return {}
    counted = classification.counts(truth, np.array(p) >= cut_off)
    return {
        "slices": len(p),
        "calcified": int(np.sum(truth)),
        "cut_off": cut_off,
        "auroc": _or_none(classification.area_under_roc(truth, p)),
        "sensitivity": _or_none(counted.sensitivity),
        "specificity": _or_none(counted.specificity),
    }


def vote_statistics(evaluations: Sequence[PhantomEvaluation]) -> dict[str, Any]:
    """How well the probability of an island is calibrated."""
    votes = [vote for j in evaluations for vote in j.votes]
    if not votes:
        return {}
    truth, p = np.array([v.is_coronary for v in votes]), np.array([v.probability for v in votes])
    bins = classification.reliability(truth, p)
    return {
        "islands": len(votes),
        "coronary": int(truth.sum()),
        "auroc": _or_none(classification.area_under_roc(truth, p)),
        "calibration_error": _or_none(classification.calibration_error(bins)),
        "brier": float(((p - truth) ** 2).mean()),
        "bins": [b._asdict() for b in bins if b.n],
    }


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
