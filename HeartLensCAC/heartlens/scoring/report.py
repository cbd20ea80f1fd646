"""The report of one CT: every lesion, artery, slice and total, unrounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery, LesionMap, Site
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource
from heartlens.scoring.agatston import agatston
from heartlens.scoring.counted import _Counted
from heartlens.scoring.density import density_score, diffusivity_index
from heartlens.scoring.mass import calibration, mass_mg
from heartlens.scoring.volume import cube_mm, isotropic_voxels, volume_voxel_mm3


@dataclass(frozen=True)
class Totals:
    """Sums over some lesions: an artery's, or all scored ones.

    Parameters
    ----------
    agatston, volume_mm3
        Unrounded.
    mass_mg
        None when there is no calibration
    density
        Area-weighted mean weight, 1 to 4; None at score 0.
    lesions
        Number of 3-D lesions with a score.
    volume_isotropic_mm3
        Only when the protocol asks for it.
    """

    agatston: float
    volume_mm3: float
    mass_mg: float | None
    density: float | None
    lesions: int
    volume_isotropic_mm3: float | None = None


@dataclass(frozen=True)
class LesionScore:
    """One 3-D lesion.

    Parameters
    ----------
    id
        As in the `LesionMap`.
    artery
        It lies in.
    agatston
        Agatston score, unrounded.
    volume_mm3
        By the protocol's volume method.
    mass_mg
        Calcium mass; None without calibration.
    peak_hu, mean_hu
        Over the accepted voxels.
    area_mm2
        Largest accepted area on one slice.
    slices
        First and last slice index with an accepted part, inclusive.
    centroid_lps_mm
        Of the accepted voxels.
    probability, source, why, undecided
        From its `LesionNote`.
    site
        Where it lies, of one that is not coronary; None where that is not known, and of all others.
    """

    id: int
    artery: Artery
    agatston: float
    volume_mm3: float
    mass_mg: float | None
    peak_hu: float
    mean_hu: float
    area_mm2: float
    slices: tuple[int, int]
    centroid_lps_mm: tuple[float, float, float]
    probability: float | None
    source: LabelSource
    why: str
    undecided: bool = False
    site: Site | None = None


@dataclass(frozen=True)
class SliceScore:
    """One axial slice. `probability` (of calcium on it) is None unless a classifier gave one."""

    index: int
    z_mm: float
    agatston: float
    probability: float | None = None


@dataclass(frozen=True)
class ScoreReport:
    """Everything that the scoring core computed.

    total == sum of the four arteries and `unassigned` == sum of scored lesions == sum of slices.

    Parameters
    ----------
    total
        LM + LAD + LCX + RCA + UNASSIGNED
    arteries
        One entry per `Artery`, OTHER and UNASSIGNED included.
    lesions
        Highest Agatston first; OTHER included, at the end.
    slices
        Every slice of the CT, foot to head.
    dropped_small_count, dropped_small_area_mm2
        2-D islands below the minimum size
    calcified_vessels
        How many of LM, LAD, LCX, RCA score above 0.
    diffusivity
        1 - largest vessel score / total; None at total 0
    left_main_share
        LM / total; None at total 0
    mass_factor_mg_per_mm3_hu, mass_factor_source
        Calibration used; None: no mass.
    slice_factor
        k of the normalisation
    """

    total: Totals
    arteries: Mapping[Artery, Totals]
    lesions: tuple[LesionScore, ...]
    slices: tuple[SliceScore, ...]
    dropped_small_count: int
    dropped_small_area_mm2: float
    calcified_vessels: int
    diffusivity: float | None
    left_main_share: float | None
    mass_factor_mg_per_mm3_hu: float | None
    mass_factor_source: str | None
    slice_factor: float

    @property
    def findings(self) -> dict[Site | None, float]:
        """Agatston of what is calcified and not coronary, by its site; None is a place that is not known."""
        found: dict[Site | None, list[float]] = {}
        for lesion in self.lesions:
            if lesion.artery is Artery.OTHER:
                found.setdefault(lesion.site, []).append(lesion.agatston)
        return {site: math.fsum(scores) for site, scores in found.items()}

    def to_json(self) -> dict[str, Any]:
        """The scoring part of report.json; `from_json` gives back an equal report, bit for bit."""
        found = self.findings
        return {
            "total": asdict(self.total),
            "arteries": {artery.name: asdict(self.arteries[artery]) for artery in CORONARY},
            "unassigned": asdict(self.arteries[Artery.UNASSIGNED]),
            "other": asdict(self.arteries[Artery.OTHER]),
            "lesions": [
                {**asdict(lesion), "artery": lesion.artery.name, "source": lesion.source.value}
                | {"site": None if lesion.site is None else lesion.site.value, "slices": list(lesion.slices)}
                | {"centroid_lps_mm": list(lesion.centroid_lps_mm)}
                for lesion in self.lesions
            ],
            "findings": {
                **{site.value: found.get(site) for site in Site},
                "place_not_known": found.get(None),
            },
            "dropped_small": {"count": self.dropped_small_count, "area_mm2": self.dropped_small_area_mm2},
            "distribution": {
                "calcified_vessels": self.calcified_vessels,
                "diffusivity": self.diffusivity,
                "left_main_share": self.left_main_share,
            },
            "calibration": {
                "mass_factor_mg_per_mm3_hu": self.mass_factor_mg_per_mm3_hu,
                "source": self.mass_factor_source,
                "slice_factor": self.slice_factor,
            },
            "slices": [asdict(s) for s in self.slices],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ScoreReport:
        """A report from the JSON object that was written of it."""
        groups = {**document["arteries"], "UNASSIGNED": document["unassigned"], "OTHER": document["other"]}
        total = dict(document["total"])
        if total["agatston"] is None:  # no heart was found, and the zone without one holds no lesion
            total["agatston"] = math.fsum(groups[artery.name]["agatston"] for artery in SCORED_ARTERIES)
        lesions = (
            LesionScore(
                **{
                    **{key: value for key, value in row.items() if key not in ("review", "instances")},
                    "undecided": row.get("undecided", row.get("review", False)),  # the name in version 1
                    "artery": Artery[row["artery"]],
                    "site": None if row.get("site") is None else Site(row["site"]),
                    "source": LabelSource(row["source"]),
                    "slices": tuple(row["slices"]),
                    "centroid_lps_mm": tuple(row["centroid_lps_mm"]),
                }
            )
            for row in document["lesions"]
        )
        return cls(
            total=Totals(**total),
            arteries={artery: Totals(**groups[artery.name]) for artery in Artery},
            lesions=tuple(lesions),
            slices=tuple(SliceScore(**row) for row in document["slices"]),
            dropped_small_count=document["dropped_small"]["count"],
            dropped_small_area_mm2=document["dropped_small"]["area_mm2"],
            calcified_vessels=document["distribution"]["calcified_vessels"],
            diffusivity=document["distribution"]["diffusivity"],
            left_main_share=document["distribution"]["left_main_share"],
            mass_factor_mg_per_mm3_hu=document["calibration"]["mass_factor_mg_per_mm3_hu"],
            mass_factor_source=document["calibration"]["source"],
            slice_factor=document["calibration"]["slice_factor"],
        )


def score_lesions(
    ct: CTVolume,
    lesions: LesionMap,
    protocol: ScoringProtocol,
    *,
    slice_probability: NDArray[np.float64] | None = None,
) -> ScoreReport:
    """Score every lesion, artery and slice of a CT.

    Parameters
    ----------
    ct
        (k, j, i), HU
    lesions
        On the same grid; voxels below the thresholds do not count.
    protocol
        The numbers of the method.
    slice_probability
        (k,) of calcium on each slice, from a classifier, nan where not asked; only passed on

    Raises
    ------
    ValueError
        The grids differ, or the protocol needs a slice thickness that is unknown.
    """
    if lesions.shape != ct.shape:
        raise ValueError(f"lesions must lie on the CT's grid {ct.shape}, got {lesions.shape}")
    counted = _Counted.of(ct, lesions, protocol)
    k = protocol.slice_factor(ct.increment_mm, ct.header.slice_thickness_mm)
    factor, factor_source = calibration(protocol, ct.header)
    sums = _Sums(ct, counted, k, factor, protocol)

    arteries = {artery: sums.totals([i for i, a in lesions.arteries.items() if a is artery]) for artery in Artery}
    total = sums.totals([i for i, a in lesions.arteries.items() if a in SCORED_ARTERIES])
    vessel_scores = [arteries[artery].agatston for artery in CORONARY]
    scored = np.isin(counted.artery, SCORED_ARTERIES)
    small = ~counted.components.kept & scored[counted.first_voxel]
    return ScoreReport(
        total=total,
        arteries=arteries,
        lesions=sums.lesion_scores(lesions),
        slices=_slice_scores(ct, counted, scored, k, slice_probability),
        dropped_small_count=int(small.sum()),
        dropped_small_area_mm2=float(counted.components.pixels[small].sum()) * ct.pixel_area_mm2,
        calcified_vessels=sum(score > 0 for score in vessel_scores),
        diffusivity=diffusivity_index(vessel_scores, total.agatston),
        left_main_share=arteries[Artery.LM].agatston / total.agatston if total.agatston > 0 else None,
        mass_factor_mg_per_mm3_hu=factor,
        mass_factor_source=factor_source,
        slice_factor=k,
    )


class _Sums:
    """Integer sums per lesion, turned into scores for any group of lesions."""

    def __init__(
        self, ct: CTVolume, counted: _Counted, k: float, factor: float | None, protocol: ScoringProtocol
    ) -> None:
        self.ct, self.counted, self.k, self.factor = ct, counted, k, factor
        n = int(max(counted.ids.max(initial=0), counted.volume_ids.max(initial=0))) + 1
        kept = counted.weight > 0
        self.weight = np.bincount(counted.ids, weights=counted.weight, minlength=n)
        self.voxels = np.bincount(counted.ids[kept], minlength=n)
        self.volume_voxels = np.bincount(counted.volume_ids, minlength=n)
        self.volume_hu = np.bincount(counted.volume_ids, weights=counted.volume_hu, minlength=n)
        self.cubes: NDArray[np.int64] | None = None
        if protocol.isotropic_volume:
            cubes = isotropic_voxels(ct, counted.flat[kept], counted.ids[kept], counted.artery[kept], protocol)
            self.cubes = np.pad(cubes, (0, n - cubes.size))

    def totals(self, ids: list[int]) -> Totals:
        chosen = [i for i in ids if i < self.weight.size]
        weight, voxels = self.weight[chosen].sum(), int(self.voxels[chosen].sum())
        return Totals(
            agatston=self._agatston(weight),
            volume_mm3=volume_voxel_mm3(self.volume_voxels[chosen].sum(), self.ct.voxel_volume_mm3),
            mass_mg=self._mass(self.volume_hu[chosen].sum()),
            density=density_score(weight, voxels),
            lesions=int((self.weight[chosen] > 0).sum()),
            volume_isotropic_mm3=None
            if self.cubes is None
            else volume_voxel_mm3(self.cubes[chosen].sum(), cube_mm(self.ct) ** 3),
        )

    def lesion_scores(self, lesions: LesionMap) -> tuple[LesionScore, ...]:
        """Lesions with a score or a volume: highest first, those outside the coronaries last."""
        shown = [i for i in lesions.arteries if i < self.weight.size and (self.weight[i] or self.volume_voxels[i])]
        rows = [self._lesion_score(i, lesions) for i in shown]
        return tuple(sorted(rows, key=lambda row: (row.artery not in SCORED_ARTERIES, -row.agatston, row.id)))

    def _lesion_score(self, lesion_id: int, lesions: LesionMap) -> LesionScore:
        counted = self.counted
        mine = np.flatnonzero((counted.ids == lesion_id) & (counted.weight > 0))
        if not mine.size:  # seen by the volume threshold alone
            mine = np.flatnonzero(counted.ids == lesion_id)
        if mine.size:
            flat, hu = counted.flat[mine], counted.hu[mine]
        else:
            flat = lesions.voxels.flat[lesions.voxels.ids == lesion_id]
            hu = self.ct.hu.ravel()[flat].astype(np.float64)
        kji = np.stack(np.unravel_index(flat, self.ct.shape), axis=-1)
        per_slice = np.bincount(kji[:, 0])
        x, y, z = self.ct.lps_mm(kji.mean(axis=0))
        note = lesions.notes[lesion_id]
        return LesionScore(
            id=int(lesion_id),
            artery=lesions.arteries[lesion_id],
            agatston=self._agatston(self.weight[lesion_id]),
            volume_mm3=volume_voxel_mm3(self.volume_voxels[lesion_id], self.ct.voxel_volume_mm3),
            mass_mg=self._mass(self.volume_hu[lesion_id]),
            peak_hu=float(hu.max()),
            mean_hu=float(hu.mean()),
            area_mm2=float(per_slice.max()) * self.ct.pixel_area_mm2,
            slices=(int(kji[:, 0].min()), int(kji[:, 0].max())),
            centroid_lps_mm=(float(x), float(y), float(z)),
            probability=note.probability,
            source=note.source,
            why=note.why,
            undecided=note.undecided,
            site=note.site if lesions.arteries[lesion_id] is Artery.OTHER else None,
        )

    def _agatston(self, weight_sum: float) -> float:
        return agatston(weight_sum, pixel_area_mm2=self.ct.pixel_area_mm2, slice_factor=self.k)

    def _mass(self, hu_sum: float) -> float | None:
        if self.factor is None:
            return None
        return mass_mg(hu_sum, voxel_volume_mm3=self.ct.voxel_volume_mm3, factor_mg_per_mm3_hu=self.factor)


def _slice_scores(
    ct: CTVolume,
    counted: _Counted,
    scored: NDArray[np.bool_],
    k: float,
    probability: NDArray[np.float64] | None,
) -> tuple[SliceScore, ...]:
    slices, rows, columns = ct.shape
    index = counted.flat[scored] // (rows * columns)
    weights = np.bincount(index, weights=counted.weight[scored], minlength=slices)
    center = [(s, (rows - 1) / 2, (columns - 1) / 2) for s in range(slices)]
    z_mm = ct.lps_mm(center)[:, 2]
    return tuple(
        SliceScore(
            index=s,
            z_mm=float(z_mm[s]),
            agatston=agatston(weights[s], pixel_area_mm2=ct.pixel_area_mm2, slice_factor=k),
            probability=None if probability is None or math.isnan(probability[s]) else float(probability[s]),
        )
        for s in range(slices)
    )


def display_agatston(score: float) -> str:
    """A score as it is shown: rounded half up, "<1" above 0 and below 0.5.

    Examples
    --------
    >>> [display_agatston(s) for s in (0, 0.3, 0.5, 10.5)]
    ['0', '<1', '1', '11']
    """
    if 0 < score < 0.5:
        return "<1"
    return str(math.floor(score + 0.5))
