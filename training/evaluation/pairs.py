"""Two label maps of one scan become one patient of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import SCORED_ARTERIES
from heartlens.core.protocol import ScoringProtocol
from training.evaluation.results import ANNOTATED, INTEGRATED, SEGMENTATION, SLICE_STAGE, Failure, Patient
from training.metrics.overlap import compare, slices_above


@dataclass(frozen=True, eq=False)
class Pair:
    """One patient to be compared.

    Parameters
    ----------
    ct
        The scan.
    reference, predicted
        (k, j, i) `Artery` codes on the grid of `ct`, 0 where nothing is labeled
    slice_probability
        (k,) of calcium on each slice, NaN where it was not asked; None when nobody estimated it
    integrated
        (k, j, i) what the same program predicts with its own slice stage; None when it has none
    cautions
        Codes of the warnings that reading gave.
    """

    name: str
    ct: CTVolume
    reference: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    slice_probability: NDArray[np.float64] | None = None
    integrated: NDArray[np.uint8] | None = None
    cautions: tuple[str, ...] = ()


def compare_pairs(
    pairs: Iterable[Pair | Failure],
    protocol: ScoringProtocol,
    slice_cutoff: float | None = None,
    *,
    annotated: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Iterator[Patient | Failure]:
    """Compare every pair; one is held at a time, and one that cannot be compared is a failure with the reason.

    Parameters
    ----------
    protocol
        Scores both sides.
    slice_cutoff
        Least probability of a calcified slice; with it, every prediction is also judged on calcified slices alone (or,
        where the program has a slice stage, as that predicted).
    annotated
        Every prediction is also judged on the slices alone that the reference calls calcified.
    on_progress
        Called with the name of each patient.
    """
    for pair in pairs:
        if on_progress is not None:
            on_progress(pair.name)
        try:
            yield pair if isinstance(pair, Failure) else compare_pair(pair, protocol, slice_cutoff, annotated=annotated)
        except InputRefused as refusal:
            yield Failure(pair.name, " ".join(str(refusal).split()))


def compare_pair(
    pair: Pair, protocol: ScoringProtocol, slice_cutoff: float | None = None, *, annotated: bool = False
) -> Patient:
    """Compare one pair as `compare_pairs` does.

    Raises
    ------
    InputRefused
        "grid", "labels"
    """
    for labels in (pair.reference, pair.predicted, pair.integrated):
        if labels is not None and labels.shape != pair.ct.shape:
            raise InputRefused(
                "grid", f"expected labels of the shape of the CT, {pair.ct.shape}, found {labels.shape}; resample them"
            )
    probability = pair.slice_probability
    if probability is not None and len(probability) != pair.ct.shape[0]:
        raise InputRefused("labels", f"expected {pair.ct.shape[0]} slice probabilities, found {len(probability)}")
    stages = {SEGMENTATION: compare(pair.ct, pair.reference, pair.predicted, protocol)}
    if pair.integrated is not None:
        stages[INTEGRATED] = compare(pair.ct, pair.reference, pair.integrated, protocol)
    elif slice_cutoff is not None:
        if probability is None:
            raise InputRefused("labels", "expected slice probabilities, as a slice cut-off was given; found none")
        gated = slices_above(pair.predicted, probability, slice_cutoff)
        stages[INTEGRATED] = compare(pair.ct, pair.reference, gated, protocol)
    if annotated:
        is_annotated = np.isin(pair.reference, SCORED_ARTERIES).any(axis=(1, 2))
        stages[ANNOTATED] = compare(pair.ct, pair.reference, slices_above(pair.predicted, is_annotated, 0.5), protocol)
    known = {} if probability is None else {SLICE_STAGE: or_none(probability)}
    return Patient(pair.name, stages, known, pair.cautions)


def or_none(probability: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Probabilities as a record keeps them: None where there is no number."""
    return tuple(None if math.isnan(p) else float(p) for p in probability)
