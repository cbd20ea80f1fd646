"""DICOM Structured Report, TID 1500: the scores as numbers that other programs can read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, generate_uid

from heartlens import __version__
from heartlens.core import codes
from heartlens.core.atomic import atomic_file
from heartlens.core.codes import Code
from heartlens.core.ct import CTVolume
from heartlens.core.errors import WarningRecord
from heartlens.core.protocol import NOTICE, ScoringProtocol
from heartlens.core.provenance import Provenance
from heartlens.dicom.source.attributes import CHARACTER_SET
from heartlens.dicom.source.images import (
    MANUFACTURER,
    MODEL,
    SERIAL_NUMBER,
    SourceImages,
    concept,
    undisturbed,
)
from heartlens.dicom.source.uids import ObjectUids, unrelated_uids
from heartlens.dicom.sr_content.compared import Compared
from heartlens.dicom.sr_content.groups import Box, comment, heart_outline, lesion_group, numbered, total_group
from heartlens.dicom.sr_content.places import StoredPlaces
from heartlens.risk.assess import Risk
from heartlens.risk.assessment import Assessment
from heartlens.scoring.report import ScoreReport

SERIES_NUMBER = 9002
SERIES_DESCRIPTION = "HeartLens calcium score"


def write_sr(
    path: str | Path,
    *,
    ct: CTVolume,
    report: ScoreReport,
    risk: Risk,
    assessment: Assessment,
    protocol: ScoringProtocol,
    sources: Sequence[Dataset],
    heart: Box | None = None,
    state: str = "",
    provenance: Provenance | None = None,
    seg: Dataset | None = None,
    cautions: Sequence[WarningRecord] = (),
    observer: str | None = None,
    organization: str | None = None,
    signed: str | None = None,
    uids: ObjectUids | None = None,
    compared: Compared | None = None,
    earlier: Dataset | None = None,
) -> Dataset:
    """Write a Comprehensive 3D SR: one group for the total, one per lesion; also at score 0.

    Parameters
    ----------
    path
        File to write.
    ct
        The scan that was scored.
    report
        Its scores.
    risk
        Category and percentile of the total.
    assessment
        What may be said of it; a category that a reader must decide on is said in words and not coded.
    protocol
        How it was scored.
    sources
        Headers of the images that `ct` was read from, one per slice.
    heart
        Where the heart lies on one slice: the region that the total is inferred from. None is the middle of the scan.
    state
        How far a person has answered for it, in words.
    provenance
        What found the calcium.
    seg
        What `write_seg` returned; None at score 0, then only the CT is referred to.
    cautions
        Stated in the document as they are.
    observer, organization
        Who has signed, and for whom; the document is verified only with both.
    signed
        When, ISO 8601; None is now.
    uids
        Of the object and of its findings; a corrected document names the automatic one. None draws new ones.
    compared
        With an earlier scan of the same person.
    earlier
        UIDs of another document whose place this one takes.

    Returns
    -------
    Dataset
        The document.
    """
    import highdicom as hd

    images = SourceImages(ct, sources)
    uids = uids or unrelated_uids()
    with undisturbed():
        places = StoredPlaces(images)
        outline = heart_outline(ct, heart or _middle(ct), places)
        changes, said = ([], []) if compared is None else (compared.measurements(), compared.comments())
        groups = [
            total_group(report, risk, assessment, protocol, region=outline, uids=uids, more=changes),
            *(lesion_group(lesion, number, places, uids) for lesion, number in numbered(report.lesions)),
        ]
        content = hd.sr.MeasurementReport(
            observation_context=_observation_context(observer, organization),
            procedure_reported=concept(codes.CALCIUM_CT),
            imaging_measurements=groups,
        )
        root = content[0].ContentSequence
        root.insert(_position_of_measurements(root), _image_library(images.images))
        stamp = _stamp(report, risk, assessment, protocol, ct, state, provenance)
        for text in (*stamp, *said, *(f"{code}: {text}" for code, text in cautions), NOTICE):
            root.append(comment(text))
        document = hd.sr.Comprehensive3DSR(
            evidence=[images.described(0), *images.images[1:], *([seg] if seg is not None else [])],
            content=content[0],
            series_instance_uid=uids.series("sr"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uids.instance("sr"),
            instance_number=uids.number,
            previous_versions=_previous(images.images[0], uids, earlier),
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number=SERIAL_NUMBER,
            series_description=SERIES_DESCRIPTION,
            is_complete=True,
            is_final=bool(observer and organization),
            is_verified=bool(observer and organization),
            verifying_observer_name=observer if organization else None,
            verifying_organization=organization if observer else None,
        )
        if signed and document.VerificationFlag == "VERIFIED":
            # highdicom writes the moment of writing; a signed case may be written again on another day.
            moment = datetime.fromisoformat(signed).strftime("%Y%m%d%H%M%S%z")
            document.VerifyingObserverSequence[0].VerificationDateTime = moment
        document.SpecificCharacterSet = CHARACTER_SET
        _separate(document)
        scheme = Dataset()
        scheme.CodingSchemeDesignator = codes.PRIVATE_SCHEME
        scheme.CodingSchemeName = "HeartLens private codes"
        scheme.CodingSchemeResponsibleOrganization = "The HeartLens developers"
        document.CodingSchemeIdentificationSequence = [scheme]
        with atomic_file(Path(path)) as sibling:
            document.save_as(sibling)
    return document


def _previous(image: Dataset, uids: ObjectUids, earlier: Dataset | None) -> list[Dataset] | None:
    """The documents whose place this one takes: the automatic one, and one that was made of other images."""
    previous = []
    if uids.is_corrected:
        automatic = Dataset()
        automatic.SOPClassUID = Comprehensive3DSRStorage
        automatic.StudyInstanceUID = image.StudyInstanceUID
        automatic.SeriesInstanceUID = uids.series("sr")
        automatic.SOPInstanceUID = uids.predecessor("sr")
        previous.append(automatic)
    if earlier is not None and earlier.SOPInstanceUID not in (
        uids.instance("sr"),
        *(p.SOPInstanceUID for p in previous),
    ):
        previous.append(earlier)
    return previous or None


def _middle(ct: CTVolume) -> Box:
    """The middle half of the middle slice."""
    slices, rows, columns = ct.shape
    return slices // 2, slice(rows // 4, rows - rows // 4), slice(columns // 4, columns - columns // 4)


def _separate(item: Dataset) -> None:
    """Every container says that its items stand alone: a renderer of continuous text prints numbers without names."""
    if item.get("ValueType") == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", ()):
        _separate(child)


def _stamp(
    report: ScoreReport,
    risk: Risk,
    assessment: Assessment,
    protocol: ScoringProtocol,
    ct: CTVolume,
    state: str,
    provenance: Provenance | None,
) -> list[str]:
    """Sentences a person reads: technique, category, percentile, calibration, what was withheld."""
    header = ct.header
    kvp = "tube voltage not stated" if header.kvp is None else f"{header.kvp:g} kVp"
    thick = "slice thickness not stated" if header.slice_thickness_mm is None else f"{header.slice_thickness_mm:g} mm"
    gating = {True: "ECG-gated", False: "not gated", None: "gating not stated"}[header.is_gated]
    technique = (
        f"{gating}, {kvp}, {thick} slices every {ct.increment_mm:.4g} mm. Scored with HeartLens {__version__}, profile "
        f"{protocol.name}: threshold {protocol.threshold_hu:g} HU, {protocol.connectivity}-connected, minimum area "
        f"{protocol.minimum_area_mm2:g} mm2, normalization {protocol.normalisation} "
        f"(factor {report.slice_factor:.6g}). Source: {protocol.source}"
    )
    texts = [technique, *([state] if state else [])]
    if provenance is not None and provenance.bundle:
        digests = ", ".join(f"{name} {digest}" for name, digest in sorted(provenance.checksums.items()))
        texts.append(f"Calcium found and named by the networks of bundle {provenance.bundle}; SHA-256: {digests}")
    if report.mass_factor_mg_per_mm3_hu is not None:
        texts.append(
            f"Mass calibration {report.mass_factor_mg_per_mm3_hu:.6g} mg per mm3 per HU ({report.mass_factor_source})"
        )
    texts += assessment.lines()
    if risk.percentile_text and not assessment.must_decide:
        texts.append(risk.percentile_text)
    return texts


def _image_library(images: Sequence[Dataset]) -> Any:
    """TID 1600 with what all images share said once; highdicom repeats 14 items for every slice, 0.8 s of work."""
    import highdicom as hd

    def container(name: Code) -> Any:
        item = hd.sr.ContainerContentItem(concept(name), relationship_type=hd.sr.RelationshipTypeValues.CONTAINS)
        item.ContentSequence = hd.sr.ContentSequence()
        return item

    library, group = container(codes.IMAGE_LIBRARY), container(codes.IMAGE_LIBRARY_GROUP)
    of_acquisition = hd.sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
    group.ContentSequence.append(
        hd.sr.CodeContentItem(concept(codes.MODALITY), concept(codes.CT), relationship_type=of_acquisition)
    )
    group.ContentSequence.append(
        hd.sr.UIDRefContentItem(
            concept(codes.FRAME_OF_REFERENCE), images[0].FrameOfReferenceUID, relationship_type=of_acquisition
        )
    )
    for image in images:
        group.ContentSequence.append(
            hd.sr.ImageContentItem(
                name=concept(codes.SOURCE_IMAGE),
                referenced_sop_class_uid=image.SOPClassUID,
                referenced_sop_instance_uid=image.SOPInstanceUID,
                relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
            )
        )
    library.ContentSequence.append(group)
    return library


def _position_of_measurements(root: Sequence[Dataset]) -> int:
    """Index of the measurements in the document; TID 1500 puts the image library right before them."""
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in root]
    return names.index("126010")


def _observation_context(observer: str | None, organization: str | None) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes as standard

    device = hd.sr.ObserverContext(
        observer_type=standard.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(generate_uid(entropy_srcs=[MODEL, __version__])),
            name=MODEL,
            manufacturer_name=MANUFACTURER,
            model_name=f"{MODEL} {__version__}",
        ),
    )
    person = None
    if observer:
        person = hd.sr.ObserverContext(
            observer_type=standard.DCM.Person,
            observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(
                name=observer, organization_name=organization
            ),
        )
    return hd.sr.ObservationContext(observer_person_context=person, observer_device_context=device)
