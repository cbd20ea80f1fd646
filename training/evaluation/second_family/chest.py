"""What the heart lies in: lungs and their vessels, ribs, sternum, spine, muscles, fat, skin, diaphragm and table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.second_family.published import TISSUES_HU
from training.evaluation.second_family.shapes import Ellipsoid, Grid, Tube, drawn_modes, fill, lay

AIR_HU = -1000.0

_ASIDE = np.array([0.0, 15, 32, 60, 90, 120, 150, 168, 180])
"""Degrees from the front, of the tables below."""
_MUSCLE_MM = np.array([2.0, 4, 11, 9, 7, 11, 17, 22, 14])
_FAT_MM = np.array([8.0, 9, 12, 13, 13, 12, 10, 8, 6])
_RIB_FALLS_MM = np.array([104.0, 100, 90, 68, 42, 22, 8, 0, 0])
"""A rib begins high at the spine and ends low beside the sternum."""


@dataclass(frozen=True, eq=False)
class Chest:
    """One person's chest; positions are those of the heart.

    Parameters
    ----------
    middle
        (x, y) of the chest's cross-section.
    half
        (across, front to back) of its inner outline.
    spine
        (x, y) of the vertebrae's middle; the lungs reach farther back on both sides.
    roundness
        2 is an ellipse, more is a box.
    bulge
        Of the outline's corners, as a share of its radius.
    fatness
        Fat under the skin against the mean.
    breasts
        Half sizes (x, y, z), or None.
    rib_spacing
        From one rib to the next, mm.
    phase
        Of ribs and vertebrae.
    hu
        Of each tissue.
    calcified_cartilage
        Share of the rib cartilage's rim, 0 to 1.
    domes
        Diaphragm: liver on the right, stomach and spleen on the left.
    trunk_vessels
        In the lungs, with the airways' walls.
    airways
        Trachea and main bronchi, outer walls.
    """

    middle: tuple[float, float]
    half: tuple[float, float]
    spine: tuple[float, float]
    roundness: float
    bulge: float
    fatness: float
    breasts: tuple[float, float, float] | None
    rib_spacing: float
    phase: float
    hu: dict[str, float]
    calcified_cartilage: float
    domes: tuple[tuple[str, Ellipsoid], ...]
    trunk_vessels: tuple[Tube, ...]
    airways: tuple[Tube, ...]

    def paint(self, grid: Grid, edge_mm: float) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """All planes of a grid.

        Returns
        -------
        soft : NDArray[np.float32]
            (z, y, x) HU with bone as if it were muscle.
        bone : NDArray[np.float32]
            (z, y, x) HU that bone adds.
        inside : NDArray[np.float32]
            (z, y, x) share of each voxel within the rib cage.
        """
        outline = _Outline(self, grid)
        soft, bone, inside = (np.empty(grid.shape, np.float32) for _ in range(3))
        for k, z in enumerate(grid.z):
            soft[k], bone[k], inside[k] = outline.plane(float(z), edge_mm)
        cage = soft.copy()
        for tissue, dome in self.domes:
            lay(cage, grid, dome, self.hu[tissue], 3 * edge_mm)
        for vessel in self.trunk_vessels:
            lay(cage, grid, vessel, 25.0, 1.5 * edge_mm)
        soft += inside * (cage - soft)
        return soft, bone, inside


class _Outline:
    """The chest wall in polar coordinates around its middle."""

    def __init__(self, chest: Chest, grid: Grid) -> None:
        self.chest, self.hu = chest, chest.hu
        self.x = (grid.x - np.float32(chest.middle[0]))[None, :]
        self.y = (grid.y - np.float32(chest.middle[1]))[:, None]
        self.radius = np.hypot(self.x, self.y)
        self.aside = np.degrees(np.arctan2(np.abs(self.x), -self.y)).astype(np.float32)
        theta = np.radians(np.linspace(0, 180, 361))
        across, deep = (np.abs(f(theta)) / h for f, h in zip((np.sin, np.cos), chest.half, strict=True))
        outline = (across**chest.roundness + deep**chest.roundness) ** (-1 / chest.roundness)
        outline *= 1 - 0.07 * np.exp(-((theta / 0.45) ** 2)) + chest.bulge * np.sin(2 * theta)
        self.inner = self._by_angle(np.degrees(theta), outline)
        self.muscle, self.fat, self.falls = (
            self._by_angle(_ASIDE, v) for v in (_MUSCLE_MM, _FAT_MM * chest.fatness, _RIB_FALLS_MM)
        )
        self.back = float(chest.half[1] + 9 + _MUSCLE_MM[-2] + _FAT_MM[-1] * chest.fatness + 4)

    def _by_angle(self, degrees: NDArray, values: NDArray) -> NDArray[np.float32]:
        return np.interp(self.aside, degrees, values).astype(np.float32)

    def plane(self, z: float, edge: float) -> tuple[NDArray[np.float32], ...]:
        """One plane: soft tissue, bone, and the share inside the cage."""
        hu, out = self.hu, self.radius - self.inner * np.float32(1 - 0.0011 * max(z, -30))
        shoulder = float(np.clip((z - 15) / 40, 0, 1))
        muscle = self.muscle + np.float32(13 * shoulder) * np.exp(-(((self.aside - 128) / 28) ** 2))
        muscle = muscle + np.float32(7 * shoulder) * np.exp(-(((self.aside - 45) / 22) ** 2))
        soft = np.full(out.shape, AIR_HU, np.float32)
        self._table(soft, edge)
        skin = out - (9 + muscle + self.fat)
        if self.chest.breasts is not None:
            a, b, c = self.chest.breasts
            side = np.hypot((np.abs(self.x) - 72) / a, (self.y + self.chest.half[1] + 14) / b)
            skin = np.minimum(skin, (np.hypot(side, (z + 25) / c) - 1) * b)
        fill(soft, skin, hu["skin"], edge)
        fill(soft, skin + 1.9, hu["fat"], edge)
        fill(soft, out - (9 + muscle), hu["muscle"], 2 * edge)
        fill(soft, np.abs(out - 9.5) - 0.7, hu["fat"], 2 * edge)  # a plane of fat outside the ribs
        bone = np.zeros_like(soft)
        inside = np.clip(0.5 - out / edge, 0, 1)
        lung = hu["lung"] + np.float32(0.45) * self.y
        soft += inside * (lung - soft)
        self._ribs(soft, bone, out, z, edge)
        self._sternum(soft, bone, out, z, edge)
        inside = inside * np.clip(0.5 + self._spine(soft, bone, out, z, edge), 0, 1)
        if shoulder > 0.25:
            blade = np.maximum(np.abs(out - 19) - 2.6, (np.abs(self.aside - 128) - 7 - 14 * shoulder) * 2.2)
            self._bone(bone, blade, 1.1, edge)
        return soft, bone, inside

    def _bone(self, bone: NDArray, distance: NDArray, rim_mm: float, edge: float) -> None:
        fill(bone, distance, self.hu["compact bone"] * 0.75, edge)
        fill(bone, distance + rim_mm, self.hu["spongy bone"], edge)

    def _ribs(self, soft: NDArray, bone: NDArray, out: NDArray, z: float, edge: float) -> None:
        spacing = self.chest.rib_spacing
        turn = (z + self.falls + self.chest.phase * spacing) / spacing
        off = np.abs(turn - np.floor(turn) - 0.5) * spacing
        shell = (np.sqrt(((out - 5) / 3.9) ** 2 + np.square(np.square(off / 7.0))) - 1) * 3.9  # flat ovals
        cartilage = np.maximum(shell, self.aside - 33)
        fill(soft, cartilage, self.hu["cartilage"], edge)
        self._bone(bone, np.maximum(shell, 32 - self.aside), 1.0, edge)
        if self.chest.calcified_cartilage:
            patchy = np.sin(self.aside * 0.45 + z * 0.31) + np.sin(self.x * 0.21 - z * 0.17)
            rim = np.maximum(np.abs(cartilage + 0.9) - 0.9, (1.3 - 2 * self.chest.calcified_cartilage - patchy) * 4)
            fill(bone, rim, 290.0, edge)

    def _sternum(self, soft: NDArray, bone: NDArray, out: NDArray, z: float, edge: float) -> None:
        wide = 19 if z > 25 else 16 if z > -40 else 8
        plate = np.maximum(np.abs(out - 6) - 5.5, np.abs(self.x) - wide)
        plate = np.where(self.y < 0, plate, 99).astype(np.float32)
        fill(soft, plate, self.hu["muscle"], edge)
        self._bone(bone, plate, 1.3, edge)

    def _spine(self, soft: NDArray, bone: NDArray, out: NDArray, z: float, edge: float) -> NDArray[np.float32]:
        """Lay the vertebra and the muscles around it; gives its distance, mm."""
        y = self.y - np.float32(self.chest.spine[1] - self.chest.middle[1])
        body = (np.sqrt((self.x / 18.5) ** 2 + (y / 15.0) ** 2) - 1) * 15
        arch = (np.sqrt((self.x / 17.0) ** 2 + ((y - 24) / 13.0) ** 2) - 1) * 13
        spinous = (np.sqrt((self.x / 3.6) ** 2 + ((y - 41) / 11.0) ** 2) - 1) * 3.6
        across = (np.sqrt(((np.abs(self.x) - 24) / 15) ** 2 + ((y - 22) / 4.5) ** 2) - 1) * 4.5
        canal = np.hypot(self.x, y - 23) - 8.5
        column = np.maximum(np.abs(self.x) - 17 - 0.35 * np.clip(y, 0, 30), 5 - y)  # muscle beside the processes
        column = np.maximum(column, out - 9).astype(np.float32)
        spinous = np.maximum(spinous, out - 17)  # the skin's side stays free
        whole = np.minimum(np.minimum(body - 1.5, arch), np.minimum(column, across))
        fill(soft, whole, self.hu["muscle"], edge)
        height = (z / 25 + self.chest.phase) % 1
        if height < 0.17:
            fill(soft, body, self.hu["disk"], edge)
        else:
            self._bone(bone, body, 1.6 if height > 0.25 else 5.0, edge)
            if height > 0.45:
                self._bone(bone, np.minimum(across, spinous), 1.2, edge)
            self._bone(bone, arch, 1.8, edge)
        fill(bone, canal, 0.0, edge)
        fill(soft, canal, 22.0, edge)
        return whole

    def _table(self, soft: NDArray, edge: float) -> None:
        top = np.hypot(self.x, self.y - np.float32(self.back - 520)) - 520
        board = np.maximum(np.abs(top - 9) - 8, np.abs(self.x) - 205)
        fill(soft, board, -930.0, edge)
        fill(soft, np.maximum(np.abs(np.abs(top - 9) - 7.5) - 0.8, np.abs(self.x) - 205), 60.0, edge)


def draw_chest(rng: np.random.Generator, *, is_woman: bool, scale: float, front_mm: float) -> Chest:
    """A person's chest.

    Parameters
    ----------
    rng
        Draws everything.
    is_woman
        A narrower chest with breasts.
    scale
        Of the heart: a large one lies in a large chest.
    front_mm
        How far forward the heart reaches; the sternum lies right before it.
    """
    hu = {name: m.draw(rng) for name, m in TISSUES_HU.items()}
    hu["stomach"], hu["spleen"] = rng.uniform(15, 60), 48 + rng.normal(0, 3)
    grow = (0.5 + 0.5 * scale) * rng.normal(1.0, 0.035)
    half = (grow * (121 if is_woman else 133), grow * rng.normal(89 if is_woman else 97, 4.5))
    middle = (float(rng.normal(-9, 3)), float(half[1] * 0.93 + front_mm - rng.uniform(0, 5)))
    right, left = -36 + rng.normal(0, 9), -50 + rng.normal(0, 9)
    under = np.array([middle[0], middle[1] - 9, 0.0])
    domes = (
        ("fat", _dome(rng, under + np.array([66, 6, left - 78]), (66, 74, 80))),
        ("stomach", _dome(rng, under + np.array([58, -18, left - 62]), (42, 40, 56))),
        ("spleen", _dome(rng, under + np.array([82, 38, left - 66]), (34, 30, 52))),
        ("liver", _dome(rng, under + np.array([-62, 2, right - 104]), (86, 88, 104))),
        ("liver", _dome(rng, under + np.array([14, -26, -108.0]), (74, 50, 56))),
    )
    trachea = np.array([(-4, 34, 140), (-3, 38, 92), (-1, 43, 64)]) + rng.normal(0, 1.5, 3)
    airways = (
        Tube.through(trachea, [9.5, 9.5, 10]),
        Tube.through([trachea[-1], (-22, 42, 50), (-40, 40, 36), (-54, 42, 16)], [8, 8, 6.5, 4.5]),
        Tube.through([trachea[-1], (18, 46, 48), (38, 44, 34), (52, 50, 10)], [7.5, 7.5, 6.5, 4.5]),
    )
    return Chest(
        middle, half, (middle[0], scale * 60 + 24 + rng.normal(0, 1.5)),
        rng.uniform(2.1, 2.4), float(rng.normal(0, 0.015)), float(rng.uniform(0.35, 2.3)),
        tuple(float(v) for v in rng.uniform((40, 12, 40), (56, 32, 60))) if is_woman else None,  # type: ignore[arg-type]
        rng.uniform(27, 33), rng.uniform(), hu, float(rng.uniform(0.2, 0.95)) if rng.uniform() < 0.55 else 0.0,
        domes, tuple(_lung_vessels(rng, half, middle)), airways,
    )  # fmt: skip


def _dome(rng: np.random.Generator, center: NDArray, semi: tuple[float, float, float]) -> Ellipsoid:
    return Ellipsoid(np.asarray(center, float), np.eye(3), np.asarray(semi, float), drawn_modes(rng, 0.03))


def _lung_vessels(rng: np.random.Generator, half: tuple[float, float], middle: tuple[float, float]) -> list[Tube]:
    """Arteries and veins from both hila outward, thinner as they go."""
    tubes = []
    for side in (-1.0, 1.0):
        hilum = np.array([middle[0] + side * 50 + (8 if side > 0 else -2), 36.0, 20.0])
        for _ in range(46):
            start = hilum + rng.normal(0, (5, 8, 16))
            toward = np.array([side * abs(rng.normal(0.8, 0.5)), rng.normal(0.15, 0.9), rng.normal(-0.35, 0.9)])
            toward /= np.linalg.norm(toward)
            steps = rng.normal(0, 0.28, (6, 3)) + toward
            line = start + np.vstack([np.zeros(3), np.cumsum(steps * rng.uniform(9, 17), axis=0)])
            tubes.append(Tube.through(line, np.linspace(rng.uniform(1.4, 4.2), 0.5, 7), 4.0))
    return tubes
