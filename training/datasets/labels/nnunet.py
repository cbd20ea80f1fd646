"""A raw dataset of nnU-Net v2; set nnUNet_raw to the exported folder and plan with ``-d 770``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.datasets.labels.nifti import LEGEND, write_image
from training.datasets.scans import LabeledScan

DATASET = "Dataset770_HeartLens"
"""nnU-Net finds a dataset by the number in its folder's name; rename the folder where 770 is taken."""

ENDING = ".nii.gz"


def write_nnunet(folder: Path, scans: Iterator[tuple[str, LabeledScan, dict[str, Any]]]) -> None:
    """Write imagesTr/, labelsTr/ and dataset.json, as nnU-Net's documentation/dataset_format.md asks."""
    dataset = folder / DATASET
    for part in ("imagesTr", "labelsTr"):
        (dataset / part).mkdir(parents=True)
    provenance = {}
    for name, scan, scan_provenance in scans:
        write_image(dataset / "imagesTr" / f"{name}_0000{ENDING}", scan.ct.hu, scan.ct)
        write_image(dataset / "labelsTr" / f"{name}{ENDING}", scan.labels, scan.ct)
        provenance[name] = scan_provenance
    document = {
        "channel_names": {"0": "CT"},
        "labels": LEGEND,
        "numTraining": len(provenance),
        "file_ending": ENDING,
        "name": "HeartLens",
        "description": "Coronary artery calcium by artery; 5 is calcium outside the coronary arteries, 6 calcium of a "
        "coronary artery that nobody has named",
        "provenance": provenance,
    }
    (dataset / "dataset.json").write_text(json.dumps(document, indent=1) + "\n")
