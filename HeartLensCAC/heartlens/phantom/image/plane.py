"""One axial plane of the person: materials are put down on it one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.phantom.body.anatomy import ANGLES, BACK, Anatomy
from heartlens.phantom.body.shapes import FloatArray, Tube
from heartlens.phantom.image.grid import Grid

FAT_HU, MUSCLE_HU, AIR_HU = -103.0, 54.0, -1000.0

Window = tuple[slice, slice]
EVERYWHERE: Window = (slice(None), slice(None))


class Plane:
    """One axial plane, moved from height to height; what depends on x and y alone is computed once."""

    def __init__(self, anatomy: Anatomy, grid: Grid, size: tuple[int, int], fwhm_mm: float, motion_mm: float) -> None:
        self.anatomy, self.motion_mm = anatomy, motion_mm
        rows, columns = size
        self.x, self.y = grid.body_plane(rows, columns)
        step = grid.shape[1] * grid.spacing_mm[1] / rows
        self.step = step
        self.soft = np.float32(max(1.25 * fwhm_mm, 1.1 * step))
        self.radius = np.hypot(self.x, self.y)
        angle = np.arctan2(self.y, self.x)
        self.direction = ((angle + np.pi) * (ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
        self.image = np.empty_like(self.x)
        rng = np.random.default_rng([*anatomy.seed, 77])
        self.spare = int(30 / step)
        field = (rows + 2 * self.spare, columns + 2 * self.spare)
        self.table_y = float(anatomy.contours(0.0).skin[BACK]) + 4
        self.textures = (_cloudy(rng, field, 7 / step, 3 / step), _cloudy(rng, field, 2.2 / step, 1.2 / step))
        self.dome = anatomy.dome_mm(self.x, self.y)
        # Fat in the angle of apex and diaphragm: center and size.
        self.pad = (anatomy.heart.place([74, 8, -18]), 8 + anatomy.heart.fat_mm)

    def put(
        self,
        distance: FloatArray | None,
        hu: FloatArray | float,
        window: Window = EVERYWHERE,
        soft: float = 1.0,
    ) -> None:
        """Replace what is inside `distance` < 0 by a material, with an edge as soft as the scanner's."""
        if distance is None:
            return
        inside = np.clip(np.float32(0.5) - distance / (self.soft * np.float32(soft)), 0, 1)
        view = self.image[window]
        view += inside * (np.asarray(hu, np.float32) - view)

    def window(self, x: float, y: float, reach: float) -> Window | None:
        """Pixels within `reach` of a body position; None when outside the image."""
        # Body axes are turned a few degrees only: the bounds of the square in both axes, generously.
        x0, dx = float(self.x[0, 0]), float(self.x[0, 1] - self.x[0, 0])
        y0, dy = float(self.y[0, 0]), float(self.y[1, 0] - self.y[0, 0])
        shear_x = float(self.x[1, 0] - self.x[0, 0])
        shear_y = float(self.y[0, 1] - self.y[0, 0])
        det = dx * dy - shear_x * shear_y
        column = ((x - x0) * dy - (y - y0) * shear_x) / det
        row = ((y - y0) * dx - (x - x0) * shear_y) / det
        r = reach / min(abs(dx), abs(dy)) * 1.02 + 1
        rows = slice(max(int(row - r), 0), min(int(row + r) + 2, self.x.shape[0]))
        columns = slice(max(int(column - r), 0), min(int(column + r) + 2, self.x.shape[1]))
        return None if rows.start >= rows.stop or columns.start >= columns.stop else (rows, columns)

    def tube_window(self, tube: Tube, z: float, margin: float) -> Window | None:
        """Window around the part of a tube near height `z`, `margin` mm wider; None when there is none."""
        near = np.abs(tube.points[:, 2] - z) < tube.radii + margin
        if not near.any():
            return None
        low = (tube.points[near, :2] - tube.radii[near, None]).min(0)
        high = (tube.points[near, :2] + tube.radii[near, None]).max(0)
        middle = (low + high) / 2
        return self.window(middle[0], middle[1], float((high - low).max()) / 2 + margin)

    def reach_tube(self, tube: Tube, z: float, margin: float) -> tuple[Window, NDArray[np.float32]] | None:
        """Window and signed distance of a tube on this plane; kept until the next plane."""
        known = self.tubes.get(tube)
        if known is not None and known[0] >= margin:
            return known[1]
        window = self.tube_window(tube, z, margin)
        distance = None if window is None else tube.distance(self.x[window], self.y[window], z, margin)
        found = None if window is None or distance is None else (window, distance.astype(np.float32))
        self.tubes[tube] = (margin, found)
        return found

    def put_tube(self, tube: Tube, z: float, hu: FloatArray | float, grow: float = 0.0, soft: float = 1.0) -> None:
        """Fill a tube, grown by `grow` mm, with `hu` on the plane at height `z`."""
        found = self.reach_tube(tube, z, max(grow, 0.0) + 3)
        if found is not None:
            self.put(found[1] - np.float32(grow), hu, found[0], soft)

    def contour(self, radii: NDArray) -> NDArray[np.float32]:
        """Signed radial distance to a contour of the body."""
        return self.radius - radii.astype(np.float32)[self.direction]

    def move_to(self, z: float) -> None:
        """Start the plane at height z, mm, with nothing but air."""
        self.image.fill(AIR_HU)
        self.wall = self.anatomy.contours(z)
        self.tubes: dict[Tube, tuple[float, tuple[Window, NDArray[np.float32]] | None]] = {}
        # Another part of the texture at every height, drifting slowly: neighbors are alike, far slices are not.
        rows, columns = self.x.shape
        j = int(self.spare * (1 + 0.95 * np.sin(z / 11)))
        i = int(self.spare * (1 + 0.95 * np.cos(z / 17)))
        self.texture, self.fine = (t[j : j + rows, i : i + columns] for t in self.textures)


def _cloudy(rng: np.random.Generator, shape: tuple[int, ...], coarse: float, fine: float) -> NDArray[np.float32]:
    """Smooth random texture of unit size."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), coarse, mode="wrap")
    field += 0.35 * ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), fine, mode="wrap") * fine / coarse
    return (field / field.std()).clip(-2.5, 2.5)
