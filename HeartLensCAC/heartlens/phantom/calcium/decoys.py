"""Decoys: coronary plaques in every respect but their place, so that nothing but the place can tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from heartlens.phantom.body.anatomy import Anatomy
from heartlens.phantom.body.heart import Heart
from heartlens.phantom.body.shapes import Cloud, Tube, arc_length
from heartlens.phantom.calcium.disease import propose_disease
from heartlens.phantom.calcium.plaques import Plaque, propose_plaques
from heartlens.phantom.parameters import NEAREST_DECOY_MM

Rng = np.random.Generator

CLEARANCE_MM = 6.5
"""Between a decoy's middle and the nearest centerline of an artery, and half of its length on top: 5 mm slices of a
moving heart can still tell the two apart."""

PLACES = {
    "aortic_root": 0.2,
    "aortic_cusp": 0.14,
    "ascending_wall": 0.1,
    "mitral_ring": 0.18,
    "tricuspid_ring": 0.06,
    "pericardium": 0.12,
    "pulmonary_wall": 0.07,
    "myocardium": 0.05,
    "hilum": 0.05,
    "descending_wall": 0.03,
}
"""Where decoys lie, and how often."""

NEAR_ARTERY = "near_artery"
"""Kind of a decoy that was drawn toward an artery; it moves as little as the left main's neighborhood does."""

PLACES_2 = {
    "aortic_root": 0.2,
    "aortic_cusp": 0.16,
    "ascending_wall": 0.12,
    "mitral_ring": 0.2,
    "tricuspid_ring": 0.03,
    "pericardium": 0.1,
    "pulmonary_wall": 0.01,
    "myocardium": 0.03,
    "hilum": 0.1,
    "descending_wall": 0.05,
}
"""The same for anatomy 2. In people the wall of the pulmonary trunk hardly ever calcifies; the left main runs there."""

DECOY_GAP_MM = (2.0, 9.0)
"""Of anatomy 2: between a decoy's edge and the wall of the nearest artery, drawn evenly; never on an artery's seat."""

MOBILITY = {
    NEAR_ARTERY: 0.25,
    "aortic_root": 0.25,
    "aortic_cusp": 0.5,
    "mitral_ring": 0.6,
    "tricuspid_ring": 0.8,
    "pericardium": 0.4,
    "myocardium": 0.5,
}
"""Travel during a rotation relative to the right coronary artery; all else lies still."""

TRIES = 12
"""Draws of a place before a decoy is given up: some places lie close to an artery everywhere."""


def propose_decoys(
    anatomy: Anatomy, rng: Rng, kvp: float, size: float, within_mm: float | None = None
) -> Iterator[tuple[str, Plaque]]:
    """Decoys one after the other; sizes and densities are those of `propose_plaques`.

    Parameters
    ----------
    anatomy
        The person.
    rng
        Draws places, sizes and densities.
    kvp, size
        As `propose_plaques` takes them.
    within_mm
        Draw each decoy toward the artery nearest to its place, until its surface lies `NEAREST_DECOY_MM` to so far from
        the centerline; None leaves it where it is.

    Yields
    ------
    kind : str
        Of its place, one of `PLACES`.
    decoy : Plaque
        Away from every artery.
    """
    heart = anatomy.heart
    course = np.concatenate([t.points for t in (*heart.arteries.values(), *(t for _, t in heart.branches))])
    places = PLACES_2 if anatomy.version == 2 else PLACES
    names, chances = list(places), np.array(list(places.values()))
    if anatomy.version == 2:
        proposed = propose_disease(heart.arteries, heart.branches, rng, None, kvp, size)
    else:
        proposed = propose_plaques(heart, rng, None, kvp, size)
    reach = np.concatenate([t.radii for t in (*heart.arteries.values(), *(t for _, t in heart.branches))])
    for plaque in proposed:
        middle = plaque.cloud.centroid
        offsets = plaque.cloud.points - middle
        half_mm = float(np.percentile(np.linalg.norm(offsets, axis=1), 95))
        gap_mm = rng.uniform(*DECOY_GAP_MM) if anatomy.version == 2 else 0.0
        is_near = anatomy.version == 2 and rng.random() < 0.5
        kind, place, nearest = "", middle, np.inf
        for _ in range(TRIES):
            proposed_kind = names[int(rng.choice(len(names), p=chances / chances.sum()))]
            proposed_place = _PLACE[proposed_kind](anatomy, rng)
            clearance = CLEARANCE_MM
            if within_mm is not None:
                proposed_kind, clearance = NEAR_ARTERY, NEAREST_DECOY_MM
                proposed_place = _drawn_near(proposed_place, course, half_mm + rng.uniform(clearance, within_mm))
            away_mm = np.linalg.norm(course - proposed_place, axis=1)
            if anatomy.version == 2:
                # Of the places that will do, one decoy in two takes that next to the gap that was drawn.
                spare_mm = (away_mm - reach).min() - gap_mm - half_mm
                if 0 <= spare_mm < nearest:
                    kind, place, nearest = proposed_kind, proposed_place, spare_mm
                if kind and not is_near:
                    break
            elif away_mm.min() >= clearance + half_mm:
                kind, place = proposed_kind, proposed_place
                break
        if not kind:
            continue
        cloud = Cloud(place + offsets @ _turn(rng).T, plaque.cloud.volumes_mm3, plaque.cloud.contrast_hu)
        yield kind, Plaque(plaque.artery, cloud, plaque.density_mg_cm3)


