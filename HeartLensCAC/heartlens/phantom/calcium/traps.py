"""Bright things that are no coronary plaque: calcified walls, valves, nodes, cartilage, and metal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.phantom.body.anatomy import Anatomy
from heartlens.phantom.body.shapes import Cloud, Tube, arc_length
from heartlens.phantom.calcium import hardware
from heartlens.phantom.calcium.plaques import hu_per_mg_per_cm3

Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Trap:
    """One bright thing.

    Parameters
    ----------
    kind
        From `TRAP_KINDS`, `LATE_TRAP_KINDS` or `ASKED_TRAP_KINDS`.
    name
        kind and number
    cloud
        Its body.
    details
        What was drawn.
    """

    kind: str
    name: str
    cloud: Cloud
    details: dict[str, float]


def _sheet(points: NDArray, thickness_mm: float, area_mm2: float, hu: float) -> Cloud:
    return Cloud(points, np.full(len(points), area_mm2 * thickness_mm / len(points)), hu)


def _wall_patch(
    rng: Rng, tube: Tube, at_mm: float, length_mm: float, arc_mm: float, thick_mm: float, hu: float
) -> Cloud:
    """A curved plate in the wall of a tube."""
    along = arc_length(tube.points)
    n = int(np.clip(length_mm * arc_mm * thick_mm * 30, 300, 6000))
    u, v = rng.uniform(-1, 1, (2, n))
    ok = u * u + v * v < 1 + 0.4 * np.sin(7 * np.arctan2(v, u) + rng.uniform(0, 6))
    u, v = u[ok], v[ok]
    s = np.clip(at_mm + u * length_mm / 2, 0, along[-1])
    center = np.stack([np.interp(s, along, tube.points[:, c]) for c in range(3)], -1)
    ahead = np.stack([np.interp(np.minimum(s + 1, along[-1]), along, tube.points[:, c]) for c in range(3)], -1)
    behind = np.stack([np.interp(np.maximum(s - 1, 0), along, tube.points[:, c]) for c in range(3)], -1)
    direction = ahead - behind
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    pole = np.array([1.0, 0.0, 0.0]) if abs(direction[:, 0].mean()) < 0.8 else np.array([0.0, 1.0, 0.0])
    e1 = np.cross(direction, pole)
    e1 /= np.linalg.norm(e1, axis=1, keepdims=True)
    e2 = np.cross(direction, e1)
    radius = np.interp(s, along, tube.radii)
    angle = rng.uniform(0, 2 * np.pi) + v * arc_mm / 2 / radius.mean()
    r = radius - 0.8 + rng.uniform(-0.5, 0.5, u.size) * thick_mm
    points = center + r[:, None] * (np.cos(angle)[:, None] * e1 + np.sin(angle)[:, None] * e2)
    return _sheet(points, thick_mm, length_mm * arc_mm * np.pi / 4, hu)


def _aorta(low: float, high: float, count: tuple[int, int]) -> Callable[[Anatomy, Rng, float], list[Cloud]]:
    def make(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
        tube = anatomy.heart.great["aorta"]
        total = arc_length(tube.points)[-1]
        return [
            _wall_patch(
                rng, tube, rng.uniform(low, high) * total, rng.uniform(3, 12), rng.uniform(3, 14),
                rng.uniform(0.9, 2.2), hu * rng.uniform(350, 850),
            )
            for _ in range(rng.integers(*count))
        ]  # fmt: skip

    return make


def _ball(rng: Rng, center: NDArray, radii: NDArray, hu: float) -> Cloud:
    n = int(np.clip(np.prod(radii) * 60, 200, 4000))
    unit = rng.normal(size=(n, 3))
    unit *= rng.random((n, 1)) ** (1 / 3) / np.linalg.norm(unit, axis=1, keepdims=True)
    return Cloud(center + unit * radii, np.full(n, 4 / 3 * np.pi * np.prod(radii) / n), hu)


def _aortic_valve(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    heart = anatomy.heart
    tube = heart.great["aorta"]
    direction = tube.points[12] - tube.points[4]
    direction /= np.linalg.norm(direction)
    e1, e2 = np.linalg.svd(direction[None, :])[2][1:]
    clouds = []
    for cusp in range(3):
        if cusp and rng.random() < 0.4:
            continue
        angle = 2 * np.pi * cusp / 3 + rng.uniform(-0.3, 0.3)
        reach = rng.uniform(4, 11) * heart.size
        center = heart.valve + reach * (np.cos(angle) * e1 + np.sin(angle) * e2) - direction * rng.uniform(0, 5)
        clouds.append(_ball(rng, center, rng.uniform((1.2, 1.2, 0.8), (3.5, 3.5, 2.0)), hu * rng.uniform(300, 800)))
    return clouds


def _mitral(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    heart = anatomy.heart
    center, ring = heart.mitral
    start, sweep = np.deg2rad(rng.uniform(95, 150)), np.deg2rad(rng.uniform(15, 85))
    n = int(900 + 2000 * sweep)
    angle = start + sweep * rng.random(n)
    thick = rng.uniform(1.2, 2.6)
    points = center + ring * (np.cos(angle)[:, None] * heart.axes[2] - np.sin(angle)[:, None] * heart.axes[1])
    points += rng.normal(0, thick / 2.2, (n, 3))
    return [Cloud(points, np.full(n, ring * sweep * np.pi * thick**2 / n), hu * rng.uniform(300, 700))]


def _nodes(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    clouds = []
    for _ in range(rng.integers(1, 5)):
        side = rng.integers(3)
        if side < 2:
            tube = anatomy.heart.great["pulmonary_right" if side else "pulmonary_left"]
            k = int(rng.uniform(0.5, 0.95) * (len(tube.points) - 1))
        else:
            tube = anatomy.airways[0]
            k = len(tube.points) - 1
        out = rng.normal(size=3)
        out /= np.linalg.norm(out)
        center = tube.points[k] + out * (tube.radii[k] + 3.5) - (0, 0, 9 if side == 2 else 0)
        clouds.append(_ball(rng, center, rng.uniform(1.0, 3.6, 3), hu * rng.uniform(250, 900)))
    return clouds


def _airway_rings(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    clouds = []
    for tube in anatomy.airways:
        total = arc_length(tube.points)[-1]
        first = max(total - 50, 4) if tube is anatomy.airways[0] else 6
        for at in np.arange(first, total - 3, 6.5):
            if rng.random() < 0.55:
                clouds.append(
                    _wall_patch(rng, tube.inflated(2.0), at, 2.6, rng.uniform(6, 16), 0.9, hu * rng.uniform(220, 420))
                )
    return clouds


def _pericardium(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    heart = anatomy.heart
    n = 1500
    base = np.array([rng.uniform(5, 60), rng.uniform(30, 45), -20.0])
    spread = rng.normal(0, 1, (n, 2)).clip(-2, 2) * rng.uniform(4, 9, 2)
    points = heart.place(base + np.column_stack([spread[:, 0], np.zeros(n), spread[:, 1]]))
    points = heart.on_surface(points, heart.fat_mm + 2.5) + rng.normal(0, 0.4, (n, 3))
    return [Cloud(points, np.full(n, rng.uniform(60, 220) / n), hu * rng.uniform(300, 700))]


def _stent(anatomy: Anatomy, rng: Rng, _: float) -> list[Cloud]:
    arteries = list(anatomy.heart.arteries.values())[1:]
    tube = arteries[int(rng.choice(3, p=(0.5, 0.2, 0.3)))]
    along = arc_length(tube.points)
    length = rng.uniform(12, 24)
    n = 3000
    s = rng.uniform(10, 35) + length * rng.random(n)
    center = np.stack([np.interp(s, along, tube.points[:, c]) for c in range(3)], -1)
    direction = np.stack([np.gradient(tube.points[:, c], along) for c in range(3)], -1)
    direction = np.stack([np.interp(s, along, direction[:, c]) for c in range(3)], -1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    e1 = np.cross(direction, [0.31, 0.22, 0.92])
    e1 /= np.linalg.norm(e1, axis=1, keepdims=True)
    e2 = np.cross(direction, e1)
    angle = rng.random(n) * 2 * np.pi
    radius = 1.6 + 0.06 * rng.normal(size=n)
    points = center + radius[:, None] * (np.cos(angle)[:, None] * e1 + np.sin(angle)[:, None] * e2)
    return [Cloud(points, np.full(n, length * 2 * np.pi * 1.6 * 0.1 * 0.18 * 4 / n), 9000.0)]


def _wire(points: NDArray, radius_mm: float, hu: float) -> Cloud:
    tube = Tube.through(points, radius_mm, 0.25)
    step = arc_length(tube.points)[-1] / len(tube.points)
    return Cloud(tube.points, np.full(len(tube.points), step * np.pi * radius_mm**2), hu)


def _pacing(anatomy: Anatomy, rng: Rng, _: float) -> list[Cloud]:
    heart = anatomy.heart
    svc = heart.great["svc"].points[::-1]
    atrium = heart.place([-30, 20, 0])
    path = [
        *svc[:: max(len(svc) // 6, 1)],
        atrium,
        heart.place([0, 24, -10]),
        heart.place([40, 20, -14]),
        heart.place([62, 12, -10]),
    ]
    return [_wire(np.array(path) + rng.normal(0, 1.2, (len(path), 3)), 0.9, 11000.0)]


def _sternal(anatomy: Anatomy, rng: Rng, _: float) -> list[Cloud]:
    clouds = []
    for z in np.arange(-25, 110, rng.uniform(18, 26)) + rng.normal(0, 2):
        y = anatomy.sternum_mm(z)
        angle = np.linspace(0, 2 * np.pi, 24)
        loop = np.column_stack([11 * np.cos(angle), y + 7.5 * np.sin(angle), z + 2.5 * np.sin(2 * angle)])
        clouds.append(_wire(loop, 0.4, 12000.0))
    return clouds


def _cartilage(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    clouds = []
    for _ in range(rng.integers(3, 10)):
        z, side = rng.uniform(-40, 70), rng.choice((-1, 1))
        angle = -np.pi / 2 + side * rng.uniform(0.2, 0.5)
        ribs = anatomy.contours(z).ribs
        radius = ribs[int((angle + np.pi) / (2 * np.pi) * len(ribs)) % len(ribs)]
        center = np.array([radius * np.cos(angle), radius * np.sin(angle), z])
        clouds.append(_ball(rng, center, rng.uniform((1, 1, 1), (4, 2.4, 3)), hu * rng.uniform(150, 420)))
    return clouds


def _osteophyte(anatomy: Anatomy, rng: Rng, hu: float) -> list[Cloud]:
    clouds = []
    for level in range(-3, 6):
        if rng.random() < 0.5:
            z = (level - anatomy.vertebra_phase) * anatomy.vertebra_mm
            angle = rng.uniform(-np.pi * 0.95, -np.pi * 0.45)
            center = np.array([18 * np.cos(angle), anatomy.spine_mm(z) + 16 * np.sin(angle), z])
            clouds.append(_ball(rng, center, rng.uniform((2, 2, 2), (5, 4, 5)), hu * rng.uniform(250, 450)))
    return clouds


_MAKERS: dict[str, Callable[[Anatomy, Rng, float], list[Cloud]]] = {
    "aortic_wall_ascending": _aorta(0.06, 0.2, (1, 4)),
    "aortic_wall_arch": _aorta(0.26, 0.4, (1, 6)),
    "aortic_wall_descending": _aorta(0.48, 0.85, (1, 6)),
    "aortic_valve": _aortic_valve,
    "mitral_annulus": _mitral,
    "hilar_node": _nodes,
    "airway_ring": _airway_rings,
    "pericardium": _pericardium,
    "stent": _stent,
    "pacing_wire": _pacing,
    "sternal_wire": _sternal,
    "costal_cartilage": _cartilage,
    "osteophyte": _osteophyte,
}
MOBILITY = {"aortic_valve": 0.5, "mitral_annulus": 0.6, "pericardium": 0.4, "stent": 0.6, "pacing_wire": 0.5}
MOBILITY |= hardware.MOBILITY
"""Travel during a rotation relative to the right coronary artery; all else lies still."""

STREAK_HU = {"pacing_wire": 260.0, "stent": 90.0, "sternal_wire": 130.0, **hardware.STREAK_HU}
"""Strength of the streaks that metal throws."""


def make_traps(anatomy: Anatomy, kinds: tuple[str, ...], rng_of: Callable[[str], Rng], kvp: float) -> list[Trap]:
    """The asked-for kinds, each from a stream of its own so that leaving one out changes no other."""
    hu_per_mg = hu_per_mg_per_cm3(kvp)
    traps = []
    for kind in kinds:
        make = _MAKERS.get(kind)
        if make is None or (anatomy.version == 2 and kind in hardware.MAKERS):
            make = hardware.MAKERS[kind]
        for number, cloud in enumerate(make(anatomy, rng_of(f"trap {kind}"), hu_per_mg), start=1):
            details = {
                "contrast_hu": round(float(cloud.contrast_hu), 1),
                "volume_mm3": round(float(cloud.volumes_mm3.sum()), 2),
            }
            traps.append(Trap(kind, f"{kind}_{number}", cloud, details))
    return traps
