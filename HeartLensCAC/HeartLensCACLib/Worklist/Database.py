"""CT series in Slicer's DICOM database, and whose a case is that the database does not know."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import slicer

from heartlens.dicom.stack import MIN_SLICES
from heartlens.dicom.stacks.patient import patient_mark
from HeartLensCACLib.Worklist.Rows import Scan

FRAMES = "0028,0008"
"""Number of Frames: of a series that is one file, the number of its slices."""

FIELDS = {"PatientID": "PatientID", "PatientName": "PatientsName", "PatientBirthDate": "PatientsBirthDate"}
"""DICOM's keywords, and the columns of the database."""

HEADER_TAGS = (*FIELDS, "StudyDate", "SeriesDescription")


def openDatabase() -> Any:
    """Slicer's DICOM database; None where none is open."""
    database = getattr(slicer, "dicomDatabase", None)
    return database if database is not None and database.isOpen else None


def ctSeries(database: Any) -> "Iterator[Scan | None]":
    """CT series that have enough slices to be scored, patient by patient.

    Between them None is given, so that whoever asks can pause.

    Parameters
    ----------
    database
        ctkDICOMDatabase
    """
    for patient in database.patients():
        fields = {keyword: str(database.fieldForPatient(column, patient) or "") for keyword, column in FIELDS.items()}
        fields["PatientBirthDate"] = fields["PatientBirthDate"].replace("-", "")
        mark = patient_mark(fields.get)
        for study in database.studiesForPatient(patient):
            day = isoDay(str(database.fieldForStudy("StudyDate", study) or ""))
            for series in database.seriesForStudy(study):
                if not isScorable(database, series):
                    yield None
                    continue
                description = str(database.fieldForSeries("SeriesDescription", series) or "")
                yield Scan(shownName(fields["PatientName"]), fields["PatientID"], mark, day, description, str(series))


def isScorable(database: Any, series: str) -> bool:
    """Whether a series is a CT of enough slices; what its pixels are is seen when it is scored."""
    if database.fieldForSeries("Modality", series) != "CT":
        return False
    instances = database.instancesForSeries(series, MIN_SLICES)  # no more than it takes to know
    if len(instances) == 1:
        frames = str(database.instanceValue(instances[0], FRAMES) or "")
        return frames.isdecimal() and int(frames) >= MIN_SLICES
    return len(instances) >= MIN_SLICES


def filesOf(database: Any, series: str) -> "tuple[list[Path], int]":
    """Files of a series that are there, and how many are gone."""
    files = [Path(name) for name in database.filesForSeries(series)]
    there = [path for path in files if path.is_file()]
    return there, len(files) - len(there)


def scanOfFile(path: Path, uid: str) -> "Scan | None":
    """Whose a case is, by a file of its CT: for a series that the database does not know.

    Parameters
    ----------
    path
        A DICOM file, or a folder of them.
    uid
        Of the series.
    """
    import pydicom

    path = next((one for one in sorted(path.iterdir()) if one.is_file()), path) if path.is_dir() else path
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
        value: Callable[[str], str] = lambda keyword: str(header.get(keyword) or "")  # noqa: E731
        name, day = shownName(value("PatientName")), isoDay(value("StudyDate"))
        return Scan(name, value("PatientID"), patient_mark(value), day, value("SeriesDescription"), uid)
    except Exception:  # whatever is wrong with the file is told when the case is opened
        return None


def shownName(name: str) -> str:
    """A DICOM name as people write it.

    Examples
    --------
    >>> shownName("Doe^Jane^^Dr"), shownName("")
    ('Doe, Jane', '')
    """
    family, given, *_rest = [*name.split("=")[0].split("^"), ""]
    return ", ".join(part.strip() for part in (family, given) if part.strip())


def isoDay(text: str) -> str:
    """A date of DICOM, or of the database, as 2026-11-30; "" for what is none.

    Examples
    --------
    >>> isoDay("20261130"), isoDay("2026-11-30"), isoDay("soon")
    ('2026-11-30', '2026-11-30', '')
    """
    digits = text.replace("-", "").strip()
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if len(digits) == 8 and digits.isdecimal() else ""
