"""What reconstruction does to edges: kernels that overdo them, and the star of a vessel that moved between views."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

Window = tuple[slice, slice, slice]

OVERSHOOT_SIGMA_MM = 1.1
"""Scale of the detail that a sharp kernel lifts: its overshoot is gone two or three millimeters from an edge."""

STAR_MM = 1.5
"""Travel during a rotation above which views disagree so much that streaks part from the vessel."""

STAR_REACH_MM = 11.0
"""How far those streaks are seen."""


def overshoot(image: NDArray[np.float32], strength: float, pixel_mm: tuple[float, float]) -> NDArray[np.float32]:
    """An image with its in-plane detail lifted, as kernels for lung and bone do: linear, and the mean stays.

    Parameters
    ----------
    image
        (k, j, i) HU
    strength
        Share of the detail that is added once more.
    pixel_mm
        Row and column distance.

    Examples
    --------
    An edge is overdone on its bright side, by about a tenth of its height here:

    >>> edge = np.repeat(np.float32([[[-850.0] * 20 + [50.0] * 20]]), 3, axis=1)
    >>> bool(120 < overshoot(edge, 0.3, (0.7, 0.7)).max() < 200)
    True
    """
    sigma = (0.0, OVERSHOOT_SIGMA_MM / pixel_mm[0], OVERSHOOT_SIGMA_MM / pixel_mm[1])
    blurred = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3.0)
    return image + np.float32(strength) * (image - blurred)


def star(
    image: NDArray[np.float32], rng: np.random.Generator, pixel_mm: tuple[float, float], travel_mm: float
) -> NDArray[np.float32]:
    """A moving spot with the bright and dark rays that views of other moments leave around it; its sum stays.

    Parameters
    ----------
    image
        (k, j, i) HU of the spot alone, with room around it (`STAR_REACH_MM`)
    rng
        Draws directions and strengths.
    pixel_mm
        Row and column distance.
    travel_mm
        During a rotation; the farther, the stronger.
    """
    half = [max(round(STAR_REACH_MM / p), 2) for p in pixel_mm]
    y, x = np.mgrid[-half[0] : half[0] + 1, -half[1] : half[1] + 1]
    y, x = y * pixel_mm[0], x * pixel_mm[1]
    radius = np.hypot(y, x)
    angle = np.arctan2(y, x)
    rays = np.zeros_like(radius)
    first = rng.uniform(0, np.pi)
    for n in range(int(rng.integers(2, 5))):
        direction = first + n * np.pi / 3 + rng.normal(0, 0.25)
        turn = np.abs((angle - direction + np.pi / 2) % np.pi - np.pi / 2)
        rays += rng.choice((-1, 1)) * rng.uniform(0.5, 1) * np.exp(-((turn / 0.22) ** 2))
    rays *= np.exp(-radius / 4) * (radius > 0.8) * np.clip((STAR_REACH_MM - radius) / 3, 0, 1)
    rays -= rays.mean()  # the sum of the image is what the scanner measured, whatever moved
    rays *= min(0.12 * travel_mm, 0.6) / max(np.abs(rays).sum(), 1e-9)
    rays[half[0], half[1]] += 1
    return np.stack([signal.fftconvolve(plane, rays, mode="same") for plane in image]).astype(np.float32)


def widened(
    window: Window, image: NDArray[np.float32], shape: tuple[int, int, int], pixels: int
) -> tuple[Window, NDArray[np.float32]]:
    """A window and its image with so many more pixels around it, in the plane and inside the volume."""
    wide, pad = [window[0]], [(0, 0)]
    for part, size in zip(window[1:], shape[1:], strict=True):
        low, high = max(part.start - pixels, 0), min(part.stop + pixels, size)
        wide.append(slice(low, high))
        pad.append((part.start - low, high - part.stop))
    return (wide[0], wide[1], wide[2]), np.pad(image, pad)
