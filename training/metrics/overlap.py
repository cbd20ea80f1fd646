"""Two label maps of one CT, scored by the same core and compared: scores, slices, voxels, lesions.

Only what counts for Agatston is compared: labeled voxels at or above the threshold, in islands that are large
enough. So a program that draws loosely around calcium and one that follows its edge are judged by the same voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.calcium import extract_lesions
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.scoring.counted import scored_voxels
from heartlens.scoring.report import score_lesions
from training.metrics.classification import Counts, counts

ALL = "all"
"""Row of every table that holds the four arteries and calcium without an artery together."""

ROWS = (*(artery.name for artery in CORONARY), ALL)

LESION_CONNECTIVITY = 6
"""orCaScore: a lesion is a 6-connected set of voxels above 130 HU with one label, that of most of its voxels."""

MATCH_RULES = ("same vessel", "left main as LAD", "any vessel")
"""When a lesion counts as found: it shares a voxel with a lesion of the other map ... in the same vessel;
the same, with left main counted as LAD, as orCaScore does; in any coronary artery."""


@dataclass(frozen=True)
class Lesion:
    """One lesion of one label map.

    Parameters
    ----------
    artery
        Name of the `Artery` of most of its voxels.
    volume_mm3
        Of its voxels above the threshold.
    matched
        For each of `MATCH_RULES`, whether the other map has a lesion there.
    """

    artery: str
    volume_mm3: float
    matched: tuple[bool, ...]


@dataclass(frozen=True)
class Comparison:
    """A predicted label map against the reference on one CT.

    Parameters
    ----------
    reference_agatston, predicted_agatston
        By row (LM, LAD, LCX, RCA, all), unrounded.
    reference_slices, predicted_slices
        Foot to head, whether the slice holds calcium that counts.
    voxels
        By row, of voxels that count; true negatives are left at 0.
    voxel_volume_mm3
        Of the CT.
    reference_lesions, predicted_lesions
        See `Lesion`.
    """

    reference_agatston: Mapping[str, float]
    predicted_agatston: Mapping[str, float]
    reference_slices: tuple[bool, ...]
    predicted_slices: tuple[bool, ...]
    voxels: Mapping[str, Counts]
    voxel_volume_mm3: float
    reference_lesions: tuple[Lesion, ...]
    predicted_lesions: tuple[Lesion, ...]


def compare(
    ct: CTVolume, reference: NDArray[np.uint8], predicted: NDArray[np.uint8], protocol: ScoringProtocol
) -> Comparison:
    """Score both label maps by one protocol and compare them.

    Parameters
    ----------
    reference, predicted
        (k, j, i) `Artery` codes on the grid of `ct`, 0 where nothing is labeled

    Raises
    ------
    ValueError
        A label map of another shape.
    InputRefused
        ``labels``, a code that is no `Artery`
    """
    scored = [_Scored(ct, codes, protocol) for codes in (reference, predicted)]
    mine, theirs = scored
    voxels = {}
    for row in ROWS:
        x, y = mine.voxels_of(row), theirs.voxels_of(row)
        tp = np.intersect1d(x, y, assume_unique=True).size
        voxels[row] = Counts(tp, y.size - tp, x.size - tp)
    matched = _matched(mine, theirs)
    return Comparison(
        reference_agatston=mine.agatston,
        predicted_agatston=theirs.agatston,
        reference_slices=mine.slices,
        predicted_slices=theirs.slices,
        voxels=voxels,
        voxel_volume_mm3=ct.voxel_volume_mm3,
        reference_lesions=mine.lesions(matched[0]),
        predicted_lesions=theirs.lesions(matched[1]),
    )


def slices_above(codes: NDArray[np.uint8], probability: ArrayLike, cutoff: float) -> NDArray[np.uint8]:
    """Labels on the slices that the classifier calls calcified; the others are cleared.

    Parameters
    ----------
    codes
        (k, j, i)
    probability
        (k,) of calcium on each slice
    cutoff
        Least probability of a calcified slice, inclusive.
    """
    known = np.asarray(probability, dtype=np.float64)
    if known.shape != (len(codes),):
        raise ValueError(f"expected a probability for each of {len(codes)} slices, got {known.size}")
    keep = known >= cutoff
    return codes * keep[:, None, None].astype(np.uint8)


def count_slices(reference: Sequence[bool], predicted: Sequence[bool]) -> Counts:
    """Slices with and without calcium, called right and wrong."""
    return counts(np.asarray(reference, dtype=bool), np.asarray(predicted, dtype=bool))


class _Scored:
    """One label map: what counts, its scores, and its orCaScore lesions."""

    def __init__(self, ct: CTVolume, codes: NDArray[np.uint8], protocol: ScoringProtocol) -> None:
        if codes.shape != ct.shape:
            raise ValueError(f"labels must have the shape of the CT, {ct.shape}, got {codes.shape}")
        self.ct = ct
        labeled = np.flatnonzero(codes)
        lesion_map = extract_lesions(ct, labeled, codes.reshape(-1)[labeled], protocol)
        report = score_lesions(ct, lesion_map, protocol)
        self.agatston = {artery.name: report.arteries[artery].agatston for artery in CORONARY}
        self.agatston[ALL] = report.total.agatston
        self.slices = tuple(s.agatston > 0 for s in report.slices)

        kept = scored_voxels(ct, lesion_map, protocol).reshape(-1)
        self.flat = np.flatnonzero(np.isin(kept, SCORED_ARTERIES)).astype(np.int64)
        self.code = kept[self.flat]

        above = ct.hu.reshape(-1)[self.flat] > protocol.threshold_hu
        self.lesion_flat = self.flat[above]
        self.lesion_of_voxel = label_components(self.lesion_flat, ct.shape, connectivity=LESION_CONNECTIVITY)
        votes = np.zeros((int(self.lesion_of_voxel.max(initial=-1)) + 1, max(Artery) + 1), np.int64)
        np.add.at(votes, (self.lesion_of_voxel, self.code[above]), 1)
        self.lesion_artery = votes.argmax(axis=1)  # of equal votes the lower code: LM before LAD before LCX
        self.lesion_voxels = votes.sum(axis=1)

    def voxels_of(self, row: str) -> NDArray[np.int64]:
        return self.flat if row == ALL else self.flat[self.code == Artery[row]]

    def lesions(self, matched: NDArray[np.bool_]) -> tuple[Lesion, ...]:
        return tuple(
            Lesion(Artery(int(artery)).name, int(voxels) * self.ct.voxel_volume_mm3, tuple(map(bool, row)))
            for artery, voxels, row in zip(self.lesion_artery, self.lesion_voxels, matched, strict=True)
        )


def _matched(a: _Scored, b: _Scored) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(lesions of a, rules) and (lesions of b, rules): which lesions share a voxel with one of the other map."""
    _, in_a, in_b = np.intersect1d(a.lesion_flat, b.lesion_flat, assume_unique=True, return_indices=True)
    la, lb = a.lesion_of_voxel[in_a], b.lesion_of_voxel[in_b]
    found_a = np.zeros((a.lesion_artery.size, len(MATCH_RULES)), bool)
    found_b = np.zeros((b.lesion_artery.size, len(MATCH_RULES)), bool)
    artery_a, artery_b = a.lesion_artery[la], b.lesion_artery[lb]
    rules = (artery_a == artery_b, _lm_as_lad(artery_a) == _lm_as_lad(artery_b), np.ones(la.size, bool))
    for n, agrees in enumerate(rules):
        found_a[la[agrees], n] = True
        found_b[lb[agrees], n] = True
    return found_a, found_b


def _lm_as_lad(artery: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(artery == Artery.LM, int(Artery.LAD), artery)
