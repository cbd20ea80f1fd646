"""A chest for the node: two plaques, one in each half of the heart, that the rules find and whose score is known.

The upper 37 of 52 slices hold the whole top of the heart and one plaque: a sender that stops there leaves a scan that
looks complete and scores half.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dicom_builder import write_ct_series
from numpy.typing import NDArray
from schematic_chest import ORIGIN_MM, SPACING_MM, schematic_chest

Plaques = tuple[tuple[float, float, float, float, float], ...]

PLAQUES: Plaques = ((25, -35, -10, 4, 700), (-5, -40, -62, 4, 700))
"""(x, y, z, radius, HU), LPS mm: LAD above, RCA below."""

SLICES = 52
UPPER = slice(15, SLICES)
"""108 mm: longer than a heart must be, and cut at its lower end."""

PIXEL_MM2 = 5.6**2
WEIGHT = 4
"""Of 700 HU."""


def hu(plaques: Plaques = PLAQUES) -> NDArray[np.int16]:
    """(k, j, i), every second row and column of the schematic chest: 52 x 64 x 64."""
    return np.ascontiguousarray(schematic_chest(noise_hu=10, add=plaques).hu[:, ::2, ::2])


def agatston(slices: slice = slice(None)) -> float:
    """Pixels x area x weight of the plaques on some slices; slices of 3 mm count once."""
    return float((hu()[slices] >= 650).sum() * PIXEL_MM2 * WEIGHT)


def write_chest(folder: Path, *, plaques: Plaques = PLAQUES, **tags: Any) -> list[Path]:
    """The chest as a DICOM series, foot to head."""
    spacing = (SPACING_MM[0], 2 * SPACING_MM[1], 2 * SPACING_MM[2])
    return write_ct_series(folder, hu(plaques), spacing_mm=spacing, corner_lps_mm=ORIGIN_MM, **tags)
