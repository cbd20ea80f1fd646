"""What the scanner adds: noise with the texture of filtered back-projection, streaks, padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from heartlens.phantom.parameters import KERNEL_FWHM_MM, PhantomParameters

PADDING_HU = -1024


def noise(parameters: PhantomParameters, shape: tuple[int, int, int], body: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlated noise, stronger where rays cross more tissue.

    Parameters
    ----------
    parameters
        Strength, kernel, pixels, slices and seed.
    shape
        (k, j, i)
    body
        (k, j, i) HU without noise; tells where rays are weakened

    Returns
    -------
    NDArray[np.float32]
        (k, j, i) float32, HU
    """
    slices, rows, columns = shape
    rng = parameters.draw_generator("noise")
    out = np.zeros(shape, np.float32)
    if parameters.noise_hu == 0:
        return out
    dy, dx = parameters.pixel_mm
    fy, fx = np.fft.fftfreq(rows, dy)[:, None], np.fft.fftfreq(columns, dx)[None, :]
    f = np.hypot(fy, fx)
    cut = 0.44 / KERNEL_FWHM_MM[parameters.kernel]  # 1/mm where the kernel has fallen to about a half
    amplitude = np.sqrt(f + 0.02) * np.exp(-0.5 * (f / (1.25 * cut)) ** 2)
    amplitude *= np.sqrt(rows * columns / (amplitude**2).sum()) * parameters.noise_hu
    amplitude = amplitude.astype(np.float32)
    for k in range(0, slices, 2):  # two slices per transform: real and imaginary part
        white = rng.standard_normal((2, rows, columns), np.float32)
        pair = fft.ifft2(fft.fft2(white[0] + 1j * white[1]) * amplitude)
        out[k] = pair.real
        if k + 1 < slices:
            out[k + 1] = pair.imag
    overlap = parameters.slice_thickness_mm / parameters.increment_mm
    if overlap > 1.2 and slices > 2:  # neighbors share photons
        half = (overlap - 1) / 2
        kernel = np.array([half, 1.0, half]) if half <= 1 else np.ones(2 * int(half) + 1)
        out = ndimage.convolve1d(out, kernel / np.sqrt((kernel**2).sum()), axis=0, mode="reflect")
    streaks = 0.0137 / dx  # 1/mm; shoulders starve rays from side to side, so grain is drawn out that way
    along = (amplitude * np.exp(-np.abs(fx) / streaks)).astype(np.float32)
    along *= parameters.noise_hu * np.sqrt(rows * columns / (along.astype(float) ** 2).sum())
    for k in range(slices):
        starved = _starvation(body[k], dy, dx)
        if starved > 0.02:
            white = fft.fft2(rng.standard_normal((rows, columns), np.float32))
            out[k] += np.float32(starved) * fft.ifft2(white * along).real
        out[k] *= _strength(body[k])
    return out


def _starvation(plane: NDArray[np.float32], dy: float, dx: float) -> float:
    """How much more tissue rays cross from side to side than from front to back; 0 for a round chest."""
    mu = np.clip(plane[::4, ::4] + 1000, 0, 2200) / 1000
    sideways, forward = mu.sum(1).max() * dx * 4, mu.sum(0).max() * dy * 4
    return float(np.clip((sideways / max(forward, 1.0) - 1.5) * np.clip((sideways - 230) / 100, 0, 1), 0, 1.5))


def _strength(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Relative noise over one slice: from the attenuation along rows and columns."""
    rows, columns = plane.shape
    step = max(1, min(rows, columns) // 64)
    small = plane[::step, ::step]
    mu = np.clip(small + 1000, 0, 2200) / 1000
    path = mu.mean(0)[None, :] + mu.mean(1)[:, None]
    inside = ndimage.uniform_filter(np.clip(mu, 0, 1), 5, mode="nearest")
    level = 0.4 + 0.74 * path / max(float(np.percentile(path, 98)), 0.1)
    level *= 0.55 + 0.45 * inside
    zoomed = ndimage.zoom(level.astype(np.float32), (rows / level.shape[0], columns / level.shape[1]), order=1)
    return zoomed[:rows, :columns]


def metal_streaks(
    image: NDArray[np.float32],
    center: NDArray[np.float64],
    pixel_mm: tuple[float, float],
    rng: np.random.Generator,
    strength_hu: float,
) -> None:
    """Add bright and dark rays around metal on one slice.

    Parameters
    ----------
    image
        (j, i) HU, changed
    center
        (2,), row, column
    pixel_mm
        Row and column distance.
    rng
        Draws directions and strengths of the rays.
    strength_hu
        Of the rays close to the metal.
    """
    reach_mm = 75.0
    low = np.maximum(np.floor(center - reach_mm / np.array(pixel_mm)).astype(int), 0)
    high = np.minimum(np.ceil(center + reach_mm / np.array(pixel_mm)).astype(int) + 1, image.shape)
    if (low >= high).any():
        return
    y, x = np.ogrid[low[0] : high[0], low[1] : high[1]]
    dy = ((y - center[0]) * pixel_mm[0]).astype(np.float32)
    dx = ((x - center[1]) * pixel_mm[1]).astype(np.float32)
    radius, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    rays = np.zeros_like(radius)
    for _ in range(7):
        direction, width = rng.uniform(-np.pi, np.pi), rng.uniform(0.03, 0.09)
        turn = np.abs((angle - np.float32(direction) + np.pi / 2) % np.pi - np.pi / 2)
        rays += np.float32(rng.choice((-1, 1)) * rng.uniform(0.4, 1)) * np.exp(-((turn / np.float32(width)) ** 2))
    fade = np.exp(-radius / 20) * np.clip(radius / 3, 0, 1) * np.clip((reach_mm - radius) / 20, 0, 1)
    image[low[0] : high[0], low[1] : high[1]] += np.float32(strength_hu) * rays * fade


def digitize(image: NDArray[np.float32]) -> NDArray[np.int16]:
    """HU as scanners store them: whole numbers from -1024 to 3071, padding outside the reconstruction circle."""
    _, rows, columns = image.shape
    stored = np.clip(np.rint(image), PADDING_HU, 3071).astype(np.int16)
    y, x = np.ogrid[:rows, :columns]
    outside = np.hypot((y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5) > 0.5
    stored[:, outside] = PADDING_HU
    return stored
