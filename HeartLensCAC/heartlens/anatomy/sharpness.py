"""How sharply a scan was reconstructed, read from its noise, and a softened copy in which calcium is looked for.

Sharp kernels lift noise and the rims of heart and vessels above 130 HU, and make islands where nothing is calcified.
Headers name kernels in each maker's own words, or not at all; the noise in soft tissue tells the same for all: a soft
kernel makes neighboring pixels alike, a sharp one does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.core.ct import CTVolume, hu_array

LAG_MM = 0.7
"""Distance at which the likeness of noise is read. On it 19 real scans of soft and standard kernels of four makers
measured 0.44 to 0.81, 25 of sharp ones -0.15 to 0.14 and one with kernel D 0.39 (docs/method.md, section 11)."""

SHARP_BELOW = 0.5
"""Noise less alike than this may be that of a sharp kernel."""

SHARP_NOISE_HU = 20.0
"""And it matters from this deviation on: edges and noise of quieter scans seldom reach 130 HU."""

REFERENCE_LIKENESS = 0.70
"""Of soft kernels, in the middle; a sharp scan is softened to this."""

SIGMAS_MM = np.arange(0.2, 1.3, 0.1)
"""Widths of the Gaussian that are tried, the smallest that suffices is taken."""

SLICES_READ = 8
"""Spread over the scan; the median of them counts."""

SOFT_TISSUE_HU = (0.0, 90.0)
LEAST_TISSUE_PIXELS = 800
"""In a slice, for a statement about its noise."""

WINDOW_MM = 5.0
"""Side of the square whose mean is taken for the tissue under the noise."""

STRUCTURE_HU = 250.0
"""A pixel that differs from the mean around it by more is an edge, not noise."""


@dataclass(frozen=True)
class NoiseTexture:
    """Noise of a scan in soft tissue.

    Parameters
    ----------
    deviation_hu
        Standard deviation.
    likeness
        Correlation of pixels that lie `LAG_MM` apart in a row, -1 to 1.
    """

    deviation_hu: float
    likeness: float

    @property
    def is_sharp(self) -> bool:
        """Whether calcium should be looked for in a softened copy."""
        return self.likeness < SHARP_BELOW and self.deviation_hu > SHARP_NOISE_HU


@dataclass(frozen=True, eq=False)
class Softened:
    """A scan, and a copy of it as a soft kernel would have shown it.

    Parameters
    ----------
    original
        The scan.
    ct
        The copy; the scan itself when it is not sharp. HU are whole numbers where those of the scan are.
    sigma_mm
        Of the Gaussian within the slice; 0 when nothing was done.
    """

    original: CTVolume
    ct: CTVolume
    sigma_mm: float


def noise_texture(ct: CTVolume) -> NoiseTexture | None:
    """Read the noise of some slices; None where no slice shows enough soft tissue."""
    read = [_texture(np.asarray(ct.hu[k], np.float32), ct.spacing_mm[2]) for k in _slices_read(ct)]
    seen = [texture for texture in read if texture is not None]
    return NoiseTexture(*np.median(np.array(seen), axis=0).tolist()) if seen else None


def softened(ct: CTVolume) -> Softened:
    """A scan beside a copy as a soft kernel would have shown it, which is the scan itself when it is not sharp."""
    texture = noise_texture(ct)
    if texture is None or not texture.is_sharp:
        return Softened(ct, ct, 0.0)
    _, dy, dx = ct.spacing_mm
    some = [np.asarray(ct.hu[k], np.float32) for k in _slices_read(ct)]
    for sigma_mm in map(float, SIGMAS_MM):
        smooth = [_texture(ndimage.gaussian_filter(hu, (sigma_mm / dy, sigma_mm / dx)), dx) for hu in some]
        likeness = [found[1] for found in smooth if found is not None]
        if likeness and np.median(likeness) >= REFERENCE_LIKENESS:
            break
    hu = np.empty(ct.shape, np.float32)
    for k in range(ct.shape[0]):
        ndimage.gaussian_filter(ct.hu[k].astype(np.float32), (sigma_mm / dy, sigma_mm / dx), output=hu[k])
    if np.issubdtype(ct.hu.dtype, np.integer):
        np.rint(hu, out=hu)
    return Softened(ct, replace(ct, hu=hu_array(hu)), sigma_mm)


def _slices_read(ct: CTVolume) -> range:
    return range(0, ct.shape[0], -(-ct.shape[0] // SLICES_READ))


def _texture(hu: NDArray[np.float32], column_mm: float) -> tuple[float, float] | None:
    """(deviation, likeness) of one slice; None with too little soft tissue."""
    window_px = 2 * max(1, round(WINDOW_MM / column_mm / 2)) + 1  # odd, so that it has a middle
    below = ndimage.uniform_filter(hu, window_px)
    noise = hu - below
    tissue = (below > SOFT_TISSUE_HU[0]) & (below < SOFT_TISSUE_HU[1]) & (np.abs(noise) < STRUCTURE_HU)
    tissue = ndimage.binary_erosion(tissue, iterations=window_px // 2 + 2)
    if tissue.sum() < LEAST_TISSUE_PIXELS:
        return None
    here = noise[tissue].astype(np.float64)
    variance = float(np.mean(here**2))
    if variance == 0:
        return None
    whole, part = divmod(LAG_MM / column_mm, 1.0)
    products = [float(np.mean(here * np.roll(noise, int(whole) + n, axis=1)[tissue])) for n in (0, 1)]
    return float(np.sqrt(variance)), ((1 - part) * products[0] + part * products[1]) / variance
