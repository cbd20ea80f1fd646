"""Pieces of voxels above the threshold near the heart, and what can be measured of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion
from heartlens.calcium.extraction import Candidates
from heartlens.calcium.rings import Ring, find_rings
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.protocol import REFERENCE_INCREMENT_MM, ScoringProtocol
from heartlens.scoring.agatston import weigh_components

LARGE_MM3 = 6000.0
"""The calcium of one artery is smaller, even when it scores thousands."""

FAT_HU = (-170.0, -25.0)
AIR_BELOW_HU = -300.0

SHELL_MM = (2.0, 3.5, 5.0)
"""How far from a voxel of a piece its surroundings are read."""

SHELL_VOXELS = 48
"""At most so many voxels of a piece are asked for their surroundings."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces above the threshold and what surrounds them.

    Parameters
    ----------
    ct
        The scan.
    region
        Heart and aorta of the scan.
    flat
        (n,) C-order indices into the CT, ascending
    hu
        (n,)
    piece
        (n,) piece of each voxel, 0-based
    accepted
        (pieces,) bool: islands of this piece reach the minimum area
    agatston
        (pieces,)
    threshold_hu
        Threshold that the voxels reach.
    """

    ct: CTVolume
    region: HeartRegion
    flat: NDArray[np.int64]
    hu: NDArray
    piece: NDArray[np.int64]
    accepted: NDArray[np.bool_]
    agatston: NDArray[np.float64]
    threshold_hu: float

    @property
    def count(self) -> int:
        """Number of pieces."""
        return len(self.accepted)

    def mean(self, values: NDArray) -> NDArray[np.float64]:
        """(pieces,) mean of a value per voxel."""
        total = np.bincount(self.piece, values.astype(np.float64), minlength=self.count)
        return np.asarray(total / self.voxels, np.float64)

    def largest(self, values: NDArray) -> NDArray[np.float64]:
        """(pieces,) maximum of a value per voxel."""
        out = np.full(self.count, -np.inf)
        np.maximum.at(out, self.piece, values)
        return out

    @cached_property
    def voxels(self) -> NDArray[np.int64]:
        """(pieces,) number of voxels."""
        return np.bincount(self.piece, minlength=self.count)

    @cached_property
    def volume_mm3(self) -> NDArray[np.float64]:
        """(pieces,) volume of the voxels, mm3."""
        return np.asarray(self.voxels * self.ct.voxel_volume_mm3, np.float64)

    @cached_property
    def largest_area_mm2(self) -> NDArray[np.float64]:
        """(pieces,) area in the slice where it is largest."""
        in_slice = self.piece * self.ct.shape[0] + self.kji[:, 0]
        each, pixels = np.unique(in_slice, return_counts=True)
        most = np.zeros(self.count)
        np.maximum.at(most, each // self.ct.shape[0], pixels)
        return np.asarray(most * self.ct.pixel_area_mm2, np.float64)

    @cached_property
    def peak_hu(self) -> NDArray[np.float64]:
        """(pieces,) largest HU."""
        return self.largest(self.hu)

    @cached_property
    def mean_hu(self) -> NDArray[np.float64]:
        """(pieces,) mean HU."""
        return self.mean(self.hu)

    @cached_property
    def kji(self) -> NDArray[np.int64]:
        """(n, 3) slice, row, column of each voxel."""
        return np.stack(np.unravel_index(self.flat, self.ct.shape), axis=1)

    @cached_property
    def lps_mm(self) -> NDArray[np.float64]:
        """(n, 3) LPS of each voxel, mm."""
        return self.ct.lps_mm(self.kji)

    @cached_property
    def coarse_k(self) -> NDArray[np.int64]:
        """(n,) slice of the coarse grid."""
        return np.minimum(self.kji[:, 0] // self.region.grid.block[0], self.region.grid.shape[0] - 1)

    @cached_property
    def center_mm(self) -> NDArray[np.float64]:
        """(pieces, 3) LPS of the mean of the voxels, mm."""
        return np.stack([self.mean(axis) for axis in self.lps_mm.T], axis=1)

    @cached_property
    def extent_mm(self) -> NDArray[np.float64]:
        """(pieces, 3) size along x, y, z."""
        span = [
            self.largest(a) + self.largest(-a) + step
            for a, step in zip(self.lps_mm.T, self.ct.spacing_mm[::-1], strict=True)
        ]
        return np.stack(span, axis=1)

    @cached_property
    def in_zone(self) -> NDArray[np.float64]:
        """(pieces,) share in the zone of the heart."""
        return self.mean(self.region.grid.sample(self.region.zone, self.kji))

    @cached_property
    def depth_mm(self) -> NDArray[np.float64]:
        """(pieces,) distance to the outside of the heart, in the slice."""
        return self.mean(self.region.grid.sample(self.region.depth_mm, self.kji))

    def above_noise_hu(self, deviations: NDArray[np.float64]) -> NDArray[np.float64]:
        """(pieces,) HU so many standard deviations of noise above blood; minus infinity where neither is known."""
        if self.region.blood_hu is None or self.region.noise_hu is None:
            return np.full(self.count, -np.inf)
        return self.region.blood_hu + deviations * self.region.noise_hu

    @cached_property
    def rings(self) -> list[Ring]:
        """Calcified vessel walls among the pieces in the heart that reach the minimum area."""
        inside = self.accepted & (self.in_zone > 0.5) & (self.volume_mm3 < LARGE_MM3)
        inside &= self.peak_hu > self.above_noise_hu(np.full(self.count, 6.0))
        return find_rings(self.ct, self.kji[inside[self.piece]])

    @cached_property
    def shell(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Share of fat and of air, (pieces,) each, within 5 mm in the slice; share of air within 2 mm."""
        order = np.argsort(self.piece, kind="stable")
        first = np.concatenate([[0], np.cumsum(self.voxels)])[:-1]
        rank = np.arange(order.size) - first[self.piece[order]]
        stride = -(-self.voxels // SHELL_VOXELS)
        sampled = order[rank % stride[self.piece[order]] == 0]
        kji, piece = self.kji[sampled], self.piece[sampled]
        _, dy, dx = self.ct.spacing_mm
        angle = np.arange(12) * (2 * np.pi / 12)
        fat, air, shell_voxels = (np.zeros(self.count) for _ in range(3))
        close_air, close_seen = np.zeros(self.count), np.zeros(self.count)
        for ring in SHELL_MM:
            for dj, di in zip(ring * np.sin(angle) / dy, ring * np.cos(angle) / dx, strict=True):
                j = np.clip(kji[:, 1] + round(dj), 0, self.ct.shape[1] - 1)
                i = np.clip(kji[:, 2] + round(di), 0, self.ct.shape[2] - 1)
                value = self.ct.hu[kji[:, 0], j, i]
                outside = value < self.threshold_hu
                fat += np.bincount(piece, (value > FAT_HU[0]) & (value < FAT_HU[1]), minlength=self.count)
                is_air = np.bincount(piece, value < AIR_BELOW_HU, minlength=self.count)
                air += is_air
                here = np.bincount(piece, outside, minlength=self.count)
                shell_voxels += here
                if ring == SHELL_MM[0]:
                    close_air += is_air
                    close_seen += here
        return (
            fat / np.maximum(shell_voxels, 1),
            air / np.maximum(shell_voxels, 1),
            close_air / np.maximum(close_seen, 1),
        )

    @property
    def fat_share(self) -> NDArray[np.float64]:
        """(pieces,) share of fat within 5 mm in the slice, 0 to 1."""
        return self.shell[0]

    @property
    def air_share(self) -> NDArray[np.float64]:
        """(pieces,) share of air within 5 mm in the slice, 0 to 1."""
        return self.shell[1]


def find_pieces(ct: CTVolume, region: HeartRegion, candidates: Candidates, protocol: ScoringProtocol) -> Pieces:
    """Pieces among candidates: islands that reach the minimum area and touch in space, and the small ones apart."""
    if not candidates.flat.size:
        nothing = np.zeros(0)
        return Pieces(
            ct,
            region,
            candidates.flat,
            candidates.hu,
            candidates.island,
            np.zeros(0, bool),
            nothing,
            protocol.label_threshold_hu,
        )
    accepted = candidates.accepted[candidates.island]
    piece = label_components(candidates.flat, ct.shape, connectivity=26, group=accepted)
    components = weigh_components(
        candidates.flat,
        candidates.hu,
        np.ones(candidates.flat.size, np.uint8),
        ct.shape,
        protocol=protocol,
        pixel_area_mm2=ct.pixel_area_mm2,
    )
    first = np.unique(piece, return_index=True)[1]
    per_voxel = components.weight[components.of_voxel] * ct.pixel_area_mm2 * ct.increment_mm / REFERENCE_INCREMENT_MM
    agatston = np.asarray(np.bincount(piece, per_voxel, minlength=len(first)), np.float64)
    return Pieces(
        ct, region, candidates.flat, candidates.hu, piece, accepted[first], agatston, protocol.label_threshold_hu
    )