def _drawn_near(place: NDArray[np.float64], course: NDArray[np.float64], away_mm: float) -> NDArray[np.float64]:
    """A place so far from the nearest point of a course, on the way to it."""
    nearest = course[np.linalg.norm(course - place, axis=1).argmin()]
    out = place - nearest
    return nearest + out / np.linalg.norm(out) * away_mm


def _turn(rng: Rng) -> NDArray[np.float64]:
    """(3, 3) a random rotation."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return np.asarray(q)


def _wall(tube: Tube, rng: Rng, low: float, high: float) -> NDArray[np.float64]:
    """A point in the wall of a tube, between two shares of its length."""
    along = arc_length(tube.points)
    at = rng.uniform(low, high) * along[-1]
    center, ahead = (
        np.array([np.interp(s, along, tube.points[:, c]) for c in range(3)]) for s in (at, min(at + 1, along[-1]))
    )
    behind = np.array([np.interp(max(at - 1, 0), along, tube.points[:, c]) for c in range(3)])
    e1, e2 = np.linalg.svd((ahead - behind)[None, :])[2][1:]
    angle = rng.uniform(0, 2 * np.pi)
    radius = float(np.interp(at, along, tube.radii)) - 0.8
    return center + radius * (np.cos(angle) * e1 + np.sin(angle) * e2)


def _cusp(anatomy: Anatomy, rng: Rng) -> NDArray[np.float64]:
    heart = anatomy.heart
    tube = heart.great["aorta"]
    direction = tube.points[12] - tube.points[4]
    direction /= np.linalg.norm(direction)
    e1, e2 = np.linalg.svd(direction[None, :])[2][1:]
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(2, 12) * heart.size
    return heart.valve + reach * (np.cos(angle) * e1 + np.sin(angle) * e2) - direction * rng.uniform(0, 6)


def _ring(center: NDArray, radius_mm: float, heart: Heart, rng: Rng) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    on = center + radius_mm * (np.cos(angle) * heart.axes[2] - np.sin(angle) * heart.axes[1])
    return on + rng.normal(0, 1.2, 3)


def _mitral(anatomy: Anatomy, rng: Rng) -> NDArray[np.float64]:
    center, radius = anatomy.heart.mitral
    return _ring(center, radius, anatomy.heart, rng)


def _tricuspid(anatomy: Anatomy, rng: Rng) -> NDArray[np.float64]:
    heart = anatomy.heart
    return _ring(heart.place([0, 26, -4]), 16.0 * heart.size, heart, rng)


def _pericardium(anatomy: Anatomy, rng: Rng) -> NDArray[np.float64]:
    heart = anatomy.heart
    start = heart.place([rng.uniform(-10, 75), rng.uniform(-45, 48), rng.uniform(-34, 30)])
    return heart.on_surface(start[None], heart.fat_mm + 2.5)[0]


def _myocardium(anatomy: Anatomy, rng: Rng) -> NDArray[np.float64]:
    heart = anatomy.heart
    left = heart.chambers["lv"]
    out = rng.normal(size=3)
    out /= np.linalg.norm(out)
    return left.center + out * (left.radii - rng.uniform(3, 16)) @ left.axes


def _hilum(anatomy: Anatomy, rng: Rng) -> NDArray[np.float64]:
    tube = anatomy.heart.great["pulmonary_right" if rng.random() < 0.5 else "pulmonary_left"]
    k = int(rng.uniform(0.3, 0.95) * (len(tube.points) - 1))
    out = rng.normal(size=3)
    return tube.points[k] + out / np.linalg.norm(out) * (tube.radii[k] + rng.uniform(2, 6))


_PLACE: dict[str, Callable[[Anatomy, Rng], NDArray[np.float64]]] = {
    "aortic_root": lambda a, rng: _wall(a.heart.great["aorta"], rng, 0.02, 0.09),
    "aortic_cusp": _cusp,
    "ascending_wall": lambda a, rng: _wall(a.heart.great["aorta"], rng, 0.08, 0.24),
    "mitral_ring": _mitral,
    "tricuspid_ring": _tricuspid,
    "pericardium": _pericardium,
    "pulmonary_wall": lambda a, rng: _wall(a.heart.great["pulmonary_trunk"], rng, 0.1, 0.95),
    "myocardium": _myocardium,
    "hilum": _hilum,
    "descending_wall": lambda a, rng: _wall(a.heart.great["aorta"], rng, 0.55, 0.85),
}
