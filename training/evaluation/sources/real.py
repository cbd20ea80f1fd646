"""Patients from the few openly licensed real scans of which an engineer knows where calcium is, box by box."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.pipeline import Request, score_series
from training.evaluation.results import Patient
from training.metrics.overlap import compare

Box = tuple[tuple[int, int], tuple[int, int]]
"""(first, last + 1) row and column."""

PROTOCOL = ScoringProtocol()


@dataclass(frozen=True)
class RealScan:
    """One scan and what is known of it, by an engineer's reading; nobody here is a radiologist.

    Parameters
    ----------
    name
        Shown.
    source
        Below the data folder: a DICOM file, or a zip of a series.
    copies
        So many slices are made of a single one, so that it has a third dimension.
    lad
        Box that holds calcium of the left anterior descending artery; None where no coronary calcium is.
    not_coronary
        Boxes that hold other calcium, by what it is.
    """

    name: str
    source: str
    copies: int = 1
    lad: Box | None = None
    not_coronary: tuple[tuple[str, Box], ...] = ()

    @property
    def expected(self) -> str:
        """In words."""
        return "0" if self.lad is None else "LAD, and nothing else"

    @property
    def boxes(self) -> dict[str, Box]:
        """All of them by name."""
        return {**({"LAD": self.lad} if self.lad else {}), **dict(self.not_coronary)}


_SLICES = "covid19_nysbu_slices"
_LAD, _ROOT = ((195, 250), (295, 345)), ((195, 252), (228, 292))

SCANS = (
    RealScan("whole chest without coronary calcium (5 mm, 64 slices)", "lung_pet_ct_dx_a0001/series.zip"),
    RealScan("clean heart (one slice, 5 mm)", f"{_SLICES}/clean_heart_TOSHIBA_5mm.dcm"),
    RealScan("clean heart (that slice, five times)", f"{_SLICES}/clean_heart_TOSHIBA_5mm.dcm", 5),
    RealScan(
        "LAD and aortic root (one slice, 2.5 mm)", f"{_SLICES}/cac_lad_aortic_root_GE_2p5mm.dcm", 1, _LAD,
        (("aortic root", _ROOT),),
    ),
    RealScan(
        "LAD and aortic root (that slice, five times)", f"{_SLICES}/cac_lad_aortic_root_GE_2p5mm.dcm", 5, _LAD,
        (("aortic root", _ROOT),),
    ),
    RealScan(
        "plaque of the descending aorta (one slice, 5 mm)", f"{_SLICES}/aorta_plaque_GE_5mm.dcm",
        not_coronary=(("aortic wall", ((255, 290), (295, 345))),),
    ),
    RealScan("metal beside the heart (one slice, 5 mm)", f"{_SLICES}/metal_hilum_GE_5mm.dcm"),
)  # fmt: skip


def real_patients(
    data: Path,
    requests: Mapping[str, Request],
    *,
    on_case: Callable[[RealScan, str, Case, tuple[str, ...]], None] | None = None,
) -> Iterator[Patient]:
    """Score every scan in every way.

    Parameters
    ----------
    data
        Folder of the scans.
    requests
        By the name of the way, a stage of the patient.
    on_case
        Called with each scan, way, scored case and its misses.
    """
    with tempfile.TemporaryDirectory() as temporary:
        for scan in SCANS:
            source = lay_out(scan, data, Path(temporary))
            stages, misses = {}, {}
            for way, request in requests.items():
                case = score_series(source, request).case
                codes = case.scored_codes
                stages[way] = compare(case.source_ct, reference_codes(scan, case.source_ct), codes, PROTOCOL)
                misses[way] = find_misses(scan, codes)
                if on_case is not None:
                    on_case(scan, way, case, misses[way])
            yield Patient(scan.name, stages, misses=misses)


def reference_codes(scan: RealScan, ct: CTVolume) -> NDArray[np.uint8]:
    """(k, j, i) what is dense enough inside the boxes, and nothing elsewhere."""
    codes = np.zeros(ct.shape, np.uint8)
    for what, box in scan.boxes.items():
        code = Artery.LAD if what == "LAD" else Artery.OTHER
        _inside(codes, box)[_inside(ct.hu, box) >= PROTOCOL.threshold_hu] = code
    return codes


def find_misses(scan: RealScan, codes: NDArray[np.uint8]) -> tuple[str, ...]:
    """What is wrong with scored voxels, in words.

    Parameters
    ----------
    codes
        (k, j, i) `Artery` of each voxel that counts
    """
    coronary = np.isin(codes, SCORED_ARTERIES)
    misses = []
    for what, box in scan.not_coronary:
        count = int(_inside(coronary, box).sum())
        if count:
            misses.append(f"{what} called coronary ({count} voxels)")
    elsewhere = coronary.copy()
    for box in scan.boxes.values():
        _inside(elsewhere, box)[...] = False
    if elsewhere.any():
        named = sorted({Artery(int(code)).name for code in np.unique(codes[elsewhere])})
        misses.append(f"called coronary elsewhere: {', '.join(named)} ({int(elsewhere.sum())} voxels)")
    if scan.lad is not None:
        here = _inside(codes, scan.lad)
        if not np.isin(here, SCORED_ARTERIES).any():
            misses.append("calcium of the LAD not found")
        elif not (here == Artery.LAD).any():
            names = sorted(a.name for a in CORONARY if (here == a).any())
            misses.append(f"calcium of the LAD called {', '.join(names)}")
    return tuple(misses)


def _inside(values: NDArray, box: Box) -> NDArray:
    (top, bottom), (left, right) = box
    return values[:, top:bottom, left:right]


def lay_out(scan: RealScan, data: Path, folder: Path) -> Path:
    """Lay a scan out as the pipeline takes it: a folder of DICOM files."""
    source, folder = data / scan.source, folder / f"{Path(scan.source).stem}-{scan.copies}"
    folder.mkdir()
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
        return folder
    for n in range(scan.copies):
        dataset = pydicom.dcmread(source)
        if n:
            uid = f"{dataset.SOPInstanceUID[:58]}.{n}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            x, y, z = (float(v) for v in dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = [x, y, z + float(dataset.SliceThickness) * n]
        dataset.save_as(folder / f"{n}.dcm")
    return folder
