"""The wall of the chest: table, skin, breast, muscles, shoulder, ribs, spine and sternum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartlens.phantom.body.anatomy import BACK, FROM_BACK, FROM_FRONT, FRONT, LEFT, THETA, Anatomy
from heartlens.phantom.body.shapes import smooth_max
from heartlens.phantom.image.plane import FAT_HU, MUSCLE_HU, Plane


def paint_wall(plane: Plane, z: float) -> None:
    """What lies outside the pleura."""
    _table(plane)
    skin = plane.wall.skin
    plane.put(plane.contour(skin), 15.0)
    plane.put(plane.contour(skin - 2.0), FAT_HU + 9 * plane.texture)
    _breast(plane, z, skin)
    _chest_wall(plane, z)


def paint_skeleton(plane: Plane, z: float) -> None:
    """What comes last, over everything else."""
    _spine(plane, z)
    _sternum(plane, z)


def _table(plane: Plane) -> None:
    a = plane.anatomy
    top = plane.table_y
    bow = top + 22 - np.sqrt(np.maximum(1.0, 420.0**2 - plane.x**2)) + 420 - 22
    shell = np.abs(plane.y - bow + plane.x**2 * 0.0) - 1.0
    plane.put(np.maximum(shell, np.abs(plane.x) - 215), -200.0)
    plane.put(np.maximum(np.abs(plane.y - bow - a.table_mm) - 1.0, np.abs(plane.x) - 215), -250.0)
    inside = np.maximum(np.abs(plane.y - bow - a.table_mm / 2) - a.table_mm / 2, np.abs(plane.x) - 214)
    plane.image[(inside < -1.5)] = -960.0


def _breast(plane: Plane, z: float, skin: NDArray) -> None:
    a = plane.anatomy
    if a.breast_mm < 6 or abs(z) > 70:
        return
    gland = a.breast_mm * 0.55 * np.exp(-((z / 45) ** 2))
    place = np.exp(-(((FROM_FRONT - 0.72) / 0.22) ** 2)) * gland
    outer = skin - 6
    depth = np.maximum(plane.contour(outer), -plane.contour(outer - place))
    plane.put(depth + 3 + 4 * plane.texture, 25.0 + 15 * plane.fine, soft=3)


def _chest_wall(plane: Plane, z: float) -> None:
    a = plane.anatomy
    muscle, pleura = plane.wall.muscle, plane.wall.pleura
    plane.put(plane.contour(muscle), MUSCLE_HU + 4 * plane.fine, soft=1.3)
    # Fat between the layers of muscle: wavy sheets that come and go with the thickness of the wall.
    depth = muscle - pleura - 13
    for share, width in ((0.30, 0.9), (0.62, 1.5), (0.86, 0.8)):
        come_and_go = 0.45 + 0.55 * np.cos(5 * THETA + 9 * share + 6 * a.vertebra_phase)
        thick = np.where(depth > 9, width * np.clip((depth - 9) / 14, 0, 1.4) * come_and_go - 0.3, -3)
        sheet = plane.contour(pleura + 13 + depth * share) + 3.2 * plane.texture
        fat = np.abs(sheet) - thick.astype(np.float32)[plane.direction] - 0.9 * plane.fine
        plane.put(fat, -85.0, soft=1.4)
    _axilla(plane, z)
    scapula = np.abs(plane.contour(plane.wall.blade)) - plane.wall.blade_half_mm.astype(np.float32)[plane.direction]
    plane.put(scapula, 560.0)
    plane.put(scapula + 1.6, 210.0 + 30 * plane.fine)
    if z > 95:
        _shoulder(plane, z)
    if z > a.top_mm - 6:
        return
    ribs = plane.contour(plane.wall.ribs)
    height = _rib_height(a, z).astype(np.float32)[plane.direction]
    shell = (np.sqrt((ribs / 4.1) ** 2 + (height / 6.6) ** 2) - 1) * 4.1
    cartilage = (FROM_FRONT < 0.62) & (FROM_FRONT > 0.13)
    bony = ~cartilage & (FROM_FRONT > 0.13) & (FROM_BACK > 0.22)
    shell_bone = np.where(bony[plane.direction], shell, 9)
    plane.put(shell_bone, 680.0)
    plane.put(shell_bone + 1.2, a.bone_hu * 0.75 + 20 + 30 * plane.fine)
    shell_cartilage = np.where(cartilage[plane.direction], shell + 0.4, 9)
    plane.put(shell_cartilage, 92.0 + 10 * plane.texture)


def _axilla(plane: Plane, z: float) -> None:
    """Fat with nodes and vessels between pectoral muscle and shoulder blade."""
    a = plane.anatomy
    if not 45 < z < 150:
        return
    size = 17 * np.exp(-(((z - 95) / 40) ** 2)) + 0.2 * a.fat_mm
    inside = plane.contour(plane.wall.skin)
    for side in (-1, 1):
        radius = plane.wall.pleura[0 if side < 0 else LEFT]
        x0, y0 = side * (float(radius) + 15 + 0.3 * size), -4.0
        window = plane.window(x0, y0, size * 1.6)
        if window is None:
            continue
        x, y = plane.x[window] - x0, plane.y[window] - y0
        fat = np.hypot(x / 0.75, y) - size + 4 * plane.texture[window]
        fat = np.where(inside[window] < -4, fat, 9)
        plane.put(fat, FAT_HU + 6, window, soft=3)
        plane.put(np.maximum(fat + 4, 0.9 - plane.fine[window]) * 2.5, 30.0, window, soft=2)


def _shoulder(plane: Plane, z: float) -> None:
    """Heads of the arm bones and the collar bones."""
    a = plane.anatomy
    for side in (-1, 1):
        x0 = side * (a.half_width_mm + 22)
        window = plane.window(x0, 22, 40)
        if window is not None:
            d = np.sqrt((plane.x[window] - x0) ** 2 + (plane.y[window] - 22) ** 2 + (z - a.top_mm - 8) ** 2) - 23
            plane.put(d, 620.0, window)
            plane.put(d + 1.8, a.bone_hu + 40 + 40 * plane.fine[window], window, soft=1.5)
    plane.put_tube(a.clavicles[0], z, 700.0)
    plane.put_tube(a.clavicles[0], z, a.bone_hu + 60, grow=-2.0)
    plane.put_tube(a.clavicles[1], z, 700.0)
    plane.put_tube(a.clavicles[1], z, a.bone_hu + 60, grow=-2.0)


def _spine(plane: Plane, z: float) -> None:
    a = plane.anatomy
    y0 = np.float32(a.spine_mm(z))
    window = plane.window(0, float(y0) + 22, 78)
    if window is None:
        return
    x, y = plane.x[window], plane.y[window] - y0
    turn = (z / a.vertebra_mm + a.vertebra_phase) % 1.0  # 0..1 along one vertebra, disc around 0
    edge = min(turn, 1 - turn) * a.vertebra_mm
    flesh = (np.hypot(x / 40, (y - 32) / 22) - 1) * 25 + 1.5 * plane.texture[window]
    plane.put(np.where(plane.image[window] > -400, flesh, 9), MUSCLE_HU, window, soft=2)
    waist = 1 - 0.09 * np.sin(np.pi * turn)
    body = (((x / (20.5 * waist)) ** 2 + np.abs(y / (16.5 * waist)) ** 2.4) ** 0.45 - 1) * 17
    body = smooth_max(body, y - 12.5 + 0.012 * x * x, 4.0)
    if edge < 3.0:
        plane.put(body, 85.0, window)
    else:
        is_plate = edge < 5.2
        plane.put(body, 380.0 if is_plate else 520.0, window, soft=1.3)
        plane.put(body + (5.0 if is_plate else 1.5), a.bone_hu + 45 * plane.fine[window], window, soft=1.6)
    canal = np.hypot(x / 1.1, y - 20.5) - 8.2
    arch = 0.5 + 0.5 * np.cos(2 * np.pi * (turn - 0.62))  # 1 where the arch is whole
    pedicle = np.maximum(np.abs(np.abs(x) - 12.5) - 3.6, np.abs(y - 15) - 7) + (1 - arch) * 7
    lamina = np.maximum(np.abs(np.hypot(x / 1.15, y - 20.5) - 11.0) - 2.3, 14 - y) + (1 - arch) * 2.0
    along = np.abs(x) - 12
    process = np.maximum(np.abs(y - 23 - 0.5 * along) - 4.2, np.maximum(along - 21, -along)) + (1 - arch) * 8
    reach = min(49.0, float(plane.wall.skin[BACK] - y0) - 9)
    spinous = np.maximum(np.abs(x) - 2.0 - 0.05 * (y - 30), np.maximum(31 - y, y - reach + 8 * (1 - arch)))
    for part, rim in ((pedicle, 1.5), (process, 1.5), (lamina, 1.3), (spinous, 1.2)):
        plane.put(part, 600.0, window)
        plane.put(part + rim, a.bone_hu + 70 + 40 * plane.fine[window], window, soft=1.4)
    plane.put(canal, -20.0, window)
    plane.put(np.hypot(x / 1.1, y - 20.5) - 6.3, 26.0, window, soft=1.5)


def _sternum(plane: Plane, z: float) -> None:
    a = plane.anatomy
    if z < -48 or z > 135:
        return
    y0 = float(-plane.wall.pleura[FRONT] - 6)
    window = plane.window(0, y0, 50)
    if window is None:
        return
    x, y = plane.x[window], plane.y[window] - np.float32(y0)
    body = 17 + 3 * np.cos(z / 11 + a.vertebra_phase * 6) - 9 / (1 + np.exp((z + 30) / 6))
    half = body + (11 - 0.1 * abs(z - 112)) / (1 + np.exp(-(z - 92) / 5))
    thick = 5.2 + 1.5 / (1 + np.exp(-(z - 92) / 5))
    bow = y - 0.006 * x * x + 0.6 * plane.texture[window]
    bone = np.hypot(np.maximum(np.abs(x) - (half - thick), 0), np.maximum(np.abs(bow) - 1.0, 0)) - thick
    is_joint = abs(z - 92) < 2.5
    plane.put(bone, 120.0 if is_joint else 560.0, window)
    if not is_joint:
        plane.put(bone + 1.5, a.bone_hu * 0.6 + 30 + 35 * plane.fine[window], window, soft=1.4)


def _rib_height(anatomy: Anatomy, z: float) -> NDArray[np.float64]:
    """(ANGLES,) height above the nearest rib, mm; ribs fall from the spine to the front, cartilage rises again."""
    drop = anatomy.rib_drop_mm * np.clip(FROM_BACK, 0, 2.35) - 26 * np.clip(FROM_BACK - 2.45, 0, 0.7)
    pitch = anatomy.vertebra_mm
    return (z + drop + anatomy.vertebra_phase * pitch + 8 + pitch / 2) % pitch - pitch / 2
