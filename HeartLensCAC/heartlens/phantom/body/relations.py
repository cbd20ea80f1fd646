# ruff: noqa: RUF005  # points are vectors: point + (dx, dy, dz) moves them
"""Anatomy 2: great vessels, appendage and coronary arteries in the relation that they have in people.

The left main leaves the root toward the left and the back, behind the pulmonary trunk and before the left atrium; the
left atrial appendage lies beside it, on its left. The LAD goes around the trunk's left side into the groove in front,
the LCX under the appendage into the left groove, the right artery forward between trunk and right appendage. Measures
and their sources: docs/phantom.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import Artery
from heartlens.phantom.body.heart import Heart
from heartlens.phantom.body.shapes import Ellipsoid, Tube, arc_length, smooth_curve

Rng = np.random.Generator
Points = NDArray[np.float64]

LEFT_MAIN_MM = (10.5, 5.3)
"""Length of the left main, mean and standard deviation (Medrano-Gracia et al., EuroIntervention 2016)."""

BORE_MM = {Artery.LM: (4.5, 4.3), Artery.LAD: (3.7, 1.9), Artery.LCX: (3.4, 1.6), Artery.RCA: (3.9, 2.8)}
"""Lumen at the beginning and the end of each artery's course (Dodge et al., Circulation 1992)."""

TRUNK_MM = (25.1, 2.8)
"""Width of the pulmonary trunk (Truong et al., Circ Cardiovasc Imaging 2012)."""


AORTA = 1.1
"""How much wider than in anatomy 1: 33 and 24 mm, ascending and descending (Wolak et al., JACC Imaging 2008)."""


def settle(heart: Heart, rng: Rng) -> Heart:
    """The same heart with trunk, appendage and arteries where people have them, and with much or little fat.

    Parameters
    ----------
    heart
        As `draw_heart` gives it.
    rng
        Draws what differs between people.
    """
    size, root = heart.size, heart.valve
    aorta = Tube(heart.great["aorta"].points, heart.great["aorta"].radii * AORTA)
    wide = float(aorta.radii[np.argmin(np.linalg.norm(aorta.points - root, axis=1))])
    narrow = float(np.clip(rng.normal(*TRUNK_MM) / 2, 9.5, 16)) * (0.55 + 0.5 * size)
    front = np.deg2rad(
        np.clip(rng.normal(-54, 8), -68, -38)
    )  # of the trunk as seen from the root; 0 is left, -90 in front
    beside = root + (wide + 0.93 * narrow) * np.array([np.cos(front), np.sin(front), 0]) + (0, 0, 4)
    fork = beside + np.array([rng.normal(1, 2), wide + 9, 32 * size])
    outflow = heart.place([13, 12, 24])
    great = {**heart.great, "aorta": aorta}
    great["pulmonary_trunk"] = Tube.through(
        [outflow + (0, 0, -4), beside, beside + (1, 7, 15 * size), fork],
        [13 * size, narrow, narrow, narrow * 0.92],
    )
    for name in ("pulmonary_right", "pulmonary_left"):
        branch = great[name]  # begins at the trunk's new fork, and keeps its end
        share = np.linspace(1, 0, len(branch.points))[:, None] ** 2
        great[name] = Tube(branch.points + share * (fork - branch.points[0]), branch.radii)
    chambers = dict(heart.chambers)
    chambers["rvot"] = Ellipsoid((outflow + beside) / 2 + (0, 0, -6), heart.axes, chambers["rvot"].radii)
    chambers["laa"] = _appendage(root, wide, size, rng)
    lean = rng.random() < 0.35
    fat_mm = float(rng.uniform(0.3, 2.0)) if lean else heart.fat_mm
    spare = rng.uniform(0.0, 0.5, 4) if lean else rng.uniform((0.1, 0.3, 0.2, 0.4), (0.9, 1.2, 1.5, 1.9))
    bed = dict(zip((Artery.LM, Artery.LAD, Artery.LCX, Artery.RCA), map(float, spare), strict=True))
    moved = replace(heart, great=great, chambers=chambers, fat_mm=fat_mm, bed=bed)
    return _with_arteries(moved, wide, beside, narrow, rng)


