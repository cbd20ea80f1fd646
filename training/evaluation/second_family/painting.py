"""A person as layers on the scanner's grid: what stays, what beats, bone, and each kind of dense deposit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from heartlens.core.lesions import Artery
from training.evaluation.second_family.calcium import Deposit
from training.evaluation.second_family.chest import AIR_HU, Chest
from training.evaluation.second_family.coronaries import Course
from training.evaluation.second_family.heart import Heart
from training.evaluation.second_family.shapes import Ellipsoid, Grid, Solid, Tube, blend, fill, lay

AROUND_HEART_MM = ((-100.0, 106.0), (-98.0, 102.0))
"""(x, y) range in which the heart, the great vessels and all deposits lie."""

COARSE_MM = 3.0
"""Grid on which the smooth hulls of heart and mediastinum are found."""

FADES_MM = 24.0

Kind = tuple[Artery, str]
"""Whose deposit it is, and with what it moves."""


@dataclass(frozen=True, eq=False)
class Person:
    """Everything that is drawn of a person."""

    heart: Heart
    chest: Chest
    courses: Sequence[Course]
    deposits: Sequence[Deposit]


@dataclass(frozen=True, eq=False)
class Slabs:
    """Slices as means of thinner planes.

    Parameters
    ----------
    z_mm
        (k,) middle of each slice, ascending
    thickness_mm
        Of a slice.
    planes
        Of each slice.
    """

    z_mm: NDArray[np.float64]
    thickness_mm: float
    planes: int

    @property
    def step(self) -> int:
        """Planes from one slice to the next."""
        increment = self.z_mm[1] - self.z_mm[0] if len(self.z_mm) > 1 else self.thickness_mm
        return max(1, round(self.planes * increment / self.thickness_mm))

    @property
    def fine_mm(self) -> NDArray[np.float32]:
        """Middle of each plane."""
        thin = self.thickness_mm / self.planes
        count = (len(self.z_mm) - 1) * self.step + self.planes
        return (self.z_mm[0] + (np.arange(count) - (self.planes - 1) / 2) * thin).astype(np.float32)

    def mean(self, fine: NDArray[np.float32]) -> NDArray[np.float32]:
        """(k, ...) slices of (planes, ...)."""
        return np.stack([fine[k * self.step : k * self.step + self.planes].mean(0) for k in range(len(self.z_mm))])


@dataclass(frozen=True, eq=False)
class Layers:
    """A person on the scanner's grid, (k, y, x), HU.

    Parameters
    ----------
    soft
        Everything without bone and deposits.
    bone
        What bone adds.
    sway
        How far tissue goes with the heart, inside `part`: 1 in the heart, 0 at some distance; None when nothing moves.
    deposits
        What each kind of deposit adds, inside `part`.
    part
        Rows and columns around the heart.
    """

    soft: NDArray[np.float32]
    bone: NDArray[np.float32]
    sway: NDArray[np.float32] | None
    deposits: Mapping[Kind, NDArray[np.float32]]
    part: tuple[slice, slice]


def paint(person: Person, x_mm: NDArray, y_mm: NDArray, slabs: Slabs, *, moves: bool) -> Layers:
    """Lay a person out.

    Parameters
    ----------
    person
        All of it.
    x_mm, y_mm
        (pixels,) of the scanner's grid, in the heart's coordinates
    slabs
        Slices.
    moves
        Whether the heart will.
    """
    edge = float(x_mm[1] - x_mm[0])
    whole = Grid(slabs.z_mm.astype(np.float32), y_mm.astype(np.float32), x_mm.astype(np.float32))
    soft, bone, inside = person.chest.paint(whole, edge)
    lay(soft, whole, person.heart.solids["inferior vena cava"], person.chest.hu["blood"], edge)
    (x0, x1), (y0, y1) = AROUND_HEART_MM
    _, rows, columns = whole.inside((x0, y0, -1e4), (x1, y1, 1e4))
    near = Grid(slabs.fine_mm, whole.y[rows], whole.x[columns])
    sac, rest = _hulls(person, near)
    tissue = _mediastinum(person, near, sac, edge)
    box = soft[:, rows, columns]
    allowed = inside[:, rows, columns]
    heart_share = slabs.mean(np.clip(0.5 - sac / edge, 0, 1))
    rest_share = slabs.mean(np.clip(0.5 - rest / edge, 0, 1)) * allowed
    heart_share = heart_share * np.maximum(allowed, 0.0)
    tissue = slabs.mean(tissue)
    box = box + rest_share * (tissue - box)
    soft[:, rows, columns] = box + heart_share * (tissue - box)
    deposits = _deposits(person.deposits, near, slabs, edge)
    sway = _sway(slabs.mean(sac), allowed, edge) if moves else None
    return Layers(soft, bone, sway, deposits, (rows, columns))


def _sway(sac: NDArray[np.float32], allowed: NDArray[np.float32], edge: float) -> NDArray[np.float32]:
    """Tissue gives way smoothly over `FADES_MM` from the heart's surface; the rib cage stays."""
    ramp = np.clip(1 - (sac + 4) / np.float32(FADES_MM), 0, 1)
    free = np.clip(2 * gaussian_filter(allowed, (0, 4 / edge, 4 / edge)) - 1, 0, 1)
    return (ramp * ramp * (3 - 2 * ramp) * free).astype(np.float32)


