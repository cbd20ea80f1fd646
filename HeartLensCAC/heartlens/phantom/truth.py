"""Agatston of the truth labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.ct import CTVolume
from heartlens.lesions import CORONARY, Artery
from heartlens.protocol import ScoringProtocol


def agatston_per_artery(ct: CTVolume, labels: NDArray[np.uint8]) -> dict[Artery, float]:
    factor = ScoringProtocol().slice_factor(ct.increment_mm, None)
    return {
        a: patch_agatston(np.where(labels == a, ct.hu, -2000), ct.pixel_area_mm2, factor)
        if (labels == a).any()
        else 0.0
        for a in CORONARY
    }


def patch_agatston(hu: NDArray, pixel_area_mm2: float, factor: float) -> float:
    """Agatston score of every island in a stack of slices, by the default protocol."""
    protocol = ScoringProtocol()
    total = 0.0
    for plane in hu:
        islands, count = ndimage.label(plane >= protocol.threshold_hu)
        for island, peak in enumerate(ndimage.maximum(plane, islands, np.arange(1, count + 1)), start=1):
            pixels = int((islands == island).sum())
            if protocol.keeps(pixels, pixel_area_mm2):
                total += pixels * pixel_area_mm2 * float(np.searchsorted(protocol.edges_hu, peak, side="right"))
    return total * factor
