"""Every attribute that SEG and SR take from a source header, and what happens where it is absent, empty or not legal.

Headers of real CT lack attributes, double them, hold text where a number belongs, or values longer than the standard
allows. None of that may cost a result, and nothing illegal is passed on in silence: see `TAKEN`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import DA, DT, TM, validate_value

from heartlens.core.ct import CTVolume
from heartlens.core.errors import NotWritten
from heartlens.dicom import words
from heartlens.dicom.header import CT_SOP_CLASSES, PARSE_ERRORS

CHARACTER_SET = "ISO_IR 192"
"""UTF-8: names come in any alphabet, texts hold dashes, and highdicom rejects the sets of Japanese CT."""


class Rule(Enum):
    """What is done where a source has no legal value of an attribute."""

    REFER = "neither SEG nor SR is written: nothing could refer to the image"
    DERIVE = "computed from what was read"
    EMPTY = "written without a value"
    DROP = "left away"


_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID", "PositionReferenceIndicator",
)  # fmt: skip
"""Type 2 of PS3.3 C.7.1.1, C.7.2.1 and C.7.4.1: they must be there, with or without a value."""

_DROP = (
    # Patient, C.7.1.1
    "ReferencedPatientSequence", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence", "GroupOfPatientsIdentificationSequence", "PatientBirthTime",
    "PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar", "PatientAlternativeCalendar",
    "QualityControlSubject", "StrainDescription", "StrainNomenclature", "StrainStockSequence",
    "StrainAdditionalInformation", "StrainCodeSequence", "GeneticModificationsSequence", "OtherPatientNames",
    "OtherPatientIDsSequence", "ReferencedPatientPhotoSequence", "EthnicGroupCodeSequence", "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence",
    "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization", "PatientComments",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    # Clinical Trial Subject and Study, C.7.1.3 and C.7.2.3
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID", "OtherClinicalTrialProtocolIDsSequence", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "IssuerOfClinicalTrialSiteID", "ClinicalTrialSubjectID", "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription", "LongitudinalTemporalOffsetFromEvent",
    "LongitudinalTemporalEventType", "ClinicalTrialTimePointTypeCodeSequence", "IssuerOfClinicalTrialTimePointID",
    "ConsentForClinicalTrialUseSequence",
    # General Study and Patient Study, C.7.2.1 and C.7.2.2
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence", "StudyDescription", "ProcedureCodeSequence", "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence", "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence", "ReferencedStudySequence", "RequestingService",
    "RequestingServiceCodeSequence", "ReasonForPerformedProcedureCodeSequence", "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize", "PatientSizeCodeSequence", "PatientBodyMassIndex",
    "MeasuredAPDimension", "MeasuredLateralDimension", "PatientWeight", "MedicalAlerts", "Allergies", "Occupation",
    "SmokingStatus", "AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate", "PatientSexNeutered",
    "ReasonForVisit", "ReasonForVisitCodeSequence", "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID",
    "ServiceEpisodeDescription", "IssuerOfServiceEpisodeIDSequence", "PatientState",
    # Contributing Equipment, C.12.1: who made the CT
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "InstitutionName",
    "InstitutionalDepartmentName", "InstitutionAddress", "StationName", "AcquisitionDateTime", "AcquisitionDate",
    "AcquisitionTime",
    # General Image, C.7.6.1
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip

_DERIVE = (
    "SOPClassUID", "FrameOfReferenceUID", "Modality", "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient",
    "ImagePositionPatient", "SliceThickness", "SpecificCharacterSet",
)  # fmt: skip

TAKEN: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), Rule.REFER),
        **dict.fromkeys(_DERIVE, Rule.DERIVE),
        **dict.fromkeys(_EMPTY, Rule.EMPTY),
        **dict.fromkeys(_DROP, Rule.DROP),
    }
)
"""Every attribute that is taken, and what happens without a legal value of it. UIDs are kept even against the rules of
PS3.5 9.1, because references must match; that is said."""

ENUMERATED: Mapping[str, frozenset[Any]] = MappingProxyType(
    {
        "PatientSex": frozenset({"M", "F", "O"}),
        "PatientSexNeutered": frozenset({"ALTERED", "UNALTERED"}),
        "QualityControlSubject": frozenset({"YES", "NO"}),
        "SmokingStatus": frozenset({"YES", "NO", "UNKNOWN"}),
        "PatientIdentityRemoved": frozenset({"YES", "NO"}),
        "PregnancyStatus": frozenset({1, 2, 3, 4}),
        "LossyImageCompression": frozenset({"00", "01"}),
    }
)
"""Values of attributes that allow no others."""

_BELONG: tuple[tuple[tuple[str, ...], str], ...] = (
    (("ClinicalTrialSponsorName", "ClinicalTrialProtocolID"), "ClinicalTrial"),
    (("PatientAlternativeCalendar",), "InAlternativeCalendar"),
    (("LongitudinalTemporalEventType",), "LongitudinalTemporal"),
    (("LossyImageCompression",), "LossyImageCompression"),
)
"""Attributes without which others, whose keywords hold the word, say nothing or are not allowed."""

NAME_LETTERS = 64
"""In each of the three spellings of a person's name; PS3.5 6.2."""

_LINES = "\r\n\f\t"
_SHORT_TEXT = frozenset({"SH", "LO", "PN", "CS"})
_LONG_TEXT = frozenset({"ST", "LT", "UT", "UC"})


