"""Whether values are HU: air, lung, fat and soft tissue where they belong, peaks of bone and calcium not cut off.

A fit, not a lower bound: a rescale that was applied twice, or not at all, leaves everything elsewhere, and a scan in
which nothing reaches 130 HU because of it would score 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.anatomy.coarse import CoarseGrid
from heartlens.anatomy.continuity import jumps
from heartlens.core.ct import CTVolume

AIR_HU = (-1100.0, -600.0)
LEAST_AIR_SHARE = 0.02
"""Of all blocks; 23 to 65 % of them are lung or room air in 170 real scans and slices."""

SOFT_HU = (0.0, 90.0)
"""Where muscle, blood and liver peak: at 17 to 72 HU in real scans, 37 to 52 in phantoms."""

FAT_HU = (-150.0, -50.0)
LEAST_FAT_SHARE = 0.05
"""Of tissue; 10 % and more in scans of real people and of phantoms."""

TISSUE_HU = (-300.0, 1500.0)
LEAST_TISSUE_SHARE = 0.08
LEAST_PEAK = 0.12
"""Height of a peak, as a share of the highest."""

BIN_HU = 5.0

LEAST_TISSUE_BLOCKS = 15_000
"""About a third of a liter: one slice, or a few, show no peaks that could be trusted."""

LEAST_BLOCKS = 5_000

DARKEST_HU = -700
"""A slice of the chest holds lung or air below this."""

UNSIGNED_HU = 20_000
LEAST_UNSIGNED_SHARE = 0.05
"""Signed pixels that are read as unsigned, 65,000 and more, are as many as lung and fat."""

BONE_HU = 1000
"""Cortical bone reaches 1,000 HU and more; a maximum below it that many voxels share was cut off."""

PILED_UP = 10
"""How many times more voxels lie at the maximum than at a value below it, and at the least."""

UNCUT_HU = 40
FEWEST_VALUES = 20
"""Different values in that many HU below the maximum; an image with fewer was drawn, not measured."""

EIGHT_BITS = 256


def scale_findings(ct: CTVolume, grid: CoarseGrid) -> list[tuple[str, str]]:
    """What shows that values are no HU, or not all of them, as (code, text).

    Parameters
    ----------
    ct
        As it was read.
    grid
        Its block means, in which noise is averaged.

    Returns
    -------
    list[tuple[str, str]]
        "no-hu" and "clipped", which are refusals unless labels are given, and "hu-jump", a warning
    """
    found = []
    text = _sign(ct) or _lowest(ct) or _peaks(grid) or _eight_bits(ct)
    if text:
        found.append(("no-hu", f"{text}: values are not HU; read the original DICOM series"))
    text = _clipped(ct)
    if text:
        found.append(("clipped", text))
    slices = jumps(ct)
    if slices:
        listing = ", ".join(f"{k} by {hu:+.0f} HU" for k, hu in slices[:5])
        text = (
            f"fat, tissue and lung change all at once at slice index {listing}: one of two neighboring slices is not "
            "in HU; read the original DICOM series"
        )
        found.append(("hu-jump", text))
    return found


def _sign(ct: CTVolume) -> str | None:
    share = float((ct.hu[:, ::4, ::4] > UNSIGNED_HU).mean())
    if share < LEAST_UNSIGNED_SHARE:
        return None
    return (
        f"{share:.0%} of the voxels lie above {UNSIGNED_HU} HU, as where signed pixels are called unsigned "
        "(PixelRepresentation (0028,0103))"
    )


def _lowest(ct: CTVolume) -> str | None:
    lowest = int(ct.hu[ct.shape[0] // 2].min())
    if lowest <= DARKEST_HU:
        return None
    return f"the middle slice holds nothing below {lowest} HU, expected lung or air near -1000"


def _peaks(grid: CoarseGrid) -> str | None:
    hu = grid.hu.reshape(-1)  # with the corners: where they are filled with air, that is where air lies
    if hu.size < LEAST_BLOCKS:
        return None
    air = float(((hu > AIR_HU[0]) & (hu < AIR_HU[1])).mean())
    tissue = hu[(hu > TISSUE_HU[0]) & (hu < TISSUE_HU[1])]
    if air < LEAST_AIR_SHARE:
        middle = float(np.median(hu))
        return f"{air:.1%} of the volume lies between {AIR_HU[0]:g} and {AIR_HU[1]:g} HU, its median at {middle:.0f}"
    if tissue.size < LEAST_TISSUE_SHARE * hu.size:
        share = tissue.size / hu.size
        return f"{share:.1%} of the volume lies between {TISSUE_HU[0]:g} and {TISSUE_HU[1]:g} HU, where tissue is"
    if tissue.size < LEAST_TISSUE_BLOCKS:
        return None
    fat = float(((tissue > FAT_HU[0]) & (tissue < FAT_HU[1])).mean())
    peaks = tissue_peaks(tissue)
    is_soft = [SOFT_HU[0] < peak < SOFT_HU[1] for peak in peaks]
    if (any(is_soft) and fat >= LEAST_FAT_SHARE) or all(is_soft):
        return None
    listing = ", ".join(f"{peak:.0f}" for peak in peaks[:4])
    return f"tissue peaks at {listing} HU, expected fat near -100 and soft tissue near 40"


def tissue_peaks(hu: NDArray[np.float32]) -> list[float]:
    """HU of the peaks of a histogram of tissue, the highest first."""
    edges = np.arange(TISSUE_HU[0], TISSUE_HU[1] + BIN_HU, BIN_HU)
    height = ndimage.gaussian_filter1d(np.histogram(hu, edges)[0].astype(float), 2)
    inner = np.arange(1, len(height) - 1)
    is_peak = (height[inner] > height[inner - 1]) & (height[inner] >= height[inner + 1])
    peaks = inner[is_peak & (height[inner] > LEAST_PEAK * height.max())]
    return [float(edges[n] + BIN_HU / 2) for n in peaks[np.argsort(-height[peaks], kind="stable")]]


def _eight_bits(ct: CTVolume) -> str | None:
    """Pictures have 256 values, evenly spaced; a scan has a thousand and more."""
    every = max(1, min(ct.shape[1:]) // 64)
    some = ct.hu[:, ::every, ::every]
    if some.size < EIGHT_BITS * EIGHT_BITS:
        return None
    values = np.unique(some)
    if not EIGHT_BITS // 4 < values.size <= EIGHT_BITS or np.diff(values).min() < 2:
        return None
    return f"all voxels have one of {values.size} values, as a picture of 8 bits has"


def _clipped(ct: CTVolume) -> str | None:
    top = ct.hu.max()
    if top >= BONE_HU:
        return None
    near = ct.hu[ct.hu > top - UNCUT_HU]
    at_top = int((near == top).sum())
    below = near[near < top]
    if at_top < PILED_UP or np.unique(below).size < FEWEST_VALUES:
        return None
    if at_top < PILED_UP * max(1.0, below.size / UNCUT_HU):
        return None
    return (
        f"{at_top} voxels have the same highest value, {top:g} HU, below that of bone: peaks were cut off, and the "
        "score with them; read the original DICOM series"
    )
