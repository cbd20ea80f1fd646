"""Volume scores. docs/method.md, "Volume"."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.protocol import ScoringProtocol


def volume_voxel_mm3(voxels: int, voxel_volume_mm3: float) -> float:
    """Number of accepted voxels times pixel area times slice increment (not thickness: slices may overlap)."""
    return float(voxels) * voxel_volume_mm3


def isotropic_voxels(
    ct: CTVolume, flat: NDArray[np.int64], ids: NDArray, artery: NDArray, protocol: ScoringProtocol
) -> NDArray[np.int64]:
    """Voxels of each lesion after linear interpolation along z to cubes as high as a pixel is wide.

    Callister et al., Radiology 1998, 208:807; algorithm as emulated by van Praagh et al., Med Phys 2021.
    A cube counts when its interpolated HU reaches the threshold, the pixel is calcium on the slice below or
    above it, and its 2-D island passes the same minimum size. Where pixels are not square, the cube's edge is
    the square root of the pixel area.

    Parameters
    ----------
    ct
        (k, j, i)
    flat
        (n,) C-order indices of the accepted voxels, ascending
    ids, artery
        (n,) lesion and artery of each
    protocol
        Has threshold, connectivity and minimum area.

    Returns
    -------
    NDArray[np.int64]
        (largest id + 1,) cubes per lesion; times the cube of `cube_mm` is the volume
    """
    slices, rows, columns = ct.shape
    counts = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    if not flat.size:
        return counts
    in_slice = rows * columns
    edge_mm = cube_mm(ct)
    planes = np.arange(math.floor((slices - 1) * ct.increment_mm / edge_mm + 1e-9) + 1) * edge_mm / ct.increment_mm
    lower = planes.astype(np.int64)
    fraction = planes - lower
    k = flat // in_slice
    values = ct.hu.ravel()
    rows_of_cubes = []
    # Every accepted voxel offers its column of cubes halfway to, and beyond, both neighbors;
    # a cube offered by the slices on both sides is taken once, from the nearer one.
    for plane in range(planes.size):
        below, f = lower[plane], fraction[plane]
        near_first = (below, below + 1) if f <= 0.5 else (below + 1, below)
        offers = [np.flatnonzero(k == s) for s in near_first if s == below or f > 0]
        offer = np.concatenate(offers)
        pixel = flat[offer] % in_slice
        pixel, first = np.unique(pixel, return_index=True)
        offer = offer[first]
        a = values[below * in_slice + pixel].astype(np.float64)
        b = values[min(below + 1, slices - 1) * in_slice + pixel].astype(np.float64)
        hit = (1 - f) * a + f * b >= protocol.threshold_hu
        rows_of_cubes.append((plane * in_slice + pixel[hit], offer[hit]))
    cubes = np.concatenate([c for c, _ in rows_of_cubes])
    origin = np.concatenate([o for _, o in rows_of_cubes])
    island = label_components(
        cubes, (planes.size, rows, columns), connectivity=protocol.connectivity, group=artery[origin]
    )
    kept = protocol.keeps(np.bincount(island), ct.pixel_area_mm2)[island]
    return np.bincount(ids[origin[kept]], minlength=counts.size)


def cube_mm(ct: CTVolume) -> float:
    """Edge of the isotropic voxel: the pixel size."""
    return math.sqrt(ct.pixel_area_mm2)
