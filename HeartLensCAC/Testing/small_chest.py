"""A chest of a few thousand voxels, as DICOM or a volume file, with labels and a score known by hand: for damage tests.

Two plaques of 3 x 3 pixels on two slices each: what any honest reading must give is worked out in `AGATSTON`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dicom_builder import write_ct_series
from numpy.typing import NDArray

from heartlens.core.lesions import Artery

SHAPE = (20, 40, 40)
SPACING_MM = (3.0, 5.0, 5.0)
CORNER_MM = (-100.0, -100.0, -60.0)

PLAQUES = {
    Artery.LAD: (slice(8, 10), slice(14, 17), slice(22, 25), 250),
    Artery.RCA: (slice(5, 7), slice(17, 20), slice(15, 18), 450),
}
"""Where each lies, and its HU."""

AGATSTON = {Artery.LAD: 2 * 9 * 25.0 * 2, Artery.RCA: 2 * 9 * 25.0 * 4}
"""Slices x pixels x mm2 x weight (2 from 200 HU, 4 from 400 HU); slices of 3 mm count once."""

TOTAL = sum(AGATSTON.values())


def hu() -> NDArray[np.int16]:
    """(k, j, i): air, a body of fat and muscle, two lungs, a heart of blood, a spine, the plaques."""
    rng = np.random.default_rng(5)
    _, j, i = np.indices(SHAPE)
    y, x = (j - 19.5) * 5.0, (i - 19.5) * 5.0
    image = np.full(SHAPE, -1000.0)
    image[(x / 90) ** 2 + (y / 75) ** 2 < 1] = -90
    image[(x / 82) ** 2 + (y / 67) ** 2 < 1] = 45
    for side in (-1, 1):
        image[((x - side * 42) / 34) ** 2 + (y / 50) ** 2 < 1] = -860
    image[((x - 12) / 38) ** 2 + ((y + 10) / 34) ** 2 < 1] = 42
    image[(x / 14) ** 2 + ((y - 52) / 12) ** 2 < 1] = 110  # spongy bone, below the threshold
    image = image + rng.normal(0, 6, SHAPE)
    for where in PLAQUES.values():
        image[where[:3]] = where[3]
    return np.rint(image).astype(np.int16)


def codes() -> NDArray[np.uint8]:
    """(k, j, i) `Artery` codes of the plaques."""
    labels = np.zeros(SHAPE, np.uint8)
    for artery, where in PLAQUES.items():
        labels[where[:3]] = artery
    return labels


def write_series(folder: Path, **options: Any) -> list[Path]:
    """The chest as a DICOM series of one study."""
    tags = {"ReconstructionDiameter": 200.0, "PatientWeight": 80.0, "PatientSize": 1.8, "StudyDescription": "heart"}
    return write_ct_series(folder, hu(), spacing_mm=SPACING_MM, corner_lps_mm=CORNER_MM, **{**tags, **options})


def affine() -> NDArray[np.float64]:
    """(4, 4), (i, j, k, 1) to LPS mm."""
    matrix = np.diag([*SPACING_MM[::-1], 1.0])
    matrix[:3, 3] = CORNER_MM
    return matrix


def write_labels(path: Path, labels: NDArray[np.uint8] | None = None) -> Path:
    """The labels as a label map, NRRD."""
    from heartlens.io.nrrd import write_nrrd

    write_nrrd(path, codes() if labels is None else labels, affine())
    return path
