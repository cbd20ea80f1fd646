"""Measure hearts of anatomy 2 and print them beside published measurements, as docs/phantom.md shows them.

python scripts/phantom_proportions.py [--people N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import Artery
from heartlens.phantom import PhantomParameters
from heartlens.phantom.body.anatomy import Anatomy, draw_anatomy
from heartlens.phantom.body.shapes import Tube, arc_length

FIRST_SEED = 2_000_000
"""Of people who serve nothing else."""


class Measure(NamedTuple):
    """One row: what is measured, mean and standard deviation in people, where they stand, and how it is taken here."""

    name: str
    people: tuple[float, float]
    source: str
    take: Callable[[Anatomy], float]


def length_mm(tube: Tube) -> float:
    """Along the middle."""
    return float(arc_length(tube.points)[-1])


def width_near_mm(tube: Tube, place: NDArray[np.float64]) -> float:
    """Where the tube comes next to a place."""
    return float(2 * tube.radii[np.linalg.norm(tube.points - place, axis=1).argmin()])


def lumen_of(artery: Artery, end: int) -> Callable[[Anatomy], float]:
    """Width of an artery's lumen at its beginning, 0, or its end, -1."""
    return lambda anatomy: float(2 * anatomy.heart.arteries[artery].radii[end])


def fork_degrees(anatomy: Anatomy) -> float:
    """Between the first 8 mm of LAD and LCX."""
    begun = [anatomy.heart.arteries[a].points for a in (Artery.LAD, Artery.LCX)]
    one, other = (p[min(8, len(p) - 1)] - p[0] for p in begun)
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def aorta_mm(anatomy: Anatomy, height_mm: float, *, descending: bool) -> float:
    """Width of one limb of the aorta at a height above the root."""
    tube, root = anatomy.heart.great["aorta"], anatomy.heart.valve
    half = int(tube.points[:, 2].argmax())
    part = slice(half, None) if descending else slice(0, half)
    level = np.abs(tube.points[part, 2] - root[2] - height_mm).argmin()
    return float(2 * tube.radii[part][level])


MEASURES = (
    Measure("left main, length, mm", (10.5, 5.3), "Medrano-Gracia et al., EuroIntervention 2016;12:845",
            lambda a: length_mm(a.heart.arteries[Artery.LM])),
    Measure("left main, lumen, mm", (4.5, 0.5), "Dodge et al., Circulation 1992;86:232",
            lumen_of(Artery.LM, 0)),
    Measure("LAD, first lumen, mm", (3.7, 0.4), "Dodge 1992", lumen_of(Artery.LAD, 0)),
    Measure("LAD, last lumen, mm", (1.9, 0.4), "Dodge 1992", lumen_of(Artery.LAD, -1)),
    Measure("LCX, first lumen, mm", (3.4, 0.5), "Dodge 1992", lumen_of(Artery.LCX, 0)),
    Measure("RCA, first lumen, mm", (3.9, 0.6), "Dodge 1992", lumen_of(Artery.RCA, 0)),
    Measure("angle of LAD and LCX (no intermediate artery), degrees", (75, 23), "Medrano-Gracia 2016",
            fork_degrees),
    Measure("pulmonary trunk, width, mm", (25.1, 2.8), "Truong et al., Circ Cardiovasc Imaging 2012;5:147",
            lambda a: width_near_mm(a.heart.great["pulmonary_trunk"], a.heart.arteries[Artery.LM].points[0])),
    Measure("ascending aorta, width, mm", (33, 4), "Wolak et al., JACC Cardiovasc Imaging 2008;1:200",
            lambda a: aorta_mm(a, 35, descending=False)),
    Measure("descending aorta, width, mm", (24, 3), "Wolak 2008", lambda a: aorta_mm(a, 0, descending=True)),
)  # fmt: skip
"""People's figures stand in the abstracts of these papers; the papers themselves were not at hand."""


def measured(people: int) -> list[tuple[Measure, float, float]]:
    """Each measure with its mean and standard deviation over so many hearts of anatomy 2, men and women alike."""
    drawn = [draw_anatomy(PhantomParameters.random(FIRST_SEED + n, anatomy=2)) for n in range(people)]
    rows = []
    for measure in MEASURES:
        values = np.array([measure.take(person) for person in drawn])
        rows.append((measure, float(values.mean()), float(values.std(ddof=1))))
    return rows


def table(rows: list[tuple[Measure, float, float]]) -> str:
    """Markdown."""
    lines = [
        "| measure | people, mean (SD) | phantom, mean (SD) | difference in people's SD | source |",
        "|---|---|---|---|---|",
    ]
    for m, mean, spread in rows:
        off = (mean - m.people[0]) / m.people[1]
        lines.append(
            f"| {m.name} | {m.people[0]:g} ({m.people[1]:g}) | {mean:.1f} ({spread:.1f}) | {off:+.1f} | {m.source} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--people", type=int, default=60)
    print(table(measured(parser.parse_args().people)))


if __name__ == "__main__":
    main()
