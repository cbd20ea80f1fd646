"""The report of one CT: every lesion, artery, slice and total, unrounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heartlens.lesions import Artery


@dataclass(frozen=True)
class Totals:
    """Sums over some lesions: an artery's, or all scored ones.

    Parameters
    ----------
    agatston, volume_mm3 : unrounded
    mass_mg : None when there is no calibration
    density : area-weighted mean weight, 1 to 4; None at score 0
    lesions : number of 3-D lesions with a score
    volume_isotropic_mm3 : only when the protocol asks for it
    """

    agatston: float = 0.0
    volume_mm3: float = 0.0
    mass_mg: float | None = None
    density: float | None = None
    lesions: int = 0
    volume_isotropic_mm3: float | None = None


@dataclass(frozen=True)
class LesionScore:
    """One 3-D lesion.

    Parameters
    ----------
    id : as in the `LesionMap`
    area_mm2 : largest accepted area on one slice
    slices : first and last slice index with an accepted part, inclusive
    centroid_lps_mm : of the accepted voxels
    probability, source, why : from its `LesionNote`
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
    source: str
    why: str


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
    total : LM + LAD + LCX + RCA + UNASSIGNED
    arteries : one entry per `Artery`, OTHER and UNASSIGNED included
    lesions : highest Agatston first; OTHER included, at the end
    slices : every slice of the CT, foot to head
    dropped_small_count, dropped_small_area_mm2 : 2-D islands below the minimum size
    calcified_vessels : how many of LM, LAD, LCX, RCA score above 0
    diffusivity : 1 - largest vessel score / total; None at total 0
    left_main_share : LM / total; None at total 0
    mass_factor_mg_per_mm3_hu, mass_factor_source : calibration used; None: no mass
    slice_factor : k of the normalisation
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
