"""NIfTI pairs: one CT and one label map a case, and a sidecar that says where the labels come from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from heartlens.io.nifti import write_nifti
from training.datasets.scans import LabeledScan

LEGEND = {"background": 0, **{artery.name: int(artery) for artery in Artery}}
"""Label values, as in every label map of HeartLens."""


def write_nifti_pairs(folder: Path, scans: Iterator[tuple[str, LabeledScan, dict[str, Any]]]) -> None:
    """Write ``NAME_ct.nii.gz``, ``NAME_labels.nii.gz`` and ``NAME.json`` of every scan."""
    for name, scan, provenance in scans:
        write_image(folder / f"{name}_ct.nii.gz", scan.ct.hu, scan.ct)
        write_image(folder / f"{name}_labels.nii.gz", scan.labels, scan.ct)
        document = {"labels": LEGEND, "units": "HU", "provenance": provenance}
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def write_image(path: Path, values: NDArray | None, ct: CTVolume) -> None:
    """Write an array on a CT's grid as NIfTI; the geometry goes into qform and sform alike.

    Parameters
    ----------
    values
        (k, j, i)
    """
    write_nifti(path, np.ascontiguousarray(values), ct.affine)
