"""Cases of one schematic chest with calcium of a few voxels, for what is said of two scans and of two readings.

A pixel is 2.8 mm wide, a slice 3 mm high: at 250 HU (weight 2) each voxel brings 15.68 Agatston and 23.52 mm3.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from schematic_chest import schematic_chest

from heartlens.case.case import Case
from heartlens.case.comparison.opened import OpenedCase
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery, LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.risk.person import RiskInputs

AGATSTON, VOLUME_MM3 = 2.8 * 2.8 * 2, 2.8 * 2.8 * 3
"""Of a voxel."""

LAD_MM, RCA_MM, LCX_MM = (35.0, -30.0, -20.0), (-20.0, -25.0, -25.0), (55.0, 15.0, -30.0)

UNDECIDED = LesionNote(0.5, LabelSource.NETWORK, "close", undecided=True)


def scan(*lesions, seed=0, shift_mm=(0.0, 0.0, 0.0), acquired=None, cautions=(), person=None, protocol=None, **header):
    """A case; each lesion is (artery, place in mm, voxels in a row within a slice) or has a note as fourth."""
    chest = schematic_chest()
    hu = chest.hu + np.rint(np.random.default_rng(seed).normal(0, 8, chest.shape)).astype(np.int16)
    labels = np.zeros(chest.shape, np.uint16)
    for number, (_, place_mm, voxels, *_) in enumerate(lesions, 1):
        k, j, i = np.rint(chest.index_kji(place_mm)).astype(int)
        hu[k, j, i : i + voxels] = 250
        labels[k, j, i : i + voxels] = number
    affine = chest.affine.copy()
    affine[:3, 3] += shift_mm
    ct = CTVolume(hu, affine, replace(chest.header, acquired=acquired, **header))
    return Case.of(
        ct,
        LesionMap(
            labels,
            {n: lesion[0] for n, lesion in enumerate(lesions, 1)},
            {n: lesion[3] for n, lesion in enumerate(lesions, 1) if len(lesion) > 3},
        ),
        protocol or ScoringProtocol(),
        cautions=cautions,
        risk_inputs=person or RiskInputs(),
        provenance=Provenance(LabelSource.NETWORK, bundle="b 1"),
    )


def opened(case, *, state=None):
    """A case as it is compared."""
    return OpenedCase(Path(), case, state or case.assessment.state, None)


LAD_4 = (Artery.LAD, LAD_MM, 4)
