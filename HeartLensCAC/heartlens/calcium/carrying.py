"""Lesions found in a softened copy of a scan, carried to the voxels of the scan itself, whose HU are scored.

Softening takes noise and rims from a scan, and small plaque with them. What the scan itself shows is therefore asked
for as well, and believed as far as it still stands out of the copy, where hardly any noise is left.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from heartlens.anatomy.sharpness import Softened
from heartlens.calcium.extraction import candidate_mask, extract_lesions
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol

REACH_MM = 1.3
"""Softening draws a plaque in from all sides; within this of what is left lies what it lost. A choice: two standard
deviations of the usual softening, 0.65 mm."""

STANDS_OUT, STANDS_FAR_OUT = 4.0, 8.0
"""By how many deviations of the copy's noise the copy's peak of a lesion that was found in the scan alone lies above
the heart's blood: from the first on a reader is asked, from the second on the lesion counts. Chosen on 35 phantoms of
calibration with 18.5 HU of noise or more and 32 sharp draws of real backgrounds (docs/method.md, section 11)."""

LEAST_NOISE_HU = 1.0
"""HU are whole numbers; a copy with less noise is not trusted to be so quiet."""


def carry_lesions(found: LesionMap, ct: CTVolume, protocol: ScoringProtocol) -> LesionMap:
    """Give the dense voxels of a scan to the lesions that were found in its softened copy.

    Parameters
    ----------
    found
        Lesions of the copy, on the grid of the scan.
    ct
        The scan itself.
    protocol
        Says which voxels are dense and what is too small.

    Returns
    -------
    LesionMap
        With arteries and notes of `found`: a dense voxel within `REACH_MM` of a lesion that counts belongs to the
        nearest. Another one is noise or an edge, and left out.
    """
    counting = [n for n in sorted(found.arteries) if found.notes[n].counts]
    is_counting = np.isin(found.voxels.ids, counting)
    if not counting:
        return LesionMap.empty(ct.shape)
    places = np.stack(np.unravel_index(found.voxels.flat[is_counting], ct.shape), axis=1)
    spacing = np.array(ct.spacing_mm)
    margin = np.ceil(REACH_MM / spacing).astype(int)
    low = np.maximum(places.min(axis=0) - margin, 0)
    high = np.minimum(places.max(axis=0) + margin + 1, ct.shape)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    dense = candidate_mask(ct, protocol, (k, j, i)).flat
    dense_mm = np.stack(np.unravel_index(dense, ct.shape), axis=1) * spacing
    away_mm, nearest = cKDTree(places * spacing).query(dense_mm, distance_upper_bound=REACH_MM)
    near = np.isfinite(away_mm)
    number = np.searchsorted(counting, found.voxels.ids[is_counting][nearest[near]])
    codes = np.array([int(found.arteries[n]) for n in counting], np.uint8)
    notes = [found.notes[n] for n in counting]
    return extract_lesions(ct, dense[near], codes[number], protocol, notes=notes, note_of_voxel=number)


def with_lost(
    carried: LesionMap,
    in_scan: LesionMap,
    soft: Softened,
    protocol: ScoringProtocol,
    *,
    blood_hu: float,
    noise_hu: float,
) -> LesionMap:
    """Add what softening took: far ends of lesions, and lesions that still stand out of the softened copy.

    Parameters
    ----------
    carried
        Of `carry_lesions`.
    in_scan
        What the same program finds in the scan as it stands.
    soft
        Both images.
    protocol
        Says which voxels are dense and what is too small.
    blood_hu, noise_hu
        Mean and standard deviation of the heart's blood in the copy.

    Returns
    -------
    LesionMap
        With what `in_scan` calls coronary for certain: the rest of an island that shares voxels with a coronary lesion
        of `carried` belongs to that lesion, as far away as it may lie. One that touches nothing of `carried` is added
        where its peak in the copy stands out by `STANDS_OUT`, short of `STANDS_FAR_OUT` as OTHER and undecided. What
        is in doubt in the scan is left out: there it was nearly always noise or a rim.
    """
    if not in_scan.arteries:
        return carried
    flat, ids = in_scan.voxels.flat, in_scan.voxels.ids
    peak_hu = np.full(int(ids.max()) + 1, -np.inf)
    np.maximum.at(peak_hu, ids, soft.ct.hu.reshape(-1)[flat])
    stands_out = (peak_hu - blood_hu) / max(noise_hu, LEAST_NOISE_HU)
    owner = carried.ids_at(flat)
    around = ndimage.binary_dilation(carried.labels > 0, np.ones((3, 3, 3))).reshape(-1)[flat]
    numbers = sorted(carried.arteries)
    notes = [carried.notes[n] for n in numbers]
    places, codes = [carried.voxels.flat], [carried.artery_map().reshape(-1)[carried.voxels.flat]]
    note_of_voxel = [np.searchsorted(numbers, carried.voxels.ids)]

    def add(voxels: NDArray[np.int64], artery: Artery, note: int) -> None:
        places.append(voxels)
        codes.append(np.full(voxels.size, int(artery), np.uint8))
        note_of_voxel.append(np.full(voxels.size, note))

    for lesion, artery in in_scan.arteries.items():
        note = in_scan.notes[lesion]
        if artery is Artery.OTHER or note.undecided or not note.counts:
            continue
        here = ids == lesion
        shared = owner[here & (owner > 0)]
        if shared.size:
            whose = int(np.bincount(shared).argmax())
            if carried.arteries[whose] is not Artery.OTHER:
                add(flat[here & (owner == 0)], carried.arteries[whose], numbers.index(whose))
        elif not around[here].any() and stands_out[lesion] >= STANDS_OUT:
            is_faint = bool(stands_out[lesion] < STANDS_FAR_OUT)
            why = f"{note.why}; lost in the softened copy{', where it is faint: review' if is_faint else ''}"
            notes.append(replace(note, why=why.removeprefix("; "), undecided=is_faint))
            add(flat[here], Artery.OTHER if is_faint else artery, len(notes) - 1)
    return extract_lesions(
        soft.original, np.concatenate(places), np.concatenate(codes), protocol,
        notes=notes, note_of_voxel=np.concatenate(note_of_voxel),
    )  # fmt: skip
