"""The codes that HeartLens writes into DICOM and Slicer files, each with its place in the standard.

SCT and DCM values as in PS3.16 (dictionary shipped with pydicom 3.0.2); the context group stands beside each.
99HEARTLENS is private: it holds what has no standard code, with its meaning here and in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from heartlens.core.lesions import Artery, Site


class Code(NamedTuple):
    """A coded concept of DICOM: code value, coding scheme and meaning."""

    value: str
    scheme: str
    meaning: str


PRIVATE_SCHEME = "99HEARTLENS"

CATEGORY = Code("49755003", "SCT", "Morphologically Abnormal Structure")  # CID 7150
PLAQUE = Code("29483008", "SCT", "Calcified atheromatous plaque")  # CID 3817
CALCIFICATION = Code("18115005", "SCT", "Pathologic calcification")  # CID 3802; no claim on where or why

REGIONS: Mapping[Artery, Code] = MappingProxyType(
    {
        Artery.LM: Code("3227004", "SCT", "Left Main Coronary Artery"),  # CID 3015
        Artery.LAD: Code("59438005", "SCT", "Left Anterior Descending Coronary Artery"),  # CID 3015
        Artery.LCX: Code("57396003", "SCT", "Circumflex Coronary Artery"),  # CID 3015
        Artery.RCA: Code("13647002", "SCT", "Right Coronary Artery"),  # CID 3015
        Artery.UNASSIGNED: Code("41801008", "SCT", "Coronary artery"),  # CID 3010: the whole tree
    }
)
"""Anatomic region of each artery. OTHER has none: it may be aorta, valve or bone."""

SITES: Mapping[Site, Code] = MappingProxyType(
    {
        Site.AORTIC_VALVE: Code("34202007", "SCT", "Aortic Valve"),  # CID 3701
        Site.MITRAL_ANNULUS: Code("65197004", "SCT", "Mitral Annulus"),  # CID 12235
        Site.ASCENDING_AORTA: Code("54247002", "SCT", "Ascending aorta"),  # CID 3010
        Site.AORTIC_ARCH: Code("57034009", "SCT", "Aortic arch"),  # CID 4
        Site.DESCENDING_AORTA: Code("32672002", "SCT", "Descending aorta"),  # CID 3010
        Site.STENT_OR_GRAFT: Code("HL-STENTGRAFT", PRIVATE_SCHEME, "Coronary stent or graft"),
        Site.HILAR_NODE: Code("53074004", "SCT", "hilar lymph node"),  # CID 7600
        Site.PERICARDIUM: Code("76848001", "SCT", "Pericardium"),  # CID 7151
        Site.ELSEWHERE: Code("HL-ELSEWHERE", PRIVATE_SCHEME, "Bone, airway, wire or other place"),
    }
)
"""Finding site of calcium that is not coronary; where the place is not known there is none."""

CORONARY_CALCIUM_SCORE = Code("450360000", "SCT", "Coronary artery calcium score")  # CID 6142; DCM 112058 is retired
AGATSTON_METHOD = Code("112055", "DCM", "Agatston scoring method")  # CID 6140
VOLUME = Code("112197", "DCM", "Volume of Vascular Calcification")  # CID 6142
VOLUME_METHOD = Code("112056", "DCM", "Volume scoring method")  # CID 6140
MASS = Code("112199", "DCM", "Mass of Vascular Calcification")  # CID 6142
MASS_METHOD = Code("112057", "DCM", "Mass scoring method")  # CID 6140
AREA = Code("112196", "DCM", "Area of Vascular Calcification")  # CID 6142
PEAK_HU = Code("112180", "DCM", "Maximum Attenuation Coefficient")  # CID 6141
MEAN_HU = Code("112181", "DCM", "Mean Attenuation Coefficient")  # CID 6141
AGATSTON_THRESHOLD = Code("122657", "DCM", "Agatston Score Threshold")
CALIBRATION = Code("122659", "DCM", "Calcium Scoring Calibration")
LESION_COUNT = Code("246206008", "SCT", "Number of lesions")
CALCIUM_CT = Code("426005005", "SCT", "Cardiac CT for calcium scoring")  # CID 3757
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")  # TID 1600
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
SOURCE_IMAGE = Code("260753009", "SCT", "Source")  # as highdicom names it in TID 1601
MODALITY = Code("121139", "DCM", "Modality")
CT = Code("CT", "DCM", "Computed Tomography")
FRAME_OF_REFERENCE = Code("112227", "DCM", "Frame of Reference UID")
COMMENT = Code("121106", "DCM", "Comment")

SCORE_UNITS = Code("{score}", "UCUM", "score")
"""Annotations of UCUM, which say what was counted; a viewer that shows no 0 shows the bare unit "1" in its place."""
LESION_UNITS = Code("{lesions}", "UCUM", "lesions")
VESSEL_UNITS = Code("{vessels}", "UCUM", "vessels")
ISLAND_UNITS = Code("{islands}", "UCUM", "islands")
HU_UNITS = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
MM3_UNITS = Code("mm3", "UCUM", "cubic millimeter")
MM2_UNITS = Code("mm2", "UCUM", "square millimeter")
MG_UNITS = Code("mg", "UCUM", "milligram")
PERCENT_UNITS = Code("%", "UCUM", "percent")
YEAR_UNITS = Code("a", "UCUM", "year")
SCORE_PER_YEAR_UNITS = Code("{score}/a", "UCUM", "score per year")

RISK_CATEGORY = Code("HL-CATEGORY", PRIVATE_SCHEME, "Calcium score category")
"""Its value is "scheme:category", such as heartlens:mild, with label and range as meaning; see tables/."""
CAC_DRS = Code("HL-CACDRS", PRIVATE_SCHEME, "CAC-DRS category")
"""Its value is "CAC-DRS:A2/N3" and the like; Hecht et al., JCCT 2018, 12:185."""
PERCENTILE = Code("HL-PERCENTILE", PRIVATE_SCHEME, "Percentile of the calcium score")
"""Percent of people of the same age, sex and group with a lower score, in the population that the derivation names."""
ARTERIAL_AGE = Code("HL-ARTERIALAGE", PRIVATE_SCHEME, "Arterial age")
"""Age, in years, at which the score carries average risk; McClelland et al. 2009, 10.1016/j.amjcard.2008.08.031."""
NOT_CORONARY_SCORE = Code("HL-NOTCORONARY", PRIVATE_SCHEME, "Agatston score of calcium judged not coronary")
"""Aorta, valves, bone and others; never part of the coronary score, and never under its code."""
UNASSIGNED_SCORE = Code("HL-UNASSIGNED", PRIVATE_SCHEME, "Agatston score of calcium without an artery")

CALCIFIED_VESSELS = Code("HL-VESSELS", PRIVATE_SCHEME, "Number of calcified coronary vessels")
"""How many of LM, LAD, LCX and RCA score above 0."""
DROPPED_SMALL = Code("HL-DROPPED", PRIVATE_SCHEME, "Number of dropped small islands")
"""2-D islands above the threshold and below the minimum size of the protocol; they are in no score."""

CHANGE = Code("HL-CHANGE", PRIVATE_SCHEME, "Change of the Agatston score since an earlier scan")
CHANGE_PER_YEAR = Code("HL-CHANGEYEAR", PRIVATE_SCHEME, "Change of the Agatston score a year")
"""Both are coded only where nothing undecided leaves them open and the scans may be compared."""
