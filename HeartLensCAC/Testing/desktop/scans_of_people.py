"""The phantom as scans of several people on several days, in Slicer's DICOM database and as cases in a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs


@dataclass(frozen=True)
class Person:
    """Whose a scan is, and of which day."""

    id: str
    name: str
    day: str
    sex: str = "F"
    offset: int = 0
    """Added to one voxel within the body: two scans have not the same voxels."""


JANE = Person("H-17", "Doe^Jane", "20261102")
JANE_BEFORE = Person("H-17", "Doe^Jane", "20240305", offset=1)
JOHN = Person("H-18", "Roe^John", "20261103")
ADA = Person("H-19", "Poe^Ada", "20261104")


def write_scan(source: Path, folder: Path, person: Person) -> Path:
    """A series as another person's, with UIDs of its own that follow from person and day."""
    folder.mkdir(parents=True)
    seed = [person.id, person.day]
    study, series, frame = (generate_uid(entropy_srcs=[*seed, what]) for what in ("study", "series", "frame"))
    for n, path in enumerate(sorted(source.iterdir())):
        header = pydicom.dcmread(path)
        header.PatientID, header.PatientName, header.PatientSex = person.id, person.name, person.sex
        for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
            setattr(header, keyword, person.day)
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, series, frame
        header.SOPInstanceUID = generate_uid(entropy_srcs=[*seed, str(n)])
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.SeriesDescription = "CaSc 3.0"
        if person.offset and n == 0:
            pixels = header.pixel_array.copy()
            pixels[pixels.shape[0] // 2, pixels.shape[1] // 2] += person.offset
            header.PixelData = pixels.tobytes()
        header.save_as(folder / path.name)
    return folder


def score(scan: Path, result: Path) -> Path:
    """Score a scan by rules; returns its case folder."""
    write_outputs(score_series(sorted(scan.iterdir()), Request(bundle="none")), result)
    return result / "case"


def case_of(scored: Path, scan: Path, result: Path) -> Path:
    """The result of the phantom, as if another scan of the same voxels had been scored; returns its case folder."""
    shutil.copytree(scored, result)
    header = pydicom.dcmread(next(iter(sorted(scan.iterdir()))), stop_before_pixels=True)
    path = result / "case" / "case.json"
    document = json.loads(path.read_text())
    document.update(study_uid=str(header.StudyInstanceUID), series_uid=str(header.SeriesInstanceUID))
    document["source"] = document["provenance"]["source"] = [str(scan)]
    path.write_text(json.dumps(document))
    return result / "case"


def worklist_of(module: SimpleNamespace) -> Any:
    """The section, unfolded and read to the end."""
    module.ui.worklistSection.collapsed = False
    section = module.panel.worklist
    module.wait(lambda: not section.listing.isReading)
    return section


def lines(module: SimpleNamespace) -> list[tuple[str, ...]]:
    """Patient, day, to decide and state of the rows on the screen, in their order."""
    model = module.ui.worklistTable.model()
    return [tuple(str(model.index(r, c).data()) for c in (0, 2, 4, 5)) for r in range(model.rowCount())]
