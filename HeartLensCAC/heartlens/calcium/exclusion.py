"""Rules that tell coronary calcium from everything else at 130 HU: each one small, with its anatomy or physics.

A rule looks at pieces: voxels above the threshold that touch in space. It answers which pieces it removes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import METAL_HU, HeartRegion, find_metal
from heartlens.calcium.extraction import Candidates
from heartlens.calcium.rings import WALL_MM, Ring, find_rings
from heartlens.ct import CTVolume
from heartlens.islands import find_islands
from heartlens.protocol import REFERENCE_INCREMENT_MM, ScoringProtocol

LARGE_MM3 = 6000.0
"""The calcium of one artery is smaller, even when it scores thousands."""

METAL_REACH_MM = 25.0

FAT_HU = (-170.0, -25.0)
SHELL_MM = (2.0, 3.5, 5.0)
"""How far from the edge of a piece its surroundings are read."""

SHELL_VOXELS = 48
"""At most so many voxels of a piece are asked for their surroundings."""


@dataclass(frozen=True, eq=False)
class Removed:
    """What one rule removed.

    Parameters
    ----------
    rule : its name
    because : its anatomy or physics
    pieces : how many that reach the minimum area
    agatston : that they would have scored
    flat : (n,) their voxels, small pieces included
    """

    rule: str
    because: str
    pieces: int
    agatston: float
    flat: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces above the threshold and what surrounds them.

    Parameters
    ----------
    flat : (n,) C-order indices into the CT, ascending
    hu : (n,)
    piece : (n,) piece of each voxel, 0-based
    accepted : (pieces,) bool: islands of this piece reach the minimum area
    agatston : (pieces,)
    """

    ct: CTVolume
    region: HeartRegion
    flat: NDArray[np.int64]
    hu: NDArray
    piece: NDArray[np.int64]
    accepted: NDArray[np.bool_]
    agatston: NDArray[np.float64]

    @property
    def count(self) -> int:
        return len(self.accepted)

    def mean(self, values: NDArray) -> NDArray[np.float64]:
        """(pieces,) mean of a value per voxel."""
        return np.bincount(self.piece, values, minlength=self.count) / np.maximum(self.voxels, 1)

    def largest(self, values: NDArray) -> NDArray[np.float64]:
        """(pieces,) maximum of a value per voxel."""
        out = np.full(self.count, -np.inf)
        np.maximum.at(out, self.piece, values)
        return out

    @cached_property
    def voxels(self) -> NDArray[np.int64]:
        return np.bincount(self.piece, minlength=self.count)

    @cached_property
    def volume_mm3(self) -> NDArray[np.float64]:
        return self.voxels * self.ct.voxel_volume_mm3

    @cached_property
    def peak_hu(self) -> NDArray[np.float64]:
        return self.largest(self.hu)

    @cached_property
    def mean_hu(self) -> NDArray[np.float64]:
        return self.mean(self.hu)

    @cached_property
    def kji(self) -> NDArray[np.int64]:
        """(n, 3)"""
        return np.stack(np.unravel_index(self.flat, self.ct.shape), axis=1)

    @cached_property
    def lps_mm(self) -> NDArray[np.float64]:
        """(n, 3)"""
        return self.ct.lps_mm(self.kji)

    @cached_property
    def coarse_k(self) -> NDArray[np.int64]:
        """(n,) slice of the coarse grid."""
        return np.minimum(self.kji[:, 0] // self.region.grid.block[0], self.region.grid.shape[0] - 1)

    @cached_property
    def center_mm(self) -> NDArray[np.float64]:
        """(pieces, 3) LPS"""
        return np.stack([self.mean(axis) for axis in self.lps_mm.T], axis=1)

    @cached_property
    def extent_mm(self) -> NDArray[np.float64]:
        """(pieces, 3) size along x, y, z"""
        step = np.array(self.ct.spacing_mm[::-1])
        return np.stack([self.largest(a) + self.largest(-a) for a in self.lps_mm.T], axis=1) + step

    @cached_property
    def in_zone(self) -> NDArray[np.float64]:
        """(pieces,) share in the zone of the heart"""
        return self.mean(self.region.grid.sample(self.region.zone, self.kji))

    @cached_property
    def depth_mm(self) -> NDArray[np.float64]:
        """(pieces,) distance to the outside of the heart, in the slice"""
        return self.mean(self.region.grid.sample(self.region.depth_mm, self.kji))

    @cached_property
    def rings(self) -> list[Ring]:
        """Calcified vessel walls among the pieces in the heart that reach the minimum area."""
        inside = self.accepted & (self.in_zone > 0.5) & (self.volume_mm3 < LARGE_MM3)
        return find_rings(self.ct, self.kji[inside[self.piece]])

    @cached_property
    def shell(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Share of fat and of air, (pieces,) each, within 5 mm in the slice; share of air within 2 mm."""
        order = np.argsort(self.piece, kind="stable")
        first = np.concatenate([[0], np.cumsum(self.voxels)])[:-1]
        rank = np.arange(order.size) - first[self.piece[order]]
        stride = -(-self.voxels // SHELL_VOXELS)
        asked = order[rank % stride[self.piece[order]] == 0]
        kji, piece = self.kji[asked], self.piece[asked]
        _, dy, dx = self.ct.spacing_mm
        angle = np.arange(12) * (2 * np.pi / 12)
        fat, air, seen = (np.zeros(self.count) for _ in range(3))
        close_air, close_seen = np.zeros(self.count), np.zeros(self.count)
        for ring in SHELL_MM:
            for dj, di in zip(ring * np.sin(angle) / dy, ring * np.cos(angle) / dx, strict=True):
                j = np.clip(kji[:, 1] + round(dj), 0, self.ct.shape[1] - 1)
                i = np.clip(kji[:, 2] + round(di), 0, self.ct.shape[2] - 1)
                value = self.ct.hu[kji[:, 0], j, i]
                outside = value < 130
                fat += np.bincount(piece, (value > FAT_HU[0]) & (value < FAT_HU[1]), minlength=self.count)
                is_air = np.bincount(piece, value < -300, minlength=self.count)
                air += is_air
                here = np.bincount(piece, outside, minlength=self.count)
                seen += here
                if ring == SHELL_MM[0]:
                    close_air += is_air
                    close_seen += here
        return fat / np.maximum(seen, 1), air / np.maximum(seen, 1), close_air / np.maximum(close_seen, 1)

    def removed(self, rule: str, because: str, which: NDArray[np.bool_]) -> Removed:
        """The ledger's entry for some pieces."""
        return Removed(
            rule,
            because,
            int((which & self.accepted).sum()),
            float(self.agatston[which].sum()),
            self.flat[which[self.piece]],
        )

    @property
    def fat_share(self) -> NDArray[np.float64]:
        return self.shell[0]

    @property
    def air_share(self) -> NDArray[np.float64]:
        return self.shell[1]


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
    return pieces.mean(pieces.region.ascending.distance_mm(pieces.coarse_k, x, y) < 1.5) > 0.5


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
    return (pieces.depth_mm > 18) & (pieces.fat_share < 0.06)


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
    """In wide blood and muscle, without fat near, a faint speck below blood + 4.5 deviations is a fluctuation."""
    if pieces.region.blood_hu is None or pieces.region.noise_hu is None:
        return np.zeros(pieces.count, bool)
    limit = pieces.region.blood_hu + 4.5 * pieces.region.noise_hu
    return (pieces.peak_hu < limit) & (pieces.fat_share < 0.1) & (pieces.voxels * pieces.ct.pixel_area_mm2 < 6)


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
        ledger.append(pieces.removed(rule.__name__, (rule.__doc__ or "").strip(), removed))
    return left, tuple(ledger)


def find_pieces(ct: CTVolume, region: HeartRegion, found: Candidates, protocol: ScoringProtocol) -> Pieces:
    """Pieces among candidates: islands that reach the minimum area and touch in space, and the small ones apart."""
    if not found.flat.size:
        return Pieces(ct, region, found.flat, found.hu, found.island, np.zeros(0, bool), np.zeros(0))
    accepted = found.accepted[found.island]
    piece = find_islands(found.flat, ct.shape, connectivity=26, group=accepted)
    peak = np.full(len(found.pixels), -np.inf)
    np.maximum.at(peak, found.island, found.hu)
    weight = np.searchsorted(protocol.edges_hu, peak, side="right")
    area = found.pixels * ct.pixel_area_mm2 * found.accepted
    score = area * weight * ct.increment_mm / REFERENCE_INCREMENT_MM
    first = np.unique(piece, return_index=True)[1]
    island_first = np.unique(found.island, return_index=True)[1]
    agatston = np.bincount(piece[island_first], score, minlength=len(first))
    return Pieces(ct, region, found.flat, found.hu, piece, accepted[first], agatston)
