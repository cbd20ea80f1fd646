"""A sharp kernel learned from the edges of one scan, and soft scans made sharp by it.

Where lung meets soft tissue a sharp kernel overshoots: the tissue's rim is brighter than the tissue. How much, and how
far, is read from the median profile across many straight pieces of that border, in a sharp scan and in soft ones. An
isotropic filter acts on a straight edge as its one-dimensional self, so the filter that turns one profile into the
other can be applied to slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from training.evaluation.sources.hearts import transferred
from training.evaluation.sources.judged import JudgedScan, written

REACH_MM, STEP_MM = 8.0, 0.25
"""Profiles reach so far to either side of the border."""

PLATEAU_MM = (5.0, 8.0)
"""Where a profile has left the edge behind."""

BORDER_HU = -400.0
"""Between lung and soft tissue."""

LUNG_HU, TISSUE_HU = (-1050.0, -650.0), (-120.0, 120.0)
"""What the two plateaus must lie in, so that the border is one of lung with soft tissue."""

RIPPLE_HU = 150.0
"""Largest standard deviation of a plateau along a profile: vessels and ribs behind the border are left out."""

NORMAL_SIGMA_MM = 2.0
"""Smoothing of the image whose gradient gives the normals."""

FEWEST_PROFILES = 200
"""Profiles whose median is taken."""

PROFILES_PER_SLICE = 400

BOOSTS, SIGMAS_MM = (0.0, 12.0), (0.3, 3.0)
"""Where the filter is looked for."""


@dataclass(frozen=True)
class SharpKernel:
    """A filter within slices: the image, and `boost` times what a Gaussian of `sigma_mm` takes from it.

    Parameters
    ----------
    boost
        0 changes nothing.
    sigma_mm
        Of the Gaussian.
    misfit
        Root mean square of what is left between the filtered profile and the one aimed at, in shares of the step.
    """

    boost: float
    sigma_mm: float
    misfit: float = 0.0

    def applied(self, ct: CTVolume) -> CTVolume:
        """The scan as this kernel shows it."""
        sigma = (0.0, self.sigma_mm / ct.spacing_mm[1], self.sigma_mm / ct.spacing_mm[2])
        hu = ct.hu.astype(np.float64)
        sharp = hu + self.boost * (hu - ndimage.gaussian_filter(hu, sigma))
        return replace(ct, hu=np.rint(sharp).clip(-32768, 32767).astype(np.int16))

    def on_profile(self, profile: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same filter on a profile across a straight edge."""
        return profile + self.boost * (
            profile - ndimage.gaussian_filter1d(profile, self.sigma_mm / STEP_MM, mode="nearest")
        )


def edge_profile(scans: Iterable[CTVolume]) -> NDArray[np.float64]:
    """Median profile from lung into soft tissue, 0 and 1 on its plateaus.

    Returns
    -------
    NDArray[np.float64]
        (n,) at steps of `STEP_MM`; it crosses one half in the middle

    Raises
    ------
    InputRefused
        "input": too few straight pieces of the border
    """
    found = [profiles for ct in scans for k in range(ct.shape[0]) for profiles in [_profiles(ct, k)] if len(profiles)]
    if sum(map(len, found)) < FEWEST_PROFILES:
        raise InputRefused(
            "input", f"expected {FEWEST_PROFILES} profiles across the lung's border, found {sum(map(len, found))}"
        )
    profile = np.median(np.concatenate(found), axis=0)
    away = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    half = np.interp(0.5, profile[: int(profile.argmax()) + 1], away[: int(profile.argmax()) + 1])
    return np.interp(away + half, away, profile)


def fit_kernel(soft: NDArray[np.float64], sharp: NDArray[np.float64]) -> SharpKernel:
    """The filter that takes a soft profile nearest to a sharp one, by least squares."""

    def misfit(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return SharpKernel(*parameters).on_profile(soft) - sharp

    starts = [(1.0, 0.6), (1.0, 1.5), (5.0, 1.0)]
    bounds = tuple(zip(BOOSTS, SIGMAS_MM, strict=True))
    fits = [optimize.least_squares(misfit, start, bounds=bounds) for start in starts]
    best = min(fits, key=lambda fit: fit.cost)
    return SharpKernel(float(best.x[0]), float(best.x[1]), float(np.sqrt(np.mean(best.fun**2))))


def sharpened_scans(scans: Iterable[JudgedScan], kernel: SharpKernel, work: Path) -> Iterator[JudgedScan]:
    """Every soft scan as the kernel shows it; each knows the scan that it was."""
    work.mkdir(parents=True, exist_ok=True)
    for scan in scans:
        if not scan.is_sharp:
            ct, name = kernel.applied(scan.ct), f"{scan.name}-made-sharp"
            yield JudgedScan(name, written(work, name, ct), ct, transferred(scan.known, ct), True, scan)


def _profiles(ct: CTVolume, k: int) -> NDArray[np.float64]:
    """(m, n) profiles of one slice, those across a border of lung with soft tissue alone."""
    hu = ct.hu[k].astype(np.float64)
    spacing = np.array(ct.spacing_mm[1:])
    smooth = ndimage.gaussian_filter(hu, NORMAL_SIGMA_MM / spacing)
    gradient = np.stack(np.gradient(smooth, *spacing), axis=-1)
    above = smooth >= BORDER_HU
    border = np.argwhere(above & ~ndimage.binary_erosion(above))
    if not len(border):
        return np.zeros((0, 0))
    border = border[:: max(1, len(border) // PROFILES_PER_SLICE)]
    normal = gradient[border[:, 0], border[:, 1]]
    length = np.linalg.norm(normal, axis=1)
    border, normal = border[length > 0], normal[length > 0] / length[length > 0, None]
    # The border of the smoothed image, to parts of a pixel.
    off_mm = (BORDER_HU - smooth[border[:, 0], border[:, 1]]) / length[length > 0]
    away = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    places = border[:, None, :] + ((away[None, :] + off_mm[:, None])[..., None] * normal[:, None, :]) / spacing
    values = ndimage.map_coordinates(hu, places.transpose(2, 0, 1), order=1, mode="constant", cval=np.nan)
    far, near = away <= -PLATEAU_MM[0], away >= PLATEAU_MM[0]
    lung, tissue = values[:, far], values[:, near]
    good = np.isfinite(values).all(axis=1)
    for plateau, (low, high) in ((lung, LUNG_HU), (tissue, TISSUE_HU)):
        mean = plateau.mean(axis=1)
        good &= (low <= mean) & (mean <= high) & (plateau.std(axis=1) <= RIPPLE_HU)
    zero, one = lung[good].mean(axis=1, keepdims=True), tissue[good].mean(axis=1, keepdims=True)
    return (values[good] - zero) / (one - zero)
