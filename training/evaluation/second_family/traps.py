"""What is dense and not coronary: valve, root, rings, aorta, nodes, pericardium, leads, clips, stents, catheters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import Artery
from training.evaluation.second_family.calcium import Deposit, chain
from training.evaluation.second_family.coronaries import Course
from training.evaluation.second_family.heart import Heart

CHANCES = {
    "aortic valve": 0.30, "aortic root": 0.42, "mitral annulus": 0.25, "ascending aorta": 0.25, "aortic arch": 0.5,
    "descending aorta": 0.5, "nodes": 0.35, "pericardium": 0.06, "pacing lead": 0.06, "bypass clips": 0.06,
    "stent": 0.08, "catheter": 0.07,
}  # fmt: skip
"""Of each, in one person; oftener than in the population, because each is a lesson."""


def draw_traps(rng: np.random.Generator, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    """All of one person."""
    made: list[Deposit] = []
    for kind, chance in CHANCES.items():
        if rng.uniform() < chance:
            made += _MAKERS[kind](rng, kind, heart, courses)
    return made


def _calcium(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(260), np.log(1300))))


def _lumps(
    rng: np.random.Generator, kind: str, lines: Sequence[NDArray[np.float64]], thick: tuple[float, float], moves: str
) -> list[Deposit]:
    """A deposit along each line, uneven."""
    made = []
    for line in lines:
        centers = chain(line)
        centers = centers + rng.normal(0, 0.35, centers.shape)
        radii = rng.uniform(*thick) * rng.uniform(0.55, 1.25, len(centers))
        made.append(Deposit(kind, Artery.OTHER, centers, radii, _calcium(rng), moves))
    return made


def _valve(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    aorta = heart.tube("aorta")
    axis = aorta.points[4] - aorta.points[0]
    axis /= np.linalg.norm(axis)
    lines = []
    for _ in range(int(rng.integers(1, 6))):
        out = rng.normal(0, 1, 3)
        out -= (out @ axis) * axis
        out /= np.linalg.norm(out)
        a, b = np.sort(rng.uniform(1, 0.85 * aorta.radii[0], 2))
        low = rng.uniform(2, 8) * heart.scale
        lines.append(np.stack([axis * low + out * a, axis * (low + 2.5) + out * b]))
    return _lumps(rng, kind, lines, (0.6, 1.8), "heart")


def _on_aorta(rng: np.random.Generator, heart: Heart, low_mm: float, high_mm: float, count: int) -> list[NDArray]:
    """Arcs on the wall, between two distances along it from the annulus."""
    aorta = heart.tube("aorta")
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(aorta.points, axis=0), axis=1)))
    lines = []
    for _ in range(count):
        n = int(np.clip(np.searchsorted(length, rng.uniform(low_mm, high_mm)), 1, len(length) - 2))
        tangent = aorta.points[n + 1] - aorta.points[n - 1]
        tangent /= np.linalg.norm(tangent)
        one = np.cross(tangent, [0.3, 0.8, 0.5])
        one /= np.linalg.norm(one)
        two = np.cross(tangent, one)
        turn = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(0.08, 0.9), 12)
        rise = np.linspace(0, rng.normal(0, 3), 12)
        out = np.outer(np.cos(turn), one) + np.outer(np.sin(turn), two)
        lines.append(aorta.points[n] + (aorta.radii[n] - 0.3) * out + rise[:, None] * tangent)
    return lines


def _root(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    """On the wall of the root, and now and then right beside an ostium."""
    lines = _on_aorta(rng, heart, 12, 28, int(rng.integers(1, 4)))
    if rng.uniform() < 0.4:
        side = str(rng.choice(["left", "right"]))
        beside = np.cross(heart.sinus_out[side], [0.0, 0.0, 1.0]) * rng.choice([-1, 1])
        start = heart.ostia[side] + beside * rng.uniform(3.5, 8)
        lines.append(np.stack([start, start + beside * rng.uniform(1, 4) + rng.normal(0, 1, 3)]))
    return _lumps(rng, kind, lines, (0.5, 1.3), "heart")


def _aorta(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    low, high = {"ascending aorta": (30, 75), "aortic arch": (80, 165), "descending aorta": (170, 330)}[kind]
    lines = _on_aorta(rng, heart, low * heart.scale, high * heart.scale, int(rng.integers(1, 8)))
    return _lumps(rng, kind, lines, (0.5, 1.6), "")


def _mitral(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    """Along the ring, mostly behind; from a lump to a horseshoe."""
    begin = np.radians(rng.uniform(60, 210))
    turn = begin + np.linspace(0, rng.uniform(0.15, 2.4), 24)
    ring = heart.ring_radius["mitral"] * (1.04 + rng.normal(0, 0.04))
    line = heart.mitral + ring * (np.outer(np.cos(turn), heart.upward) - np.outer(np.sin(turn), heart.septal))
    return _lumps(rng, kind, [line], (0.8, 2.6), "heart")


def _nodes(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    places = np.array([(-42, 38, 30), (44, 42, 28), (2, 50, 34), (40, 30, 20), (-36, 40, 12), (8, -14, 66)], float)
    lines = []
    for place in places[rng.choice(len(places), int(rng.integers(1, 4)), replace=False)]:
        line = place + rng.normal(0, 3, 3) + np.cumsum(rng.normal(0, 1.6, (5, 3)), axis=0)
        lines.append(line)
    return _lumps(rng, kind, lines, (0.9, 2.4), "")


def _pericardium(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    right = heart.ellipsoid("right ventricle")
    lines = []
    for _ in range(int(rng.integers(1, 6))):
        v = np.array([rng.normal(0.1, 0.5), 1.0, rng.normal(-0.2, 0.4)])  # away from the septum
        steps = v + np.linspace(0, 1, 14)[:, None] * rng.normal(0, 0.4, 3)
        unit = steps / np.linalg.norm(steps, axis=1, keepdims=True)
        lines.append(right.center + (unit * (right.semi_mm + heart.fat_mm + 1.5)) @ right.axes)
    return _lumps(rng, kind, lines, (0.7, 2.0), "heart")


def _lead(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    vein, right = heart.tube("superior vena cava"), heart.ellipsoid("right ventricle")
    tip = right.center + 0.8 * right.semi_mm[0] * heart.along
    line = np.vstack([vein.points[::-1] + rng.normal(0, 1.5, 3), heart.tricuspid, right.center, tip])
    centers = chain(line, 0.8)
    return [Deposit(kind, Artery.OTHER, centers, np.full(len(centers), rng.uniform(0.7, 1.1)), 7000.0)]


def _clips(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    """Along a mammary artery's way from behind the sternum to the LAD, and at the graft's beginning on the aorta."""
    lad = next(c for c in courses if c.name == "anterior descending").points
    way = np.stack([np.array([14.0, -62, 75]), np.array([20.0, -60, 30]), lad[len(lad) // 2] + [2.0, -6, 3]])
    made = []
    for _ in range(int(rng.integers(4, 11))):
        t = rng.uniform(0, 2)
        at = way[int(t)] * (1 - t % 1) + way[int(t) + 1] * (t % 1) + rng.normal(0, 2.5, 3)
        centers = chain(np.stack([at, at + rng.normal(0, 2.0, 3)]), 0.5)
        made.append(Deposit(kind, Artery.OTHER, centers, np.full(len(centers), 0.55), 5200.0))
    return made


def _stent(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    """Struts: zigzag rings on the vessel's wall, with lumen inside."""
    course = courses[int(rng.choice([1, 2, 3], p=[0.5, 0.2, 0.3]))]
    n = int(rng.integers(10, max(11, len(course.points) // 2)))
    part = slice(n, n + int(rng.uniform(10, 26) / 0.6))
    points, tangent = course.points[part], np.gradient(course.points, axis=0)[part]
    radius, centers = float(course.radii[n]) * 0.9, []
    for p, t in zip(points[::3], tangent[::3], strict=True):
        t = t / np.linalg.norm(t)
        one = np.cross(t, [0.2, 0.4, 0.9])
        one /= np.linalg.norm(one)
        turn = np.linspace(0, 2 * np.pi, 26)[:-1]
        ring = np.outer(np.cos(turn), one) + np.outer(np.sin(turn), np.cross(t, one))
        centers.append(p + radius * ring + 0.7 * np.cos(6 * turn)[:, None] * t)
    where = np.vstack(centers)
    moves = course.artery.name
    return [Deposit(kind, Artery.OTHER, where, np.full(len(where), 0.16), rng.uniform(4500, 7500), moves)]


def _catheter(rng: np.random.Generator, kind: str, heart: Heart, courses: Sequence[Course]) -> list[Deposit]:
    vein = heart.tube("superior vena cava")
    line = vein.points[int(rng.integers(0, 6)) :] + rng.normal(0, 1.5, 3)
    centers = chain(line)
    return [Deposit(kind, Artery.OTHER, centers, np.full(len(centers), rng.uniform(0.8, 1.2)), rng.uniform(250, 900))]


_MAKERS = {
    "aortic valve": _valve, "aortic root": _root, "mitral annulus": _mitral, "ascending aorta": _aorta,
    "aortic arch": _aorta, "descending aorta": _aorta, "nodes": _nodes, "pericardium": _pericardium,
    "pacing lead": _lead, "bypass clips": _clips, "stent": _stent, "catheter": _catheter,
}  # fmt: skip
