"""Courses of the coronary arteries: from the sinuses into the grooves that the chambers leave between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d, map_coordinates

from heartlens.core.lesions import Artery
from training.evaluation.second_family.heart import Heart
from training.evaluation.second_family.published import SIZES_MM
from training.evaluation.second_family.shapes import Grid, Solid, Tube, distances

STEP_MM = 0.6

GAP_MM = 0.7
"""Between the vessel's wall and what it runs along."""


@dataclass(frozen=True, eq=False)
class Course:
    """One artery or branch.

    Parameters
    ----------
    artery
        Whose name its calcium has.
    name
        Of the branch.
    points
        (n, 3) mm, every `STEP_MM`, from where it begins
    radii
        (n,) outer, mm
    """

    artery: Artery
    name: str
    points: NDArray[np.float64]
    radii: NDArray[np.float64]

    @property
    def length_mm(self) -> float:
        """Along the middle."""
        return (len(self.points) - 1) * STEP_MM


def draw_courses(rng: np.random.Generator, heart: Heart) -> list[Course]:
    """Left main, LAD with a diagonal, LCX with a marginal, RCA with the posterior descending branch."""
    names = [k for k in SIZES_MM if k.split()[0] in ("left", "LAD", "LCX", "RCA")]
    diameter = {k: SIZES_MM[k].draw(rng) * heart.scale for k in names}
    grooves, room = _Grooves(heart), _Room(heart)
    trunk, left = heart.tube("pulmonary trunk").points, heart.ostia["left"]
    out = heart.sinus_out["left"] + np.array([0.25, 0.10 + rng.normal(0, 0.1), rng.normal(-0.12, 0.12)])
    out /= np.linalg.norm(out)
    fork = left + heart.left_main_mm * out
    half, forward = np.radians(heart.fork_degrees) / 2, _unit(np.array([0.0, -1, 0]) + out[1] * out)
    part = [fork + 7 * heart.scale * (np.cos(half) * out + side * np.sin(half) * forward) for side in (1, -1)]
    anterior, posterior = grooves.interventricular("front"), grooves.interventricular("back")
    left_ring = grooves.ring("mitral", np.linspace(50, 165, 24))
    right_ring = grooves.ring("tricuspid", np.linspace(38, 205, 34))
    beside = trunk[len(trunk) // 2] + np.array([16.0, 6.0, 0.0]) * heart.scale  # the trunk's left side
    first = 0.5 * (fork + anterior[1]) * 0.6 + 0.4 * np.array([*beside[:2], 0.5 * (fork + anterior[1])[2]])

    right = heart.ostia["right"]
    leave = right + 9 * heart.scale * (heart.sinus_out["right"] + np.array([-0.45, 0.1, -0.05]))
    courses = [
        ("LM", "left main", [left, 0.5 * (left + fork) + rng.normal(0, 0.5, 3), fork], ("left main", "left main")),
        ("LAD", "anterior descending", [fork, part[0], first, *anterior[1:]], ("LAD proximal", "LAD distal")),
        ("LCX", "circumflex", [fork, part[1], *left_ring[: int(rng.integers(13, 24))]], ("LCX proximal", "LCX distal")),
        ("RCA", "right", [right, leave, *right_ring], ("RCA proximal", "RCA distal")),
        ("LAD", "diagonal", grooves.over_the_side(anterior, rng.uniform(0.2, 0.4), 55), ("LAD distal", "LAD distal")),
        ("LCX", "marginal", grooves.down_the_side(left_ring, rng.uniform(0.25, 0.5)), ("LCX distal", "LCX distal")),
        ("RCA", "posterior descending", [right_ring[-1], *posterior[1:-4]], ("RCA distal", "LCX distal")),
    ]
    made = []
    for artery, name, points, (begin, end) in courses:
        line = _evenly(np.array(points))
        radii = np.linspace(diameter[f"{begin} diameter"], diameter[f"{end} diameter"], len(line)) / 2
        made.append(Course(Artery[artery], name, _pushed_out(line, radii, room, name), radii))
    return made


class _Grooves:
    """Where the outer surface of the heart is lowest."""

    def __init__(self, heart: Heart) -> None:
        self.heart = heart
        self.front = np.zeros(0)
        self.chambers = [heart.solids[f"{s} {c}"] for s in ("left", "right") for c in ("ventricle", "atrium")]

    def ring(self, name: str, degrees: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) along the groove between atrium and ventricle; 0 degrees is upward, 90 the free wall."""
        heart = self.heart
        center, side = (heart.mitral, -1.0) if name == "mitral" else (heart.tricuspid, 1.0)
        angle = np.radians(degrees)
        out = np.outer(np.cos(angle), heart.upward) + side * np.outer(np.sin(angle), heart.septal)
        shift = np.linspace(-13, 13, 14) * heart.scale
        origin = center + shift[:, None, None] * heart.along  # (shifts, 1, 3)
        radius = self._outer_radius(origin, out[None])  # (shifts, n)
        best = gaussian_filter1d(shift[radius.argmin(axis=0)], 2.0, mode="nearest")
        origin = center + best[:, None] * heart.along
        return origin + (self._outer_radius(origin, out) + 3.0)[:, None] * out

    def interventricular(self, side: str) -> NDArray[np.float64]:
        """(n, 3) along the groove between the ventricles, from base to apex, in front or at the back."""
        heart = self.heart
        length = heart.ellipsoid("left ventricle").semi_mm[0] / 0.73
        origin = heart.base + np.linspace(0.10, 0.97, 22)[:, None] * length * heart.along
        angle = np.radians(np.linspace(50, 100, 26) if side == "front" else np.linspace(-65, -120, 26))
        out = np.outer(np.cos(angle), heart.septal) + np.outer(np.sin(angle), heart.upward)
        radius = self._outer_radius(origin[:, None], out[None])  # (n, angles)
        lowest = angle[radius.argmin(axis=1)]
        mean = gaussian_filter1d(lowest, 3.0, mode="nearest")
        if side == "front":
            self.front = mean
        return self._surface(origin, mean)

    def over_the_side(self, groove: NDArray[np.float64], begin: float, degrees: float) -> list[NDArray[np.float64]]:
        """From a place of the front groove, over the left ventricle's free wall."""
        n = int(begin * len(groove))
        origin = self._axis_points(groove[n : n + 11])
        turn = self.front[n : n + len(origin)] + np.radians(degrees) * np.linspace(0, 1, len(origin)) ** 0.8
        return [groove[n], *self._surface(origin, turn)[1:]]

    def down_the_side(self, ring: NDArray[np.float64], begin: float) -> list[NDArray[np.float64]]:
        """From a place of the left ring toward the apex."""
        start = ring[int(begin * len(ring))]
        heart = self.heart
        origin = self._axis_points(start[None] + np.linspace(4, 60, 12)[:, None] * heart.scale * heart.along)
        off = start - self._axis_points(start[None])[0]
        angle = np.arctan2(off @ heart.upward, off @ heart.septal)
        return [start, *self._surface(origin, np.full(len(origin), angle))]

    def _axis_points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        heart = self.heart
        return heart.base + np.outer((points - heart.base) @ heart.along, heart.along)

    def _surface(self, origin: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.outer(np.cos(angle), self.heart.septal) + np.outer(np.sin(angle), self.heart.upward)
        return origin + (gaussian_filter1d(self._outer_radius(origin, out), 1.0, mode="nearest") + 3.0)[:, None] * out

    def _outer_radius(self, origin: NDArray[np.float64], out: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far from each origin, in each direction, the outermost chamber reaches."""
        along = np.arange(8.0, 66.0, 0.75)
        origin, out = np.broadcast_arrays(origin, out)
        points = origin[..., None, :] + along[:, None] * out[..., None, :]
        inside = distances(self.chambers, points.reshape(-1, 3)).min(axis=0).reshape(points.shape[:-1]) < 0
        last = along.size - 1 - inside[..., ::-1].argmax(axis=-1)
        return np.where(inside.any(axis=-1), along[last], along[0])


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def _evenly(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) every `STEP_MM` along a smooth line."""
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
    keep = np.append(True, np.diff(length) > 1e-3)
    smooth = PchipInterpolator(length[keep], points[keep])
    at = np.linspace(0, length[-1], max(int(length[-1] / 0.2), 4))
    line = smooth(at)
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1)))
    at = np.interp(np.arange(0, length[-1], STEP_MM), length, at)
    return smooth(at)


