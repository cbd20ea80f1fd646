"""What lies inside the ribs: lungs, mediastinum, heart and great vessels, and the organs under the diaphragm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import Artery
from heartlens.phantom.body.anatomy import FRONT, Anatomy
from heartlens.phantom.body.heart import CHAMBER_BLEND_MM, joined
from heartlens.phantom.body.shapes import FloatArray, Tube, smooth_max, smooth_min
from heartlens.phantom.image.plane import EVERYWHERE, FAT_HU, MUSCLE_HU, Plane, Window

_WRAPS = (
    ("aorta", 3.5, 14.0), ("pulmonary_trunk", 3.0, 14.0), ("svc", 2.5, 12.0), ("pulmonary_right", 1.5, 8.0),
    ("pulmonary_left", 1.5, 8.0), ("ivc", 1.0, 8.0),
)  # fmt: skip
"""Great vessels of the mediastinum: fat around each, and how softly it joins the rest, mm."""


class Sac(NamedTuple):
    """The heart on one plane: distances, mm, on a window of it.

    Parameters
    ----------
    window
        Rows and columns of the plane.
    hull
        To the pericardium.
    surface
        To the outside of the chambers.
    chambers
        To each of them.
    """

    window: Window
    hull: NDArray[np.float32]
    surface: NDArray[np.float32]
    chambers: dict[str, NDArray[np.float32]]


def paint_thorax(plane: Plane, z: float) -> None:
    """Everything inside the pleura."""
    _cavity(plane, z, plane.contour(plane.wall.pleura))


def beat_mm(anatomy: Anatomy, motion_mm: float, z: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the heart lies from its place when height z is scanned, (..., 3) mm: no slice meets the same phase."""
    at = np.asarray(z, float)
    phase = at * 0.83 + 6.28 * anatomy.vertebra_phase
    swing = np.stack([np.sin(phase), np.cos(1.31 * phase + 1), np.zeros_like(at)], axis=-1)
    return 0.3 * motion_mm * swing


def _cavity(plane: Plane, z: float, pleura: NDArray) -> None:
    a = plane.anatomy
    plane.put(pleura, FAT_HU + 6 * plane.fine)
    lung = a.lung_hu + 7 * plane.texture + 11 * plane.fine + np.float32(0.32) * (plane.y - 10)
    below = np.minimum(plane.dome - np.float32(z), 60)  # > 0 under the diaphragm
    sac = _sac(plane, z)
    mediastinum = _mediastinum(plane, z, sac)
    aerated = smooth_max(np.maximum(pleura + 1.5, below), -mediastinum, 3.0)
    plane.put(aerated, lung)
    for patch in a.filled:
        if abs(z - patch.center[2]) < patch.reach_mm:
            depth = patch.distance(plane.x, plane.y, z) + np.float32(7) * plane.texture
            plane.put(np.maximum(aerated, depth), 28.0 + 8 * plane.fine, soft=3)
    if z < max(a.dome_right_mm, a.dome_left_mm) + 3:
        _abdomen(plane, z, pleura, below)
    _organs(plane, z, sac)


