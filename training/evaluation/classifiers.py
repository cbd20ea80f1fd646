"""A classifier by itself, of slices or of islands: how it ranks, how it is calibrated, what its cut-off calls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.estimates import Drawn, Statistics, estimate_all
from training.evaluation.results import ClassifierSummary, Estimate
from training.metrics import classification
from training.metrics.overlap import count_slices

SLICE_STATISTICS = ("sensitivity", "specificity", "precision", "f1", "accuracy", "prevalence")

Group = tuple[Sequence[bool], NDArray[np.float64]]
"""Of one patient, which slices (or islands) are positive, and the probability of it; NaN where nobody was asked."""


def summarize_classifier(groups: Sequence[Group], cutoff: float | None, *, draws: int, seed: int) -> ClassifierSummary:
    """A classifier on the slices (or islands) of some patients, one group a patient and at least one."""
    truth = np.concatenate([np.array(reference, bool) for reference, _ in groups])
    probability = np.concatenate([p for _, p in groups])
    asked = np.isfinite(probability)
    statistics = Statistics(len(groups))
    add_probabilities(statistics, "", groups)
    total = None
    if cutoff is not None:
        each = [count_slices(reference, (p >= cutoff).tolist()) for reference, p in groups]  # NaN is below
        total = statistics.add_counts("slices", each, SLICE_STATISTICS)
    by_stage, _ = estimate_all({"": statistics}, draws=draws, seed=seed)
    return ClassifierSummary(
        slices=int(truth.size),
        asked=int(asked.sum()),
        calcified=int(truth[asked].sum()),
        cut_off=cutoff,
        counts=total,
        reliability=tuple(b for b in classification.reliability(truth[asked], probability[asked]) if b.n),
        estimates=by_stage[""],
    )


def mean_of_patients(values: Sequence[Sequence[float]], *, draws: int, seed: int) -> Estimate:
    """Mean of values that lie in groups, one group a patient; without value when there are none."""
    sums = np.array([(math.fsum(group), len(group)) for group in values if group], np.float64)
    if not sums.size:
        return Estimate(None)
    statistics = Statistics(len(sums))
    statistics.add("", ("mean",), lambda drawn: [classification.ratio(*sums[drawn].sum(axis=0).tolist())])
    return estimate_all({"": statistics}, draws=draws, seed=seed)[0][""]["mean"]


def add_probabilities(statistics: Statistics, prefix: str, groups: Sequence[Group]) -> None:
    """Add how well probabilities of what was asked rank it (any number that grows with them may) and are calibrated."""
    asked = [(np.array(truth, bool)[np.isfinite(p)], p[np.isfinite(p)]) for truth, p in groups]

    def together(drawn: Drawn) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        return np.concatenate([asked[n][0] for n in drawn]), np.concatenate([asked[n][1] for n in drawn])

    def order(drawn: Drawn) -> list[float]:
        truth, p = together(drawn)
        return [classification.area_under_roc(truth, p), classification.sensitivity_at(truth, p, 0.9)]

    def calibration(drawn: Drawn) -> list[float]:
        truth, p = together(drawn)
        brier = classification.ratio(float(((p - truth) ** 2).sum()), p.size)
        return [classification.calibration_error(classification.reliability(truth, p)), brier]

    statistics.add(prefix, ("area_under_roc", "sensitivity_at_90"), order)
    statistics.add(prefix, ("calibration_error", "brier"), calibration)