def _pushed_out(line: NDArray[np.float64], radii: NDArray[np.float64], room: _Room, name: str) -> NDArray[np.float64]:
    """The line moved out of everything it must run beside; near the ostium the aorta may be touched."""
    from_ostium = np.arange(len(line)) * STEP_MM if name in ("left main", "right") else np.full(len(line), 99.0)
    ends = np.minimum(np.arange(len(line)), np.arange(len(line))[::-1])
    moved = line.copy()
    for n in range(60):
        moved = room.step(moved, radii + GAP_MM, room.others)
        free = np.clip(from_ostium - 1.0, -1.0, GAP_MM)
        moved = room.step(moved, np.where(from_ostium < 5, free, radii + GAP_MM), room.aorta)
        if n % 4 == 3 and n < 50:
            smooth = gaussian_filter1d(moved, 4.0, axis=0, mode="nearest")
            moved = moved + 0.7 * np.clip(ends / 8, 0, 1)[:, None] * (smooth - moved)
    return moved


class _Room:
    """Distances from the heart's solids on a coarse grid, and from the aorta, which an ostium may touch."""

    def __init__(self, heart: Heart) -> None:
        x, y, z = (np.arange(a, b, self.PITCH_MM, dtype=np.float32) for a, b in ((-75, 100), (-75, 75), (-100, 62)))
        self.grid = Grid(z, y, x)
        aorta = {"aorta", *(f"{s} sinus" for s in ("left", "right", "non"))}
        self.aorta = self._field([s for n, s in heart.solids.items() if n in aorta])
        self.others = self._field([s for n, s in heart.solids.items() if n not in aorta | {"left ventricle cavity"}])

    PITCH_MM = 2.0

    def step(
        self, points: NDArray[np.float64], least: NDArray[np.float64], field: list[NDArray[np.float32]]
    ) -> NDArray[np.float64]:
        """Points nearer to a solid than they may be, moved away from it."""
        origin = np.array([self.grid.z[0], self.grid.y[0], self.grid.x[0]])
        at = (points[:, ::-1] - origin).T / self.PITCH_MM
        here, *slope = (map_coordinates(f, at, order=1, mode="nearest") for f in field)
        away = np.stack(slope[::-1], axis=1)
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
        return points + np.clip(0.6 * (least - here), 0, 1.5)[:, None] * away

    def _field(self, solids: list[Solid]) -> list[NDArray[np.float32]]:
        near = np.full(self.grid.shape, 8.0, np.float32)
        for solid in solids:
            at = self.grid.inside(*solid.box(8.0))
            part = self.grid.part(at)
            if 0 not in part.shape:
                d = solid.on(part, 8.0) if isinstance(solid, Tube) else solid.on(part)
                np.minimum(near[at], d, out=near[at])
        return [near, *np.gradient(near, self.PITCH_MM)]
