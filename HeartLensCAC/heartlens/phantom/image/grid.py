"""Where the voxels of a scan lie in the person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.phantom.body.shapes import FloatArray


@dataclass(frozen=True)
class Grid:
    """Voxels of the scan in body coordinates.

    Parameters
    ----------
    shape
        Slices, rows, columns.
    spacing_mm
        Increment, row and column distance.
    center_mm
        (x, y) of the image center on the table
    bottom_mm
        z of the first slice
    turn_deg, shift_mm
        How the body lies on the table.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    center_mm: tuple[float, float]
    bottom_mm: float
    turn_deg: float
    shift_mm: tuple[float, float]

    def affine(self) -> NDArray[np.float64]:
        """(4, 4), maps (i, j, k, 1) to LPS mm."""
        dz, dy, dx = self.spacing_mm
        _, rows, columns = self.shape
        affine = np.diag([dx, dy, dz, 1.0])
        affine[0, 3] = round(self.center_mm[0] - (columns - 1) / 2 * dx, 4)
        affine[1, 3] = round(self.center_mm[1] - (rows - 1) / 2 * dy, 4)
        affine[2, 3] = self.bottom_mm
        return affine

    def table_from_body(self, points: FloatArray) -> NDArray[np.float64]:
        """(n, 3) body to table coordinates: turn about z, then shift."""
        cos, sin = np.cos(np.deg2rad(self.turn_deg)), np.sin(np.deg2rad(self.turn_deg))
        points = np.asarray(points, float)
        x = cos * points[..., 0] - sin * points[..., 1] + self.shift_mm[0]
        y = sin * points[..., 0] + cos * points[..., 1] + self.shift_mm[1]
        return np.stack([x, y, points[..., 2]], axis=-1)

    def index(self, points: FloatArray) -> NDArray[np.float64]:
        """(n, 3) body coordinates to fractional slice, row, column."""
        table = self.table_from_body(points)
        _, rows, columns = self.shape
        return np.stack(
            [
                (table[..., 2] - self.bottom_mm) / self.spacing_mm[0],
                (table[..., 1] - self.center_mm[1]) / self.spacing_mm[1] + (rows - 1) / 2,
                (table[..., 0] - self.center_mm[0]) / self.spacing_mm[2] + (columns - 1) / 2,
            ],
            axis=-1,
        )

    def body_plane(self, rows: int, columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Body x and y at the pixels of a (rows, columns) raster over the same field of view."""
        _, dy, dx = self.spacing_mm
        height, width = self.shape[1] * dy, self.shape[2] * dx
        v = ((np.arange(rows) + 0.5) / rows - 0.5) * height + self.center_mm[1] - self.shift_mm[1]
        u = ((np.arange(columns) + 0.5) / columns - 0.5) * width + self.center_mm[0] - self.shift_mm[0]
        cos, sin = np.cos(np.deg2rad(self.turn_deg)), np.sin(np.deg2rad(self.turn_deg))
        x = cos * u[None, :] + sin * v[:, None]
        y = -sin * u[None, :] + cos * v[:, None]
        return x.astype(np.float32), y.astype(np.float32)
