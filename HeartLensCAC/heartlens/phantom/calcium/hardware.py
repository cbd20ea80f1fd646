# ruff: noqa: RUF005  # points are vectors: point + (dx, dy, dz) moves them
"""Traps of anatomy 2: stents with struts and a lumen, clips, graft markers, catheters, calcified bronchi and nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartlens.phantom.body.anatomy import Anatomy
from heartlens.phantom.body.shapes import Cloud, Tube, arc_length

Rng = np.random.Generator

STENT_MM = ((8.0, 38.0), (2.25, 4.5))
"""Length and width that stents are made in."""


def stent(anatomy: Anatomy, rng: Rng, _: float) -> list[Cloud]:
    """A straight mesh of even width: rings of struts a millimeter and a half apart, open at both ends.

    What tells it from a long plaque is the mesh: even along its length, brightest at its rim, a lumen within.
    """
    clouds = []
    arteries = list(anatomy.heart.arteries.values())
    for _n in range(1 + int(rng.random() < 0.3)):
        tube = arteries[int(rng.choice(4, p=(0.06, 0.45, 0.2, 0.29)))]
        along = arc_length(tube.points)
        length = float(min(rng.uniform(*STENT_MM[0]), 0.9 * along[-1]))
        radius = float(rng.uniform(*STENT_MM[1])) / 2
        first = rng.uniform(0, max(min(along[-1] - length, 45), 0.1))
        at = np.concatenate(
            [np.full(70, s) + rng.normal(0, 0.12, 70) for s in np.arange(first, first + length, 1.5)]
        ).clip(0, along[-1])
        angle = rng.random(at.size) * 2 * np.pi
        points = _around(tube, at, angle, np.full(at.size, radius))
        metal_mm3 = length * 2 * np.pi * radius * 0.09 * 0.16
        clouds.append(Cloud(points, np.full(at.size, metal_mm3 / at.size), float(rng.uniform(35_000, 90_000))))
    return clouds


def surgical_clips(anatomy: Anatomy, rng: Rng, _: float) -> list[Cloud]:
    """Clips of a bypass: a row of short dense bits along the graft, before the heart or beside it."""
    heart = anatomy.heart
    start = np.array([rng.uniform(8, 26), anatomy.sternum_mm(60) + 12, 60.0])
    end = heart.arteries[list(heart.arteries)[1]].points[int(rng.uniform(0.3, 0.8) * 100) % 60] + (2, -5, 3)
    clouds = []
    for share in np.sort(rng.random(int(rng.integers(4, 12)))):
        center = start + share * (end - start) + rng.normal(0, 2, 3)
        clouds.append(_bar(rng, center, float(rng.uniform(2, 5)), 0.6, 16_000.0))
    return clouds


def graft_markers(anatomy: Anatomy, rng: Rng, _: float) -> list[Cloud]:
    """Washers of metal where vein grafts leave the ascending aorta."""
    tube = anatomy.heart.great["aorta"]
    clouds = []
    for share in rng.uniform(0.11, 0.18, int(rng.integers(1, 4))):
        k = int(share * (len(tube.points) - 1))
        turn = rng.uniform(-np.pi * 0.8, -np.pi * 0.1)
        out = np.array([np.cos(turn), np.sin(turn), 0.0])
        center = tube.points[k] + out * (tube.radii[k] + 1)
        side = np.array([-out[1], out[0], 0.0])
        angle = rng.random(400) * 2 * np.pi
        ring = center + 3.5 * (np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.array([0, 0, 1.0]))
        clouds.append(Cloud(ring, np.full(400, 2 * np.pi * 3.5 * 0.5 / 400), 11_000.0))
    return clouds


def catheter(anatomy: Anatomy, rng: Rng, _: float) -> list[Cloud]:
    """A line in the superior vena cava, which ends above the atrium or in it."""
    vein = anatomy.heart.great["svc"].points[::-1]
    path = vein[: max(int(rng.uniform(0.5, 1.0) * len(vein)), 4)] + rng.normal(0, 1.5, 3)
    tube = Tube.through(path[:: max(len(path) // 6, 1)], 1.0, 0.4)
    step = arc_length(tube.points)[-1] / len(tube.points)
    hu = float(rng.uniform(500, 1800))
    return [Cloud(tube.points, np.full(len(tube.points), step * np.pi * 1.1**2), hu)]


def bronchial_walls(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    """Calcified rings of the lobar bronchi, which run beside the left atrium and behind the appendage."""
    clouds = []
    for airway in anatomy.airways[1:]:
        end = airway.points[-1]
        side = 1.0 if end[0] > 0 else -1.0
        lobar = Tube.through([end, end + (side * 6, 6, -14), end + (side * 10, 16, -34)], [4.4, 3.8, 3.0], 1.0)
        for tube in (airway, lobar):
            along = arc_length(tube.points)
            for at in np.arange(0.4 * along[-1], along[-1], rng.uniform(4, 8)):
                if rng.random() < 0.5:
                    n = 240
                    middle, sweep = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 2.4)
                    angle = middle + sweep * (rng.random(n) - 0.5)
                    s = np.clip(at + rng.uniform(-1.2, 1.2, n), 0, along[-1])
                    wall = np.interp(s, along, tube.radii) + 1.0 + rng.uniform(-0.4, 0.4, n)
                    volume = sweep * 5.0 * 2.4 * 0.9
                    points = _around(tube, s, angle, wall)
                    clouds.append(Cloud(points, np.full(n, volume / n), hu * float(rng.uniform(250, 600))))
    return clouds


def atrial_nodes(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    """Calcified nodes that touch the left atrium: below the carina, and at the left hilum behind the appendage."""
    atrium = anatomy.heart.chambers["la"]
    clouds = []
    for _n in range(int(rng.integers(1, 5))):
        turn, rise = rng.uniform(-0.3, np.pi), rng.uniform(0.0, 1.0)
        out = np.array([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)])
        reach = 1 / np.linalg.norm(out / atrium.radii)
        radii = rng.uniform(0.9, 4.5, 3)
        center = atrium.center + out * (reach + radii.max() + rng.uniform(0.5, 5))
        unit = rng.normal(size=(900, 3))
        unit *= rng.random((900, 1)) ** (1 / 3) / np.linalg.norm(unit, axis=1, keepdims=True)
        volume = 4 / 3 * np.pi * float(np.prod(radii))
        clouds.append(Cloud(center + unit * radii, np.full(900, volume / 900), hu * float(rng.uniform(250, 1000))))
    return clouds


def heavy_mitral_annulus(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    """A ring of the mitral valve that is calcified over a quarter of its length or up to two thirds, thick and uneven.

    As severe calcification of the annulus is graded on CT: by its thickness, and by how far around it reaches.
    """
    center, ring = anatomy.heart.mitral
    axes = anatomy.heart.axes
    start, sweep = np.deg2rad(rng.uniform(60, 150)), np.deg2rad(rng.uniform(90, 240))
    n = int(1500 + 2500 * sweep)
    angle = start + sweep * rng.random(n)
    thick = rng.uniform(2.0, 5.5)
    beads = 0.65 + 0.35 * np.sin(rng.uniform(3, 9) * angle + rng.uniform(0, 6))  # thick and thin along the ring
    points = center + ring * (np.cos(angle)[:, None] * axes[2] - np.sin(angle)[:, None] * axes[1])
    points += rng.normal(0, 1, (n, 3)) * (thick / 2.2 * beads)[:, None]
    volumes = ring * sweep / n * np.pi / 4 * (thick * beads) ** 2
    return [Cloud(points, volumes, hu * rng.uniform(350, 900))]


MAKERS = {
    "stent": stent,
    "surgical_clip": surgical_clips,
    "graft_marker": graft_markers,
    "catheter": catheter,
    "bronchial_wall": bronchial_walls,
    "atrial_node": atrial_nodes,
    "mitral_annulus_heavy": heavy_mitral_annulus,
}

MOBILITY = {"surgical_clip": 0.3, "atrial_node": 0.2, "catheter": 0.2, "mitral_annulus_heavy": 0.6}
"""Travel during a rotation relative to the right coronary artery."""

STREAK_HU = {"surgical_clip": 170.0, "graft_marker": 150.0, "catheter": 40.0}
"""Strength of the streaks that metal throws."""


def _around(
    tube: Tube, at: NDArray[np.float64], angle: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points around a tube's middle: so far along it, in that direction across it, so far from it."""
    along = arc_length(tube.points)
    center = np.stack([np.interp(at, along, tube.points[:, c]) for c in range(3)], -1)
    slope = np.stack([np.gradient(tube.points[:, c], along) for c in range(3)], -1)
    direction = np.stack([np.interp(at, along, slope[:, c]) for c in range(3)], -1)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    e1 = np.cross(direction, [0.31, 0.22, 0.92])
    e1 /= np.maximum(np.linalg.norm(e1, axis=1, keepdims=True), 1e-9)
    e2 = np.cross(direction, e1)
    return center + radius[:, None] * (np.cos(angle)[:, None] * e1 + np.sin(angle)[:, None] * e2)


def _bar(rng: Rng, center: NDArray[np.float64], length_mm: float, radius_mm: float, hu: float) -> Cloud:
    along = rng.normal(size=3)
    along /= np.linalg.norm(along)
    t = np.linspace(-0.5, 0.5, 40)[:, None] * length_mm
    return Cloud(center + t * along, np.full(40, length_mm * np.pi * radius_mm**2 / 40), hu)
