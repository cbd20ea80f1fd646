"""A tiny case as a reader left it: what tests of readings and of sites begin with."""

from __future__ import annotations

import numpy as np

from heartlens.case.case import Case
from heartlens.case.folder import load_case, save_case
from heartlens.case.seal import sign_case
from heartlens.case.signature import Signature
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance


def make_signed(folder, *, seed=1, artery=Artery.RCA, reader="One^R", emptied=False, signed=True, listed_row=False):
    """Eight voxels that the program called LAD, a bright row that it never listed; an edit, a signature."""
    hu = np.full((4, 16, 16), -100, np.int16)
    hu[0, 0, 0] = seed
    hu[1, 4:6, 4:8] = 300
    hu[2, 10, 10:14] = 200
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]), CTHeader(kvp=120.0, slice_thickness_mm=3.0))
    labels = np.zeros(hu.shape, np.uint16)
    labels[1, 4:6, 4:8] = 1
    arteries = {1: Artery.LAD}
    if listed_row:
        labels[2, 10, 10:14] = 2
        arteries[2] = Artery.OTHER
    provenance = Provenance(LabelSource.NETWORK, bundle="b 1")
    case = Case.of(ct, LesionMap(labels, arteries), ScoringProtocol(), provenance=provenance)
    case = case.remove(1, who=reader) if emptied else case.reassign(1, artery, who=reader)
    save_case(case, folder)
    if signed:
        sign_case(folder, load_case(folder), Signature(reader, "Hospital", "2026-01-04T10:00:00+00:00"))
    return folder