SAC = (
    "right ventricle", "right atrium", "left atrium", "left ventricle", "pulmonary trunk", "left atrial appendage",
    "right atrial appendage", "left sinus", "right sinus", "non sinus",
)  # fmt: skip
"""What the pericardium holds; of the aorta, the root."""

NO_HULL = {*SAC, "left ventricle cavity", "inferior vena cava"}
"""Without mediastinal fat around them: the vein runs through the liver."""

FAT_SHARE = {"left ventricle": 0.3, "right ventricle": 1.0, "left atrium": 0.4}
"""Fat over each against the right ventricle's; the hull adds what fills the grooves."""


def _hulls(person: Person, near: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance from the pericardial sac, and from the rest of the mediastinum, on a grid."""
    low, high = (np.array([a[n] for a in (near.x, near.y, near.z)], float) for n in (0, -1))
    axes = [np.arange(a - COARSE_MM, b + 2 * COARSE_MM, COARSE_MM) for a, b in zip(low, high, strict=True)]
    x, y, z = (a.astype(np.float32) for a in axes)
    chest, heart = person.chest, person.heart
    held = [heart.solids[name] for name in SAC]
    fat = np.array([FAT_SHARE.get(name, 0.6) for name in SAC]) * heart.fat_mm
    sx, sy = chest.spine
    beside: list[Solid] = [s for n, s in heart.solids.items() if n not in NO_HULL]
    beside += [*chest.airways, _esophagus(chest)]
    beside.append(Tube(np.array([(sx, sy - 4, -300.0), (sx, sy - 4, 300.0)]), np.full(2, 16.0)))  # the spine
    front = chest.middle[1] - chest.half[1]
    beside.append(Ellipsoid(np.array([chest.middle[0] + 8, front + 2, 24.0]), np.eye(3), np.array([30.0, 11, 70])))
    at = (x[None, None], y[None, :, None], z[:, None, None])

    def hull(solids: Sequence[Solid], margin_mm: NDArray, softness: float) -> NDArray[np.float64]:
        grid = Grid(z, y, x)
        each = [s.on(grid, 16.0) if isinstance(s, Tube) else s.distance(*at) for s in solids]
        return blend(np.stack(each) - margin_mm[:, None, None, None].astype(np.float32), softness)

    sac = hull(held, fat, 6.0)
    rest = hull(beside, np.full(len(beside), 1.6), 2.5)
    fine = []
    for distance in (sac, rest):
        d = distance
        for axis, (coarse, wanted) in enumerate(((z, near.z), (y, near.y), (x, near.x))):
            d = np.moveaxis(np.tensordot(_linear(coarse, wanted), d.astype(np.float32), (1, axis)), 0, axis)
        fine.append(d.astype(np.float32))
    return fine[0], fine[1]


def _linear(coarse: NDArray, wanted: NDArray) -> NDArray[np.float32]:
    """(wanted, coarse) weights of linear interpolation."""
    at = np.clip((wanted - coarse[0]) / (coarse[1] - coarse[0]), 0, len(coarse) - 1.001)
    return np.clip(1 - np.abs(at[:, None] - np.arange(len(coarse))[None]), 0, 1).astype(np.float32)


def _esophagus(chest: Chest) -> Tube:
    x, y = chest.spine
    line = np.array([(x + 5, y - 27, -200.0), (x + 4, y - 26, 0.0), (x + 2, y - 25, 200.0)])
    return Tube(line, np.full(3, 6.5))


def _mediastinum(person: Person, near: Grid, sac: NDArray[np.float32], edge: float) -> NDArray[np.float32]:
    """Tissue of heart and mediastinum on the planes; fat where nothing else is."""
    hu, heart = person.chest.hu, person.heart
    tissue = np.full(near.shape, hu["fat"], np.float32)
    esophagus = _esophagus(person.chest)
    lay(tissue, near, esophagus, hu["muscle"] - 14, edge)
    lay(tissue, near, Tube(esophagus.points + np.array([1.0, -0.5, 0]), esophagus.radii * 0.3), -450.0, 3 * edge)
    fill(tissue, np.abs(sac) - 0.55, hu["pericardium"], edge)
    fill(tissue, sac + 0.9, hu["fat"] + 3, 2 * edge)
    for airway in person.chest.airways:
        lay(tissue, near, airway, hu["muscle"] - 10, edge)
        lay(tissue, near, Tube(airway.points, airway.radii - 1.5), AIR_HU + 10, edge)
    for course in person.courses:
        lay(tissue, near, Tube(course.points[::3], course.radii[::3]), hu["blood"], edge)
    for name, solid in heart.solids.items():
        lay(tissue, near, solid, hu["myocardium" if name in heart.walls else "blood"], edge)
        if name == "aorta" and isinstance(solid, Tube):
            wall = Tube(solid.points, solid.radii - 1.4)
            lay(tissue, near, solid, hu["blood"] + 9, edge)
            lay(tissue, near, wall, hu["blood"], edge)
    return tissue


def _deposits(deposits: Sequence[Deposit], near: Grid, slabs: Slabs, edge: float) -> dict[Kind, NDArray[np.float32]]:
    """What each kind adds; planes and pixels are halved first, so that a grain of 1 mm keeps its volume."""
    twice = Slabs(slabs.z_mm, slabs.thickness_mm, 2 * slabs.planes)
    z = twice.fine_mm
    y, x = (np.repeat(a, 2) + np.tile(np.array([-0.25, 0.25]) * edge, a.size) for a in (near.y, near.x))
    fine = Grid(z, y.astype(np.float32), x.astype(np.float32))
    made: dict[Kind, NDArray[np.float32]] = {}
    slices = len(slabs.z_mm)
    for deposit in deposits:
        reach = deposit.radii[:, None] + edge
        low, high = (deposit.centers - reach).min(axis=0), (deposit.centers + reach).max(axis=0)
        at = fine.inside(low, high)
        whole = [slice(s.start - s.start % 2, s.stop + s.stop % 2) for s in at[1:]]  # pixels
        at = (at[0], whole[0], whole[1])
        part = fine.part(at)
        if 0 in part.shape:
            continue
        share = _union_of_balls(deposit, part, edge / 2)
        n, rows, columns = share.shape
        share = share.reshape(n, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4)) * np.float32(deposit.hu)
        volume = made.setdefault(
            (deposit.artery, deposit.moves), np.zeros((slices, near.y.size, near.x.size), np.float32)
        )
        pixels = tuple(slice(s.start // 2, s.stop // 2) for s in at[1:])
        for k in range(slices):
            first, last = max(k * twice.step - at[0].start, 0), k * twice.step + twice.planes - at[0].start
            if last > 0 and first < n:
                window = volume[k][pixels]
                np.maximum(window, share[first : min(last, n)].sum(axis=0) / twice.planes, out=window)
    return made


def _union_of_balls(deposit: Deposit, part: Grid, edge: float) -> NDArray[np.float32]:
    share = np.zeros(part.shape, np.float32)
    for center, radius in zip(deposit.centers, deposit.radii, strict=True):
        at = part.inside(center - radius - edge, center + radius + edge)
        near = part.part(at)
        if 0 in near.shape:
            continue
        x, y, z = (a - np.float32(c) for a, c in zip((near.x, near.y, near.z), center, strict=True))
        d = np.sqrt(x[None, None] ** 2 + y[None, :, None] ** 2 + z[:, None, None] ** 2) - np.float32(radius)
        np.maximum(share[at], np.clip(0.5 - d / np.float32(edge), 0, 1), out=share[at])
    return share
