"""The person around the heart: contours of skin, muscle, ribs and pleura, airways, spine, sternum, organs below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.phantom.heart import Heart, draw_heart
from heartlens.phantom.parameters import PhantomParameters
from heartlens.phantom.shapes import Tube

ANGLES = 720
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
    vertebra_mm : height of a vertebra with its disc
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
    rib_slope: float
    bone_hu: float
    lung_hu: float
    blood_hu: float
    harmonics: NDArray[np.float64]
    top_mm: float
    table_mm: float
    seed: tuple[int, ...]

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
        return self.pleura(z) + 5.5

    def muscle(self, z: float) -> NDArray[np.float64]:
        """(ANGLES,) outside of the chest wall muscles: thick over pectorals, latissimus and beside the spine."""
        high = np.clip((z - 10) / 90, 0, 1)
        front = FROM_FRONT - 0.62
        side = FROM_BACK - 1.25
        back = FROM_BACK - 0.33
        extra = 14 * high * np.exp(-((front / 0.42) ** 2)) + (10 + 16 * high) * np.exp(-((side / 0.42) ** 2))
        extra += 18 * np.exp(-((back / 0.3) ** 2))
        return self.pleura(z) + 11 + self.muscle_mm * 0.35 + extra * self.muscle_mm / 10

    def skin(self, z: float) -> NDArray[np.float64]:
        fat = self.fat_mm * (1 + 0.35 * np.cos(2 * THETA)) * (1.25 - 0.4 * np.sin(THETA) ** 2)
        level = np.exp(-(((z - 0) / 62) ** 2))
        breast = self.breast_mm * level * np.exp(-(((FROM_FRONT - 0.72) / 0.33) ** 2))
        return self.muscle(z) + fat + breast

    def sternum_mm(self, z: float) -> float:
        """y of the middle of the sternum."""
        return -float(self.pleura(z)[ANGLES // 4]) - 6.0

    def spine_mm(self, z: float) -> float:
        """y of the middle of the vertebral body."""
        return 63.0 + 9 * np.exp(-(((z - 20) / 80) ** 2)) - 0.0009 * max(z - 60, 0) ** 2

    def dome_mm(self, x: NDArray, y: NDArray) -> NDArray:
        """z of the diaphragm."""
        right = self.dome_right_mm - ((x + 62) / 9.5) ** 2 * 0.42 - ((y - 0) / 10.5) ** 2 * 0.55
        left = self.dome_left_mm - ((x - 72) / 9.0) ** 2 * 0.42 - ((y - 5) / 10.5) ** 2 * 0.5
        return np.maximum(np.maximum(right, left), -150)


def draw_anatomy(parameters: PhantomParameters) -> Anatomy:
    """One person from the seed, sex, age and body-mass index."""
    rng = parameters.generator("anatomy")
    male = parameters.sex == "M"
    stature = rng.normal(1.0 if male else 0.93, 0.035)
    fat_mm = float(np.clip((parameters.bmi - 17) * (1.1 if male else 1.5) * rng.normal(1, 0.12), 3, 45))
    size = stature * rng.normal(1.0, 0.045) * (1 + 0.004 * (parameters.bmi - 26))
    heart = draw_heart(
        rng,
        size=float(np.clip(size, 0.8, 1.22)),
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
        dome_right_mm=float(-34 * stature + rng.normal(0, 6)),
        dome_left_mm=float(-46 * stature + rng.normal(0, 6)),
        vertebra_mm=float(25 * stature * rng.normal(1, 0.03)),
        vertebra_phase=float(rng.uniform(0, 1)),
        rib_slope=float(rng.normal(0.42, 0.04)),
        bone_hu=float(np.clip(rng.normal(250 - 1.9 * (parameters.age_years - 40), 25), 60, 330)),
        lung_hu=float(rng.normal(-862, 18)),
        blood_hu=float(rng.normal(41, 3)),
        harmonics=np.column_stack([rng.normal(0, (1.6, 1.0, 0.8)), rng.uniform(0, 2 * np.pi, 3)]),
        top_mm=float(168 * stature + rng.normal(0, 5)),
        table_mm=float(rng.uniform(14, 30)),
        seed=(parameters.seed,),
    )


def _superellipse(theta: NDArray, width: float, depth: float, power: float) -> NDArray:
    return (np.abs(np.cos(theta) / width) ** power + np.abs(np.sin(theta) / depth) ** power) ** (-1 / power)
