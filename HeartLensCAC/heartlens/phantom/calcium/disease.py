"""Calcified disease of anatomy 2: spots, long and bulky plaques, lesions across forks, and whole calcified vessels.

Real plaque is more than the small lumps that anatomy 1 lays: islands of 30 to 300 mm2 and 500 to 1,300 HU, an artery
calcified from end to end, a lesion that runs from the left main into both of its branches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from heartlens.core.lesions import CORONARY, Artery
from heartlens.phantom.body.shapes import Tube, arc_length
from heartlens.phantom.calcium.plaques import Plaque, plaque_on

Rng = np.random.Generator

KINDS = ("spot", "long", "bulky", "whole", "fork")

KIND_CHANCES = {"little": (0.88, 0.08, 0.02, 0.0, 0.02), "much": (0.42, 0.26, 0.14, 0.08, 0.10)}
"""How often each of `KINDS` comes, in people with little and with much calcium."""

MUCH = 1.0
"""From this factor on the width on (a burden of 60) a person has much."""

ARTERIES = (0.14, 0.40, 0.20, 0.26)
"""How often the first lesion of a person lies in LM, LAD, LCX, RCA; the left main is overdrawn, for it is short."""


def propose_disease(
    arteries: Mapping[Artery, Tube],
    branches: Sequence[tuple[Artery, Tube]],
    rng: Rng,
    counts: tuple[int, int, int, int] | None,
    kvp: float,
    size: float = 1.0,
) -> Iterator[Plaque]:
    """Plaques one after the other, as `propose_plaques` gives them; a long lesion is several that touch.

    Parameters
    ----------
    arteries
        Courses; one that is missing gets nothing.
    branches
        Of some of them, with the artery each counts for.
    rng
        Draws places, sizes and densities.
    counts
        Lesions per artery, LM to RCA; None goes on for long.
    kvp
        Tube voltage, kV.
    size
        Factor on their width; who has wide ones has long ones as well.

    Yields
    ------
    Plaque
        In the wall of an artery, or filling it.
    """
    here = [artery in arteries for artery in CORONARY]
    if not any(here):
        return
    if counts is None:
        taste = np.array(ARTERIES) * here
        order = np.concatenate(
            [
                rng.choice(4, size=1, p=taste / taste.sum()),
                rng.choice(4, size=159, p=_normal(rng.dirichlet((0.8, 2.4, 1.2, 1.6)), here)),
            ]
        )
    else:
        order = rng.permutation(np.repeat(np.arange(4), np.where(here, counts, 0)))
    chances = KIND_CHANCES["much" if size >= MUCH or counts is not None else "little"]
    for artery in (CORONARY[index] for index in order):
        kind = KINDS[int(rng.choice(len(KINDS), p=chances))]
        density = float(np.clip(rng.lognormal(np.log(430 if kind == "spot" else 620), 0.4), 150, 1250))
        if kind == "fork" and {Artery.LM, Artery.LAD} <= set(arteries):
            yield from _across_the_fork(arteries, rng, density, kvp, size)
        elif kind == "whole":
            yield from _whole(artery, arteries[artery], rng, density, kvp, size)
        else:
            side = [tube for name, tube in branches if name == artery]
            tube = side[int(rng.integers(len(side)))] if side and rng.random() < 0.12 else arteries[artery]
            yield _single(kind, artery, tube, rng, density, kvp, size)


def _single(kind: str, artery: Artery, tube: Tube, rng: Rng, density: float, kvp: float, size: float) -> Plaque:
    total = float(arc_length(tube.points)[-1])
    if kind == "long":
        length, width = rng.uniform(8, 30), rng.uniform(1.8, 4.2)
    elif kind == "bulky":
        length, width = rng.uniform(4, 14), rng.uniform(3.5, 7.0)
    else:
        length, width = rng.lognormal(1.05, 0.55), rng.lognormal(0.4, 0.38)
    length = float(np.clip(length, 0.8, max(0.9 * total, 0.8)))
    width = float(np.clip(width, 0.7, 7.0)) * size
    # Right up to the ostium, where calcium is common and a decoy of the root may lie next to it.
    at = 0.5 + max(0.92 * total - 0.5, 0.1) * rng.beta(1.0, 1.8)
    return plaque_on(rng, artery, tube, float(at), length, width, density, kvp)


def _whole(artery: Artery, tube: Tube, rng: Rng, density: float, kvp: float, size: float) -> Iterator[Plaque]:
    """A chain of plaques along much of an artery, with gaps here and there."""
    total = float(arc_length(tube.points)[-1])
    at, end = rng.uniform(0, 0.2) * total, rng.uniform(0.4, 0.95) * total
    while at < end:
        length = float(rng.uniform(5, 12))
        width = float(rng.uniform(1.6, 3.8)) * size
        yield plaque_on(rng, artery, tube, at + length / 2, length, width, density * float(rng.uniform(0.8, 1.2)), kvp)
        at += length * 0.85 + (rng.uniform(2, 8) if rng.random() < 0.25 else 0.0)


def _across_the_fork(
    arteries: Mapping[Artery, Tube], rng: Rng, density: float, kvp: float, size: float
) -> Iterator[Plaque]:
    """One lesion from the end of the left main into LAD and, often, LCX: a name for each part of it."""
    width = float(rng.uniform(1.8, 4.0)) * size
    for artery in (Artery.LM, Artery.LAD, Artery.LCX):
        if artery not in arteries or (artery is Artery.LCX and rng.random() < 0.4):
            continue
        total = float(arc_length(arteries[artery].points)[-1])
        length = float(min(rng.uniform(4, 12), total))
        at = total - length / 2 if artery is Artery.LM else length / 2
        yield plaque_on(rng, artery, arteries[artery], at, length, width, density, kvp)


def _normal(shares: np.ndarray, here: Sequence[bool]) -> np.ndarray:
    kept = shares * np.asarray(here, float)
    return np.asarray(kept / kept.sum())
