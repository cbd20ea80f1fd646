"""Whether two voxel grids are the same grid, and which voxel of one is which of the other.

Segmentations are never resampled: a voxel either is a voxel of the CT, or the file is refused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused

GRID_TOLERANCE = 0.05
"""How far a voxel may lie from its counterpart, in voxels. NIfTI keeps affines as float32 and other programs write
positions with few digits, which moves the far corner of a chest by some hundredths of a voxel."""


class IndexMap(NamedTuple):
    """Index of a voxel on the CT grid: ``turn @ (i, j, k) + shift``.

    Parameters
    ----------
    turn
        (3, 3) int64, a permutation with signs
    shift
        (3,) int64
    """

    turn: NDArray[np.int64]
    shift: NDArray[np.int64]

    def flat(self, ijk: NDArray[np.integer], ct: CTVolume, what: str) -> NDArray[np.int64]:
        """C-order indices on the CT grid of voxels of the other grid.

        Parameters
        ----------
        ijk
            (n, 3) column, row, slice on the other grid
        ct
            The CT whose grid is meant.
        what
            The thing that is mapped, for the message.

        Raises
        ------
        InputRefused
            ``grid``, when a voxel lies outside the CT
        """
        i, j, k = (np.asarray(ijk, dtype=np.int64) @ self.turn.T + self.shift).T
        slices, rows, columns = ct.shape
        outside = (i < 0) | (i >= columns) | (j < 0) | (j >= rows) | (k < 0) | (k >= slices)
        if outside.any():
            raise InputRefused(
                "grid",
                f"{what}: expected every labeled voxel inside the CT ({columns} x {rows} x {slices} voxels), "
                f"found {int(outside.sum())} outside; export the segmentation with this CT as reference",
            )
        return (k * rows + j) * columns + i


def ijk_of(flat: NDArray[np.integer], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(n, 3) column, row, slice of C-order indices into a (k, j, i) array."""
    return np.stack(np.unravel_index(flat, shape)[::-1], axis=-1)


def index_map(
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    ct: CTVolume,
    what: str,
    *,
    tolerance: float = GRID_TOLERANCE,
) -> IndexMap:
    """How a grid that is the CT's but for axis order, direction and extent lies on it.

    Parameters
    ----------
    shape
        (k, j, i) of the other grid
    affine
        (4, 4), maps (i, j, k, 1) of the other grid to LPS mm
    ct
        The CT.
    what
        Names the other grid in the message.
    tolerance
        In voxels of the CT.

    Raises
    ------
    InputRefused
        ``grid``, when voxels do not fall on voxels
    """
    if np.isfinite(affine).all():
        exact = np.linalg.solve(ct.affine, affine)
        turn, shift = np.rint(exact[:3, :3]), np.rint(exact[:3, 3])
        if (np.abs(turn).sum(0) == 1).all() and (np.abs(turn).sum(1) == 1).all():
            k, j, i = shape
            corners = np.stack(np.meshgrid([0, i - 1], [0, j - 1], [0, k - 1], indexing="ij"), -1).reshape(-1, 3)
            off = corners @ (exact[:3, :3] - turn).T + exact[:3, 3] - shift
            if np.abs(off).max() <= tolerance:
                return IndexMap(turn.astype(np.int64), shift.astype(np.int64))
    raise InputRefused(
        "grid",
        f"{what}: expected the grid of the CT, {_described(ct.shape, ct.affine)}; found {_described(shape, affine)}; "
        "resample it to the CT with nearest neighbor, or export it with this CT as reference",
    )


def require_same_extent(shape: tuple[int, int, int], mapping: IndexMap, ct: CTVolume, what: str) -> None:
    """Refuse a grid that covers less or more than the CT.

    Raises
    ------
    InputRefused
        ``grid``
    """
    last = np.array(shape[::-1]) - 1
    ends = np.stack([mapping.shift, mapping.turn @ last + mapping.shift])
    low, high = ends.min(0), ends.max(0)
    if (low != 0).any() or (high + 1 != np.array(ct.shape[::-1])).any():
        raise InputRefused(
            "grid",
            f"{what}: expected {_sizes(ct.shape)} voxels, all of the CT; found {_sizes(shape)}, which cover columns "
            f"{low[0]} to {high[0]}, rows {low[1]} to {high[1]}, slices {low[2]} to {high[2]} of it",
        )


def _sizes(shape: tuple[int, int, int]) -> str:
    return " x ".join(str(n) for n in shape[::-1])


def _described(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> str:
    spacing = " x ".join(f"{d:.6g}" for d in np.linalg.norm(affine[:3, :3], axis=0))
    first = ", ".join(f"{x:.6g}" for x in affine[:3, 3])
    last = ", ".join(f"{x:.6g}" for x in affine[:3, :3] @ (np.array(shape[::-1]) - 1) + affine[:3, 3])
    return f"{_sizes(shape)} voxels of {spacing} mm from ({first}) to ({last}) mm LPS"