def _mediastinum(plane: Plane, z: float, sac: Sac | None) -> NDArray[np.float32]:
    """Signed distance to everything between the lungs; fat fills it."""
    a = plane.anatomy
    far = np.full_like(plane.x, 30.0)
    heart = a.heart

    def join(distance: FloatArray | None, window: tuple, blend: float) -> None:
        if distance is not None:
            far[window] = smooth_min(far[window], distance.astype(np.float32), blend)

    wraps = [(heart.great[name], grow, blend) for name, grow, blend in _WRAPS]
    wraps += [(tube, 0.5, 6.0) for name, tube in heart.great.items() if name.startswith("vein")]
    wraps += [(heart.great[n], 4.0, 14.0) for n in ("brachiocephalic", "carotid_left", "subclavian_left")]
    wraps += [(tube, 3.5, 12.0) for tube in (*a.airways[:3], a.oesophagus)]
    if a.version == 2:  # no artery runs through a lung, whatever little fat it has
        wraps += [(tube, 1.0 + 3 * heart.bed[artery], 8.0) for artery, tube in heart.arteries.items()]
    for tube, grow, blend in wraps:
        found = plane.reach_tube(tube, z, 15.0)
        if found is not None:
            join(found[1] - np.float32(grow), found[0], blend)
    if sac is not None:
        join(sac.hull, sac.window, 10.0)
    spine = np.hypot(plane.x, plane.y - np.float32(a.spine_mm(z))) - 23
    join(spine, EVERYWHERE, 16.0)
    # The anterior junction: a line of fat behind the sternum, wider where the thymus was.
    front = np.float32(-plane.wall.pleura[FRONT] - 6)
    wide = 3.0 + (4 + 0.8 * heart.fat_mm) * np.exp(-(((z - 62) / 34) ** 2))
    wedge = np.abs(plane.x - np.float32(5)) - np.float32(wide)
    join(np.maximum(wedge, np.maximum(plane.y - 5, front - plane.y)), EVERYWHERE, 18.0)
    (x0, y0, z0), size = plane.pad
    window = plane.window(x0, y0, size + 22)
    if window is not None and abs(z - z0) < size + 12:
        join(np.sqrt((plane.x[window] - x0) ** 2 + (plane.y[window] - y0) ** 2 + (z - z0) ** 2) - size, window, 16.0)
    if a.version == 2:  # nor does a lung reach between root and appendage
        fork, lobe = heart.arteries[Artery.LM].points[-1], heart.chambers["laa"].center
        (x0, y0, z0), size = (fork + lobe) / 2 + (0, 0, -3), 8 + float(np.linalg.norm(lobe - fork)) / 2
        window = plane.window(x0, y0, size + 14)
        if window is not None and abs(z - z0) < size + 10:
            join(np.sqrt((plane.x[window] - x0) ** 2 + (plane.y[window] - y0) ** 2 + (z - z0) ** 2) - size, window, 8.0)
    rise = float(np.clip((z - 92) / 30, 0, 1))
    if rise > 0:  # toward the neck the space between the lungs widens
        join(np.hypot(plane.x / 1.5, plane.y - 6) - 22 * rise, EVERYWHERE, 14.0)
    return far


def _sac(plane: Plane, z: float) -> Sac | None:
    """The pericardial sac and the chambers in it; None when the plane misses them."""
    heart = plane.anatomy.heart
    center = heart.place([22, 0, 0])
    if abs(z - center[2]) > 88 * heart.size:
        return None
    window = plane.window(center[0], center[1], 100 * heart.size)
    if window is None:
        return None
    beat = beat_mm(plane.anatomy, plane.motion_mm, z)
    x, y = plane.x[window] - np.float32(beat[0]), plane.y[window] - np.float32(beat[1])
    chambers = {name: chamber.distance(x, y, z) for name, chamber in heart.chambers.items()}
    hull = joined(chambers.values(), 18.0)
    # Fat is thickest in front and at the apex, and next to nothing behind the atria.
    front = np.clip(0.55 - (y - np.float32(center[1] - 8)) / 70, 0.12, 1.5)
    hull = hull - np.float32(0.5 + heart.fat_mm) * front
    return Sac(window, hull, joined(chambers.values(), CHAMBER_BLEND_MM), chambers)


def _organs(plane: Plane, z: float, sac: Sac | None) -> None:
    a, heart = plane.anatomy, plane.anatomy.heart
    blood = a.blood_hu
    found = plane.reach_tube(a.oesophagus, z, 12.0)
    if found is not None:  # flat: the tube seen twice, side by side
        window, distance = found
        shift = max(round(3.4 / plane.step), 1)
        flat = np.minimum(np.roll(distance, shift, 1), np.roll(distance, -shift, 1))
        plane.put(smooth_min(flat, distance, 3.0), 38.0, window)
        if np.sin(z / 13 + a.vertebra_phase * 40) > 0.86:
            plane.put(distance + 2.6, -500.0, window)
    _heart(plane, z, sac)
    for name, tube in heart.great.items():
        if name not in ("aorta", "pulmonary_trunk"):
            plane.put_tube(tube, z, blood)
    plane.put_tube(heart.great["aorta"], z, blood + 6, soft=1.1)
    plane.put_tube(heart.great["aorta"], z, blood, grow=-1.6)
    plane.put_tube(heart.great["pulmonary_trunk"], z, blood)
    for airway in a.airways:
        plane.put_tube(airway, z, 30.0, grow=1.6)
        plane.put_tube(airway, z, -985.0)


