"""Paints the person slice by slice, soft edges and partial volume included, before calcium and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.lesions import Artery
from heartlens.phantom.anatomy import ANGLES, BACK, FROM_BACK, FROM_FRONT, FRONT, LEFT, THETA, Anatomy
from heartlens.phantom.heart import CHAMBER_BLEND_MM, joined
from heartlens.phantom.shapes import FloatArray, Tube, smooth_min

FAT_HU, MUSCLE_HU, MYOCARDIUM_HU, AIR_HU = -103.0, 54.0, 47.0, -1000.0
RENDER_STEP_MM = 0.85
"""Finest in-plane step of the painting; scanners resolve about 1 mm, so finer pixels are interpolated."""


@dataclass(frozen=True)
class Grid:
    """Voxels of the scan in body coordinates.

    Parameters
    ----------
    shape : slices, rows, columns
    spacing_mm : increment, row and column distance
    center_mm : (x, y) of the image center on the table
    bottom_mm : z of the first slice
    turn_deg, shift_mm : how the body lies on the table
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


def render(
    anatomy: Anatomy, grid: Grid, *, thickness_mm: float, fwhm_mm: float, motion_mm: float
) -> NDArray[np.float32]:
    """HU of the person without calcium, noise or artifacts.

    Returns
    -------
    (k, j, i) float32
    """
    slices, rows, columns = grid.shape
    size = [
        max(round(n * d / max(RENDER_STEP_MM, d)), 16) for n, d in zip(grid.shape[1:], grid.spacing_mm[1:], strict=True)
    ]
    painter = Painter(anatomy, grid, (size[0], size[1]), fwhm_mm, motion_mm)
    up_rows, up_columns = _interpolation(size[0], rows), _interpolation(size[1], columns)
    vessels = _lung_vessels(anatomy, grid, (slices, size[0], size[1]), thickness_mm)
    out = np.zeros((slices, rows, columns), np.float32)
    # Each slice is the mean over its thickness: sub-slices on a common raster, shared where slices overlap.
    increment = grid.spacing_mm[0]
    per = max(1, int(np.ceil(increment / 2.0)))
    half = thickness_mm / increment * per / 2
    waiting: dict[int, tuple[NDArray[np.float32], float]] = {}
    for sub in range(int(-np.ceil(half)), (slices - 1) * per + int(np.ceil(half)) + 1):
        weights = {}
        for k in range(max(0, int((sub - half - 1) // per)), min(slices, int((sub + half + 1) // per) + 1)):
            overlap = min(sub + 0.5, k * per + half) - max(sub - 0.5, k * per - half)
            if overlap > 1e-9:
                weights[k] = overlap
        if not weights:
            continue
        image = painter.paint(grid.bottom_mm + sub * increment / per)
        for k, weight in weights.items():
            total, so_far = waiting.get(k, (np.zeros_like(image), 0.0))
            total += np.float32(weight) * image
            waiting[k] = (total, so_far + weight)
        for k in [k for k in waiting if k * per + half <= sub + 0.5 + 1e-9]:
            out[k] = up_rows @ _with_vessels(*waiting.pop(k), vessels[k]) @ up_columns.T
    for k, (total, weight) in waiting.items():
        out[k] = up_rows @ _with_vessels(total, weight, vessels[k]) @ up_columns.T
    return out


def _with_vessels(total: NDArray, weight: float, vessels: NDArray) -> NDArray[np.float32]:
    image = total / np.float32(weight)
    lung = np.clip((-250 - image) / 450, 0, 1)
    return image + vessels * lung * (30 - image)


def beat_mm(anatomy: Anatomy, motion_mm: float, z: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the heart lies from its place when height z is scanned, (..., 3) mm: no slice meets the same phase."""
    at = np.asarray(z, float)
    phase = at * 0.83 + 6.28 * anatomy.vertebra_phase
    swing = np.stack([np.sin(phase), np.cos(1.31 * phase + 1), np.zeros_like(at)], axis=-1)
    return 0.3 * motion_mm * swing


_WRAPS = (
    ("aorta", 3.5, 14.0), ("pulmonary_trunk", 3.0, 14.0), ("svc", 2.5, 12.0), ("pulmonary_right", 1.5, 8.0),
    ("pulmonary_left", 1.5, 8.0), ("ivc", 1.0, 8.0),
)  # fmt: skip
"""Great vessels of the mediastinum: fat around each, and how softly it joins the rest, mm."""

_BED = {Artery.LM: 0.8, Artery.LAD: 0.9, Artery.LCX: 1.3, Artery.RCA: 1.7}


class Sac(NamedTuple):
    """The heart on one plane: distances, mm, on a window of it.

    Parameters
    ----------
    hull : to the pericardium
    surface : to the outside of the chambers
    chambers : to each of them
    """

    window: tuple[slice, slice]
    hull: NDArray[np.float32]
    surface: NDArray[np.float32]
    chambers: dict[str, NDArray[np.float32]]


class Painter:
    """Paints one plane at a time; what depends on x and y alone is computed once."""

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
        fat = anatomy.heart.fat_mm
        apex, floor = anatomy.heart.place([74, 8, -18]), anatomy.heart.place([-8, 40, -42])
        self.pads = ((*apex, 8 + fat), (*floor, 2.2 * fat - 6))  # fat in the angles of heart and diaphragm

    # -- putting material down ---------------------------------------------------------------------------------

    def put(
        self,
        distance: FloatArray | None,
        hu: FloatArray | float,
        window: tuple = (slice(None), slice(None)),
        soft: float = 1.0,
    ) -> None:
        """Replace what is inside `distance` < 0 by a material, with an edge as soft as the scanner's."""
        if distance is None:
            return
        inside = np.clip(np.float32(0.5) - distance / (self.soft * np.float32(soft)), 0, 1)
        view = self.image[window]
        view += inside * (np.asarray(hu, np.float32) - view)

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice] | None:
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

    def tube_window(self, tube: Tube, z: float, margin: float) -> tuple[slice, slice] | None:
        near = np.abs(tube.points[:, 2] - z) < tube.radii + margin
        if not near.any():
            return None
        low = (tube.points[near, :2] - tube.radii[near, None]).min(0)
        high = (tube.points[near, :2] + tube.radii[near, None]).max(0)
        middle = (low + high) / 2
        return self.window(middle[0], middle[1], float((high - low).max()) / 2 + margin)

    def reach_tube(self, tube: Tube, z: float, margin: float) -> tuple[tuple[slice, slice], NDArray[np.float32]] | None:
        """Window and signed distance of a tube on this plane; kept until the next plane."""
        known = self.tubes.get(id(tube))
        if known is not None and known[0] >= margin:
            return known[1]
        window = self.tube_window(tube, z, margin)
        distance = None if window is None else tube.distance(self.x[window], self.y[window], z, margin)
        found = None if window is None or distance is None else (window, distance.astype(np.float32))
        self.tubes[id(tube)] = (margin, found)
        return found

    def put_tube(self, tube: Tube, z: float, hu: FloatArray | float, grow: float = 0.0, soft: float = 1.0) -> None:
        found = self.reach_tube(tube, z, max(grow, 0.0) + 3)
        if found is not None:
            self.put(found[1] - np.float32(grow), hu, found[0], soft)

    def contour(self, radii: NDArray) -> NDArray[np.float32]:
        """Signed radial distance to a contour of the body."""
        return self.radius - radii.astype(np.float32)[self.direction]

    # -- the person --------------------------------------------------------------------------------------------

    def paint(self, z: float) -> NDArray[np.float32]:
        """HU on the plane at height z, mm; the array is reused by the next call."""
        a = self.anatomy
        self.image.fill(AIR_HU)
        self.tubes: dict[int, tuple[float, tuple[tuple[slice, slice], NDArray[np.float32]] | None]] = {}
        # Another part of the texture at every height, drifting slowly: neighbors are alike, far slices are not.
        rows, columns = self.x.shape
        j = int(self.spare * (1 + 0.95 * np.sin(z / 11)))
        i = int(self.spare * (1 + 0.95 * np.cos(z / 17)))
        self.texture, self.fine = (t[j : j + rows, i : i + columns] for t in self.textures)
        self._table()
        self.wall = wall = a.contours(z)
        skin = wall.skin
        self.put(self.contour(skin), 15.0)
        self.put(self.contour(skin - 2.0), FAT_HU + 9 * self.texture)
        self._breast(z, skin)
        self._chest_wall(z)
        pleura = self.contour(wall.pleura)
        self._cavity(z, pleura)
        self._spine(z)
        self._sternum(z)
        return self.image

    def _table(self) -> None:
        a = self.anatomy
        top = self.table_y
        bow = top + 22 - np.sqrt(np.maximum(1.0, 420.0**2 - self.x**2)) + 420 - 22
        shell = np.abs(self.y - bow + self.x**2 * 0.0) - 1.0
        self.put(np.maximum(shell, np.abs(self.x) - 215), -200.0)
        self.put(np.maximum(np.abs(self.y - bow - a.table_mm) - 1.0, np.abs(self.x) - 215), -250.0)
        inside = np.maximum(np.abs(self.y - bow - a.table_mm / 2) - a.table_mm / 2, np.abs(self.x) - 214)
        self.image[(inside < -1.5)] = -960.0

    def _breast(self, z: float, skin: NDArray) -> None:
        a = self.anatomy
        if a.breast_mm < 6 or abs(z) > 70:
            return
        gland = a.breast_mm * 0.55 * np.exp(-((z / 45) ** 2))
        place = np.exp(-(((FROM_FRONT - 0.72) / 0.22) ** 2)) * gland
        outer = skin - 6
        depth = np.maximum(self.contour(outer), -self.contour(outer - place))
        self.put(depth + 3 + 4 * self.texture, 25.0 + 15 * self.fine, soft=3)

    def _chest_wall(self, z: float) -> None:
        a = self.anatomy
        muscle, pleura = self.wall.muscle, self.wall.pleura
        self.put(self.contour(muscle), MUSCLE_HU + 4 * self.fine, soft=1.3)
        # Fat between the layers of muscle: wavy sheets that come and go with the thickness of the wall.
        depth = muscle - pleura - 13
        for share, width in ((0.30, 0.9), (0.62, 1.5), (0.86, 0.8)):
            come_and_go = 0.45 + 0.55 * np.cos(5 * THETA + 9 * share + 6 * a.vertebra_phase)
            thick = np.where(depth > 9, width * np.clip((depth - 9) / 14, 0, 1.4) * come_and_go - 0.3, -3)
            sheet = self.contour(pleura + 13 + depth * share) + 3.2 * self.texture
            fat = np.abs(sheet) - thick.astype(np.float32)[self.direction] - 0.9 * self.fine
            self.put(fat, -85.0, soft=1.4)
        self._axilla(z)
        scapula = np.abs(self.contour(self.wall.blade)) - self.wall.blade_half_mm.astype(np.float32)[self.direction]
        self.put(scapula, 560.0)
        self.put(scapula + 1.6, 210.0 + 30 * self.fine)
        if z > 95:
            self._shoulder(z)
        if z > a.top_mm - 6:
            return
        ribs = self.contour(self.wall.ribs)
        height = _rib_height(a, z).astype(np.float32)[self.direction]
        shell = (np.sqrt((ribs / 4.6) ** 2 + (height / 6.8) ** 2) - 1) * 4.6
        cartilage = (FROM_FRONT < 0.62) & (FROM_FRONT > 0.13)
        bony = ~cartilage & (FROM_FRONT > 0.13) & (FROM_BACK > 0.26)
        shell_bone = np.where(bony[self.direction], shell, 9)
        self.put(shell_bone, 760.0)
        self.put(shell_bone + 1.35, a.bone_hu * 0.75 + 20 + 30 * self.fine)
        shell_cartilage = np.where(cartilage[self.direction], shell + 0.4, 9)
        self.put(shell_cartilage, 92.0 + 10 * self.texture)

    def _axilla(self, z: float) -> None:
        """Fat with nodes and vessels between pectoral muscle and shoulder blade."""
        a = self.anatomy
        if not 45 < z < 150:
            return
        size = 17 * np.exp(-(((z - 95) / 40) ** 2)) + 0.2 * a.fat_mm
        for side in (-1, 1):
            radius = self.wall.pleura[0 if side < 0 else LEFT]
            x0, y0 = side * (float(radius) + 20 + 0.4 * size), -4.0
            window = self.window(x0, y0, size * 1.6)
            if window is None:
                continue
            x, y = self.x[window] - x0, self.y[window] - y0
            fat = np.hypot(x / 0.75, y) - size + 4 * self.texture[window]
            self.put(fat, FAT_HU + 6, window, soft=3)
            self.put(np.maximum(fat + 4, 0.9 - self.fine[window]) * 2.5, 30.0, window, soft=2)

    def _shoulder(self, z: float) -> None:
        """Heads of the arm bones and the collar bones."""
        a = self.anatomy
        for side in (-1, 1):
            x0 = side * (a.half_width_mm + 22)
            window = self.window(x0, 22, 40)
            if window is not None:
                d = np.sqrt((self.x[window] - x0) ** 2 + (self.y[window] - 22) ** 2 + (z - a.top_mm - 8) ** 2) - 23
                self.put(d, 620.0, window)
                self.put(d + 1.8, a.bone_hu + 40 + 40 * self.fine[window], window, soft=1.5)
        self.put_tube(a.clavicles[0], z, 700.0)
        self.put_tube(a.clavicles[0], z, a.bone_hu + 60, grow=-2.0)
        self.put_tube(a.clavicles[1], z, 700.0)
        self.put_tube(a.clavicles[1], z, a.bone_hu + 60, grow=-2.0)

    def _cavity(self, z: float, pleura: NDArray) -> None:
        a = self.anatomy
        self.put(pleura, FAT_HU + 6 * self.fine)
        lung = a.lung_hu + 14 * self.texture + np.float32(0.32) * (self.y - 10)
        below = np.minimum(self.dome - np.float32(z), 60)  # > 0 under the diaphragm
        mediastinum = self._mediastinum(z)
        aerated = smooth_max(np.maximum(pleura + 1.5, below), -mediastinum, 3.0)
        self.put(aerated, lung)
        if z < max(a.dome_right_mm, a.dome_left_mm) + 3:
            self._abdomen(z, pleura, below)
        self._organs(z)

    def _mediastinum(self, z: float) -> NDArray[np.float32]:
        """Signed distance to everything between the lungs; fat fills it."""
        a = self.anatomy
        far = np.full_like(self.x, 30.0)
        heart = a.heart

        def join(distance: FloatArray | None, window: tuple, blend: float) -> None:
            if distance is not None:
                far[window] = smooth_min(far[window], distance.astype(np.float32), blend)

        wraps = [(heart.great[name], grow, blend) for name, grow, blend in _WRAPS]
        wraps += [(tube, 0.5, 6.0) for name, tube in heart.great.items() if name.startswith("vein")]
        wraps += [(heart.great[n], 4.0, 14.0) for n in ("brachiocephalic", "carotid_left", "subclavian_left")]
        wraps += [(tube, 3.5, 12.0) for tube in (*a.airways[:3], a.oesophagus)]
        for tube, grow, blend in wraps:
            found = self.reach_tube(tube, z, 15.0)
            if found is not None:
                join(found[1] - np.float32(grow), found[0], blend)
        self.sac = self._sac(z)
        if self.sac is not None:
            join(self.sac.hull, self.sac.window, 10.0)
        spine = np.hypot(self.x, self.y - np.float32(a.spine_mm(z))) - 23
        join(spine, (slice(None), slice(None)), 16.0)
        # The anterior junction: a line of fat behind the sternum, wider where the thymus was.
        front = np.float32(-self.wall.pleura[FRONT] - 6)
        wide = 3.0 + (4 + 0.8 * heart.fat_mm) * np.exp(-(((z - 62) / 34) ** 2))
        wedge = np.abs(self.x - np.float32(5)) - np.float32(wide)
        join(np.maximum(wedge, np.maximum(self.y - 5, front - self.y)), (slice(None), slice(None)), 18.0)
        for x0, y0, z0, size in self.pads:
            window = self.window(x0, y0, size + 22)
            if size > 4 and window is not None and abs(z - z0) < size + 12:
                d = np.sqrt((self.x[window] - x0) ** 2 + (self.y[window] - y0) ** 2 + (z - z0) ** 2) - size
                join(d, window, 16.0)
        rise = float(np.clip((z - 92) / 30, 0, 1))
        if rise > 0:  # toward the neck the space between the lungs widens
            join(np.hypot(self.x / 1.5, self.y - 6) - 22 * rise, (slice(None), slice(None)), 14.0)
        return far

    def _sac(self, z: float) -> Sac | None:
        """The pericardial sac and the chambers in it; None when the plane misses them."""
        heart = self.anatomy.heart
        center = heart.place([22, 0, 0])
        if abs(z - center[2]) > 88 * heart.size:
            return None
        window = self.window(center[0], center[1], 100 * heart.size)
        if window is None:
            return None
        beat = beat_mm(self.anatomy, self.motion_mm, z)
        x, y = self.x[window] - np.float32(beat[0]), self.y[window] - np.float32(beat[1])
        chambers = {name: chamber.distance(x, y, z) for name, chamber in heart.chambers.items()}
        hull = joined(chambers.values(), 18.0)
        # Fat is thickest in front and at the apex, and next to nothing behind the atria.
        front = np.clip(0.55 - (y - np.float32(center[1] - 8)) / 70, 0.12, 1.5)
        hull = hull - np.float32(0.5 + heart.fat_mm) * front
        return Sac(window, hull, joined(chambers.values(), CHAMBER_BLEND_MM), chambers)

    def _organs(self, z: float) -> None:
        a, heart = self.anatomy, self.anatomy.heart
        blood = a.blood_hu
        found = self.reach_tube(a.oesophagus, z, 12.0)
        if found is not None:  # flat: the tube seen twice, side by side
            window, distance = found
            shift = max(round(3.4 / self.step), 1)
            flat = np.minimum(np.roll(distance, shift, 1), np.roll(distance, -shift, 1))
            self.put(smooth_min(flat, distance, 3.0), 38.0, window)
            if np.sin(z / 13 + a.vertebra_phase * 40) > 0.86:
                self.put(distance + 2.6, -500.0, window)
        self._heart(z)
        for name, tube in heart.great.items():
            if name not in ("aorta", "pulmonary_trunk"):
                self.put_tube(tube, z, blood)
        self.put_tube(heart.great["aorta"], z, blood + 6, soft=1.1)
        self.put_tube(heart.great["aorta"], z, blood, grow=-1.6)
        self.put_tube(heart.great["pulmonary_trunk"], z, blood)
        for airway in a.airways:
            self.put_tube(airway, z, 30.0, grow=1.6)
            self.put_tube(airway, z, -985.0)

    def _heart(self, z: float) -> None:
        heart, blood = self.anatomy.heart, self.anatomy.blood_hu
        sac = self.sac
        if sac is None:
            return
        window = sac.window
        self.put(sac.hull, FAT_HU + 6 * self.texture[window], window)
        ahead = np.where(self.y[window] < heart.crux[1] + 4, np.abs(sac.hull + 0.9) - 0.35, np.float32(9))
        self.put(ahead, 5.0, window)  # the pericardium itself, a thin line where fat lies on both sides
        self.put(sac.surface, blood + 2 * self.texture[window], window, soft=1 + 0.3 * self.motion_mm)
        lv, rv = sac.chambers["lv"], sac.chambers["rv"]
        self.put(np.maximum(lv, -(lv + 9.5)), MYOCARDIUM_HU + 3, window, soft=2.5)
        self.put(np.maximum(sac.surface, np.abs(rv + 1.5) - 1.5), MYOCARDIUM_HU, window, soft=2)
        beat = beat_mm(self.anatomy, self.motion_mm, z)
        arteries = [(tube, _BED[artery]) for artery, tube in heart.arteries.items()]
        arteries += [(tube, 0.6) for _, tube in heart.branches]
        moved = [(Tube(t.points + beat, t.radii), share) for t, share in arteries if t.is_near(z, 12.0)]
        for tube, share in moved:  # each artery has its bed of fat; widest in the right groove
            found = self.reach_tube(tube, z, 12.0)
            if found is not None:
                near, distance = found
                bed = distance - share * (1.2 + 0.5 * heart.fat_mm)
                bed = np.where(self.image[near] > -300, bed + 0.8 * self.texture[near], 9)
                self.put(bed, -92.0, near, soft=2.0)
        for tube, _ in moved:
            self.put_tube(tube, z, blood - 2, soft=1 + 0.15 * self.motion_mm)

    def _abdomen(self, z: float, pleura: NDArray, below: NDArray) -> None:
        """Liver on the right, stomach with gas and fluid, spleen on the left; fat between."""
        inside = np.maximum(pleura + 2.5, -(below - 2))
        self.put(np.maximum(pleura + 1.0, -below), MUSCLE_HU)  # the diaphragm
        self.put(inside, FAT_HU)
        # The left lobe reaches over the midline in front; behind, the liver ends at the spine.
        edge = self.x - np.float32(26) + 0.55 * self.y + np.float32(0.25 * z) - 1.5 * self.texture
        liver = smooth_max(smooth_max(inside, edge, 12.0), self.y - np.float32(52) + 0.55 * self.x, 14.0)
        self.put(liver, 60.0 + 2.5 * self.texture)
        cx, cy = 58.0, -2.0
        stomach = (np.hypot((self.x - cx) / 36, (self.y - cy) / 40) - 1) * 36
        stomach = np.maximum(stomach, inside + 7)
        self.put(stomach, 44.0)
        self.put(np.maximum(stomach + 4, self.y + 14), -940.0)
        self.put(np.maximum(stomach + 4, -14 - self.y), 22.0 + 14 * self.texture)
        spleen = np.maximum((np.hypot((self.x - 88) / 30, (self.y - 48) / 34) - 1) * 30, inside + 3)
        self.put(spleen, 50.0)

    def _spine(self, z: float) -> None:
        a = self.anatomy
        y0 = np.float32(a.spine_mm(z))
        window = self.window(0, float(y0) + 22, 78)
        if window is None:
            return
        x, y = self.x[window], self.y[window] - y0
        turn = (z / a.vertebra_mm + a.vertebra_phase) % 1.0  # 0..1 along one vertebra, disc around 0
        edge = min(turn, 1 - turn) * a.vertebra_mm
        flesh = (np.hypot(x / 40, (y - 32) / 22) - 1) * 25 + 1.5 * self.texture[window]
        self.put(np.where(self.image[window] > -400, flesh, 9), MUSCLE_HU, window, soft=2)
        waist = 1 - 0.09 * np.sin(np.pi * turn)
        body = (((x / (19.5 * waist)) ** 2 + np.abs(y / (16.0 * waist)) ** 2.4) ** 0.45 - 1) * 17
        body = smooth_max(body, y - 12.5 + 0.012 * x * x, 4.0)
        if edge < 3.0:
            self.put(body, 85.0, window)
        else:
            is_plate = edge < 5.2
            self.put(body, 380.0 if is_plate else 520.0, window, soft=1.3)
            self.put(body + (5.0 if is_plate else 1.5), a.bone_hu + 45 * self.fine[window], window, soft=1.6)
        canal = np.hypot(x / 1.1, y - 20.5) - 8.2
        arch = 0.5 + 0.5 * np.cos(2 * np.pi * (turn - 0.62))  # 1 where the arch is whole
        pedicle = np.maximum(np.abs(np.abs(x) - 12.5) - 3.6, np.abs(y - 15) - 7) + (1 - arch) * 7
        lamina = np.maximum(np.abs(np.hypot(x / 1.15, y - 20.5) - 11.0) - 2.3, 14 - y) + (1 - arch) * 2.0
        along = np.abs(x) - 12
        process = np.maximum(np.abs(y - 23 - 0.5 * along) - 4.2, np.maximum(along - 24, -along)) + (1 - arch) * 8
        reach = min(49.0, float(self.wall.skin[BACK] - y0) - 9)
        spinous = np.maximum(np.abs(x) - 2.0 - 0.05 * (y - 30), np.maximum(31 - y, y - reach + 8 * (1 - arch)))
        for part, rim in ((pedicle, 1.5), (process, 1.5), (lamina, 1.3), (spinous, 1.2)):
            self.put(part, 600.0, window)
            self.put(part + rim, a.bone_hu + 70 + 40 * self.fine[window], window, soft=1.4)
        self.put(canal, -20.0, window)
        self.put(np.hypot(x / 1.1, y - 20.5) - 6.3, 26.0, window, soft=1.5)

    def _sternum(self, z: float) -> None:
        a = self.anatomy
        if z < -48 or z > 135:
            return
        y0 = float(-self.wall.pleura[FRONT] - 6)
        window = self.window(0, y0, 50)
        if window is None:
            return
        x, y = self.x[window], self.y[window] - np.float32(y0)
        body = 17 + 3 * np.cos(z / 11 + a.vertebra_phase * 6) - 9 / (1 + np.exp((z + 30) / 6))
        half = body + (11 - 0.1 * abs(z - 112)) / (1 + np.exp(-(z - 92) / 5))
        thick = 5.2 + 1.5 / (1 + np.exp(-(z - 92) / 5))
        bow = y - 0.006 * x * x + 0.6 * self.texture[window]
        bone = np.hypot(np.maximum(np.abs(x) - (half - thick), 0), np.maximum(np.abs(bow) - 1.0, 0)) - thick
        is_joint = abs(z - 92) < 2.5
        self.put(bone, 120.0 if is_joint else 560.0, window)
        if not is_joint:
            self.put(bone + 1.5, a.bone_hu * 0.6 + 30 + 35 * self.fine[window], window, soft=1.4)


def smooth_max(a: FloatArray, b: FloatArray, blend_mm: float) -> FloatArray:
    return -smooth_min(-a, -np.asarray(b, np.float32), blend_mm)


def _rib_height(anatomy: Anatomy, z: float) -> NDArray[np.float64]:
    """(ANGLES,) height above the nearest rib, mm; ribs fall from the spine to the front, cartilage rises again."""
    drop = anatomy.rib_drop_mm * np.clip(FROM_BACK, 0, 2.35) - 26 * np.clip(FROM_BACK - 2.45, 0, 0.7)
    pitch = anatomy.vertebra_mm
    return (z + drop + anatomy.vertebra_phase * pitch + 8 + pitch / 2) % pitch - pitch / 2


def _cloudy(rng: np.random.Generator, shape: tuple[int, ...], coarse: float, fine: float) -> NDArray[np.float32]:
    """Smooth random texture of unit size."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), coarse, mode="wrap")
    field += 0.35 * ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), fine, mode="wrap") * fine / coarse
    return (field / field.std()).clip(-2.5, 2.5)


def _interpolation(n: int, m: int) -> NDArray[np.float32]:
    """(m, n) cubic interpolation from n to m samples over the same length."""
    if n == m:
        return np.eye(n, dtype=np.float32)
    at = (np.arange(m) + 0.5) * n / m - 0.5
    return ndimage.map_coordinates(
        np.eye(n), np.meshgrid(at, np.arange(n), indexing="ij"), order=3, mode="nearest"
    ).astype(np.float32)


def _lung_vessels(
    anatomy: Anatomy, grid: Grid, shape: tuple[int, int, int], thickness_mm: float
) -> NDArray[np.float32]:
    """Share of each voxel that is vessel: trees that branch from both hila to the pleura."""
    rng = np.random.default_rng([*anatomy.seed, 55])
    points, areas = _vessel_tree(anatomy, rng)
    index = grid.index(points)
    _, rows, columns = grid.shape
    index[:, 1] = (index[:, 1] + 0.5) * shape[1] / rows - 0.5
    index[:, 2] = (index[:, 2] + 0.5) * shape[2] / columns - 0.5
    out = np.zeros(shape, np.float32)
    step = grid.shape[1] * grid.spacing_mm[1] / shape[1]
    amount = areas / (step * step * thickness_mm)
    low = np.floor(index[:, 1:]).astype(int)
    part = index[:, 1:] - low
    half = thickness_mm / grid.spacing_mm[0] / 2
    for dk in range(-int(np.ceil(half)), int(np.ceil(half)) + 1):
        k = np.round(index[:, 0]).astype(int) + dk
        share = np.clip(half + 0.5 - np.abs(k - index[:, 0]), 0, 1)
        for dj in (0, 1):
            for di in (0, 1):
                j, i = low[:, 0] + dj, low[:, 1] + di
                ok = (k >= 0) & (k < shape[0]) & (j >= 0) & (j < shape[1]) & (i >= 0) & (i < shape[2]) & (share > 0)
                w = amount * share * np.abs(1 - dj - part[:, 0]) * np.abs(1 - di - part[:, 1])
                flat = (k[ok] * shape[1] + j[ok]) * shape[2] + i[ok]
                out += np.bincount(flat, w[ok], out.size).reshape(shape).astype(np.float32)
    for plane in out:
        ndimage.gaussian_filter(plane, 0.45 / step, output=plane)
    return np.clip(out, 0, 1)


def _vessel_tree(anatomy: Anatomy, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Points along vessels and inside their cross-section, and the volume that each stands for, mm3."""
    trunks, steps = 34, 18
    starts, aims, sides = [], [], []
    for side in (-1, 1):
        great = anatomy.heart.great["pulmonary_right" if side < 0 else "pulmonary_left"]
        hilum = great.points[int(len(great.points) * 0.72)]
        height = 1 - 2 * (np.arange(trunks) + 0.5) / trunks  # spread over the half sphere that looks at this lung
        turn = np.pi * (0.618 * np.arange(trunks) % 1 - 0.5) * 0.96
        flat = np.sqrt(1 - height**2)
        aim = np.stack([side * flat * np.cos(turn), flat * np.sin(turn), height], -1)
        aim += rng.normal(0, 0.15, aim.shape)
        starts.append(hilum + rng.normal(0, (3, 5, 6), aim.shape) + 14 * aim * (0.3, 0.6, 1.0))
        aims.append(aim)
        sides.append(np.full(trunks, side))
    start, aim, side = np.concatenate(starts), np.concatenate(aims), np.concatenate(sides)
    radius = rng.uniform(1.9, 3.5, len(start))
    clouds, volumes = [], []
    while len(start):
        aim /= np.linalg.norm(aim, axis=1, keepdims=True)
        length = rng.uniform(7, 13, len(start)) * radius**0.55 + 3
        bend = np.cumsum(rng.normal(0, 0.032, (len(start), steps, 3)), 1)
        line = start[:, None] + np.cumsum((aim[:, None] + bend) * (length / steps)[:, None, None], 1)
        end = line[:, -1]
        width, depth = anatomy.half_width_mm - 6, anatomy.half_depth_mm + 2
        alive = (np.hypot(end[:, 0] / width, end[:, 1] / depth) < 1) & (side * end[:, 0] > 8)
        start, aim, side, radius = end[alive], (aim + bend[:, -1])[alive], side[alive], radius[alive]
        line, length = line[alive], length[alive]
        e1 = np.cross(aim, (0.31, 0.42, 0.85))
        e1 /= np.linalg.norm(e1, axis=1, keepdims=True)
        e2 = np.cross(aim, e1)
        spread = np.maximum((radius / 0.42) ** 2, 1).astype(int)
        for n in np.unique(spread):  # a sunflower in every cross-section: even, without clumps
            own = spread == n
            seeds = np.arange(n) + 0.5
            r = radius[own, None] * np.sqrt(seeds / n)
            t = 2.39996 * seeds
            disc = (r * np.cos(t))[..., None] * e1[own, None] + (r * np.sin(t))[..., None] * e2[own, None]
            clouds.append((line[own][:, :, None] + disc[:, None]).reshape(-1, 3))
            each = np.pi * radius[own] ** 2 * length[own] / (steps * n)
            volumes.append(np.repeat(each, steps * n))
        go = radius > 0.45
        start, side = np.tile(start[go], (2, 1)), np.tile(side[go], 2)
        main, twig = rng.uniform(0.78, 0.93, go.sum()), rng.uniform(0.42, 0.78, go.sum())
        kick = np.repeat([0.16, 0.42], go.sum())[:, None]
        aim = np.tile(aim[go], (2, 1)) + rng.normal(0, 1, (len(start), 3)) * kick
        radius = np.tile(radius[go], 2) * np.concatenate([main, twig])
    return np.concatenate(clouds), np.concatenate(volumes)
