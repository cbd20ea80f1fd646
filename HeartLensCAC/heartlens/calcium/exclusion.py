"""Rules that tell coronary calcium from everything else at 130 HU: each one small, with its anatomy or physics.

A rule looks at pieces and answers which it removes. The first sentence of its docstring goes into the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import COURSES_MM, METAL_HU, MITRAL_RING_MM, find_metal
from heartlens.calcium.pieces import LARGE_MM3, Pieces
from heartlens.calcium.rings import WALL_MM
from heartlens.core.lesions import Artery

METAL_REACH_MM = 25.0
"""How far streaks make the neighborhood of metal unreadable."""


@dataclass(frozen=True, eq=False)
class Removed:
    """What one rule removed.

    Parameters
    ----------
    rule
        Its name.
    because
        Its anatomy or physics.
    pieces
        How many that reach the minimum area.
    agatston
        Agatston score that they would have had.
    flat
        (n,) their voxels, small pieces included
    """

    rule: str
    because: str
    pieces: int
    agatston: float
    flat: NDArray[np.int64]


def outside_the_heart(pieces: Pieces) -> NDArray[np.bool_]:
    """Coronary arteries lie between the lungs, in front of the spine, below the pulmonary trunk."""
    return pieces.in_zone < 0.5


def bone(pieces: Pieces) -> NDArray[np.bool_]:
    """Sternum, ribs and spine are larger than any coronary plaque, and reach out of the heart."""
    large = (pieces.volume_mm3 > LARGE_MM3) | (pieces.extent_mm.max(axis=1) > 90)
    return large | ((pieces.volume_mm3 > 1000) & (pieces.in_zone < 0.8))


def metal(pieces: Pieces) -> NDArray[np.bool_]:
    """Wires and clips saturate, or throw dark streaks; within 25 mm of them in a slice nothing can be trusted."""
    _, dy, dx = pieces.ct.spacing_mm
    near = np.zeros(len(pieces.flat), bool)
    for k, j, i in find_metal(pieces.ct, pieces.region):
        away = np.hypot((pieces.kji[:, 1] - j) * dy, (pieces.kji[:, 2] - i) * dx)
        near |= (np.abs(pieces.kji[:, 0] - k) <= 1) & (away < METAL_REACH_MM)
    return (pieces.mean(near) > 0.3) | (pieces.peak_hu > METAL_HU)


def above_the_arteries(pieces: Pieces) -> NDArray[np.bool_]:
    """Arch, pulmonary arteries and upper hila lie more than 25 mm above the aortic root; no coronary artery does."""
    if not pieces.region.ascending.found.any() or pieces.region.is_short:
        return np.zeros(pieces.count, bool)
    return pieces.center_mm[:, 2] > pieces.region.root_mm[2] + 25


def behind_the_heart(pieces: Pieces) -> NDArray[np.bool_]:
    """Esophagus and left atrium keep the arteries at least 30 mm in front of the spine; bronchi and nodes lie there."""
    return pieces.mean(pieces.lps_mm[:, 1] > pieces.region.chest.spine_y_mm[pieces.coarse_k] - 30) > 0.5


def descending_aorta(pieces: Pieces) -> NDArray[np.bool_]:
    """The descending aorta runs beside the spine; its wall calcifies, and no coronary artery comes near it."""
    x, y, _ = pieces.lps_mm.T
    return pieces.mean(pieces.region.descending.distance_mm(pieces.coarse_k, x, y) < 4) > 0.5


def ascending_aorta(pieces: Pieces) -> NDArray[np.bool_]:
    """Plaque in the wall of the ascending aorta lies on its circle; coronary arteries lie outside it."""
    x, y, _ = pieces.lps_mm.T
    return pieces.mean(pieces.region.ascending.distance_mm(pieces.coarse_k, x, y) < 3) > 0.5


def calcified_ring(pieces: Pieces) -> NDArray[np.bool_]:
    """Arcs on one circle of 11 to 21 mm around nothing but blood are the wall of the aorta or of its root."""
    x, y, _ = pieces.lps_mm.T
    on_wall = np.zeros(len(x), bool)
    for ring in pieces.rings:
        here = pieces.kji[:, 0] == ring.k
        on_wall |= here & (np.hypot(x - ring.x_mm, y - ring.y_mm) < ring.radius_mm + WALL_MM)
    return pieces.mean(on_wall) > 0.5


def deep_in_the_heart(pieces: Pieces) -> NDArray[np.bool_]:
    """Valves and the mitral ring lie deep between muscle and blood; coronary arteries lie in the fat of the grooves."""
    limit = np.where(pieces.depth_mm > 28, 0.10, 0.06)
    return (pieces.depth_mm > 18) & (pieces.fat_share < limit)


def mitral_ring(pieces: Pieces) -> NDArray[np.bool_]:
    """Calcium of the mitral ring is a wide arc behind the left ventricle, deeper than the LCX in the fat outside it."""
    if pieces.region.is_short:
        return np.zeros(pieces.count, bool)
    offset = pieces.center_mm - pieces.region.root_mm
    to_ring = np.linalg.norm(offset[:, None] - MITRAL_RING_MM[None], axis=2).min(axis=1)
    to_lcx = np.linalg.norm(offset[:, None] - COURSES_MM[Artery.LCX][None], axis=2).min(axis=1)
    is_arc = pieces.extent_mm.max(axis=1) > 7
    return is_arc & (pieces.depth_mm > 4.5) & (to_ring < 10) & (to_ring < to_lcx + 4)


def airway_wall(pieces: Pieces) -> NDArray[np.bool_]:
    """Cartilage rings and lymph nodes of the hila lie against the main bronchi, in front of the spine."""
    k = pieces.coarse_k
    behind = pieces.mean(pieces.lps_mm[:, 1] > pieces.region.chest.spine_y_mm[k] - 35)
    return (pieces.shell[2] > 0.25) & (behind > 0.5)


def lung_border(pieces: Pieces) -> NDArray[np.bool_]:
    """Vessels and nodes of the hila lie bare against lung; a coronary artery at the border still lies in its fat."""
    return (pieces.air_share > 0.12) & (pieces.fat_share < 0.10)


def motion_streak(pieces: Pieces) -> NDArray[np.bool_]:
    """Where the beating heart meets lung, reconstruction leaves wide, faint bands; plaque so wide is dense inside."""
    slices = 1 + pieces.largest(pieces.kji[:, 0]) + pieces.largest(-pieces.kji[:, 0])
    area_mm2 = pieces.voxels / slices * pieces.ct.pixel_area_mm2
    return (area_mm2 > 25) & (pieces.peak_hu < np.minimum(130 + 2.2 * area_mm2, 300)) & (pieces.depth_mm < 15)


def noise(pieces: Pieces) -> NDArray[np.bool_]:
    """A faint speck is a fluctuation: below blood + 4 deviations anywhere, + 5 in wide blood and muscle without fat."""
    is_speck = (pieces.voxels * pieces.ct.pixel_area_mm2 < 6) | (pieces.voxels <= 2)
    deviations = np.where(pieces.fat_share < 0.1, 5.0, 4.0)
    return is_speck & (pieces.peak_hu < pieces.above_noise_hu(deviations))


RULES: tuple[Callable[[Pieces], NDArray[np.bool_]], ...] = (
    outside_the_heart,
    bone,
    metal,
    above_the_arteries,
    behind_the_heart,
    descending_aorta,
    ascending_aorta,
    calcified_ring,
    airway_wall,
    lung_border,
    motion_streak,
    deep_in_the_heart,
    mitral_ring,
    noise,
)
"""In this order; a piece is charged to the first rule that removes it."""


def apply_rules(pieces: Pieces) -> tuple[NDArray[np.bool_], tuple[Removed, ...]]:
    """Which pieces every rule leaves, and what each rule removed."""
    left = np.ones(pieces.count, bool)
    ledger = []
    for rule in RULES:
        removed = left & rule(pieces)
        left &= ~removed
        ledger.append(charge(pieces, rule.__name__, (rule.__doc__ or "").strip(), removed))
    return left, tuple(ledger)


def charge(pieces: Pieces, rule: str, because: str, which: NDArray[np.bool_]) -> Removed:
    """The ledger's entry for some pieces, (pieces,) bool."""
    return Removed(
        rule=rule,
        because=because,
        pieces=int((which & pieces.accepted).sum()),
        agatston=float(pieces.agatston[which].sum()),
        flat=pieces.flat[which[pieces.piece]],
    )
