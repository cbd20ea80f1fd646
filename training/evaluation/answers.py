"""What a program says of the islands of one scan whose coronary calcium is known, island by island.

An island is found when at least half of its score was called coronary: one voxel of a large plaque is no finding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.risk.categories import category
from heartlens.risk.evaluable import Evaluable
from heartlens.scoring.agatston import agatston, weigh_components

FOUND_SHARE = 0.5
"""Least share of its own reference score with which an island counts as found."""

LEFT, CIRCUMFLEX, RIGHT = "LM/LAD", "LCX", "RCA"
"""Rows of the tables: where the left main ends and its branch begins is a matter of convention."""

ARTERY_ROWS = (LEFT, CIRCUMFLEX, RIGHT)

_RIGHT_NAMES = {
    "LM": (LEFT, ("LM", "LAD")),
    "LAD": (LEFT, ("LM", "LAD")),
    "LM/LAD": (LEFT, ("LM", "LAD")),
    "LCX": (CIRCUMFLEX, ("LCX",)),
    "LM/LCX": (CIRCUMFLEX, ("LM", "LCX")),
    "RCA": (RIGHT, ("RCA",)),
}
"""The row of an artery as a reader wrote it, and the names that are right for it."""

SCHEME = "heartlens"

NOT_GATED = "non-gated"
"""Limits every score of such a scan alike, and so is no reason to doubt one of them."""

CREDIBLE = 0.95
"""Probability that the likeliest categories must have together to be expected to hold the reference's."""

SAME_SCORE = 1e-6
"""Sums of one score in another order differ by less."""


