"""The same plaque in two scans: what has grown, what is new, what is gone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy.alignment.rigid import Alignment
from heartlens.calcium.matching import match_lesions
from heartlens.case.case import Case
from heartlens.core.lesions import SCORED_ARTERIES
from heartlens.scoring.report import LesionScore


@dataclass(frozen=True)
class LesionChange:
    """Lesions of both scans that are the same plaque; of one scan alone, plaque that is new there, or gone.

    Parameters
    ----------
    prior, current
        Ids in each scan.
    arteries
        Names of the arteries that they are called, each once.
    agatston_prior, agatston_current, volume_prior_mm3, volume_current_mm3
        Sums; 0 where there is none.
    gap_mm
        Between the two after the hearts were aligned; None without a partner.
    undecided
        A reader has yet to say of one of them whether it is coronary.
    outside
        The other scan does not show the place.
    """

    prior: tuple[int, ...]
    current: tuple[int, ...]
    arteries: tuple[str, ...]
    agatston_prior: float
    agatston_current: float
    volume_prior_mm3: float
    volume_current_mm3: float
    gap_mm: float | None
    undecided: bool
    outside: bool

    @property
    def kind(self) -> str:
        """``matched``, ``new`` or ``gone``, or ``not shown`` by the other scan."""
        if self.prior and self.current:
            return "matched"
        return "not shown" if self.outside else "new" if self.current else "gone"

    def to_json(self) -> dict[str, Any]:
        """Every field, and the kind."""
        lists = {name: list(getattr(self, name)) for name in ("prior", "current", "arteries")}
        return {**asdict(self), **lists, "kind": self.kind}


def match_scans(prior: Case, current: Case, alignment: Alignment) -> tuple[LesionChange, ...]:
    """Match the lesions that count or are undecided.

    Parameters
    ----------
    prior, current
        The two scans.
    alignment
        Brings the first onto the second.
    """
    of_prior, of_current = _listed(prior), _listed(current)
    places = [
        {x.id: case.ct.lps_mm(_kji(case, x.id)) for x in listed.values()}
        for case, listed in ((prior, of_prior), (current, of_current))
    ]
    moved = {number: alignment.moved(points) for number, points in places[0].items()}
    changes = []
    for group in match_lesions(moved, places[1]):
        a, b = [of_prior[n] for n in group.first], [of_current[n] for n in group.second]
        outside = False
        if not b:
            outside = not any(_shows(current, moved[x.id]) for x in a)
        elif not a:
            outside = not any(_shows(prior, alignment.back(places[1][x.id])) for x in b)
        changes.append(
            LesionChange(
                prior=group.first,
                current=group.second,
                arteries=tuple(dict.fromkeys(x.artery.name for x in (*a, *b))),
                agatston_prior=math.fsum(x.agatston for x in a),
                agatston_current=math.fsum(x.agatston for x in b),
                volume_prior_mm3=math.fsum(x.volume_mm3 for x in a),
                volume_current_mm3=math.fsum(x.volume_mm3 for x in b),
                gap_mm=group.gap_mm,
                undecided=any(x.undecided for x in (*a, *b)),
                outside=outside,
            )
        )
    return tuple(changes)


def _listed(case: Case) -> dict[int, LesionScore]:
    return {x.id: x for x in case.report.lesions if x.undecided or (x.artery in SCORED_ARTERIES and x.agatston > 0)}


def _kji(case: Case, lesion: int) -> NDArray[np.int64]:
    voxels = case.lesions.voxels
    return np.stack(np.unravel_index(voxels.flat[voxels.ids == lesion], case.ct.shape), axis=-1)


def _shows(case: Case, lps_mm: NDArray[np.float64]) -> bool:
    """Whether a scan has the middle of some places within it."""
    middle = case.ct.index_kji(lps_mm.mean(axis=0))
    return bool(((middle >= -0.5) & (middle <= [n - 0.5 for n in case.ct.shape])).all())
