"""Trees of vessels in the lungs, from both hila to the pleura."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.phantom.body.anatomy import Anatomy
from heartlens.phantom.image.grid import Grid


def lung_vessels(anatomy: Anatomy, grid: Grid, shape: tuple[int, int, int], thickness_mm: float) -> NDArray[np.float32]:
    """Share of each voxel that is vessel: trees that branch from both hila to the pleura."""
    rng = np.random.default_rng([*anatomy.seed, 55])
    points, areas = _vessel_tree(anatomy, rng)
    index = grid.index(points)
    _, rows, columns = grid.shape
    index[:, 1] = (index[:, 1] + 0.5) * shape[1] / rows - 0.5
    index[:, 2] = (index[:, 2] + 0.5) * shape[2] / columns - 0.5
    out = np.zeros(shape, np.float32)
    step = grid.shape[1] * grid.spacing_mm[1] / shape[1]
    amount = areas / (step * step * thickness_mm)
    low = np.floor(index[:, 1:]).astype(int)
    part = index[:, 1:] - low
    half = thickness_mm / grid.spacing_mm[0] / 2
    for dk in range(-int(np.ceil(half)), int(np.ceil(half)) + 1):
        k = np.round(index[:, 0]).astype(int) + dk
        share = np.clip(half + 0.5 - np.abs(k - index[:, 0]), 0, 1)
        for dj in (0, 1):
            for di in (0, 1):
                j, i = low[:, 0] + dj, low[:, 1] + di
                ok = (k >= 0) & (k < shape[0]) & (j >= 0) & (j < shape[1]) & (i >= 0) & (i < shape[2]) & (share > 0)
                w = amount * share * np.abs(1 - dj - part[:, 0]) * np.abs(1 - di - part[:, 1])
                flat = (k[ok] * shape[1] + j[ok]) * shape[2] + i[ok]
                out += np.bincount(flat, w[ok], out.size).reshape(shape).astype(np.float32)
    for plane in out:
        ndimage.gaussian_filter(plane, 0.4 / step, output=plane)
    return np.clip(out, 0, 1)


def _vessel_tree(anatomy: Anatomy, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Points along vessels and inside their cross-section, and the volume that each stands for, mm3."""
    trunks, steps = 48, 22
    starts, aims, sides = [], [], []
    for toward in (-1, 1):
        great = anatomy.heart.great["pulmonary_right" if toward < 0 else "pulmonary_left"]
        hilum = great.points[int(len(great.points) * 0.72)]
        height = 1 - 2 * (np.arange(trunks) + 0.5) / trunks  # spread over the half sphere that looks at this lung
        turn = np.pi * (0.618 * np.arange(trunks) % 1 - 0.5) * 0.96
        flat = np.sqrt(1 - height**2)
        aim = np.stack([toward * flat * np.cos(turn), flat * np.sin(turn), height], -1)
        aim += rng.normal(0, 0.15, aim.shape)
        starts.append(hilum + rng.normal(0, (3, 5, 6), aim.shape) + 14 * aim * (0.3, 0.6, 1.0))
        aims.append(aim)
        sides.append(np.full(trunks, toward))
    start, aim, side = np.concatenate(starts), np.concatenate(aims), np.concatenate(sides)
    radius = rng.uniform(1.5, 3.4, len(start))
    clouds, volumes = [], []
    while len(start):
        aim /= np.linalg.norm(aim, axis=1, keepdims=True)
        length = rng.uniform(7, 13, len(start)) * radius**0.55 + 3
        bend = np.cumsum(rng.normal(0, 0.032, (len(start), steps, 3)), 1)
        line = start[:, None] + np.cumsum((aim[:, None] + bend) * (length / steps)[:, None, None], 1)
        end = line[:, -1]
        width, depth = anatomy.half_width_mm - 6, anatomy.half_depth_mm + 2
        alive = (np.hypot(end[:, 0] / width, end[:, 1] / depth) < 1) & (side * end[:, 0] > 8)
        start, aim, side, radius = end[alive], (aim + bend[:, -1])[alive], side[alive], radius[alive]
        line, length = line[alive], length[alive]
        e1 = np.cross(aim, (0.31, 0.42, 0.85))
        e1 /= np.linalg.norm(e1, axis=1, keepdims=True)
        e2 = np.cross(aim, e1)
        spread = np.maximum((radius / 0.42) ** 2, 1).astype(int)
        for n in np.unique(spread):  # a sunflower in every cross-section: even, without clumps
            own = spread == n
            seeds = np.arange(n) + 0.5
            r = radius[own, None] * np.sqrt(seeds / n)
            t = 2.39996 * seeds
            disc = (r * np.cos(t))[..., None] * e1[own, None] + (r * np.sin(t))[..., None] * e2[own, None]
            cloud = line[own][:, :, None] + disc[:, None]
            along = rng.uniform(-0.5, 0.5, (*cloud.shape[:3], 1)) * (length[own] / steps)[:, None, None, None]
            clouds.append((cloud + along * aim[own][:, None, None]).reshape(-1, 3))  # no comb where a vessel lies flat
            each = np.pi * radius[own] ** 2 * length[own] / (steps * n)
            volumes.append(np.repeat(each, steps * n))
        go = radius > 0.42
        start, side = np.tile(start[go], (2, 1)), np.tile(side[go], 2)
        main, twig = rng.uniform(0.78, 0.93, go.sum()), rng.uniform(0.42, 0.78, go.sum())
        kick = np.repeat([0.16, 0.42], go.sum())[:, None]
        aim = np.tile(aim[go], (2, 1)) + rng.normal(0, 1, (len(start), 3)) * kick
        radius = np.tile(radius[go], 2) * np.concatenate([main, twig])
    return np.concatenate(clouds), np.concatenate(volumes)