@dataclass(frozen=True, eq=False)
class KnownIsland:
    """One island that is coronary calcium.

    Parameters
    ----------
    artery
        As the reader wrote it: LM, LAD, LCX, RCA, or two of them where one cannot say.
    flat
        (n,) its voxels, C-order indices into the scan
    """

    artery: str
    flat: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.artery not in _RIGHT_NAMES:
            raise ValueError(f"artery must be one of {', '.join(_RIGHT_NAMES)}, got {self.artery!r}")
        if self.flat.size == 0:
            raise ValueError("a known island must have voxels, got none")


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a scan: these islands are coronary, of these voxels nobody is sure, all else is not coronary.

    Parameters
    ----------
    islands
        Coronary calcium.
    uncertain
        (n,) voxels that count neither for nor against anybody
    """

    islands: tuple[KnownIsland, ...] = ()
    uncertain: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def codes(self, ct: CTVolume) -> NDArray[np.uint8]:
        """(k, j, i) `Artery` code of every coronary voxel; where two names are right, the first."""
        codes = np.zeros(ct.shape, np.uint8)
        for island in self.islands:
            np.put(codes, island.flat, Artery[island.artery.split("/")[0]])
        return codes


@dataclass(frozen=True)
class IslandAnswer:
    """What was said of one known island.

    Parameters
    ----------
    artery
        One of `ARTERY_ROWS`.
    right
        Names that are right for it.
    area_mm2
        On the slice where it is largest.
    agatston, peak_hu
        Of its own voxels.
    place
        Slice, row and column of its middle.
    called
        Share of its score that was called coronary.
    called_or_undecided
        The same, with what was left to a reader.
    named
        The artery that most of what was called was given; empty when nothing was called.
    probability
        That it is coronary, of the lesion that holds most of it; None where there is none or nobody estimated it.
    """

    artery: str
    right: tuple[str, ...]
    area_mm2: float
    agatston: float
    peak_hu: float
    place: tuple[float, ...]
    called: float
    called_or_undecided: float
    named: str
    probability: float | None

    @property
    def is_called(self) -> bool:
        """At least half of it was called coronary."""
        return self.called >= FOUND_SHARE

    @property
    def is_met(self) -> bool:
        """At least half of it was called coronary or left to a reader."""
        return self.called_or_undecided >= FOUND_SHARE

    @property
    def is_named_right(self) -> bool:
        """It was called, and by a name that is right."""
        return self.is_called and self.named in self.right


@dataclass(frozen=True)
class OtherLesion:
    """A lesion that was called coronary or undecided and holds no known island.

    Parameters
    ----------
    artery
        Name that it was given.
    agatston, area_mm2, peak_hu
        Of the lesion.
    place
        Slice, row and column of its middle.
    called
        It counts.
    undecided
        It was left to a reader.
    probability
        That it is coronary; None where nobody estimated it.
    """

    artery: str
    agatston: float
    area_mm2: float
    peak_hu: float
    place: tuple[float, ...]
    called: bool
    undecided: bool
    probability: float | None


@dataclass(frozen=True)
class ScanAnswer:
    """What was said of one scan.

    Parameters
    ----------
    islands
        Of every known island.
    others
        False calls, and what was left to a reader for nothing.
    slices_without_calcium
        How many slices of the scan surely hold no coronary calcium.
    reference, reference_high
        Agatston of the known islands, and with all uncertain voxels.
    total, total_low, total_high
        Score and its range, as the report says them.
    categories
        Of both ends of the range.
    reference_categories
        Of the reference, and with all uncertain voxels.
    is_evaluable
        The report says a category at all.
    reasons
        Codes of what limits the statement, as the report says them beside the number.
    probability
        Of each category in the scheme's order, as the report says it; empty where it says none.
    before
        Total and reference of the same scan before its image was altered; empty where it was not.
    """

    islands: tuple[IslandAnswer, ...]
    others: tuple[OtherLesion, ...]
    slices_without_calcium: int
    reference: float
    reference_high: float
    total: float
    total_low: float
    total_high: float
    categories: tuple[str, ...]
    reference_categories: tuple[str, ...] = ()
    is_evaluable: bool = True
    reasons: tuple[str, ...] = ()
    probability: tuple[tuple[str, float], ...] = ()
    before: tuple[float, ...] = ()

    @property
    def range_holds_reference(self) -> bool:
        """The range shares a score with what the reference may be."""
        return self.total_low <= self.reference_high + SAME_SCORE and self.total_high >= self.reference - SAME_SCORE

    @property
    def credible_categories(self) -> tuple[str, ...]:
        """The fewest categories, likeliest first, that have `CREDIBLE` together; empty without probabilities."""
        ranked = sorted(self.probability, key=lambda row: -row[1])
        sums = np.cumsum([p for _, p in ranked])
        return tuple(name for name, _ in ranked[: int(np.searchsorted(sums, CREDIBLE - SAME_SCORE)) + 1])

    @property
    def probability_holds_reference(self) -> bool:
        """The credible categories share one with what the reference may be."""
        return not set(self.credible_categories).isdisjoint(self.reference_categories)

    @property
    def spans_categories(self) -> bool:
        """The range lies in more than one category."""
        return len(set(self.categories)) > 1

    @property
    def is_single_and_wrong(self) -> bool:
        """The headline is one category, and the reference has another."""
        is_wrong = set(self.categories).isdisjoint(self.reference_categories)
        return self.is_evaluable and not self.spans_categories and is_wrong

    @property
    def is_wrong_without_reason(self) -> bool:
        """The same, and nothing beside the number tells a reader to doubt it; that nobody knows of gating does not."""
        return self.is_single_and_wrong and set(self.reasons) <= {NOT_GATED}


def answer_of(case: Case, known: Known, before: tuple[float, ...] = ()) -> ScanAnswer:
    """Compare a scored case with what is known of its scan.

    Parameters
    ----------
    known
        On the grid of the case's CT.
    before
        See `ScanAnswer`.
    """
    ct, protocol, assessment = case.source_ct, case.protocol, case.assessment
    flat, ids = case.lesions.voxels.flat, case.lesions.voxels.ids
    codes = case.scored_codes.reshape(-1)
    is_called = np.isin(codes, SCORED_ARTERIES)
    undecided = [lesion for lesion, note in case.lesions.notes.items() if note.undecided]
    is_open = is_called.copy()
    is_open[flat[np.isin(ids, undecided)]] = True
    lesion_of = np.zeros(ct.hu.size, np.int64)
    lesion_of[flat] = ids
    weighed = [_weighed(ct, island.flat, protocol) for island in known.islands]
    islands = [
        _island_answer(case, island, weight, codes, is_called, is_open, lesion_of)
        for island, weight in zip(known.islands, weighed, strict=True)
        if weight.any()
    ]
    reference = sum(_score(case, weight) for weight in weighed)
    doubted = _score(case, _weighed(ct, known.uncertain, protocol))
    low, high, least, most = (
        category(score, SCHEME).category
        for score in (assessment.total_low, assessment.total_high, reference, reference + doubted)
    )
    printed = case.risk.category_probability if assessment.likeliest is not None else None
    return ScanAnswer(
        islands=tuple(islands),
        others=_other_lesions(case, known),
        slices_without_calcium=ct.shape[0] - _slices(ct, known),
        reference=reference,
        reference_high=reference + doubted,
        total=case.report.total.agatston,
        total_low=assessment.total_low,
        total_high=assessment.total_high,
        categories=(low, high),
        reference_categories=(least, most),
        is_evaluable=assessment.evaluable is not Evaluable.NO,
        reasons=assessment.reasons,
        probability=printed or (),
        before=before,
    )


def known_islands(ct: CTVolume, codes: NDArray[np.uint8], protocol: ScoringProtocol) -> Known:
    """Islands of a label map, touching voxels of one artery each; what is too small to count is nobody's.

    Parameters
    ----------
    codes
        (k, j, i) `Artery` code of each voxel
    """
    flat = np.flatnonzero(np.isin(codes, CORONARY) & (ct.hu >= protocol.threshold_hu))
    of_voxel = codes.reshape(-1)[flat]
    number = label_components(flat, ct.shape, connectivity=26, group=of_voxel)
    islands = []
    for n in range(int(number.max(initial=-1)) + 1):
        own = flat[number == n]
        if _weighed(ct, own, protocol).any():
            islands.append(KnownIsland(Artery(int(codes.reshape(-1)[own[0]])).name, own))
    kept = np.concatenate([island.flat for island in islands]) if islands else flat[:0]
    return Known(tuple(islands), np.setdiff1d(flat, kept))


def _island_answer(
    case: Case,
    island: KnownIsland,
    weight: NDArray[np.int64],
    codes: NDArray[np.uint8],
    is_called: NDArray[np.bool_],
    is_open: NDArray[np.bool_],
    lesion_of: NDArray[np.int64],
) -> IslandAnswer:
    ct, own = case.source_ct, island.flat
    kji = np.stack(np.unravel_index(own, ct.shape), axis=-1)
    row, right = _RIGHT_NAMES[island.artery]
    named = np.bincount(codes[own], weight * is_called[own], minlength=max(Artery) + 1)
    holder = np.bincount(lesion_of[own], weight)
    holder[0] = 0
    note = case.lesions.notes.get(int(holder.argmax())) if holder.any() else None
    return IslandAnswer(
        artery=row,
        right=right,
        area_mm2=float(np.bincount(kji[:, 0]).max()) * ct.pixel_area_mm2,
        agatston=_score(case, weight),
        peak_hu=float(ct.hu.reshape(-1)[own].max()),
        place=tuple(float(v) for v in kji.mean(axis=0)),
        called=float((weight * is_called[own]).sum() / weight.sum()),
        called_or_undecided=float((weight * is_open[own]).sum() / weight.sum()),
        named=Artery(int(named.argmax())).name if named.any() else "",
        probability=None if note is None else note.probability,
    )


def _other_lesions(case: Case, known: Known) -> tuple[OtherLesion, ...]:
    own = np.concatenate([known.uncertain, *(island.flat for island in known.islands)])
    flat, ids = case.lesions.voxels.flat, case.lesions.voxels.ids
    excused = set(np.unique(ids[np.isin(flat, own)]).tolist())
    found = []
    for lesion in case.report.lesions:
        called = lesion.artery in SCORED_ARTERIES
        if lesion.id in excused or not lesion.agatston or not (called or lesion.undecided):
            continue
        place = case.source_ct.index_kji(lesion.centroid_lps_mm)
        found.append(
            OtherLesion(
                artery=lesion.artery.name,
                agatston=lesion.agatston,
                area_mm2=lesion.area_mm2,
                peak_hu=lesion.peak_hu,
                place=tuple(float(v) for v in place),
                called=called,
                undecided=lesion.undecided,
                probability=lesion.probability,
            )
        )
    return tuple(found)


def _weighed(ct: CTVolume, flat: NDArray[np.int64], protocol: ScoringProtocol) -> NDArray[np.int64]:
    """(n,) Agatston weight of each voxel, 0 where its piece is too small to count."""
    hu = ct.hu.reshape(-1)[flat].astype(np.float64)
    one = np.full(flat.size, int(Artery.UNASSIGNED), np.uint8)
    components = weigh_components(flat, hu, one, ct.shape, protocol=protocol, pixel_area_mm2=ct.pixel_area_mm2)
    return components.weight[components.of_voxel]


def _score(case: Case, weight: NDArray[np.int64]) -> float:
    return agatston(weight.sum(), pixel_area_mm2=case.source_ct.pixel_area_mm2, slice_factor=case.report.slice_factor)


def _slices(ct: CTVolume, known: Known) -> int:
    """How many slices hold, or may hold, coronary calcium."""
    voxels = [known.uncertain, *(island.flat for island in known.islands)]
    return np.unique(np.concatenate(voxels) // (ct.shape[1] * ct.shape[2])).size
