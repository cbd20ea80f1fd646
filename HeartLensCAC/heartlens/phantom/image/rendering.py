"""Renders the person slice by slice, partial volume included, before calcium and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.phantom.body.anatomy import Anatomy
from heartlens.phantom.body.lung_vessels import lung_vessels
from heartlens.phantom.body.thorax import paint_thorax
from heartlens.phantom.body.wall import paint_skeleton, paint_wall
from heartlens.phantom.image.grid import Grid
from heartlens.phantom.image.plane import Plane

RENDER_STEP_MM = 0.85
"""Finest in-plane step of the painting; scanners resolve about 1 mm, so finer pixels are interpolated."""


def render(
    anatomy: Anatomy, grid: Grid, *, thickness_mm: float, fwhm_mm: float, motion_mm: float
) -> NDArray[np.float32]:
    """HU of the person without calcium, noise or artifacts.

    Returns
    -------
    NDArray[np.float32]
        (k, j, i) float32
    """
    slices, rows, columns = grid.shape
    size = [
        max(round(n * d / max(RENDER_STEP_MM, d)), 16) for n, d in zip(grid.shape[1:], grid.spacing_mm[1:], strict=True)
    ]
    plane = Plane(anatomy, grid, (size[0], size[1]), fwhm_mm, motion_mm)
    up_rows, up_columns = _interpolation(size[0], rows), _interpolation(size[1], columns)
    vessels = lung_vessels(anatomy, grid, (slices, size[0], size[1]), thickness_mm)
    out = np.zeros((slices, rows, columns), np.float32)
    # Each slice is the mean over its thickness: sub-slices on a common raster, shared where slices overlap.
    increment = grid.spacing_mm[0]
    per = max(1, int(np.ceil(increment / 2.0)))
    half = thickness_mm / increment * per / 2
    waiting: dict[int, tuple[NDArray[np.float32], float]] = {}
    for sub in range(int(-np.ceil(half)), (slices - 1) * per + int(np.ceil(half)) + 1):
        weights = {}
        for k in range(max(0, int((sub - half - 1) // per)), min(slices, int((sub + half + 1) // per) + 1)):
            overlap = min(sub + 0.5, k * per + half) - max(sub - 0.5, k * per - half)
            if overlap > 1e-9:
                weights[k] = overlap
        if not weights:
            continue
        image = _painted(plane, grid.bottom_mm + sub * increment / per)
        for k, weight in weights.items():
            total, so_far = waiting.get(k, (np.zeros_like(image), 0.0))
            total += np.float32(weight) * image
            waiting[k] = (total, so_far + weight)
        for k in [k for k in waiting if k * per + half <= sub + 0.5 + 1e-9]:
            out[k] = up_rows @ _with_vessels(*waiting.pop(k), vessels[k]) @ up_columns.T
    for k, (total, weight) in waiting.items():
        out[k] = up_rows @ _with_vessels(total, weight, vessels[k]) @ up_columns.T
    return out


def _with_vessels(total: NDArray, weight: float, vessels: NDArray) -> NDArray[np.float32]:
    image = total / np.float32(weight)
    lung = np.clip((-250 - image) / 450, 0, 1)
    return image + vessels * lung * (30 - image)


def _painted(plane: Plane, z: float) -> NDArray[np.float32]:
    plane.move_to(z)
    paint_wall(plane, z)
    paint_thorax(plane, z)
    paint_skeleton(plane, z)
    return plane.image


def _interpolation(n: int, m: int) -> NDArray[np.float32]:
    """(m, n) cubic interpolation from n to m samples over the same length."""
    if n == m:
        return np.eye(n, dtype=np.float32)
    at = (np.arange(m) + 0.5) * n / m - 0.5
    return ndimage.map_coordinates(
        np.eye(n), np.meshgrid(at, np.arange(n), indexing="ij"), order=3, mode="nearest"
    ).astype(np.float32)