def _heart(plane: Plane, z: float, sac: Sac | None) -> None:
    heart, blood = plane.anatomy.heart, plane.anatomy.blood_hu
    if sac is None:
        return
    window = sac.window
    plane.put(sac.hull, FAT_HU + 6 * plane.texture[window], window)
    ahead = np.where(plane.y[window] < heart.crux[1] + 4, np.abs(sac.hull + 0.9) - 0.35, np.float32(9))
    plane.put(ahead, 5.0, window)  # the pericardium itself, a thin line where fat lies on both sides
    plane.put(sac.surface, blood + 2 * plane.texture[window], window, soft=1 + 0.3 * plane.motion_mm)
    lv, rv = sac.chambers["lv"], sac.chambers["rv"]
    plane.put(np.maximum(lv, -(lv + 9.5)), blood + 4, window, soft=2.5)
    plane.put(np.maximum(sac.surface, np.abs(rv + 1.5) - 1.5), blood + 3, window, soft=2)
    beat = beat_mm(plane.anatomy, plane.motion_mm, z)
    arteries = [(tube, heart.bed[artery]) for artery, tube in heart.arteries.items()]
    arteries += [(tube, 0.6) for _, tube in heart.branches]
    moved = [(Tube(t.points + beat, t.radii), share) for t, share in arteries if t.is_near(z, 12.0)]
    hull = np.full_like(plane.x, 9.0)
    hull[window] = sac.hull
    for tube, share in moved:  # each artery has its bed of fat; widest in the right groove
        found = plane.reach_tube(tube, z, 12.0)
        if found is not None:
            near, distance = found
            bed = distance - share * (1.2 + 0.5 * heart.fat_mm)
            bed = np.maximum(bed + 0.8 * plane.texture[near], hull[near])
            plane.put(bed, -92.0, near, soft=2.0)
    for tube, _ in moved:
        plane.put_tube(tube, z, blood - 2, soft=1 + 0.15 * plane.motion_mm)


def _abdomen(plane: Plane, z: float, pleura: NDArray, below: NDArray) -> None:
    """Liver on the right, stomach with gas and fluid, spleen on the left; fat between."""
    inside = np.maximum(pleura + 2.5, -(below - 2))
    plane.put(np.maximum(pleura + 1.0, -below), MUSCLE_HU)  # the diaphragm
    plane.put(inside, FAT_HU)
    # The left lobe reaches over the midline in front; behind, the liver ends at the spine.
    edge = plane.x - np.float32(26) + 0.55 * plane.y + np.float32(0.25 * z) - 1.5 * plane.texture
    under = np.maximum(pleura + 1.5, 0.5 - below)  # on the right nothing lies between liver and diaphragm
    liver = smooth_max(smooth_max(under, edge, 12.0), plane.y - np.float32(52) + 0.55 * plane.x, 14.0)
    plane.put(liver, 60.0 + 2.5 * plane.texture)
    cx, cy = 58.0, -2.0
    stomach = (np.hypot((plane.x - cx) / 36, (plane.y - cy) / 40) - 1) * 36
    stomach = np.maximum(stomach, inside + 7)
    plane.put(stomach, 44.0)
    plane.put(np.maximum(stomach + 4, plane.y + 14), -940.0)
    plane.put(np.maximum(stomach + 4, -14 - plane.y), 22.0 + 14 * plane.texture)
    spleen = np.maximum((np.hypot((plane.x - 88) / 30, (plane.y - 48) / 34) - 1) * 30, inside + 3)
    plane.put(spleen, 50.0)
