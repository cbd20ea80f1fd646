"""What weakens a number: a zero of a scan that shows no heart as people have it, metal on an artery."""

from __future__ import annotations

import numpy as np

from heartlens.anatomy.metal import find_clips
from heartlens.anatomy.region import HeartRegion
from heartlens.core.ct import CTVolume
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import SCORED_ARTERIES, LesionMap

HEART_MM2 = (2500.0, 24000.0)
"""Largest cross-section; 2,800 to 22,100 in 150 real scans and slices."""

BLOOD_HU = (-5.0, 90.0)
"""At the heart's most frequent HU; 17 to 72 without contrast medium."""

LUNG_HU = (-940.0, -450.0)
"""Median of what was taken for lung; -898 to -472 in real scans and slices."""

HEART_WIDTH_MM = (50.0, 200.0)


def doubts_about_zero(region: HeartRegion) -> str | None:
    """Why "no calcium" cannot be said, in words for a warning; None when heart, lungs and blood are as in people."""
    if not region.in_view:
        return None  # said already, and then there is no total
    grid = region.grid
    area_mm2 = float(region.heart.sum(axis=(1, 2)).max()) * grid.pixel_mm2
    frame = region.slice_frame_mm
    width_mm = float(np.nanmax(frame[:, 1] - frame[:, 0]))
    lung = grid.hu[region.chest.lung]
    lung_hu = float(np.median(lung)) if lung.size else 0.0
    for what, value, unit, (low, high) in (
        ("the heart's largest cross-section", area_mm2, "mm2", HEART_MM2),
        ("the width of the heart", width_mm, "mm", HEART_WIDTH_MM),
        ("the heart's blood and muscle", region.core_hu, "HU", BLOOD_HU),
        ("the lungs", lung_hu, "HU", LUNG_HU),
    ):
        if not low <= value <= high:  # also when it is not a number
            return f"{what} measured {value:.0f} {unit}, expected {low:g} to {high:g}"
    return None


def doubts(ct: CTVolume, region: HeartRegion, lesions: LesionMap) -> list[WarningRecord]:
    """What a number that networks or rules found may not mean.

    Parameters
    ----------
    ct
        The scan as scored.
    region
        Of its heart.
    lesions
        Found in it.
    """
    scored = [number for number, artery in lesions.arteries.items() if artery in SCORED_ARTERIES]
    if not scored:
        why = doubts_about_zero(region)
        text = f"no coronary calcium was found, and that may be wrong: {why}"
        return [WarningRecord("false-zero", text)] if why else []
    metal = find_clips(ct, region)
    hit = np.intersect1d(lesions.voxels.ids[np.isin(lesions.voxels.flat, metal)], scored)
    if not hit.size:
        return []
    listing = ", ".join(str(number) for number in hit[:8])
    what = "1 lesion that counts lies" if hit.size == 1 else f"{hit.size} lesions that count lie"
    text = (
        f"{what} where clips, graft markers or struts seem to be ({listing}): the total is "
        "not that of plaque alone; take out what is metal"
    )
    return [WarningRecord("metal-on-artery", text)]
