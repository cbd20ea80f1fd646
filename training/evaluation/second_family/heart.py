"""The heart and the great vessels of one person: chambers, root, trunk, appendages and veins in right relation.

Positions are mm to the patient's left, back and head, from the middle of the aortic annulus. The layout is ours; its
sizes and angles are drawn from `published`, and docs/second-family.md measures what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.evaluation.second_family.published import ANGLES_DEGREES, SIZES_MM
from training.evaluation.second_family.shapes import Ellipsoid, Solid, Tube, drawn_modes

MEAN_AXIS_DEGREES = (47.0, 31.0)
"""Left of the sagittal plane and below the horizontal, of the heart in which the layout below is written."""

ROOT_AXIS = np.array([-0.40, -0.27, 0.88])
SINUS_DEGREES = {"left": 18.0, "right": -100.0, "non": 140.0}
"""Direction of each sinus around the root, from the patient's left toward the back."""


@dataclass(frozen=True, eq=False)
class Heart:
    """One person's heart.

    Parameters
    ----------
    solids
        By name; later ones lie over earlier ones.
    walls
        Names whose tissue is myocardium; all others hold blood.
    along, septal, upward
        (3,) from the base to the apex; from the left to the right ventricle; and across both.
    base, mitral, tricuspid
        (3,) middle of the left ventricle's base and of both rings
    ring_radius
        Of both rings, mm, by name.
    ostia
        (3,) of "left" and "right".
    sinus_out
        (3,) direction of both sinuses.
    left_main_mm, fork_degrees
        Length of the left main, and angle between the arteries it divides into.
    fat_mm
        Over the right ventricle's free wall.
    scale
        Of the whole heart against the mean.
    """

    solids: dict[str, Solid]
    walls: frozenset[str]
    along: NDArray[np.float64]
    septal: NDArray[np.float64]
    upward: NDArray[np.float64]
    base: NDArray[np.float64]
    mitral: NDArray[np.float64]
    tricuspid: NDArray[np.float64]
    ring_radius: dict[str, float]
    ostia: dict[str, NDArray[np.float64]]
    sinus_out: dict[str, NDArray[np.float64]]
    left_main_mm: float
    fork_degrees: float
    fat_mm: float
    scale: float

    def tube(self, name: str) -> Tube:
        """A solid that is a tube."""
        solid = self.solids[name]
        assert isinstance(solid, Tube)
        return solid

    def ellipsoid(self, name: str) -> Ellipsoid:
        """A solid that is an ellipsoid."""
        solid = self.solids[name]
        assert isinstance(solid, Ellipsoid)
        return solid

    @property
    def front_mm(self) -> float:
        """Where the fat before the right ventricle ends, on the axis from front to back."""
        right = self.ellipsoid("right ventricle")
        reach = np.sqrt(((right.axes * right.semi_mm[:, None]) ** 2).sum(axis=0))
        return float(right.center[1] - reach[1] - self.fat_mm)


def frame_of(left_degrees: float, down_degrees: float) -> NDArray[np.float64]:
    """(3, 3) rows: base to apex, left to right ventricle, and across both, upward."""
    left, down = np.radians([left_degrees, down_degrees])
    along = np.array([np.cos(down) * np.sin(left), -np.cos(down) * np.cos(left), -np.sin(down)])
    septal = np.array([-np.cos(left), -np.sin(left), 0.0])
    return np.stack([along, septal, np.cross(septal, along) * np.sign(np.cross(septal, along)[2])])


