"""Cases of a few boxes of calcium whose scores can be worked out by hand, for what is written of a case."""

from __future__ import annotations

import numpy as np

from heartlens.case.case import Case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.risk.person import RiskInputs

FACTORS = {
    "total_cholesterol_mg_dl": 200,
    "hdl_mg_dl": 50,
    "systolic_bp_mmhg": 130,
    "lipid_drug": False,
    "bp_drug": False,
    "diabetes": False,
    "smoker": False,
    "family_history": False,
}
HEADER = CTHeader(
    study_uid="1.2.3",
    series_uid="1.2.3.4",
    kvp=120.0,
    slice_thickness_mm=3.0,
    kernel="I30f",
    is_gated=True,
    contrast="",
)
PERSON = RiskInputs(age_years=61, sex="M", race="black", risk_factors=FACTORS)


def make_case(
    boxes=(),
    *,
    header=HEADER,
    protocol=None,
    risk_inputs=None,
    cautions=(),
    slices=14,
    notes=None,
    slice_probability=None,
    **more,
):
    """A CT of 0 HU, 0.5 mm pixels, 3 mm slices; boxes (artery, slice, row, column, pixels across, HU) of calcium."""
    hu = np.zeros((slices, 64, 64), np.int16)
    labels = np.zeros(hu.shape, np.uint16)
    for number, (_, k, j, i, n, value) in enumerate(boxes, 1):
        hu[k, j : j + n, i : i + n] = value
        labels[k, j : j + n, i : i + n] = number
    lesions = LesionMap(labels, {n: box[0] for n, box in enumerate(boxes, 1)}, notes or {})
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]), header)
    return Case.of(
        ct,
        lesions,
        protocol or ScoringProtocol(),
        slice_probability=slice_probability,
        risk_inputs=risk_inputs or RiskInputs(),
        cautions=cautions,
        provenance=Provenance(**{"labels": LabelSource.RULES, "seconds": {"read": 1.0, "score": 0.25}, **more}),
    )


# 10x10 pixels = 25 mm2 at 250 HU: 50; 4x4 at 450: 16; 2x2 at 150: 1
BOXES = (
    (Artery.LAD, 5, 10, 10, 10, 250),
    (Artery.LM, 9, 30, 30, 4, 450),
    (Artery.RCA, 3, 50, 50, 2, 150),
    (Artery.OTHER, 7, 2, 40, 6, 600),
)
