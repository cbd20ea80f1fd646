"""Lesions found in a softened copy of a scan, carried to the voxels of the scan itself, whose HU are scored."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from heartlens.calcium.extraction import candidate_mask, extract_lesions
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import LesionMap
from heartlens.core.protocol import ScoringProtocol

REACH_MM = 1.3
"""Softening draws a plaque in from all sides; within this of what is left lies what it lost. A choice: two standard
deviations of the usual softening, 0.65 mm."""


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