def draw_heart(rng: np.random.Generator, *, is_woman: bool) -> Heart:
    """A person's heart.

    Parameters
    ----------
    rng
        Draws everything.
    is_woman
        Whose hearts are smaller by a twelfth.
    """
    size = {name: m.draw(rng) for name, m in SIZES_MM.items()}
    scale = float(np.clip(rng.normal(1.0, 0.05), 0.9, 1.12)) * (0.92 if is_woman else 1.0)
    angles = [ANGLES_DEGREES[f"left ventricle axis, {n}"].draw(rng) for n in (
        "left of the sagittal plane", "below the horizontal")]  # fmt: skip
    mean, frame = frame_of(*MEAN_AXIS_DEGREES), frame_of(*angles)
    turn = frame.T @ mean
    along, septal, upward = frame

    def place(points: ArrayLike, jitter_mm: float = 1.2) -> NDArray[np.float64]:
        """Layout to this person: the heart turns as a whole, the arch stays with the chest."""
        p = np.atleast_2d(np.asarray(points, float))
        stays = np.clip((p[:, 2:] - 22) / 45, 0, 1)
        turned = p @ turn.T
        return scale * (turned * (1 - stays) + p * stays) + rng.normal(0, jitter_mm, p.shape)

    solids: dict[str, Solid] = {}
    half = {name: scale * mm / 2 for name, mm in size.items()}

    # Left heart. The mitral ring lies behind and to the left of the aortic annulus, in continuity with it.
    mitral = scale * (-29 * (0.90 * septal + 0.43 * upward)) + rng.normal(0, 1.0, 3)
    base = mitral * 0.55 + 4 * scale * along
    length, wide = 2 * half["left ventricle length outside"], half["left ventricle diameter outside"]
    middle = base + 0.27 * length * along
    lv_semi = np.array([0.73 * length, wide * 1.04, wide])
    lv_modes = drawn_modes(rng, 0.02)
    cut = ((base - 7 * scale * along, along),)
    solids["right ventricle"] = Ellipsoid(
        base + 0.30 * length * along + wide * 1.06 * septal - 5 * scale * upward, frame,
        scale * np.array([0.60 * length / scale, 31, 40]) * rng.normal(1, 0.04, 3), drawn_modes(rng, 0.035),
        ((base - 5 * scale * along, along),),
    )  # fmt: skip
    tricuspid = mitral + scale * (48 * septal - 6 * upward) + rng.normal(0, 1.0, 3)
    solids["right atrium"] = Ellipsoid(
        tricuspid - scale * (20 * along - 1 * septal + 1 * upward), frame,
        scale * np.array([24, 25, 34]) * rng.normal(1, 0.06, 3), drawn_modes(rng, 0.04),
    )  # fmt: skip
    solids["left atrium"] = Ellipsoid(
        mitral - scale * 23 * along + np.array([3.0, 1.0, 0.0]),
        frame_of(rng.normal(0, 6), rng.normal(8, 5))[[1, 0, 2]],
        np.array([half[f"left atrium {n}"] for n in ("side to side", "front to back", "foot to head")]),
        drawn_modes(rng, 0.04),
    )  # fmt: skip
    solids["left ventricle"] = Ellipsoid(middle, frame, lv_semi, lv_modes, cut)
    wall = size["left ventricle wall"] * scale
    solids["left ventricle cavity"] = Ellipsoid(middle, frame, lv_semi - wall, lv_modes, cut)

    # Right outflow: in front of the root, then up along its left side.
    trunk = half["pulmonary trunk diameter"]
    path = place([(0, -36, -10), (6, -33, 6), (10, -29, 18), (16, -20, 34), (21, -5, 47)])
    solids["pulmonary trunk"] = Tube.through(path, np.array([17, 15.5, trunk, trunk * 1.03, trunk * 0.98]))
    fork = path[-1]
    solids["left pulmonary artery"] = Tube.through(
        np.vstack([fork, place([(33, 14, 54), (45, 32, 51), (50, 48, 38)])]), trunk * np.array([0.95, 0.86, 0.75, 0.5])
    )
    solids["right pulmonary artery"] = Tube.through(
        np.vstack([fork, place([(4, 13, 49), (-18, 18, 46), (-40, 21, 42), (-56, 28, 32)])]),
        trunk * np.array([0.95, 0.86, 0.82, 0.72, 0.45]),
    )
    # Veins and appendages.
    for name, points, radii in (
        ("superior vena cava", [(-33, 2, 8), (-31, 2, 30), (-29, -2, 60), (-27, -6, 105)], [10, 9.5, 9.5, 9]),
        ("inferior vena cava", [(-27, 18, -24), (-25, 26, -44), (-22, 30, -150)], [12, 12, 12]),
        ("left upper vein", [(28, 33, 17), (46, 36, 27), (64, 34, 40)], [8, 7, 4]),
        ("left lower vein", [(24, 46, -2), (46, 56, -8), (64, 64, -22)], [8, 7, 4]),
        ("right upper vein", [(-20, 34, 16), (-42, 30, 20), (-62, 24, 30)], [8, 7, 4]),
        ("right lower vein", [(-18, 46, -4), (-40, 54, -10), (-60, 60, -24)], [8, 7, 4]),
    ):
        solids[name] = Tube.through(place(points), scale * np.array(radii, float))
    reach = size["left atrial appendage length"] / 42
    tip = place([(31, 26, 9), (41, 15, 15), (44, 2, 19), (40, -9 * reach, 19)], 2.0)
    solids["left atrial appendage"] = Tube.through(tip, scale * np.array([9, 8.5, 7, 3.5]) * rng.uniform(0.85, 1.2))
    ear = place([(-30, -4, 6), (-24, -17, 14), (-15, -25, 19)], 1.5)
    solids["right atrial appendage"] = Tube.through(ear, scale * np.array([13, 10, 4.5]))

    # The aorta: annulus, three sinuses, ascending part, arch, descending part.
    annulus, sinus = half["aortic annulus diameter"], half["sinus of Valsalva diameter"]
    axis = turn @ ROOT_AXIS / np.linalg.norm(ROOT_AXIS)
    out = {name: _across(axis, np.radians(degrees)) for name, degrees in SINUS_DEGREES.items()}
    for name, direction in out.items():
        solids[f"{name} sinus"] = Ellipsoid(
            scale * 10 * axis + direction * sinus * 0.40, np.stack([direction, np.cross(axis, direction), axis]),
            np.array([sinus * 0.60, sinus * 0.66, 11 * scale]),
        )  # fmt: skip
    ascending, arch = half["ascending aorta diameter"], half["aortic arch diameter"]
    descending = half["descending aorta diameter"]
    up = np.vstack([-3 * axis, scale * 9 * axis, scale * 21 * axis])
    over = place([(-14, -10, 40), (-16, -10, 58), (-13, -3, 76), (-4, 14, 90), (8, 36, 93), (19, 54, 84)])
    down = np.array([(21, 61, 66), (21, 64, 30), (19, 67, -10), (13, 69, -60), (8, 68, -160)]) + rng.normal(0, 1.5, 3)
    radii = [annulus, sinus * 0.93, ascending * 0.90, ascending, ascending, ascending * 0.97, arch, arch, arch * 0.95]
    solids["aorta"] = Tube.through(np.vstack([up, over, down]), np.array([*radii, *(5 * [descending])]))

    ostia = {
        side: axis * scale * size[f"{side} ostium above annulus"] + out[side] * (sinus - 0.5)
        for side in ("left", "right")
    }
    return Heart(
        solids, frozenset({"left ventricle"}), along, septal, upward, base, mitral, tricuspid,
        {"mitral": half["mitral annulus diameter"], "tricuspid": half["tricuspid annulus diameter"]},
        ostia, out, size["left main length"] * scale,
        ANGLES_DEGREES["LAD from LCX"].draw(rng, 1.5), size["epicardial fat, free wall"], scale,
    )  # fmt: skip


def _across(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Unit vector perpendicular to an axis, nearest to a direction in the horizontal plane."""
    level = np.array([np.cos(angle), np.sin(angle), 0.0])
    across = level - (level @ axis) * axis
    return across / np.linalg.norm(across)
