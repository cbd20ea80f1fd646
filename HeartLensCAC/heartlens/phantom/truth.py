"""Agatston scores of the truth, by the same scoring core as everything else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.scoring.agatston import agatston, weigh_components
from heartlens.scoring.report import score_lesions


def agatston_per_artery(ct: CTVolume, labels: NDArray[np.uint8]) -> dict[Artery, float]:
    """Score of each coronary artery, from labels that are `Artery` codes."""
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=max(Artery) + 1)[1:]) + 1
    lesions = LesionMap(labels.astype(np.uint16), {int(code): Artery(int(code)) for code in present})
    arteries = score_lesions(ct, lesions, ScoringProtocol()).arteries
    return {artery: arteries[artery].agatston for artery in CORONARY}


def patch_agatston(hu: NDArray[np.floating], *, pixel_area_mm2: float, increment_mm: float) -> float:
    """Score of every island in a small block of slices, whatever it belongs to."""
    protocol = ScoringProtocol()
    k, j, i = hu.shape
    flat = np.flatnonzero(hu >= protocol.threshold_hu)
    islands = weigh_components(
        flat,
        hu.reshape(-1)[flat],
        np.ones(flat.size, np.uint8),
        (k, j, i),
        protocol=protocol,
        pixel_area_mm2=pixel_area_mm2,
    )
    weights = float((islands.weight * islands.pixels).sum())
    return agatston(weights, pixel_area_mm2=pixel_area_mm2, slice_factor=protocol.slice_factor(increment_mm, None))
