"""The person around the heart: contours of skin, muscle, ribs and pleura, airways, spine, sternum, organs below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.phantom.heart import Heart, draw_heart
from heartlens.phantom.parameters import PhantomParameters
from heartlens.phantom.shapes import Tube

ANGLES = 2160
"""Contours are radii in so many directions around the body axis."""

THETA = np.linspace(-np.pi, np.pi, ANGLES, endpoint=False)
"""Direction of each contour radius: 0 is left, pi/2 is back (x = r cos, y = r sin)."""

FROM_BACK = np.abs((THETA - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi)
"""Angle from the spine, 0 to pi, both sides alike."""

FROM_FRONT = np.pi - FROM_BACK
"""Angle from the sternum."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One person, body coordinates, mm.

    Parameters
    ----------
    heart : chambers, vessels, arteries
    half_width_mm, half_depth_mm : of the thoracic cavity at heart level
    airways : trachea and main bronchi (inner lumen)
    oesophagus : its outside
    turn_deg, shift_mm : how the person lies on the table: rotation about z, offset in x and y
    fat_mm : subcutaneous fat at the side
    muscle_mm : chest wall muscle outside the ribs
    breast_mm : thickness of breast tissue, 0 in men
    dome_right_mm, dome_left_mm : z of the top of the diaphragm
    vertebra_mm, vertebra_phase : height of a vertebra with its disc, and where the first one lies
    rib_drop_mm : how far a rib falls per radian around the body
    bone_hu : of cancellous bone, falls with age
    """

    heart: Heart
    half_width_mm: float
    half_depth_mm: float
    airways: tuple[Tube, ...]
    oesophagus: Tube
    turn_deg: float
    shift_mm: tuple[float, float]
    fat_mm: float
    muscle_mm: float
    breast_mm: float
    dome_right_mm: float
    dome_left_mm: float
    vertebra_mm: float
    vertebra_phase: float
    rib_drop_mm: float
    bone_hu: float
    lung_hu: float
    blood_hu: float
    harmonics: NDArray[np.float64]
    top_mm: float
    table_mm: float
    seed: tuple[int, ...]
    clavicles: tuple[Tube, Tube]

    def pleura(self, z: float) -> NDArray[np.float64]:
        """(ANGLES,) radius of the inside of the rib cage at one height."""
        up = np.clip((self.top_mm - z) / (self.top_mm + 20), 0, 1)  # 0 at the apex, 1 below the heart
        width = self.half_width_mm * np.sqrt(np.clip(1 - (1 - up) ** 2.6, 0.02, 1))
        depth = self.half_depth_mm * (0.52 + 0.48 * np.clip(1 - (1 - up) ** 2.2, 0, 1))
        lean = 12 * (1 - up)  # the cavity leans back toward the apex
        radius = _superellipse(THETA, width, depth, 2.35)
        gutters = 11 * np.exp(-(((FROM_BACK - 0.62) / 0.28) ** 2))
        flat = 7 * np.exp(-((FROM_FRONT / 0.5) ** 2))
        wave = sum(a * np.cos((n + 2) * THETA + p) for n, (a, p) in enumerate(self.harmonics))
        return radius + gutters - flat + wave + lean * np.sin(THETA)

    def rib_center(self, z: float) -> NDArray[np.float64]:
        return self.pleura(z) + 6.0

    def muscle(self, z: float) -> NDArray[np.float64]:
        """(ANGLES,) outside of the muscles: pectorals, latissimus and scapula, beside the spine, shoulders."""
        high = np.clip((z + 5) / 90, 0, 1)
        pectoral = (4 + 13 * high) * np.exp(-(((FROM_FRONT - 0.72) / 0.42) ** 2))
        flank = (7 + 9 * high) * np.exp(-(((FROM_BACK - 1.35) / 0.35) ** 2))
        scapular = 24 * high * np.exp(-(((FROM_BACK - 0.88) / 0.4) ** 2))
        spinal = 20 * np.exp(-(((FROM_BACK - 0.3) / 0.27) ** 2))
        chest = self.pleura(z) + 12.5 + (pectoral + flank + scapular + spinal) * (0.35 + 0.065 * self.muscle_mm)
        rise = float(np.clip((z - 62) / 70, 0, 1)) ** 1.3
        if rise == 0:
            return chest
        # Shoulders with the arms up: the trunk grows wide and flat where the rib cage narrows.
        width = (self.half_width_mm + 24) * (0.86 + 0.36 * rise)
        shoulder = _superellipse(THETA, width, 70 - 6 * rise, 2.5) + (6 + 16 * rise) * np.sin(THETA)
        return np.maximum(chest, shoulder) + 3 * np.exp(-(((chest - shoulder) / 10) ** 2))

    def skin(self, z: float) -> NDArray[np.float64]:
        fat = self.fat_mm * (0.75 + 0.35 * np.cos(2 * THETA) + 0.25 * np.exp(-(((FROM_BACK - 0.9) / 0.4) ** 2)))
        fat *= 1 + 0.25 * np.clip((-z) / 80, -1, 1)
        level = np.exp(-(((z + 2) / 60) ** 2))
        breast = self.breast_mm * level * np.exp(-(((FROM_FRONT - 0.78) / 0.34) ** 2))
        outside = self.muscle(z) + fat + breast
        # The back lies on the table: it is flat where it bears weight.
        rest = self.half_depth_mm + 30 + 0.45 * self.fat_mm
        flat = rest / np.maximum(np.sin(THETA), 0.05) * (1 + 0.04 * np.cos(THETA) ** 2)
        over = outside - flat
        return np.where(np.sin(THETA) > 0.05, outside - np.logaddexp(0, over / 5) * 5 * 0.85, outside)

    def scapula(self, z: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(ANGLES,) radius of the middle of the blade, and its half thickness; negative where there is none."""
        rise = (z - 12) / 100
        low, high = 0.98 - 0.45 * min(max(rise * 1.3, 0), 1), 1.06 + 0.30 * min(max(rise, 0), 1)
        inside = np.minimum(FROM_BACK - low, high - FROM_BACK)
        border = np.exp(-(((FROM_BACK - high) / 0.1) ** 2)) * (2.0 + 4 * max(rise, 0))
        thick = np.where((inside > 0) & (rise > 0) & (rise < 1.15), 1.7 + border, -4.0 + 20 * np.minimum(inside, 0))
        return self.pleura(min(z, 100.0)) + 22 + 10 * max(rise, 0) * (FROM_BACK - 0.5), thick

    def sternum_mm(self, z: float) -> float:
        """y of the middle of the sternum."""
        return -float(self.pleura(z)[ANGLES // 4]) - 6.0

    def spine_mm(self, z: float) -> float:
        """y of the middle of the vertebral body."""
        return 63.0 + 9 * np.exp(-(((z - 20) / 80) ** 2)) - 0.0009 * max(z - 60, 0) ** 2

    def dome_mm(self, x: NDArray, y: NDArray) -> NDArray:
        """z of the diaphragm: two domes, the heart resting on the saddle between them."""
        right = self.dome_right_mm - 0.0042 * (x + 60) ** 2 - 0.0058 * (y + 8) ** 2
        left = self.dome_left_mm - 0.0046 * (x - 70) ** 2 - 0.0056 * (y - 2) ** 2
        return np.logaddexp(right / 5, left / 5) * 5


def draw_anatomy(parameters: PhantomParameters) -> Anatomy:
    """One person from the seed, sex, age and body-mass index."""
    rng = parameters.generator("anatomy")
    male = parameters.sex == "M"
    stature = rng.normal(1.0 if male else 0.93, 0.035)
    fat_mm = float(np.clip((parameters.bmi - 17) * (1.1 if male else 1.5) * rng.normal(1, 0.12), 3, 45))
    size = 0.93 * stature * rng.normal(1.0, 0.05) * (1 + 0.004 * (parameters.bmi - 26))
    heart = draw_heart(
        rng,
        size=float(np.clip(size, 0.76, 1.15)),
        age_years=parameters.age_years,
        fat_mm=float(np.clip(rng.normal(4 + 0.22 * (parameters.bmi - 22), 1.3), 1.5, 12)),
    )
    carina = 70 * stature + rng.normal(0, 2)
    cx = rng.normal(2, 1.5)
    airways = (
        Tube.through(
            [(cx - 1, 0, 210), (cx - 1, 12, 140), (cx, 24, carina + 14), (cx, 27, carina - 2)],
            [8.8 if male else 7.6] * 4,
        ),
        Tube.through(
            [(cx, 27, carina), (cx - 16, 29, carina - 11), (cx - 34, 32, carina - 20), (cx - 46, 34, carina - 36)],
            [7.4, 6.6, 5.5, 4],
        ),
        Tube.through(
            [(cx, 27, carina), (cx + 20, 31, carina - 15), (cx + 40, 37, carina - 27), (cx + 48, 42, carina - 44)],
            [7, 6, 5.2, 4],
        ),
    )
    eso = Tube.through(
        [(4, 22, 210), (6, 38, carina + 10), (8, 42, 20), (6, 38, -20), (18, 22, -62)], [6, 6.5, 7, 7, 8]
    )
    top = float(168 * stature + rng.normal(0, 5))
    collar = [(17, -62, 118), (45, -66, 132), (85, -40, top - 8), (125, -8, top + 14)]
    clavicles = tuple(Tube.through([(side * x, y, z) for x, y, z in collar], [8.5, 6.0, 5.5, 6.5]) for side in (-1, 1))
    return Anatomy(
        heart=heart,
        half_width_mm=float(134 * stature * rng.normal(1, 0.035) + 0.5 * (parameters.bmi - 26)),
        half_depth_mm=float(89 * stature * rng.normal(1, 0.05) + 0.5 * (parameters.bmi - 26)),
        airways=airways,
        oesophagus=eso,
        turn_deg=float(rng.normal(0, 3)),
        shift_mm=(float(rng.normal(0, 6)), float(rng.normal(0, 6))),
        fat_mm=fat_mm,
        muscle_mm=float(
            np.clip(rng.normal(10 if male else 7, 1.6), 4, 15) * (1 - 0.006 * max(parameters.age_years - 60, 0))
        ),
        breast_mm=0.0 if male else float(np.clip(rng.normal(22 + 1.4 * (parameters.bmi - 24), 8), 6, 70)),
        dome_right_mm=float(-21 * stature + rng.normal(0, 6)),
        dome_left_mm=float(-33 * stature + rng.normal(0, 6)),
        vertebra_mm=float(25 * stature * rng.normal(1, 0.03)),
        vertebra_phase=float(rng.uniform(0, 1)),
        rib_drop_mm=float(rng.normal(35, 4)),
        bone_hu=float(np.clip(rng.normal(250 - 1.9 * (parameters.age_years - 40), 25), 60, 330)),
        lung_hu=float(rng.normal(-862, 18)),
        blood_hu=float(rng.normal(41, 3)),
        harmonics=np.column_stack([rng.normal(0, (1.6, 1.0, 0.8)), rng.uniform(0, 2 * np.pi, 3)]),
        top_mm=top,
        table_mm=float(rng.uniform(14, 30)),
        seed=(parameters.seed,),
        clavicles=clavicles,
    )


def _superellipse(theta: NDArray, width: float, depth: float, power: float) -> NDArray:
    return (np.abs(np.cos(theta) / width) ** power + np.abs(np.sin(theta) / depth) ** power) ** (-1 / power)
