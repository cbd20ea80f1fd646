"""Two readings of one scan: where they agree, voxel by voxel, lesion by lesion and in the category."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.calcium.matching import joined_groups
from heartlens.case.case import Case
from heartlens.case.comparison.opened import OpenedCase
from heartlens.case.comparison.protocols import Difference, protocol_differences
from heartlens.case.correction import island_ids
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import SCORED_ARTERIES, Artery
from heartlens.risk.assessment import Assessment
from heartlens.risk.categories import SCHEMES
from heartlens.scoring.report import LesionScore

COMPARE_SCHEMA = "heartlens.compare/1"


class Agreement(IntEnum):
    """What two readers say of a voxel; the numbers are those of the difference map on disk."""

    BOTH = 1
    OTHER_ARTERY = 2  # coronary to both, of two arteries
    ONLY_A = 3
    ONLY_B = 4


class Unmatched(NamedTuple):
    """A case that only one side has.

    Parameters
    ----------
    side
        ``a`` or ``b``.
    voxels_sha256
        Of its scan.
    """

    side: str
    voxels_sha256: str


@dataclass(frozen=True)
class ComparedLesion:
    """Lesions of two readings that share a voxel; of one reading alone, what the other does not call coronary.

    What neither calls coronary is one where a reading leaves it undecided: then its artery is OTHER.

    Parameters
    ----------
    a, b
        Ids in each reading.
    arteries_a, arteries_b
        What they are called; empty where a reading has nothing coronary there.
    agatston_a, agatston_b
        Sums.
    undecided
        One of them, or what the other reading has there, is undecided in its reading.
    says_other
        The reading without it has decided, and says that it is not coronary.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]
    arteries_a: tuple[str, ...]
    arteries_b: tuple[str, ...]
    agatston_a: float
    agatston_b: float
    undecided: bool
    says_other: bool

    @property
    def kind(self) -> str:
        """``both``, ``other artery``, ``only A`` or ``only B``; ``open`` is coronary to neither, and not decided."""
        if {*self.arteries_a, *self.arteries_b} == {Artery.OTHER.name}:
            return "open"
        if self.a and self.b:
            return "both" if self.arteries_a == self.arteries_b else "other artery"
        return "only A" if self.a else "only B"

    def to_json(self) -> dict[str, Any]:
        """Every field, and the kind."""
        lists = ("a", "b", "arteries_a", "arteries_b")
        plain = ("agatston_a", "agatston_b", "undecided", "says_other")
        return {
            "kind": self.kind,
            **{name: list(getattr(self, name)) for name in lists},
            **{name: getattr(self, name) for name in plain},
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two readings of one scan.

    Parameters
    ----------
    a, b
        What may be said of each.
    states
        How far a person has answered for each, in words.
    lesions
        Every lesion that one of them calls coronary or leaves undecided, the highest score first.
    map
        (k, j, i) `Agreement` codes on the grid of the CT, 0 where nobody sees coronary calcium
    differences
        Of how the two were scored.
    """

    a: Assessment
    b: Assessment
    states: tuple[str, str]
    lesions: tuple[ComparedLesion, ...]
    map: NDArray[np.uint8]
    differences: tuple[Difference, ...]

    @property
    def same_category(self) -> bool | None:
        """Whether both say one category, and the same; None where they are not compared."""
        return None if self.category_withheld else self.a.categories == self.b.categories

    @property
    def category_withheld(self) -> str:
        """Why the categories are not compared; empty where they are."""
        decisive = [one.what for one in self.differences if one.decides]
        if decisive:
            return f"the two were scored differently ({', '.join(decisive)})"
        if self.a.scheme != self.b.scheme:
            return "the two are graded by different schemes"
        one_each = len(self.a.categories) == len(self.b.categories) == 1
        return "" if one_each else "a reading names none or several"

    @property
    def dice(self) -> float | None:
        """Overlap of the voxels that the two call coronary, 0 to 1; None where neither calls any."""
        count = np.bincount(self.map.reshape(-1), minlength=5)
        shared = int(count[Agreement.BOTH] + count[Agreement.OTHER_ARTERY])
        either = 2 * shared + int(count[Agreement.ONLY_A] + count[Agreement.ONLY_B])
        return 2 * shared / either if either else None

    def to_json(self) -> dict[str, Any]:
        """What compare.json holds of one pair."""
        readings = [
            {
                "state": state,
                "evaluable": one.evaluable.value,
                "total": [one.total_low, one.total_high] if one.has_total else None,
                "categories": [row.category for row in one.categories],
            }
            for one, state in zip((self.a, self.b), self.states, strict=True)
        ]
        return {
            "a": readings[0],
            "b": readings[1],
            "same_category": self.same_category,
            "dice": self.dice,
            "kinds": dict(Counter(one.kind for one in self.lesions)),
            "lesions": [one.to_json() for one in self.lesions],
            "map": {one.name: int(one) for one in Agreement},
            "differences": [
                {"what": d.what, "a": d.prior, "b": d.current, "decides": d.decides} for d in self.differences
            ],
        }


def compare_readings(a: OpenedCase, b: OpenedCase) -> Comparison:
    """Compare two readings of one scan.

    Parameters
    ----------
    a, b
        The two cases.

    Raises
    ------
    InputRefused
        ``input``: they are of two scans.
    """
    if a.case.voxel_checksum != b.case.voxel_checksum or a.case.source_ct.shape != b.case.source_ct.shape:
        raise InputRefused(
            "input", "the two cases are of two scans: expected two readings of one; two scans of one person: "
            "heartlens progress"
        )  # fmt: skip
    ids = (island_ids(a.case), island_ids(b.case))
    codes = tuple(_codes(case, labels) for case, labels in zip((a.case, b.case), ids, strict=True))
    return Comparison(
        a.assessment,
        b.assessment,
        (a.state_words, b.state_words),
        _lesions(a.case, b.case, ids),
        _agreement(*codes),
        protocol_differences(a, b),
    )


def linear_kappa(pairs: Sequence[tuple[int, int]], categories: int) -> float | None:
    """Cohen's kappa with linear weights, as for grades that lie one or more apart.

    Parameters
    ----------
    pairs
        Index of the category by each reader.
    categories
        How many there are.

    Returns
    -------
    float | None
        None without a pair, and where both readers say the same one category always: chance then explains all.

    Examples
    --------
    Two of four agree, two lie one apart; by chance the mean distance would be 1.125:

    >>> round(linear_kappa([(0, 0), (1, 2), (2, 2), (3, 2)], 5), 4)
    0.5556
    """
    if not pairs:
        return None
    table = np.zeros((categories, categories))
    for row, column in pairs:
        table[row, column] += 1
    apart = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories)))
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(pairs)
    by_chance = float((apart * expected).sum())
    return 1 - float((apart * table).sum()) / by_chance if by_chance else None


def kappa_of(comparisons: Sequence[Comparison]) -> tuple[float | None, int]:
    """Linear kappa of the categories, and of how many pairs; those whose categories are not compared are left out.

    Over pairs of two schemes there is none.

    Parameters
    ----------
    comparisons
        Of several scans.
    """
    decided = [one for one in comparisons if one.same_category is not None]
    schemes = {one.a.scheme for one in decided}
    if len(schemes) != 1:
        return None, len(decided)
    rows = SCHEMES[schemes.pop()].categories
    pairs = [(rows.index(one.a.categories[0]), rows.index(one.b.categories[0])) for one in decided]
    return linear_kappa(pairs, len(rows)), len(pairs)


def _codes(case: Case, ids: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(k, j, i) artery of every voxel that a reading calls coronary, 0 elsewhere."""
    table = np.zeros(max(case.lesions.arteries, default=0) + 1, np.uint8)
    for number, artery in case.lesions.arteries.items():
        table[number] = artery if artery in SCORED_ARTERIES else 0
    return table[ids]


def _agreement(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
    both = (a > 0) & (b > 0)
    codes = np.zeros(a.shape, np.uint8)
    codes[both & (a == b)] = Agreement.BOTH
    codes[both & (a != b)] = Agreement.OTHER_ARTERY
    codes[(a > 0) & (b == 0)] = Agreement.ONLY_A
    codes[(a == 0) & (b > 0)] = Agreement.ONLY_B
    return codes


def _lesions(a: Case, b: Case, islands: tuple[NDArray[np.uint16], NDArray[np.uint16]]) -> tuple[ComparedLesion, ...]:
    """Lesions of both readings that are coronary or undecided, joined where they share a voxel."""
    scores = [{x.id: x for x in case.report.lesions} for case in (a, b)]
    coronary = [sorted(n for n, x in some.items() if x.artery in SCORED_ARTERIES and x.agatston > 0) for some in scores]
    shared = np.flatnonzero((islands[0] > 0) & (islands[1] > 0))
    pairs = np.unique(np.stack([one.reshape(-1)[shared] for one in islands], axis=1), axis=0)
    compared = _joined(a, b, scores, coronary, pairs)
    # What is undecided and not coronary, where the other reading calls nothing coronary either.
    told = [set(coronary[side]) | set(_partners(pairs, 1 - side, coronary[1 - side])) for side in (0, 1)]
    undecided = [
        sorted(n for n, x in some.items() if x.undecided and x.artery is Artery.OTHER and n not in told[side])
        for side, some in enumerate(scores)
    ]
    compared += _joined(a, b, scores, undecided, pairs)
    return tuple(sorted(compared, key=lambda one: -max(one.agatston_a, one.agatston_b)))


def _partners(pairs: NDArray[np.uint16], side: int, ids: Sequence[int]) -> list[int]:
    """What the other reading has where one has some lesions."""
    found: list[int] = pairs[np.isin(pairs[:, side], ids), 1 - side].tolist()
    return found


def _joined(
    a: Case,
    b: Case,
    scores: Sequence[dict[int, LesionScore]],
    listed: Sequence[Sequence[int]],
    pairs: NDArray[np.uint16],
) -> list[ComparedLesion]:
    """Some lesions of each reading as pairs and alone."""
    rows_of, columns_of = ({n: place for place, n in enumerate(some)} for some in listed)
    joined = np.zeros((len(rows_of), len(columns_of)), bool)
    for m, n in pairs.tolist():
        if m in rows_of and n in columns_of:
            joined[rows_of[m], columns_of[n]] = True
    compared = []
    for group_a, group_b in joined_groups(joined):
        mine, theirs = [listed[0][n] for n in group_a], [listed[1][n] for n in group_b]
        rows = [[scores[0][n] for n in mine], [scores[1][n] for n in theirs]]
        # What each reading has where the other sees these lesions, coronary or not.
        of_a, of_b = _partners(pairs, 1, theirs), _partners(pairs, 0, mine)
        there = [
            (case.lesions.arteries[n], case.lesions.notes[n].undecided)
            for case, ids in ((a, of_a), (b, of_b))
            for n in ids
        ]
        compared.append(
            ComparedLesion(
                a=tuple(mine),
                b=tuple(theirs),
                arteries_a=tuple(sorted({x.artery.name for x in rows[0]})),
                arteries_b=tuple(sorted({x.artery.name for x in rows[1]})),
                agatston_a=math.fsum(x.agatston for x in rows[0]),
                agatston_b=math.fsum(x.agatston for x in rows[1]),
                undecided=any(x.undecided for x in (*rows[0], *rows[1])) or any(is_open for _, is_open in there),
                says_other=not (mine and theirs)
                and any(what is Artery.OTHER and not is_open for what, is_open in there),
            )
        )
    return compared
