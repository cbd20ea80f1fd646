"""The COCA dataset (Stanford AIMI) on a user's disk: images, outlines proven against their own numbers, and scores.

Nothing of COCA is part of HeartLens. Its terms forbid passing it on: download it yourself, and never commit it.
"""

from training.datasets.coca.annotations import VESSELS, Annotations, Roi, read_annotations
from training.datasets.coca.dataset import CocaDataset, CocaPatient
from training.datasets.coca.proof import RoiCheck, prove_rois
from training.datasets.coca.scans import CocaScan, read_scan
from training.datasets.coca.scores import NongatedScore, read_scores

__all__ = [
    "VESSELS",
    "Annotations",
    "CocaDataset",
    "CocaPatient",
    "CocaScan",
    "NongatedScore",
    "Roi",
    "RoiCheck",
    "prove_rois",
    "read_annotations",
    "read_scan",
    "read_scores",
]
