"""An earlier report of the same scan, as a later one refers to it."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import Comprehensive3DSRStorage

from heartlens.core.errors import InputRefused

REFERENCE = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def earlier_report(path: Path, study_uid: str | None) -> Dataset:
    """What a document has to say of its predecessor.

    Parameters
    ----------
    path
        Of a report.dcm.
    study_uid
        In which the new document stands.

    Raises
    ------
    InputRefused
        ``unreadable``: it cannot be read; ``input``: it is no report of this study.
    """
    try:
        document = dcmread(path, specific_tags=list(REFERENCE), stop_before_pixels=True)
        earlier = Dataset()
        for keyword in REFERENCE:
            setattr(earlier, keyword, str(document[keyword].value))
    except (OSError, InvalidDicomError, KeyError, ValueError) as error:
        raise InputRefused(
            "unreadable", f"the predecessor {path.name} is no DICOM report ({type(error).__name__}); give a report.dcm"
        ) from None
    if earlier.SOPClassUID != Comprehensive3DSRStorage or earlier.StudyInstanceUID != study_uid:
        raise InputRefused(
            "input", f"the predecessor {path.name} is no HeartLens report of this study; give one of the same study"
        )
    return earlier