def patient_and_study(dataset: Dataset) -> tuple[Dataset, list[str]]:
    """The attributes of `TAKEN` that describe patient, study and scanner, as far as they are legal.

    Parameters
    ----------
    dataset
        Header of a source image.

    Returns
    -------
    taken : Dataset
        Complete for SEG and SR.
    illegal : list[str]
        Keywords of values that could not be taken.
    """
    taken, illegal = Dataset(), []
    for keyword in (*_EMPTY, *_DROP):
        tag = Tag(keyword)
        if tag not in dataset:
            continue
        element = legal_element(dataset, tag)
        if element is None:
            illegal.append(keyword)
        elif element.VR != "SQ" or element.value:  # a sequence of nothing is allowed nowhere here
            taken.add(element)
    for needed, word in _BELONG:
        if any(not taken.get(keyword) for keyword in needed):
            for element in [e for e in taken if word in e.keyword]:
                del taken[element.tag]
    if taken.get("PatientIdentityRemoved") == "YES" and not (
        taken.get("DeidentificationMethod") or taken.get("DeidentificationMethodCodeSequence")
    ):
        taken.DeidentificationMethod = "not stated by the source"
    for keyword in _EMPTY:
        if keyword not in taken:
            setattr(taken, keyword, "")
    taken.SpecificCharacterSet = CHARACTER_SET  # every value is text by now
    return taken, illegal


def reference(dataset: Dataset, ct: CTVolume) -> Dataset:
    """What makes an image one that can be referred to: its identity, its place and its size.

    Parameters
    ----------
    dataset
        Header of a source image that was read into `ct`.
    ct
        Gives what the header lacks.

    Raises
    ------
    NotWritten
        It has no identity.
    """
    is_multiframe = "PerFrameFunctionalGroupsSequence" in dataset
    made = Dataset(dict(dataset.items())) if is_multiframe else Dataset()  # shares the elements, unparsed
    meta = getattr(dataset, "file_meta", None) or Dataset()

    def one_uid(holder: Dataset, keyword: str) -> str | None:
        return words.one_uid(_value(holder, Tag(keyword)))

    own = {
        "SOPClassUID": one_uid(dataset, "SOPClassUID") or one_uid(meta, "MediaStorageSOPClassUID"),
        "SOPInstanceUID": one_uid(dataset, "SOPInstanceUID") or one_uid(meta, "MediaStorageSOPInstanceUID"),
        "StudyInstanceUID": one_uid(dataset, "StudyInstanceUID"),
        "SeriesInstanceUID": one_uid(dataset, "SeriesInstanceUID"),
    }
    if own["SOPClassUID"] not in CT_SOP_CLASSES:
        own["SOPClassUID"] = CTImageStorage  # or it would not have been read as CT
    for keyword, uid in own.items():
        if uid is None:
            raise NotWritten(f"the CT's header has no {keyword}, by which it would refer to the images")
        made[keyword] = DataElement(Tag(keyword), "UI", uid, validation_mode=0)
    made.Modality = "CT"
    for keyword in ("Rows", "Columns"):
        setattr(made, keyword, int(dataset[keyword].value))
    if not is_multiframe:
        for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
            made.add(_numbers(dataset, keyword))
        made.SliceThickness = f"{ct.header.slice_thickness_mm or ct.increment_mm:.10g}"
    return made


def illegal_uids(images: Sequence[Dataset]) -> list[str]:
    """Keywords of the UIDs that are kept although PS3.5 9.1 does not allow them."""
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    return [k for k in keywords if any(not UID(image[k].value, validation_mode=0).is_valid for image in images)]


def legal_element(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    """An element whose values the standard allows; None where one cannot be read, or is none that it allows."""
    try:
        element = dataset[tag]
        return element if all(_complaints(element)) else None
    except PARSE_ERRORS:
        return None


def _complaints(element: DataElement) -> Iterator[bool]:
    """Whether each of the rules that an element must keep is kept."""
    vr, values = element.VR, _values(element)
    keyword = element.keyword
    yield tag_for_keyword(keyword) is not None and vr in dictionary_VR(element.tag).split(" or ")
    if vr == "SQ":
        # Half a reference, as some de-identification leaves behind.
        yield not any("ReferencedSOPInstanceUID" in i and "ReferencedSOPClassUID" not in i for i in values)
        for item in values:
            tags = list(item.keys())
            yield all(tag.is_private or legal_element(item, tag) is not None for tag in tags)
        return
    most = dictionary_VM(element.tag).split("-")[-1]
    yield not most.isdecimal() or len(values) <= int(most)
    for value in values:
        validate_value(vr, str(value) if vr in ("DS", "IS") else value, RAISE)
        if vr in ("DA", "TM", "DT"):
            {"DA": DA, "TM": TM, "DT": DT}[vr](value)
        if vr in ("DS", "IS"):
            float(value)
        if vr == "PN":
            yield all(len(group) <= NAME_LETTERS for group in str(value).split("="))
        if vr in _SHORT_TEXT | _LONG_TEXT:
            allowed = _LINES if vr in _LONG_TEXT else ""
            yield all(c.isprintable() or c in allowed for c in str(value))
        yield keyword not in ENUMERATED or value in ENUMERATED[keyword]


def _values(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or value == "":
        return []
    return list(value) if element.VR == "SQ" or element.VM > 1 else [value]


def _value(dataset: Dataset, tag: BaseTag) -> Any:
    try:
        return dataset[tag].value if tag in dataset else None
    except PARSE_ERRORS:
        return None


def _numbers(dataset: Dataset, keyword: str) -> DataElement:
    """A place or a size, as the file says it, or as legal numbers where it says them in its own way."""
    tag = Tag(keyword)
    element = legal_element(dataset, tag)
    if element is not None:
        return element
    raw = dataset.get_item(tag)
    text = raw.value if raw is not None else b""
    text = (
        text.decode("latin-1")
        if isinstance(text, bytes)
        else "\\".join(map(str, text if not isinstance(text, str) else [text]))
    )
    return DataElement(tag, "DS", [f"{number:.10g}" for number in words.numbers_in(text)])
