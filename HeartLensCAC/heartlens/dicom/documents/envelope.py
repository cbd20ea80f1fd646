"""What key page and PDF have in common: whose they are, what made them, and the images that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from heartlens import __version__
from heartlens.core.codes import Code
from heartlens.dicom.source.attributes import CHARACTER_SET
from heartlens.dicom.source.images import MANUFACTURER, MODEL, SERIAL_NUMBER, SourceImages, concept
from heartlens.dicom.source.uids import ObjectUids

SYNTHETIC = "SYN"
"""Conversion type of pixels and pages that no camera saw, PS3.3 C.8.6.1."""

PAGES = 1000
"""More than any version has: a later version comes after all pages of the one before."""

SOURCE_PURPOSE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202


def envelope(
    images: SourceImages,
    uids: ObjectUids,
    *,
    kind: str,
    sop_class_uid: str,
    modality: str,
    series_number: int,
    series_description: str,
    page: int = 1,
    names_patient: bool,
) -> Any:
    """An object of the patient and the study of the images, without content.

    Parameters
    ----------
    images
        That were scored.
    uids
        Of this version of the result.
    kind
        Of object, as `uids` knows it.
    sop_class_uid, modality, series_number, series_description
        Of the object.
    page
        Number within its series, for an object that is one page of several.
    names_patient
        Whether its content shows who was scanned.
    """
    import highdicom as hd

    source = images.described(0)
    made = hd.SOPClass(
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=uids.series(kind),
        series_number=series_number,
        sop_instance_uid=uids.instance(f"{kind}, naming the patient" if names_patient else kind, page),
        sop_class_uid=sop_class_uid,
        instance_number=PAGES * (uids.number - 1) + page,  # all versions stand in one series
        modality=modality,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=SERIAL_NUMBER,
        series_description=series_description,
    )
    made.copy_patient_and_study_information(source)
    made.SpecificCharacterSet = CHARACTER_SET
    made.ConversionType = SYNTHETIC
    made.BurnedInAnnotation = "YES" if names_patient else "NO"
    moment = datetime.now().astimezone()
    made.ContentDate, made.ContentTime = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    return made


def references(objects: Sequence[Dataset], purpose: Code | None = None) -> list[Dataset]:
    """Objects as other objects refer to them, each with the purpose where one is asked for."""
    items = []
    for one in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = one.SOPClassUID
        item.ReferencedSOPInstanceUID = one.SOPInstanceUID
        if purpose is not None:
            item.PurposeOfReferenceCodeSequence = [concept(purpose)]
        items.append(item)
    return items
