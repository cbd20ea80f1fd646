"""Coronary plaques: where they sit, how large and dense they are, and their image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import EDGES_BY_KVP_HU
from heartlens.phantom.body.heart import Heart
from heartlens.phantom.body.shapes import Cloud, Tube, arc_length

HU_PER_MG_PER_CM3 = 1.30
"""CT number of hydroxyapatite at 120 kVp; a 200 mg/cm3 insert reads about 260 HU."""


def hu_per_mg_per_cm3(kvp: float) -> float:
    """Contrast of hydroxyapatite at a tube voltage, in proportion to the adapted thresholds."""
    voltages = sorted(EDGES_BY_KVP_HU)
    edges = [EDGES_BY_KVP_HU[v][0] for v in voltages]
    return HU_PER_MG_PER_CM3 * float(np.interp(kvp, voltages, edges)) / EDGES_BY_KVP_HU[120][0]


@dataclass(frozen=True, eq=False)
class Plaque:
    """One calcified plaque.

    Parameters
    ----------
    artery
        It counts for.
    cloud
        Its body; contrast is that of its hydroxyapatite.
    density_mg_cm3
        Hydroxyapatite.
    """

    artery: Artery
    cloud: Cloud
    density_mg_cm3: float

    def shrunk(self, share: float) -> Plaque:
        """The same plaque with a share of its volume."""
        middle = self.cloud.centroid
        points = middle + (self.cloud.points - middle) * share ** (1 / 3)
        cloud = Cloud(points, self.cloud.volumes_mm3 * share, self.cloud.contrast_hu)
        return Plaque(self.artery, cloud, self.density_mg_cm3)

    @property
    def mass_mg(self) -> float:
        """Mass of calcium hydroxyapatite, mg: volume times density."""
        return float(self.cloud.volumes_mm3.sum()) * self.density_mg_cm3 / 1000


def plaque_on(
    rng: np.random.Generator,
    artery: Artery,
    tube: Tube,
    at_mm: float,
    length_mm: float,
    width_mm: float,
    density_mg_cm3: float,
    kvp: float,
) -> Plaque:
    """A plaque in the wall of an artery, elongated along it and lying on one side.

    Parameters
    ----------
    rng
        Draws its shape.
    artery
        It counts for.
    tube
        The artery or its branch.
    at_mm
        Of its middle along the centerline.
    length_mm, width_mm
        Extent along and across.
    density_mg_cm3
        Hydroxyapatite.
    kvp
        Tube voltage, kV; the lower, the brighter.
    """
    along = arc_length(tube.points)
    n = int(np.clip(length_mm * width_mm * width_mm * 45, 250, 2500))
    unit = rng.normal(size=(n, 3))
    unit *= (rng.random((n, 1)) ** (1 / 3)) / np.linalg.norm(unit, axis=1, keepdims=True)
    s = np.clip(at_mm + unit[:, 0] * length_mm / 2, 0, along[-1])
    center = np.stack([np.interp(s, along, tube.points[:, c]) for c in range(3)], -1)
    tangent = np.stack([np.interp(at_mm + d, along, tube.points[:, c]) for d in (-1.0, 1.0) for c in range(3)]).reshape(
        2, 3
    )
    direction = tangent[1] - tangent[0]
    direction /= max(np.linalg.norm(direction), 1e-9)
    across = np.linalg.svd(direction[None, :])[2][1:]
    side = rng.uniform(0, 2 * np.pi)
    radius = np.interp(at_mm, along, tube.radii)
    wall = np.cos(side) * across[0] + np.sin(side) * across[1]
    other = -np.sin(side) * across[0] + np.cos(side) * across[1]
    # Lumpy along its length: the width swells and thins.
    swell = 1 + 0.35 * np.sin(unit[:, 0] * rng.uniform(2, 6) + rng.uniform(0, 6))
    points = center + wall * (radius * 0.75 + unit[:, 1:2] * width_mm / 2 * 0.8 * swell[:, None])
    points += other * (unit[:, 2:3] * width_mm / 2 * 1.2 * swell[:, None])
    volume = np.pi / 6 * length_mm * width_mm**2 * 0.96
    return Plaque(
        artery,
        Cloud(points, np.full(n, volume / n), density_mg_cm3 * hu_per_mg_per_cm3(kvp)),
        density_mg_cm3,
    )


def propose_plaques(
    heart: Heart, rng: np.random.Generator, counts: tuple[int, int, int, int] | None, kvp: float, size: float = 1.0
) -> Iterator[Plaque]:
    """Plaques one after the other; proximal segments and the LAD are favored.

    Parameters
    ----------
    heart
        Whose arteries they lie in.
    rng
        Draws places, sizes and densities.
    counts
        Per artery, LM to RCA; None goes on for long, with a taste for some arteries that differs by person.
    kvp
        Tube voltage, kV.
    size
        Factor on their width.

    Yields
    ------
    Plaque
        In the wall of an artery.
    """
    if counts is None:
        first = rng.choice(4, size=1, p=(0.04, 0.48, 0.17, 0.31))
        order = np.concatenate([first, rng.choice(4, size=159, p=rng.dirichlet((0.22, 2.6, 0.9, 1.6)))])
    else:
        order = rng.permutation(np.repeat(np.arange(4), counts))
    in_left_main = 0
    for artery in (CORONARY[index] for index in order):
        in_left_main += artery is Artery.LM
        if counts is None and artery is Artery.LM and in_left_main > 2:  # 10 mm have no room for more
            continue
        tube = heart.arteries[artery]
        branches = [t for a, t in heart.branches if a == artery]
        if branches and rng.random() < 0.12:
            tube = branches[int(rng.integers(len(branches)))]
        total = arc_length(tube.points)[-1]
        length = float(np.clip(rng.lognormal(1.15, 0.5), 1.0, min(9.0, 0.6 * total)))
        width = float(np.clip(rng.lognormal(0.45, 0.35), 0.8, 3.6)) * size
        low, high = (2.0, total - 3.5) if artery is Artery.LM else (5.5, 0.75 * total)
        at = low + (high - low) * rng.beta(1.1, 2.0) if high > low else total / 2
        density = float(np.clip(rng.lognormal(np.log(430), 0.45), 150, 1100))
        yield plaque_on(rng, artery, tube, at, length, width, density, kvp)


MOBILITY = {Artery.LM: 0.25, Artery.LAD: 0.4, Artery.LCX: 0.6, Artery.RCA: 1.0}
"""Travel during a rotation relative to the right coronary artery, the fastest (Achenbach et al., Radiology 2000)."""


def path_mm(travel_mm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(m, 3) places of a moving structure during one rotation: an arc, which draws a crescent."""
    if travel_mm < 0.2:
        return np.zeros((1, 3))
    turn = rng.uniform(0, 2 * np.pi)
    ahead = np.array([np.cos(turn), np.sin(turn), 0.0])
    aside = np.array([-np.sin(turn), np.cos(turn), 0.0])
    t = np.linspace(-0.5, 0.5, int(np.clip(travel_mm / 0.5, 3, 15)))[:, None]
    return travel_mm * (t * ahead + (2 * t * t - 0.17) * rng.choice((-0.5, 0.5)) * aside)
