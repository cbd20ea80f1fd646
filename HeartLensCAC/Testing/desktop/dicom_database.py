"""A stand-in for Slicer's DICOM database: the same questions, answered from headers of files, or from what a test says.

As the real one, it knows files that are gone, numbers its patients itself, and tells of an import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom


@dataclass
class Series:
    """What the database's tables hold of a series."""

    patient: dict[str, str]
    study: str
    day: str
    fields: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    frames: str = ""


class DicomDatabase:
    """slicer.dicomDatabase"""

    def __init__(self) -> None:
        self.isOpen = True
        self.files: dict[str, str] = {}
        self._series: dict[str, Series] = {}
        self._patients: dict[str, tuple[dict[str, str], dict[str, None]]] = {}
        self._studies: dict[str, tuple[str, dict[str, None]]] = {}
        self._slots: list[Callable[[], None]] = []

    # What a test does

    def add(self, folder: Path | None = None, uid: str = "", series: Series | None = None) -> None:
        """Import a folder of one series, or what a test says of one."""
        for path in sorted(folder.iterdir()) if folder is not None else ():
            header = pydicom.dcmread(path, stop_before_pixels=True)
            uid = str(header.SeriesInstanceUID)
            patient = {
                "PatientID": str(header.get("PatientID", "")),
                "PatientsName": str(header.get("PatientName", "")),
                "PatientsBirthDate": str(header.get("PatientBirthDate", "")),
            }
            fields = {"Modality": str(header.Modality), "SeriesDescription": str(header.get("SeriesDescription", ""))}
            day = str(header.get("StudyDate", ""))
            made = Series(patient, str(header.StudyInstanceUID), day, fields)
            self._series.setdefault(uid, made).files[str(header.SOPInstanceUID)] = str(path)
        if series is not None:
            self._series[uid] = series
        made = self._series[uid]
        self.files.update(made.files)
        # As the real one, by ID, name and birth date (ctkDICOMDatabase::compositePatientID).
        self._patients.setdefault("\0".join(made.patient.values()), (made.patient, {}))[1][made.study] = None
        self._studies.setdefault(made.study, (made.day, {}))[1][uid] = None

    def imported(self) -> None:
        """Tell of an import."""
        for slot in list(self._slots):
            slot()

    # What Slicer's answers

    def connect(self, signal: str, slot: Callable[[], None]) -> None:
        assert signal == "databaseChanged()", signal
        self._slots.append(slot)

    def disconnect(self, signal: str, slot: Callable[[], None]) -> None:
        self._slots.remove(slot)

    def patients(self) -> tuple[str, ...]:
        return tuple(self._patients)

    def studiesForPatient(self, patient: str) -> tuple[str, ...]:
        return tuple(self._patients[patient][1])

    def seriesForStudy(self, study: str) -> tuple[str, ...]:
        return tuple(self._studies[study][1])

    def fieldForPatient(self, name: str, patient: str) -> str:
        return self._patients[patient][0][name]

    def fieldForStudy(self, name: str, study: str) -> str:
        assert name == "StudyDate", name
        return self._studies[study][0]

    def fieldForSeries(self, name: str, series: str) -> str:
        return self._series[series].fields[name]

    def instancesForSeries(self, series: str, hits: int = -1) -> tuple[str, ...]:
        found = tuple(self._series[series].files)
        return found if hits < 0 else found[:hits]

    def filesForSeries(self, series: str, hits: int = -1) -> tuple[str, ...]:
        found = tuple(self._series[series].files.values()) if series in self._series else ()
        return found if hits < 0 else found[:hits]

    def instanceValue(self, instance: str, tag: str) -> str:
        assert tag == "0028,0008", tag
        return next(one.frames for one in self._series.values() if instance in one.files)

    def fileForInstance(self, uid: str) -> str:
        return self.files.get(uid, "")


def load_series_by_uid(uids: list[str], **_: Any) -> list[str]:
    """DICOMLib.DICOMUtils.loadSeriesByUID, by our own reader: IDs of the volume nodes."""
    import slicer

    from heartlens.core.errors import OVERRIDABLE
    from HeartLensCACLib import SampleCT

    loaded = []
    for uid in uids:
        folder = Path(slicer.dicomDatabase.filesForSeries(uid)[0]).parent
        loaded.append(SampleCT.loadSeries(folder, name="CT", allow=OVERRIDABLE).GetID())
    return loaded
