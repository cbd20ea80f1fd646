"""Which voxels count: at the threshold, in lesions of the least area, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.scoring.agatston import SliceComponents, weigh_components


class Labeled(NamedTuple):
    """Labels of some voxels of a volume, without the empty ones.

    Parameters
    ----------
    flat
        (n,) int64, C-order indices into (k, j, i), ascending
    codes
        (n,) `Artery` code of each
    """

    flat: NDArray[np.int64]
    codes: NDArray[np.uint8]


def counted_voxels(ct: CTVolume, lesions: LesionMap, protocol: ScoringProtocol) -> Labeled:
    """The voxels that count for Agatston."""
    counted = _Counted.of(ct, lesions, protocol)
    kept = counted.weight > 0
    return Labeled(counted.flat[kept], counted.artery[kept])


def scored_voxels(ct: CTVolume, lesions: LesionMap, protocol: ScoringProtocol) -> NDArray[np.uint8]:
    """(k, j, i) `Artery` code of the voxels that count for Agatston; what every exported segmentation holds."""
    counted = counted_voxels(ct, lesions, protocol)
    codes = np.zeros(ct.shape, np.uint8)
    np.put(codes, counted.flat, counted.codes)
    return codes


@dataclass(frozen=True)
class _Counted:
    """The voxels that count: for Agatston (weight > 0), and for volume and mass."""

    flat: NDArray[np.int64]  # (n,) voxels at or above the threshold
    ids: NDArray[np.uint16]
    hu: NDArray[np.float64]
    artery: NDArray[np.uint8]
    weight: NDArray[np.int64]  # (n,) of each voxel's island
    components: SliceComponents
    first_voxel: NDArray[np.int64]  # (m,) position in `flat` of one voxel of each island
    volume_ids: NDArray[np.uint16]  # (p,) lesion of each voxel that counts for volume
    volume_hu: NDArray[np.float64]

    @classmethod
    def of(cls, ct: CTVolume, lesions: LesionMap, protocol: ScoringProtocol) -> _Counted:
        voxels = lesions.voxels
        hu = ct.hu.ravel()[voxels.flat].astype(np.float64)
        artery = lesions.artery_of_voxels()

        def islands_of(chosen: NDArray[np.bool_]) -> SliceComponents:
            return weigh_components(
                voxels.flat[chosen],
                hu[chosen],
                artery[chosen],
                ct.shape,
                protocol=protocol,
                pixel_area_mm2=ct.pixel_area_mm2,
            )

        bright = hu >= protocol.threshold_hu
        components = islands_of(bright)
        weight = components.weight[components.of_voxel]
        if protocol.volume_above_hu is None:
            counts = np.flatnonzero(bright)[weight > 0]
        else:
            above = hu > protocol.volume_above_hu
            lower = islands_of(above)
            counts = np.flatnonzero(above)[lower.kept[lower.of_voxel]]
        return cls(
            flat=voxels.flat[bright],
            ids=voxels.ids[bright],
            hu=hu[bright],
            artery=artery[bright],
            weight=weight,
            components=components,
            first_voxel=np.unique(components.of_voxel, return_index=True)[1],
            volume_ids=voxels.ids[counts],
            volume_hu=hu[counts],
        )
