"""What a scan's islands are: each voxel of an island that a deposit made has the name of the deposit that made it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.scoring.report import score_lesions

MADE_BY_HU = 45.0
"""What a deposit must add to some voxel of an island for the island to be its own."""

SURE_HU = 12.0
"""What it must add to a voxel for the voxel to have its name; others of the island have that of the nearest."""

LEAST_VOXELS = 3
"""Of a piece of an island that has another name than the rest."""

NAMES = (*CORONARY, Artery.OTHER)
"""Rows of what deposits add; one more row is what bone adds, which has no name."""

BONE = len(NAMES)


def name_islands(ct: CTVolume, added: NDArray[np.float32], protocol: ScoringProtocol) -> LesionMap:
    """Lesions of a scan: islands of its own voxels, whole, and cut where two arteries' calcium meets.

    Parameters
    ----------
    ct
        The final image, or the one without noise.
    added
        (6, n) HU that deposits of each of `NAMES`, and bone, add to each voxel at or above the threshold, in C order
    protocol
        Has the threshold.
    """
    flat = np.flatnonzero(ct.hu.reshape(-1) >= protocol.threshold_hu)
    if added.shape != (BONE + 1, flat.size):
        raise ValueError(f"added must have shape {(BONE + 1, flat.size)}, got {added.shape}")
    island = label_components(flat, ct.shape, connectivity=26)
    strongest = np.zeros(int(island.max(initial=-1)) + 1, np.float32)
    most = added[:BONE].max(axis=0, initial=0)
    np.maximum.at(strongest, island, most)
    named = np.zeros(flat.size, np.uint8)
    codes = np.array([*(int(a) for a in NAMES), 0], np.uint8)
    for number in np.flatnonzero(strongest >= MADE_BY_HU):
        of = np.flatnonzero(island == number)
        named[of] = _names_within(flat[of], added[:, of], codes, ct)
    kept = np.flatnonzero(named)
    pieces = label_components(flat[kept], ct.shape, connectivity=26, group=named[kept])
    labels = np.zeros(ct.shape, np.uint16)
    np.put(labels, flat[kept], pieces + 1)
    first = np.unique(pieces, return_index=True)[1]
    return LesionMap(labels, {n + 1: Artery(int(named[kept[at]])) for n, at in enumerate(first)})


def _names_within(
    flat: NDArray[np.int64], added: NDArray[np.float32], codes: NDArray[np.uint8], ct: CTVolume
) -> NDArray[np.uint8]:
    """(n,) code of each voxel of one island."""
    best = added.argmax(axis=0)
    sure = added.max(axis=0) >= SURE_HU
    counts = np.bincount(best[sure], minlength=len(codes))
    if (few := (counts > 0) & (counts < LEAST_VOXELS)).any() and counts.max() >= LEAST_VOXELS:
        strong = np.where(few[:, None], -1.0, added)
        best = strong.argmax(axis=0)
        sure &= strong.max(axis=0) >= SURE_HU
    if sure.all():
        return codes[best]
    where = np.stack(np.unravel_index(flat, ct.shape), axis=1) * np.array(ct.spacing_mm)
    return codes[best[sure][cKDTree(where[sure]).query(where)[1]]]


def artery_scores(ct: CTVolume, lesions: LesionMap, protocol: ScoringProtocol) -> dict[str, float]:
    """Agatston score of each artery, unrounded."""
    report = score_lesions(ct, lesions, protocol)
    return {artery.name: report.arteries[artery].agatston for artery in CORONARY}
