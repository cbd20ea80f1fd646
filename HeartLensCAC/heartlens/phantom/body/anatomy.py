"""The person around the heart: contours of skin, muscle, ribs and pleura, airways, spine, sternum, organs below."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.phantom.body.heart import Heart, draw_heart
from heartlens.phantom.body.relations import settle
from heartlens.phantom.body.shapes import Ellipsoid, Tube
from heartlens.phantom.parameters import PhantomParameters

ANGLES = 2160
"""Contours are radii in so many directions around the body axis."""

THETA = np.linspace(-np.pi, np.pi, ANGLES, endpoint=False)
"""Direction of each contour radius: 0 is left, pi/2 is back (x = r cos, y = r sin)."""

FROM_BACK = np.abs((THETA - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi)
"""Angle from the spine, 0 to pi, both sides alike."""

FROM_FRONT = np.pi - FROM_BACK
"""Angle from the sternum."""


FRONT, LEFT, BACK = ANGLES // 4, ANGLES // 2, ANGLES * 3 // 4
"""Positions of those directions in a contour; right is 0."""


class Contours(NamedTuple):
    """Contours of the body wall at one height: (ANGLES,) radii around the body axis, mm.

    Parameters
    ----------
    pleura
        Inside of the rib cage.
    ribs
        Middle of the ribs.
    muscle
        Outside of the chest wall muscles.
    skin
        Outside.
    blade, blade_half_mm
        Middle of the shoulder blade and its half thickness, negative where there is none.
    """

    pleura: NDArray[np.float64]
    ribs: NDArray[np.float64]
    muscle: NDArray[np.float64]
    skin: NDArray[np.float64]
    blade: NDArray[np.float64]
    blade_half_mm: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One person, body coordinates, mm.

    Parameters
    ----------
    heart
        Chambers, vessels, arteries.
    half_width_mm, half_depth_mm
        Of the thoracic cavity at heart level.
    airways
        Trachea and main bronchi (inner lumen).
    oesophagus
        Its outside.
    turn_deg, shift_mm
        How the person lies on the table: rotation about z, offset in x and y.
    fat_mm
        Subcutaneous fat at the side.
    muscle_mm
        Chest wall muscle outside the ribs.
    breast_mm
        Thickness of breast tissue, 0 in men.
    dome_right_mm, dome_left_mm
        z of the top of the diaphragm
    vertebra_mm, vertebra_phase
        Height of a vertebra with its disc, and where the first one lies.
    rib_drop_mm
        How far a rib falls per radian around the body.
    bone_hu
        Of cancellous bone, falls with age.
    lung_hu, blood_hu
        HU of lung and of blood.
    wobble
        How much farther out than its plain shape the lung reaches, mm, all around.
    top_mm
        z of the top of the lungs.
    table_mm
        Thickness of the table.
    seed
        Of the texture of tissues.
    clavicles
        Right and left collar bone.
    version
        One of `ANATOMIES`.
    filled
        Parts of the lungs without air.
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
    wobble: NDArray[np.float64]
    top_mm: float
    table_mm: float
    seed: tuple[int, ...]
    clavicles: tuple[Tube, Tube]
    version: int = 1
    filled: tuple[Ellipsoid, ...] = ()

    def contours(self, z: float) -> Contours:
        """Everything of the body wall at one height."""
        up = np.clip((self.top_mm - z) / (self.top_mm + 20), 0, 1)  # 0 at the apex, 1 below the heart
        width = self.half_width_mm * np.sqrt(np.clip(1 - (1 - up) ** 2.6, 0.02, 1))
        depth = self.half_depth_mm * (0.52 + 0.48 * np.clip(1 - (1 - up) ** 2.2, 0, 1))
        lean = 12 * (1 - up)  # the cavity leans back toward the apex
        wave = self.wobble + lean * np.sin(THETA)
        pleura = _superellipse(width, depth, 2.35) + 13 * _bump(FROM_BACK, 0.58, 0.26) - 7 * _bump(FROM_FRONT, 0, 0.5)
        pleura = pleura + wave
        muscle = self._muscle(z, pleura)
        blade, thick = self._scapula(z, pleura)
        return Contours(pleura, pleura + 6.0, muscle, self._skin(z, muscle), blade, thick)

    def _muscle(self, z: float, pleura: NDArray) -> NDArray[np.float64]:
        """Pectorals, latissimus and scapula, beside the spine, shoulders."""
        high = np.clip((z + 5) / 90, 0, 1)
        bulk = (4 + 13 * high) * _bump(FROM_FRONT, 0.72, 0.42) + (7 + 9 * high) * _bump(FROM_BACK, 1.35, 0.35)
        bulk = bulk + 24 * high * _bump(FROM_BACK, 0.88, 0.4) + 22 * _bump(FROM_BACK, 0.25, 0.27)
        chest = pleura + 12.5 + bulk * (0.35 + 0.065 * self.muscle_mm)
        rise = float(np.clip((z - 62) / 70, 0, 1)) ** 1.3
        if rise == 0:
            return chest
        # Shoulders with the arms up: the trunk grows wide and flat where the rib cage narrows.
        width = (self.half_width_mm + 24) * (0.86 + 0.36 * rise)
        shoulder = _superellipse(width, 76 - 6 * rise, 2.5)
        shoulder = shoulder + (self.half_depth_mm - 79 + 18 * rise) * np.sin(THETA)
        return np.maximum(chest, shoulder) + 3 * np.exp(-(((chest - shoulder) / 10) ** 2))

    def _skin(self, z: float, muscle: NDArray) -> NDArray[np.float64]:
        fat = self.fat_mm * (0.75 + 0.35 * np.cos(2 * THETA) + 0.25 * _bump(FROM_BACK, 0.9, 0.4))
        fat = fat * (1 - 0.25 * np.clip(z / 80, -1, 1))
        breast = self.breast_mm * np.exp(-(((z + 2) / 60) ** 2)) * _bump(FROM_FRONT, 0.78, 0.34)
        outside = muscle + fat + breast
        # The back lies on the table: it is flat where it bears weight.
        rest = self.half_depth_mm + 30 + 0.45 * self.fat_mm
        flat = rest / np.maximum(np.sin(THETA), 0.05) * (1 + 0.04 * np.cos(THETA) ** 2)
        over = outside - flat
        return np.where(np.sin(THETA) > 0.05, outside - np.logaddexp(0, over / 5) * 5 * 0.85, outside)

    def _scapula(self, z: float, pleura: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rise = (z - 12) / 100
        low, high = 0.98 - 0.45 * min(max(rise * 1.3, 0), 1), 1.06 + 0.30 * min(max(rise, 0), 1)
        inside = np.minimum(FROM_BACK - low, high - FROM_BACK)
        border = _bump(FROM_BACK, high, 0.1) * (2.0 + 4 * max(rise, 0))
        thick = np.where((inside > 0) & (rise > 0) & (rise < 1.15), 1.5 + border, -4.0 + 20 * np.minimum(inside, 0))
        return pleura + 22 + 10 * max(rise, 0) * (FROM_BACK - 0.5), thick

    def sternum_mm(self, z: float) -> float:
        """Middle of the sternum along y."""
        return -float(self.contours(z).pleura[FRONT]) - 6.0

    def spine_mm(self, z: float) -> float:
        """Middle of the vertebral body along y."""
        bow = 9 * np.exp(-(((z - 20) / 80) ** 2)) - 0.0009 * max(z - 60, 0) ** 2
        return self.half_depth_mm - 35.0 + float(bow)

    def dome_mm(self, x: NDArray, y: NDArray) -> NDArray:
        """Height z of the diaphragm: two domes, the heart resting on the saddle between them."""
        right = self.dome_right_mm - 0.0042 * (x + 60) ** 2 - 0.0058 * (y + 8) ** 2
        left = self.dome_left_mm - 0.0046 * (x - 70) ** 2 - 0.0056 * (y - 2) ** 2
        return np.logaddexp(right / 5, left / 5) * 5


def draw_anatomy(parameters: PhantomParameters) -> Anatomy:
    """One person from the seed, sex, age and body-mass index."""
    rng = parameters.generator("anatomy")
    male = parameters.sex == "M"
    stature = rng.normal(1.0 if male else 0.93, 0.035)
    fat_mm = float(np.clip((parameters.bmi - 17.5) * (1.35 if male else 1.75) * rng.normal(1, 0.12), 3, 45))
    depth_mm = float(np.clip(99 * stature * rng.normal(1, 0.045) + 0.5 * (parameters.bmi - 26), 88, 118))
    back = depth_mm - 97  # a deep chest carries its spine, aorta and gullet farther back
    size = 0.96 * stature * rng.normal(1.0, 0.05) * (1 + 0.002 * back) * (1 + 0.004 * (parameters.bmi - 26))
    heart = draw_heart(
        rng,
        back_mm=back,
        sternum_mm=7 - depth_mm,
        size=float(np.clip(size, 0.76, 1.15)) * parameters.heart_scale,
        turn_deg=parameters.heart_turn_deg,
        left_mm=parameters.heart_shift_mm,
        age_years=parameters.age_years,
        fat_mm=float(np.clip(rng.normal(4 + 0.22 * (parameters.bmi - 22), 1.3), 1.5, 12)),
    )
    if parameters.anatomy == 2:
        heart = settle(heart, parameters.generator("anatomy 2"))
    carina = 70 * stature + rng.normal(0, 2)
    cx = rng.normal(2, 1.5)
    airways = (
        Tube.through(
            [(cx - 1, 0, 210), (cx - 1, 12 + 0.5 * back, 140), (cx, 24, carina + 14), (cx, 27, carina - 2)],
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
    swell, phase = rng.normal(0, (1.6, 1.0, 0.8)), rng.uniform(0, 2 * np.pi, 3)
    wobble = sum(swell[n] * np.cos((n + 2) * THETA + phase[n]) for n in range(3))
    anatomy = Anatomy(
        heart=heart,
        half_width_mm=float(134 * stature * rng.normal(1, 0.035) + 0.5 * (parameters.bmi - 26)),
        half_depth_mm=depth_mm,
        airways=airways,
        oesophagus=eso,
        turn_deg=float(rng.normal(0, 3)),
        shift_mm=(float(rng.normal(0, 6)), float(rng.normal(0, 6))),
        fat_mm=fat_mm,
        muscle_mm=float(
            np.clip(rng.normal(10 if male else 7, 1.6), 4, 15) * (1 - 0.006 * max(parameters.age_years - 60, 0))
        ),
        breast_mm=0.0 if male else float(np.clip(rng.normal(22 + 1.4 * (parameters.bmi - 24), 8), 6, 70)),
        dome_right_mm=heart.lowest_mm("ra") + float(rng.normal(9, 5)),
        dome_left_mm=heart.lowest_mm("lv") + float(rng.normal(9, 5)),
        vertebra_mm=float(25 * stature * rng.normal(1, 0.03)),
        vertebra_phase=float(rng.uniform(0, 1)),
        rib_drop_mm=float(rng.normal(42, 4)),
        bone_hu=float(np.clip(rng.normal(250 - 1.9 * (parameters.age_years - 40), 25), 60, 330)),
        lung_hu=float(rng.normal(-862, 18)),
        blood_hu=float(rng.normal(41, 3)),
        wobble=np.asarray(wobble),
        top_mm=top,
        table_mm=float(rng.uniform(14, 30)),
        seed=(parameters.seed,),
        clavicles=(eso, eso),
        version=parameters.anatomy,
    )
    filled = _filled_parts(anatomy, parameters.generator("lungs")) if parameters.lungs == "filled" else ()
    return replace(anatomy, clavicles=_collar_bones(anatomy), filled=filled)


def _filled_parts(anatomy: Anatomy, rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Consolidated or collapsed parts of the lungs, most of them low and at the back; some lie against the heart."""
    parts = []
    for _ in range(int(rng.integers(2, 7))):
        side = rng.choice((-1, 1))
        center = np.array(
            [
                side * anatomy.half_width_mm * rng.uniform(0.35, 0.9),
                anatomy.half_depth_mm * rng.uniform(-0.4, 0.8),
                rng.uniform(-70, 50),
            ]
        )
        parts.append(Ellipsoid(center, np.eye(3), rng.uniform(15, 60, 3)))
    return tuple(parts)


def _superellipse(width: float, depth: float, power: float) -> NDArray[np.float64]:
    return (np.abs(np.cos(THETA) / width) ** power + np.abs(np.sin(THETA) / depth) ** power) ** (-1 / power)


def _bump(angle: NDArray[np.float64], at: float, width: float) -> NDArray[np.float64]:
    return np.exp(-(((angle - at) / width) ** 2))


def _collar_bones(anatomy: Anatomy) -> tuple[Tube, Tube]:
    """From the top of the sternum outward and up, a finger's breadth under the muscle's surface."""
    bones = []
    for side in (-1, 1):
        knots = []
        for x, z in ((17, 116), (45, 130), (85, anatomy.top_mm - 10), (118, anatomy.top_mm + 12)):
            muscle = anatomy.contours(z).muscle
            front = (np.sin(THETA) < -0.05) & (np.sign(np.cos(THETA)) == side)
            at = np.argmin(np.where(front, np.abs(muscle * np.cos(THETA) - side * x), np.inf))
            knots.append((side * x, float(muscle[at] * np.sin(THETA[at])) + 11, z))
        bones.append(Tube.through(knots, [8.0, 6.0, 5.5, 6.5]))
    return bones[0], bones[1]
