"""Paints the person slice by slice, soft edges and partial volume included, before calcium and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.phantom.anatomy import ANGLES, FROM_BACK, FROM_FRONT, Anatomy
from heartlens.phantom.shapes import FloatArray, Tube, smooth_min

FAT_HU, MUSCLE_HU, MYOCARDIUM_HU, AIR_HU = -103.0, 54.0, 47.0, -1000.0
RENDER_STEP_MM = 0.8
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

    def z_mm(self, k: float) -> float:
        return self.bottom_mm + k * self.spacing_mm[0]

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


def render(anatomy: Anatomy, grid: Grid, thickness_mm: float, fwhm_mm: float) -> NDArray[np.float32]:
    """HU of the person without calcium, noise or artifacts.

    Returns
    -------
    (k, j, i) float32
    """
    slices, rows, columns = grid.shape
    size = [
        max(round(n * d / max(RENDER_STEP_MM, d)), 16) for n, d in zip(grid.shape[1:], grid.spacing_mm[1:], strict=True)
    ]
    painter = Painter(anatomy, grid, size[0], size[1], fwhm_mm)
    up_rows, up_columns = _interpolation(size[0], rows), _interpolation(size[1], columns)
    vessels = _lung_vessels(anatomy, grid, (slices, size[0], size[1]), thickness_mm)
    out = np.zeros((slices, rows, columns), np.float32)
    # Each slice is the mean over its thickness: sub-slices on a common raster, shared where slices overlap.
    increment = grid.spacing_mm[0]
    per = max(1, int(np.ceil(increment / 1.7)))
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


class Painter:
    """Paints one plane at a time; what depends on x and y alone is computed once."""

    def __init__(self, anatomy: Anatomy, grid: Grid, rows: int, columns: int, fwhm_mm: float) -> None:
        self.anatomy = anatomy
        self.x, self.y = grid.body_plane(rows, columns)
        step = grid.shape[1] * grid.spacing_mm[1] / rows
        self.step = step
        self.soft = np.float32(max(1.25 * fwhm_mm, 1.1 * step))
        self.radius = np.hypot(self.x, self.y)
        angle = np.arctan2(self.y, self.x)
        self.direction = ((angle + np.pi) * (ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
        self.image = np.empty_like(self.x)
        rng = np.random.default_rng([*anatomy.seed, 77])
        self.texture = _cloudy(rng, self.x.shape, 7 / step, 3 / step)
        self.fine = _cloudy(rng, self.x.shape, 2.2 / step, 1.2 / step)
        self.dome = anatomy.dome_mm(self.x, self.y)
        self.tubes_bounds: dict[int, tuple] = {}

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

    def put_tube(self, tube: Tube, z: float, hu: FloatArray | float, grow: float = 0.0, soft: float = 1.0) -> None:
        window = self.tube_window(tube, z, grow + 3)
        if window is not None:
            tube = tube.inflated(grow) if grow else tube
            self.put(tube.distance(self.x[window], self.y[window], z), hu, window, soft)

    def contour(self, radii: NDArray) -> NDArray[np.float32]:
        """Signed radial distance to a contour of the body."""
        return self.radius - radii.astype(np.float32)[self.direction]

    # -- the person --------------------------------------------------------------------------------------------

    def paint(self, z: float) -> NDArray[np.float32]:
        """HU on the plane at height z, mm; the array is reused by the next call."""
        a = self.anatomy
        self.image.fill(AIR_HU)
        self._table()
        skin = a.skin(z)
        self.put(self.contour(skin), 15.0)
        self.put(self.contour(skin - 2.0), FAT_HU + 9 * self.texture)
        self._breast(z, skin)
        self._chest_wall(z)
        pleura = self.contour(a.pleura(z))
        self._cavity(z, pleura)
        self._spine(z)
        self._sternum(z)
        return self.image

    def _table(self) -> None:
        a = self.anatomy
        top = float(a.skin(0)[ANGLES * 3 // 4]) + 4
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
        muscle = a.muscle(z)
        wall = self.contour(muscle)
        self.put(wall, MUSCLE_HU + 5 * self.fine, soft=1.3)
        # Fat between the layers of muscle: two wavy sheets.
        pleura = a.pleura(z)
        for share, width in ((0.42, 1.2), (0.72, 0.9)):
            sheet = pleura + 12 + (muscle - pleura - 12) * share
            thick = np.where(muscle - pleura > 19, width * np.clip((muscle - pleura - 19) / 8, 0, 1.6), -1)
            distance = np.abs(self.contour(sheet) + 2.5 * self.texture) - thick.astype(np.float32)[self.direction]
            self.put(distance, -80.0, soft=1.4)
        # Endothoracic fat inside the ribs, then ribs.
        ribs = self.contour(a.rib_center(z))
        e = _rib_height(a, z)
        shell = np.sqrt((ribs / 4.2) ** 2 + (e.astype(np.float32)[self.direction] / 6.6) ** 2)
        near_front = FROM_FRONT
        cartilage = (near_front < 0.62) & (near_front > 0.14)
        bony = (~cartilage & (near_front > 0.14))[self.direction]
        distance = (shell - 1) * 4.2
        self.put(np.where(bony, distance, 9), 620.0)
        self.put(np.where(bony, distance + 1.9, 9), a.bone_hu * 0.8 + 30)
        self.put(np.where(cartilage[self.direction], distance * 1.1, 9), 95.0 + 12 * self.texture)

    def _cavity(self, z: float, pleura: NDArray) -> None:
        a = self.anatomy
        self.put(pleura, FAT_HU)
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

        for name, grow, blend in (
            ("aorta", 3.5, 14.0),
            ("pulmonary_trunk", 3.0, 14.0),
            ("svc", 2.5, 12.0),
            ("pulmonary_right", 1.5, 8.0),
            ("pulmonary_left", 1.5, 8.0),
            ("ivc", 1.5, 8.0),
        ):
            tube = heart.great[name].inflated(grow)
            window = self.tube_window(tube, z, 22)
            if window is not None:
                join(tube.distance(self.x[window], self.y[window], z, 22), window, blend)
        for name in heart.great:
            if name.startswith("vein"):
                window = self.tube_window(heart.great[name], z, 8)
                if window is not None:
                    join(heart.great[name].distance(self.x[window], self.y[window], z, 8), window, 6.0)
        for tube, grow in ((a.airways[0], 5.0), (a.airways[1], 3.5), (a.airways[2], 3.5), (a.oesophagus, 3.0)):
            tube = tube.inflated(grow)
            window = self.tube_window(tube, z, 18)
            if window is not None:
                join(tube.distance(self.x[window], self.y[window], z, 18), window, 12.0)
        sac = self._sac(z)
        if sac is not None:
            join(*sac, 14.0)
        spine = np.hypot(self.x, self.y - np.float32(a.spine_mm(z))) - 23
        join(spine, (slice(None), slice(None)), 16.0)
        # The anterior junction: a wedge of fat behind the sternum, wide low down and a line high up.
        front = a.sternum_mm(z)
        wide = 9 + 16 * np.exp(-(((z - 20) / 60) ** 2))
        wedge = np.abs(self.x - np.float32(4)) - np.float32(wide) * np.clip((self.y - front) / -70 + 1, 0.05, 1)
        join(np.maximum(wedge, self.y - np.float32(0)), (slice(None), slice(None)), 14.0)
        if z > 95:  # vessels of the neck and upper mediastinum
            join(np.hypot(self.x / 1.5, self.y - 6) - 24, (slice(None), slice(None)), 14.0)
        return far

    def _sac(self, z: float) -> tuple[NDArray, tuple] | None:
        """Pericardial sac: the chambers in a smooth hull of fat."""
        heart = self.anatomy.heart
        center = heart.place([22, 0, 0])
        if abs(z - center[2]) > 95 * heart.size:
            return None
        window = self.window(center[0], center[1], 105 * heart.size)
        if window is None:
            return None
        hull = heart.surface(self.x[window], self.y[window], z, blend_mm=34.0)
        # Fat is thickest over the right ventricle and at the apex.
        along = (self.x[window] - center[0]) * heart.axes[0, 0] + (self.y[window] - center[1]) * heart.axes[0, 1]
        return hull - np.float32(heart.fat_mm + 2.0) * np.clip(0.6 + along / 70, 0.4, 2.0), window

    def _organs(self, z: float) -> None:
        a, heart = self.anatomy, self.anatomy.heart
        blood = a.blood_hu
        eso = a.oesophagus
        self.put_tube(eso, z, 45.0)
        for name, tube in heart.great.items():
            if name in ("ivc", "svc") or name.startswith("vein") or name.startswith("pulmonary"):
                self.put_tube(tube, z, blood)
        self._heart(z)
        self.put_tube(heart.great["aorta"], z, blood + 6, soft=1.1)
        self.put_tube(heart.great["aorta"], z, blood, grow=-1.6)
        self.put_tube(heart.great["pulmonary_trunk"], z, blood)
        for airway in a.airways:
            self.put_tube(airway, z, 35.0, grow=1.8)
            self.put_tube(airway, z, -975.0)
        if z > 95:
            for x, y, r in ((-30, -18, 7.5), (22, -22, 7), (-14, 0, 6), (22, 12, 5), (8, -8, 4.5)):
                window = self.window(x, y, 14)
                if window:
                    self.put(np.hypot(self.x[window] - x, self.y[window] - y) - r, blood, window)

    def _heart(self, z: float) -> None:
        heart, blood = self.anatomy.heart, self.anatomy.blood_hu
        center = heart.place([22, 0, 0])
        sac = self._sac(z)
        if sac is None:
            return
        window = sac[1]
        if abs(z - center[2]) > 80 * heart.size:
            return
        x, y = self.x[window], self.y[window]
        self.put(np.abs(sac[0] - 0.6) - 0.7, 20.0, window)  # the pericardium itself, a thin line
        surface = heart.surface(x, y, z)
        self.put(surface, blood + 2 * self.texture[window], window)
        lv = heart.chambers["lv"].distance(x, y, z)
        rv = heart.chambers["rv"].distance(x, y, z)
        self.put(np.maximum(lv, -(lv + 9.5)), MYOCARDIUM_HU + 3, window, soft=2.5)
        self.put(np.maximum(surface, np.abs(rv + 1.5) - 1.5), MYOCARDIUM_HU, window, soft=2)
        for tube in (*heart.arteries.values(), *(t for _, t in heart.branches)):
            near = self.tube_window(tube, z, 9)
            if near is None:
                continue
            distance = tube.distance(self.x[near], self.y[near], z, 9)
            if distance is not None:  # each artery has its bed of fat
                self.put(distance - (0.9 + 0.38 * heart.fat_mm), -88.0, near, soft=2.2)
        for tube in (*heart.arteries.values(), *(t for _, t in heart.branches)):
            self.put_tube(tube, z, blood - 2)

    def _abdomen(self, z: float, pleura: NDArray, below: NDArray) -> None:
        """Liver on the right, stomach with gas and fluid, spleen on the left; fat between."""
        inside = np.maximum(pleura + 2.5, -(below - 2))
        self.put(np.maximum(pleura + 1.0, -below), MUSCLE_HU)  # the diaphragm
        self.put(inside, FAT_HU)
        liver = np.maximum(inside, self.x - np.float32(38 + 0.2 * z) - 0.35 * self.y - 5 * self.texture)
        liver = np.maximum(liver, self.y - 60 + 0.25 * self.x)
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
        window = self.window(0, float(y0) + 22, 75)
        if window is None:
            return
        x, y = self.x[window], self.y[window] - y0
        turn = (z / a.vertebra_mm + a.vertebra_phase) % 1.0  # 0..1 along one vertebra, disc around 0
        edge = min(turn, 1 - turn) * a.vertebra_mm
        waist = 1 - 0.10 * np.sin(np.pi * turn)
        body = (np.hypot(x / (18.5 * waist), y / (15.5 * waist)) - 1) * 16.5
        body = smooth_max(body, y - 12.0, 4.0)
        back = np.maximum(np.abs(x) - 30, y - 20)
        self.put(np.maximum(back, 8 - y), MUSCLE_HU, window, soft=2)
        if edge < 3.2:
            self.put(body, 85.0, window)
        else:
            rim = 1.7 if edge > 5.5 else 4.0
            self.put(body, 480.0 if edge > 5.5 else 380.0, window, soft=1.4)
            self.put(body + rim, a.bone_hu + 40 * self.fine[window], window, soft=2)
        canal = np.hypot(x / 1.1, y - 21) - 8.0
        arch = 0.5 + 0.5 * np.cos(2 * np.pi * (turn - 0.6))
        lamina = np.abs(np.hypot(x / 1.1, y - 21) - 10.5) - 2.6
        self.put(np.maximum(lamina, -(y - 12)) + (1 - arch) * 2.4, 560.0, window)
        for side in (-1, 1):
            along = side * x - 12
            process = np.abs(y - 24 - 0.35 * along) - 4.6
            process = np.maximum(np.maximum(process, along - 24), -along)
            self.put(process + (1 - arch) * 7, 520.0, window, soft=1.5)
            self.put(process + (1 - arch) * 7 + 1.8, a.bone_hu + 60, window, soft=1.5)
        spinous = np.maximum(np.abs(x) - 2.6, np.abs(y - 42) - 12)
        self.put(spinous + (1 - arch) * 1.2, 480.0, window)
        self.put(spinous + 1.4, a.bone_hu + 90, window)
        self.put(canal, 28.0, window)

    def _sternum(self, z: float) -> None:
        a = self.anatomy
        if z < -45 or z > 140:
            return
        y0 = a.sternum_mm(z)
        window = self.window(0, y0, 50)
        if window is None:
            return
        x, y = self.x[window], self.y[window] - np.float32(y0)
        half = 16 + 9 / (1 + np.exp(-(z - 95) / 6)) - 6 / (1 + np.exp((z + 25) / 6)) + 2 * np.cos(z / 9)
        bone = np.hypot(np.maximum(np.abs(x) - (half - 5), 0), np.maximum(np.abs(y) - 1.0, 0)) - 5.0
        self.put(bone, 430.0, window)
        self.put(bone + 1.9, a.bone_hu * 0.7 + 20 + 25 * self.fine[window], window, soft=1.4)


def smooth_max(a: FloatArray, b: FloatArray, blend_mm: float) -> FloatArray:
    return -smooth_min(-a, -np.asarray(b, np.float32), blend_mm)


def _rib_height(anatomy: Anatomy, z: float) -> NDArray[np.float64]:
    """(ANGLES,) height above the nearest rib, mm; ribs fall from the spine to the front."""
    around = FROM_BACK
    drop = anatomy.rib_slope * 62 * (1 - np.cos(np.clip(around, 0, 2.45))) - 30 * np.clip(around - 2.5, 0, 1)
    pitch = anatomy.vertebra_mm
    phase = anatomy.vertebra_phase * pitch + 8
    return (z + drop + phase + pitch / 2) % pitch - pitch / 2


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
    branches: list[tuple[NDArray, NDArray, float, int]] = []
    for side in (-1, 1):
        great = anatomy.heart.great["pulmonary_right" if side < 0 else "pulmonary_left"]
        hilum = great.points[int(len(great.points) * 0.72)]
        for _ in range(15):
            aim = rng.normal(0, 1, 3) * (0.45, 0.8, 1.0) + (side * 0.75, 0.1, 0)
            branches.append((hilum + rng.normal(0, (4, 6, 12)), aim / np.linalg.norm(aim), rng.uniform(2.2, 3.8), side))
    chunks, volumes = [], []
    while branches:
        start, aim, radius, side = branches.pop()
        length = rng.uniform(7, 13) * radius**0.55 + 3
        steps = max(int(length / 0.7), 2)
        bend = np.cumsum(rng.normal(0, 0.035, (steps, 3)), 0)
        line = start + np.cumsum((aim + bend) * (length / steps), 0)
        if (
            np.hypot(line[-1, 0] / (anatomy.half_width_mm - 6), line[-1, 1] / (anatomy.half_depth_mm + 2)) > 1
            or side * line[-1, 0] < 8
        ):
            continue
        spread = max(1, int((radius / 0.45) ** 2 * 1.3))
        r, t = radius * np.sqrt(rng.random((steps, spread))), rng.random((steps, spread)) * 2 * np.pi
        across = np.linalg.svd(aim[None, :])[2][1:]
        cloud = line[:, None, :] + r[..., None] * (np.cos(t)[..., None] * across[0] + np.sin(t)[..., None] * across[1])
        chunks.append(cloud.reshape(-1, 3))
        volumes.append(np.full(steps * spread, np.pi * radius**2 * length / steps / spread))
        if radius > 0.55:
            for share in (rng.uniform(0.74, 0.9), rng.uniform(0.45, 0.8)):
                turn = aim + bend[-1] + rng.normal(0, 0.42 if share < 0.75 else 0.2, 3)
                branches.append((line[-1], turn / np.linalg.norm(turn), radius * share, side))
    return np.concatenate(chunks), np.concatenate(volumes)
