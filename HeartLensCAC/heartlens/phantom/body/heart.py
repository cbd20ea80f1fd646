# ruff: noqa: RUF005  # points are vectors: point + (dx, dy, dz) moves them
"""The heart of the phantom: chambers, great vessels, pericardium and coronary arteries.

Heart coordinates are (alpha, rho, upsilon), mm from the crux: along the long axis to the apex, across the septum from
left to right ventricle, and upward.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.lesions import Artery
from heartlens.phantom.body.shapes import Ellipsoid, FloatArray, Tube, smooth_curve, smooth_min

CHAMBER_BLEND_MM = 7.0
"""How softly one chamber runs into the next; the grooves between them are about this wide."""


BED = {Artery.LM: 0.8, Artery.LAD: 0.9, Artery.LCX: 1.3, Artery.RCA: 1.7}
"""Share of fat around each artery in anatomy 1."""


@dataclass(frozen=True, eq=False)
class Heart:
    """Where everything in the pericardium and its great vessels lies, body coordinates, mm.

    Parameters
    ----------
    crux
        (3,)
    axes
        (3, 3), unit rows alpha, rho, upsilon
    size
        1 for an average adult
    chambers
        Outer surfaces; LV includes its wall.
    great
        Aorta, pulmonary trunk and branches, cavae.
    mitral
        Center (3,) and radius of the mitral ring.
    valve
        (3,) root of the aorta, where its valve lies
    fat_mm
        Thickness of the fat below the pericardium.
    arteries
        Centerlines; `LM` to `RCA`.
    branches
        Diagonals, marginals, posterior descending; each with the artery it counts for.
    bed
        Fat around each artery, as a share of what the pericardium holds.
    """

    crux: NDArray[np.float64]
    axes: NDArray[np.float64]
    size: float
    chambers: dict[str, Ellipsoid]
    great: dict[str, Tube]
    mitral: tuple[NDArray[np.float64], float]
    valve: NDArray[np.float64]
    fat_mm: float
    arteries: dict[Artery, Tube] = field(default_factory=dict)
    branches: tuple[tuple[Artery, Tube], ...] = ()
    bed: dict[Artery, float] = field(default_factory=lambda: dict(BED))

    def place(self, heart_mm: ArrayLike) -> NDArray[np.float64]:
        """Body coordinates of heart coordinates, both (..., 3)."""
        return self.crux + np.asarray(heart_mm, float) * self.size @ self.axes

    def lowest_mm(self, chamber: str) -> float:
        """Height z of the bottom of a chamber."""
        body = self.chambers[chamber]
        return float(body.center[2] - np.linalg.norm(body.axes[:, 2] * body.radii))

    def surface(self, x: FloatArray, y: FloatArray, z: ArrayLike) -> FloatArray:
        """Signed distance to the outside of the chambers, mm."""
        return joined((c.distance(x, y, z) for c in self.chambers.values()), CHAMBER_BLEND_MM)

    def on_surface(self, points: ArrayLike, lift_mm: float) -> NDArray[np.float64]:
        """Points moved along the gradient until they lie `lift_mm` outside the chambers."""
        moved = np.array(points, np.float64)
        steps = np.concatenate([np.zeros((1, 3)), np.eye(3) * 0.5, -np.eye(3) * 0.5])
        for _ in range(10):
            around = self._at((moved + steps[:, None]).reshape(-1, 3)).reshape(7, -1)
            gradient = (around[1:4] - around[4:]).T
            gradient /= np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-6)
            moved -= 0.75 * np.clip(around[0] - lift_mm, -4, 4)[:, None] * gradient
        return moved

    def _at(self, points: FloatArray) -> FloatArray:
        return self.surface(points[:, 0], points[:, 1], points[:, 2])


def joined(distances: Iterable[FloatArray], blend_mm: float) -> FloatArray:
    """Distance to the union of some bodies, with rounded seams."""
    return reduce(lambda a, b: smooth_min(a, b, blend_mm), distances)


def draw_heart(
    rng: np.random.Generator,
    *,
    size: float,
    age_years: float,
    fat_mm: float,
    back_mm: float,
    sternum_mm: float,
    turn_deg: tuple[float, float] = (0.0, 0.0),
    left_mm: float = 0.0,
) -> Heart:
    """A heart as one person has it.

    Parameters
    ----------
    rng
        Draws what differs between people.
    size
        1 for a large adult
    age_years
        Of the person.
    fat_mm
        Thickness of the fat below the pericardium.
    back_mm
        How much farther back than usual spine and aorta lie.
    sternum_mm
        y of the back of the sternum
    turn_deg
        Added to the azimuth and the descent of the long axis.
    left_mm
        How far the heart lies to the left of its usual place.
    """
    azimuth = np.deg2rad(rng.normal(41, 6) + turn_deg[0])  # of the long axis, from straight left toward the front
    descent = np.deg2rad(rng.normal(29, 6) + turn_deg[1])
    alpha = np.array([np.cos(azimuth) * np.cos(descent), -np.sin(azimuth) * np.cos(descent), -np.sin(descent)])
    rho = np.array([-np.sin(azimuth), -np.cos(azimuth), rng.normal(0.0, 0.1)])
    rho -= rho @ alpha * alpha
    rho /= np.linalg.norm(rho)
    axes = np.stack([alpha, rho, np.cross(rho, alpha)])
    if axes[2, 2] < 0:
        axes[2] *= -1
    dilated = 1 + 0.07 * rng.normal(0, 1, 4).clip(-1.5, 2)
    # The left atrium lies against the descending aorta and the right ventricle behind the sternum: between them a heart
    # keeps to the room it has.
    reach = dict(zip(("lv", "rv", "ra", "la"), dilated, strict=True))
    back_of_atrium = float((np.array([-28, -28, 6]) @ axes)[1] + 20 * reach["la"])
    front_of_ventricle = float(
        np.linalg.norm(axes[:, 1] * (42, 23, 33)) * reach["rv"] - (np.array([34, 20, -2]) @ axes)[1]
    )
    room = 41.0 + back_mm - sternum_mm - 6.0
    size = min(size, room / (back_of_atrium + front_of_ventricle + 12.5))
    spare = max(room - size * (back_of_atrium + front_of_ventricle + 12.5), 0)
    crux_y = 41.0 + back_mm - size * (12.5 + back_of_atrium) - rng.uniform(0, min(spare, 6))
    crux = np.array([6 + rng.normal(0, 4) + left_mm, crux_y, 0.0])

    def at(*heart_mm: float) -> NDArray[np.float64]:
        return crux + np.array(heart_mm) * size @ axes

    unfold = 1 + max(age_years - 55, 0) / 35 * 0.5  # an old aorta is wide and long
    root = at(-14.5, 0.0, 17.0)
    chambers = {
        "lv": Ellipsoid(at(33, -11, -3), axes, np.array([47, 31, 32]) * size * dilated[0]),
        "rv": Ellipsoid(at(34, 20, -2), axes, np.array([42, 23, 33]) * size * dilated[1]),
        "ra": Ellipsoid(at(-27, 22, -9), axes, np.array([21, 18.5, 30]) * size * dilated[2]),
        "la": Ellipsoid(at(-28, -28, 6), np.eye(3), np.array([34, 20, 23]) * size * dilated[3]),
        "rvot": Ellipsoid(at(13, 12, 24), axes, np.array([18, 15, 20]) * size),
        "laa": Ellipsoid(at(3, -34, 25), axes, np.array([11, 9, 12]) * size),
        "raa": Ellipsoid(at(-12, 26, 17), axes, np.array([14, 9, 12]) * size),
    }
    r_root = 16.0 * size * rng.normal(1, 0.06)
    r_asc = r_root * rng.normal(1.03, 0.07) * (1 + 0.06 * (unfold - 1))
    top = (104 + 8 * (unfold - 1)) * size + rng.normal(0, 3)
    swing = rng.normal(0, 3)
    arch = [
        root + (3, 2, -8),
        root + (-2, -1, 8),
        root + np.array([-13 * unfold, -8, 32]),
        np.array([-14.0 * unfold + swing, root[1] - 4, top - 30]),
        np.array([-4.0 + swing, -8, top - 8]),
        np.array([12.0, 10, top]),
        np.array([22.0 + 3 * unfold, 30, top - 9]),
        np.array([24.0 + 2 * unfold, 40 + back_mm, top - 32]),
        np.array([22.0 + rng.normal(0, 3), 42 + back_mm, 30]),
        np.array([16.0 + rng.normal(0, 3), 41 + back_mm, -20]),
        np.array([10.0 + rng.normal(0, 3), 39 + back_mm, -70]),
        np.array([5.0, 36 + back_mm, -130]),
    ]
    r_desc = r_asc * 0.78
    radii = [
        r_root * 0.95,
        r_root,
        r_asc,
        r_asc,
        r_asc * 0.95,
        r_asc * 0.88,
        r_asc * 0.8,
        r_desc,
        r_desc,
        r_desc * 0.96,
    ]
    radii += [r_desc * 0.9, r_desc * 0.85]
    valve = at(7, 11, 36)
    r_pa = 13.5 * size * rng.normal(1, 0.07)
    fork = np.array([valve[0] + 4, valve[1] + 28, valve[2] + 27])
    great = {
        "aorta": Tube.through(arch, radii),
        "pulmonary_trunk": Tube.through(
            [at(10, 12, 26), valve, valve + (2, 10, 14), fork], [13 * size, r_pa, r_pa, r_pa * 0.9]
        ),
        "pulmonary_right": Tube.through(
            [fork, fork + (-16, 10, 2), fork + (-34, 17, 0), fork + (-62, 27, -9), fork + (-70, 33, -32)],
            [r_pa * 0.85, r_pa * 0.8, r_pa * 0.74, r_pa * 0.6, r_pa * 0.48],
        ),
        "pulmonary_left": Tube.through(
            [fork, fork + (10, 16, 9), fork + (23, 30, 8), fork + (31, 43, -6), fork + (32, 47, -34)],
            [r_pa * 0.85, r_pa * 0.8, r_pa * 0.74, r_pa * 0.62, r_pa * 0.45],
        ),
        "svc": Tube.through(
            np.vstack([at(-34, 18, 12), [(-31, -8, 48), (-31, -8, 80), (-28, -16, 108), (-30, -20, 150)]]),
            [11, 10.5, 10, 9, 7],
        ),
        "ivc": Tube.through(
            np.vstack([at(-38, 14, -30), [(-24, 4, -48), (-24, 18, -90), (-22, 22, -130)]]), [13, 13, 12, 11]
        ),
    }
    neck: dict[str, tuple[list[tuple[float, float, float]], float]] = {
        "brachiocephalic": ([(-5, -6, top - 4), (-18, -9, top + 24), (-26, -2, top + 48), (-40, 6, top + 80)], 6.5),
        "carotid_left": ([(8, 4, top - 2), (16, -3, top + 28), (21, 0, top + 60), (24, 4, top + 110)], 4.0),
        "subclavian_left": ([(17, 18, top - 4), (25, 17, top + 24), (32, 12, top + 48), (62, 2, top + 62)], 5.5),
        "carotid_right": ([(-30, 0, top + 52), (-25, 0, top + 80), (-25, 4, top + 110)], 4.0),
        "vein_neck_left": ([(-27, -18, top + 2), (-2, -25, top + 10), (24, -22, top + 28), (42, -8, top + 70)], 6.5),
    }
    for name, (course, radius) in neck.items():
        great[name] = Tube.through(course, radius * rng.normal(1, 0.08))
    la = chambers["la"].center
    for name, knots in {
        "vein_right_superior": [la + (-16, 2, 8), la + (-38, 2, 18), la + (-58, -6, 32)],
        "vein_right_inferior": [la + (-16, 8, -6), la + (-38, 14, -11), la + (-58, 24, -22)],
        "vein_left_superior": [la + (18, 2, 10), la + (38, 0, 20), la + (52, -12, 36)],
        "vein_left_inferior": [la + (18, 8, -4), la + (36, 15, -8), la + (52, 26, -20)],
    }.items():
        great[name] = Tube.through(knots, [8 * size, 6.5 * size, 4.5 * size])
    heart = Heart(crux, axes, size, chambers, great, (at(-6, -20, 0), 17.0 * size), root, fat_mm)
    return _with_coronaries(heart, rng)


def _with_coronaries(heart: Heart, rng: np.random.Generator) -> Heart:
    """Course of the arteries: they leave the sinuses and lie in the fat of the grooves."""
    root, size = heart.valve, heart.size
    wide = heart.great["aorta"].radii[6]
    lift = 2.6
    left = np.array([0.86, 0.36, 0.2]) + rng.normal(0, 0.06, 3)
    right = np.array([-0.42, -0.88, 0.12]) + rng.normal(0, 0.06, 3)
    left, right = left / np.linalg.norm(left), right / np.linalg.norm(right)
    os_left, os_right = root + (0, 0, 3) + left * wide, root + (0, 0, 3) + right * wide
    fork = heart.on_surface(heart.place([[5 + rng.normal(0, 2), -13 + rng.normal(0, 2), 33]]), lift + 2)[0]
    mitral, _ = heart.mitral

    def groove(center: NDArray, radius: float, degrees: ArrayLike, side: float) -> NDArray:
        angle = np.deg2rad(np.asarray(degrees, float))[:, None]
        return center + radius * (np.cos(angle) * heart.axes[2] + side * np.sin(angle) * heart.axes[1])

    lad = heart.place([(14, -5, 36), (26, 3, 35), (40, 5, 33), (54, 5, 27), (66, 4, 18), (76, 1, 8), (82, -3, -4)])
    lad = np.vstack([fork, heart.on_surface(lad + rng.normal(0, 1, lad.shape), lift)])
    reach = rng.uniform(115, 165)
    lcx = groove(mitral, 31 * size, np.arange(40, reach, 15), -1)
    lcx = np.vstack([fork, heart.on_surface(lcx, lift)])
    tricuspid = heart.place([0, 26, -4])
    rca = groove(tricuspid, 30 * size, np.arange(32, 186, 14), 1)
    end = heart.place([[0, 4, -32], [18, 4, -38], [40, 4, -36], [56, 3, -30]])
    start = os_right + right * 9
    rca = np.vstack([os_right, start, heart.on_surface(rca, lift)])
    crux = heart.on_surface(end, lift)

    def tube(knots: NDArray, r0: float, r1: float) -> Tube:
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
        keep = np.concatenate([[True], np.diff(along) > 0.5])
        knots, along = knots[keep], along[keep]
        at = np.linspace(0, along[-1], int(along[-1]) + 2)
        caliber = np.linspace(r0, r1, at.size)
        return Tube(smooth_curve(along, knots, at), caliber)

    bore = rng.normal(1, 0.08) * size
    arteries = {
        Artery.LM: tube(np.vstack([os_left, (os_left + fork) / 2 + (0, 0, 0.5), fork]), 2.3 * bore, 2.2 * bore),
        Artery.LAD: tube(lad, 1.9 * bore, 0.9 * bore),
        Artery.LCX: tube(lcx, 1.7 * bore, 0.9 * bore),
        Artery.RCA: tube(rca, 2.0 * bore, 1.4 * bore),
    }
    branches = [(Artery.RCA, tube(np.vstack([rca[-1], crux]), 1.3 * bore, 0.7 * bore))]
    for along, tilt in ((22, 0.0), (46, 1.0))[: 1 + int(rng.random() < 0.7)]:
        begin = arteries[Artery.LAD].points[min(along, len(arteries[Artery.LAD].points) - 1)]
        run = heart.place([(along * 0.9 + 14, -20 - 4 * tilt, 27), (along * 0.9 + 24, -30 - 3 * tilt, 16)])
        branches.append((Artery.LAD, tube(np.vstack([begin, heart.on_surface(run, lift)]), 1.2 * bore, 0.7 * bore)))
    begin = arteries[Artery.LCX].points[min(34, len(arteries[Artery.LCX].points) - 1)]
    run = heart.place([(16, -44, 4), (34, -48, -2), (50, -46, -8)])
    branches.append((Artery.LCX, tube(np.vstack([begin, heart.on_surface(run, lift)]), 1.2 * bore, 0.7 * bore)))
    return Heart(**{**heart.__dict__, "arteries": arteries, "branches": tuple(branches)})