def _appendage(root: Points, wide: float, size: float, rng: Rng) -> Ellipsoid:
    """Beside the left main: a long flat lobe from the atrium forward, along the trunk's left side."""
    turn = np.deg2rad(rng.normal(-72, 10))
    along = np.array([np.cos(turn), np.sin(turn), rng.normal(0.05, 0.1)])
    along /= np.linalg.norm(along)
    across = np.cross(along, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    axes = np.stack([along, across, np.cross(along, across)])
    center = root + np.array([wide + rng.uniform(16, 24) * size, rng.uniform(-3, 9), rng.uniform(0, 12)])
    return Ellipsoid(center, axes, np.array([rng.uniform(14, 20), rng.uniform(6, 10), rng.uniform(9, 15)]) * size)


def _with_arteries(heart: Heart, wide: float, beside: Points, narrow: float, rng: Rng) -> Heart:
    size, root = heart.size, heart.valve
    # The appendage hangs over the grooves: arteries lie under it, on the surface of everything else.
    under = replace(heart, chambers={n: c for n, c in heart.chambers.items() if n != "laa"})
    deep = float(rng.uniform(1.2, 3.0))

    # Left main
    turn = np.deg2rad(rng.normal(8, 10))
    height = rng.normal(4, 2.5)
    way = np.array([np.cos(turn), np.sin(turn), 0.0])
    os_left = root + (wide - 0.6) * way + (0, 0, height)
    length = float(np.clip(rng.normal(*LEFT_MAIN_MM), 3, 22)) * size
    bend = np.array([np.cos(turn - 0.1), np.sin(turn - 0.1) + rng.normal(0.1, 0.15), rng.normal(-0.1, 0.15)])
    fork = os_left + length * bend / np.linalg.norm(bend)
    between = (os_left + fork) / 2 + rng.normal(0, 0.6, 3)

    # LAD: around the trunk, then down the groove between the ventricles
    begin = float(np.arctan2(fork[1] - beside[1], fork[0] - beside[0]))
    end = np.deg2rad(rng.normal(-25, 8))
    around = [
        beside + (narrow + rng.uniform(2.2, 4)) * np.array([np.cos(a), np.sin(a), 0.0]) + (0, 0, drop)
        for a, drop in zip(np.linspace(begin, end, 5)[1:-1], np.linspace(0, -10, 5)[1:-1] * size, strict=True)
    ]
    groove = heart.place([(34, 3, 34), (46, 5, 30), (58, 5, 24), (68, 4, 15), (77, 1, 6), (82, -3, -5)])
    groove = under.on_surface(groove + rng.normal(0, 1.2, groove.shape), deep)
    shift = (fork[2] + height - around[0][2]) * np.linspace(0.7, 0.2, len(around))
    around = [p + (0, 0, s) for p, s in zip(around, shift, strict=True)]
    # Both branches leave toward the left and part by 75 degrees (SD 23; Medrano-Gracia 2016).
    part = np.deg2rad(np.clip(rng.normal(75, 23), 30, 130)) / 2
    leave = np.deg2rad(rng.normal(2, 8))
    before = fork + 7 * np.array([np.cos(leave - part), np.sin(leave - part), rng.normal(-0.1, 0.1)])
    behind = fork + 7 * np.array([np.cos(leave + part), np.sin(leave + part), rng.normal(-0.25, 0.1)])
    lad = np.vstack([fork, before, *around[1:], groove])

    # LCX: under the appendage into the left groove
    mitral, ring = heart.mitral
    angle = np.deg2rad(np.arange(48, rng.uniform(105, 165), 13))[:, None]
    around_ring = mitral + (ring + rng.uniform(9, 13) * size) * (
        np.cos(angle) * heart.axes[2] - np.sin(angle) * heart.axes[1]
    )
    lcx = np.vstack([fork, behind, under.on_surface(_in_groove(under, around_ring, "lv", "la"), deep)])

    # RCA: forward between trunk and right appendage, then down the right groove
    ahead = np.deg2rad(rng.normal(-112, 9))
    way = np.array([np.cos(ahead), np.sin(ahead), 0.0])
    os_right = root + (wide - 0.6) * way + (0, 0, rng.normal(4, 2.5))
    tricuspid = heart.place([0, 26, -4])
    angle = np.deg2rad(np.arange(34, 186, 14))[:, None]
    right_groove = tricuspid + 30 * size * (np.cos(angle) * heart.axes[2] + np.sin(angle) * heart.axes[1])
    right_groove = under.on_surface(_in_groove(under, right_groove, "rv", "ra"), deep)
    rca = np.vstack([os_right, os_right + way * rng.uniform(6, 11), right_groove])
    crux = under.on_surface(heart.place([[0, 4, -32], [18, 4, -38], [40, 4, -36], [56, 3, -30]]), deep)

    scale = rng.normal(1, 0.12) * (0.6 + 0.4 * size) / 2  # from widths to radii
    knots = {Artery.LM: np.vstack([os_left, between, fork]), Artery.LAD: lad, Artery.LCX: lcx, Artery.RCA: rca}
    arteries = {a: _tube(k, BORE_MM[a][0] * scale, BORE_MM[a][1] * scale) for a, k in knots.items()}
    branches = [(Artery.RCA, _tube(np.vstack([rca[-1], crux]), 2.4 * scale, 1.4 * scale))]
    for along, tilt in ((24, 0.0), (46, 1.0))[: 1 + int(rng.random() < 0.7)]:
        start = arteries[Artery.LAD].points[min(along, len(arteries[Artery.LAD].points) - 1)]
        run = heart.place([(along * 0.9 + 14, -20 - 4 * tilt, 27), (along * 0.9 + 24, -30 - 3 * tilt, 16)])
        run = under.on_surface(run, deep)
        branches.append((Artery.LAD, _tube(np.vstack([start, run]), 2.2 * scale, 1.3 * scale)))
    start = arteries[Artery.LCX].points[min(34, len(arteries[Artery.LCX].points) - 1)]
    run = under.on_surface(heart.place([(16, -44, 4), (34, -48, -2), (50, -46, -8)]), deep)
    branches.append((Artery.LCX, _tube(np.vstack([start, run]), 2.2 * scale, 1.3 * scale)))
    return replace(heart, arteries=arteries, branches=tuple(branches))


def _in_groove(heart: Heart, points: Points, one: str, other: str) -> Points:
    """Points moved, mostly across the groove between two chambers, to where both are equally near."""
    moved = np.array(points, float)
    step = np.concatenate([np.zeros((1, 3)), np.eye(3) * 0.5, -np.eye(3) * 0.5])
    for _ in range(12):
        for name in (one, other):
            at = (moved + step[:, None]).reshape(-1, 3)
            around = heart.chambers[name].distance(at[:, 0], at[:, 1], at[:, 2]).reshape(7, -1)
            slope = (around[1:4] - around[4:]).T
            slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)
            moved -= 0.5 * np.clip(around[0] - 1.5, -4, 4)[:, None] * slope
    return moved


def _tube(knots: Points, begin_mm: float, end_mm: float) -> Tube:
    """A vessel through some knots, a point each millimeter; radii at both ends."""
    along = arc_length(knots)
    keep = np.concatenate([[True], np.diff(along) > 0.5])
    knots, along = knots[keep], along[keep]
    at = np.linspace(0, along[-1], int(along[-1]) + 2)
    return Tube(smooth_curve(along, knots, at), np.linspace(begin_mm, end_mm, at.size))
