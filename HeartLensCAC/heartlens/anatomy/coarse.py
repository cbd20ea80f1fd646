"""Block means of a CT, about 3 mm on edge: what anatomy is looked for on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from heartlens.core.ct import CTVolume

EDGE_MM = 3.0
"""Target edge of a block: a coronary groove is 5 to 10 mm wide, a lung border sharper than that."""


@dataclass(frozen=True, eq=False)
class CoarseGrid:
    """A CT in blocks.

    Parameters
    ----------
    hu
        (K, J, I) block means
    block
        CT voxels per block, (slice, row, column)
    spacing_mm
        (slice, row, column)
    x_mm, y_mm, z_mm
        (I,), (J,), (K,) LPS of the block centers; the grid's axes are taken as the patient's, which differ by less than
        8 degrees in a near-axial scan
    outside
        (J, I) blocks outside the scan circle, or at its edge
    """

    hu: NDArray[np.float32]
    block: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    z_mm: NDArray[np.float64]
    outside: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, J, I) of the blocks."""
        k, j, i = self.hu.shape
        return k, j, i

    @property
    def pixel_mm2(self) -> float:
        """Area of a block within its slice, mm2."""
        return self.spacing_mm[1] * self.spacing_mm[2]

    def sample(self, values: NDArray, kji: ArrayLike) -> NDArray:
        """(n,) value of a (K, J, I) array at CT voxels, (n, 3) slice, row, column."""
        blocks = np.asarray(kji) // self.block
        return values[tuple(np.minimum(blocks, np.array(values.shape) - 1).T)]

    def ct_box(self, mask: NDArray[np.bool_], ct: CTVolume, margin_mm: float) -> tuple[slice, slice, slice]:
        """CT voxels around a (K, J, I) mask, and a margin; empty when the mask is."""
        boxes = ndimage.find_objects(mask.astype(np.uint8))
        if not boxes:
            return (slice(0, 0), slice(0, 0), slice(0, 0))
        parts = []
        for axis, part in enumerate(boxes[0]):
            margin = round(margin_mm / ct.spacing_mm[axis])
            # The last block also stands for the voxels at the end that did not fill a block.
            last = part.stop == mask.shape[axis]
            stop = ct.shape[axis] if last else min(ct.shape[axis], part.stop * self.block[axis] + margin)
            parts.append(slice(max(0, part.start * self.block[axis] - margin), stop))
        return parts[0], parts[1], parts[2]


def coarse_grid(ct: CTVolume) -> CoarseGrid:
    """Average a CT in blocks, a slice at a time: no copy of the volume is made."""
    nk, nj, ni = (max(1, min(round(EDGE_MM / step), n)) for step, n in zip(ct.spacing_mm, ct.shape, strict=True))
    k, j, i = ct.shape[0] // nk, ct.shape[1] // nj, ct.shape[2] // ni
    means = np.empty((k, j, i), np.float32)
    wide = np.float32 if ct.hu.dtype == np.float32 else np.int32
    for coarse in range(k):
        part = ct.hu[coarse * nk : (coarse + 1) * nk, : j * nj, : i * ni]
        rows = part.reshape(nk, j, nj, i * ni).sum(axis=(0, 2), dtype=wide)
        means[coarse] = rows.reshape(j, i, ni).sum(axis=2)
    means /= nk * nj * ni
    origin = ct.lps_mm([(nk - 1) / 2, (nj - 1) / 2, (ni - 1) / 2])
    dz, dy, dx = ct.spacing_mm[0] * nk, ct.spacing_mm[1] * nj, ct.spacing_mm[2] * ni
    return CoarseGrid(
        hu=means,
        block=(nk, nj, ni),
        spacing_mm=(dz, dy, dx),
        x_mm=origin[0] + dx * np.arange(i),
        y_mm=origin[1] + dy * np.arange(j),
        z_mm=origin[2] + dz * np.arange(k),
        outside=_outside_the_scan_circle(ct, (nj, ni))[:j, :i],
    )


def _outside_the_scan_circle(ct: CTVolume, block: tuple[int, int]) -> NDArray[np.bool_]:
    """Blocks that touch the filling of the corners, and their neighbors: a mean of filling and body is neither.

    Scanners reconstruct a circle and fill the square with one value. Without this a cropped scan would join the lung,
    which the circle cuts, to the room air in front of the chest.
    """
    few = ct.hu[sorted({0, ct.shape[0] // 2, ct.shape[0] - 1})]
    corner = few[0, 0, 0]
    if not (few[:, [0, 0, -1, -1], [0, -1, 0, -1]] == corner).all():
        return np.zeros((ct.shape[1] // block[0], ct.shape[2] // block[1]), bool)
    labels, _ = ndimage.label((few == corner).all(axis=0))
    filling = np.isin(labels, np.unique(labels[[0, 0, -1, -1], [0, -1, 0, -1]]))
    j, i = ct.shape[1] // block[0], ct.shape[2] // block[1]
    touched = filling[: j * block[0], : i * block[1]].reshape(j, block[0], i, block[1]).any(axis=(1, 3))
    return ndimage.binary_dilation(touched, np.ones((3, 3)))
