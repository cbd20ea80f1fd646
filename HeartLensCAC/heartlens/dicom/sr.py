"""DICOM Structured Report, TID 1500: the scores as numbers that other programs can read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from heartlens import __version__
from heartlens.core import codes
from heartlens.core.atomic import atomic_file
from heartlens.core.codes import Code
from heartlens.core.ct import CTVolume
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import NOTICE, ScoringProtocol
from heartlens.dicom.source.attributes import CHARACTER_SET
from heartlens.dicom.source.images import (
    MANUFACTURER,
    MODEL,
    SERIAL_NUMBER,
    SourceImages,
    concept,
    undisturbed,
)
from heartlens.risk.assess import Risk
from heartlens.scoring.report import LesionScore, ScoreReport, Totals

SERIES_NUMBER = 9002
SERIES_DESCRIPTION = "HeartLens calcium score"


def write_sr(
    path: str | Path,
    *,
    ct: CTVolume,
    report: ScoreReport,
    risk: Risk,
    protocol: ScoringProtocol,
    sources: Sequence[Dataset],
    seg: Dataset | None = None,
    cautions: Sequence[WarningRecord] = (),
    observer: str | None = None,
    organization: str | None = None,
    signed: str | None = None,
) -> Dataset:
    """Write a Comprehensive 3D SR: one group for the total, one per artery; also at score 0.

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
    protocol
        How it was scored.
    sources
        Headers of the images that `ct` was read from, one per slice.
    seg
        What `write_seg` returned; None at score 0, then only the CT is referred to.
    cautions
        Stated in the document as they are.
    observer, organization
        Who has signed, and for whom; the document is verified only with both.
    signed
        When, ISO 8601; None is now.

    Returns
    -------
    Dataset
        The document.
    """
    import highdicom as hd

    images = SourceImages(ct, sources)
    segment_of = {str(item.SegmentLabel): item for item in (seg.SegmentSequence if seg is not None else ())}
    with undisturbed():
        groups = [_total_group(report, risk, protocol)]
        for artery in Artery:
            totals = report.arteries[artery]
            segment = segment_of.get(artery.name)
            if artery in CORONARY or totals.lesions or segment is not None:
                lesions = [lesion for lesion in report.lesions if lesion.artery == artery]
                groups.append(_artery_group(artery, totals, lesions, seg, segment, ct, protocol))
        content = hd.sr.MeasurementReport(
            observation_context=_observation_context(observer, organization),
            procedure_reported=concept(codes.CALCIUM_CT),
            imaging_measurements=groups,
        )
        root = content[0].ContentSequence
        root.insert(_position_of_measurements(root), _image_library(images.images))
        for text in (*_stamp(report, risk, protocol, ct), *(f"{code}: {text}" for code, text in cautions), NOTICE):
            root.append(_comment(text))
        document = hd.sr.Comprehensive3DSR(
            evidence=[images.described(0), *images.images[1:], *([seg] if seg is not None else [])],
            content=content[0],
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number=SERIAL_NUMBER,
            series_description=SERIES_DESCRIPTION,
            is_complete=True,
            is_verified=bool(observer and organization),
            verifying_observer_name=observer if organization else None,
            verifying_organization=organization if observer else None,
        )
        if signed and document.VerificationFlag == "VERIFIED":
            # highdicom writes the moment of writing; a signed case may be written again on another day.
            moment = datetime.fromisoformat(signed).strftime("%Y%m%d%H%M%S%z")
            document.VerifyingObserverSequence[0].VerificationDateTime = moment
        document.SpecificCharacterSet = CHARACTER_SET
        scheme = Dataset()
        scheme.CodingSchemeDesignator = codes.PRIVATE_SCHEME
        scheme.CodingSchemeName = "HeartLens private codes"
        scheme.CodingSchemeResponsibleOrganization = "The HeartLens developers"
        document.CodingSchemeIdentificationSequence = [scheme]
        with atomic_file(Path(path)) as sibling:
            document.save_as(sibling)
    return document


def _total_group(report: ScoreReport, risk: Risk, protocol: ScoringProtocol) -> Any:
    import highdicom as hd

    measurements = [
        *_scores(report.total),
        _measurement(codes.CALCIFIED_VESSELS, report.calcified_vessels, codes.NO_UNITS),
        _measurement(codes.DROPPED_SMALL, report.dropped_small_count, codes.NO_UNITS),
        _measurement(codes.AGATSTON_THRESHOLD, protocol.threshold_hu, codes.HU_UNITS),
    ]
    if risk.percentile is not None:
        measurements.append(_measurement(codes.PERCENTILE, risk.percentile, codes.PERCENT_UNITS))
    if risk.arterial_age_years is not None:
        measurements.append(_measurement(codes.ARTERIAL_AGE, risk.arterial_age_years, codes.YEAR_UNITS))
    evaluations = []
    if risk.category is not None:
        meaning = f"{risk.label} (Agatston {risk.shown})"
        value = Code(f"{risk.scheme}:{risk.category}", codes.PRIVATE_SCHEME, meaning)
        evaluations.append(hd.sr.QualitativeEvaluation(concept(codes.RISK_CATEGORY), concept(value)))
    if risk.cac_drs is not None:
        value = Code(f"CAC-DRS:{risk.cac_drs}", codes.PRIVATE_SCHEME, risk.cac_drs)
        evaluations.append(hd.sr.QualitativeEvaluation(concept(codes.CAC_DRS), concept(value)))
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier="Total"),
        finding_type=concept(codes.PLAQUE) if report.total.agatston > 0 else None,
        finding_sites=[hd.sr.FindingSite(concept(codes.REGIONS[Artery.UNASSIGNED]))],
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )


def _artery_group(
    artery: Artery,
    totals: Totals,
    lesions: Sequence[LesionScore],
    seg: Dataset | None,
    segment: Dataset | None,
    ct: CTVolume,
    protocol: ScoringProtocol,
) -> Any:
    import highdicom as hd

    measurements = _scores(totals)
    scored = [lesion for lesion in lesions if lesion.agatston > 0]
    if scored:
        measurements.append(_measurement(codes.PEAK_HU, max(x.peak_hu for x in scored), codes.HU_UNITS))
        if protocol.volume_above_hu is None:  # only then the volume counts the voxels that the mean is taken over
            mean_hu = sum(x.mean_hu * x.volume_mm3 for x in scored) / sum(x.volume_mm3 for x in scored)
            measurements.append(_measurement(codes.MEAN_HU, mean_hu, codes.HU_UNITS))
    region = codes.REGIONS.get(artery)
    finding = codes.CALCIFICATION if region is None else codes.PLAQUE
    what: dict[str, Any] = {
        "finding_type": concept(finding) if lesions else None,
        "finding_sites": None if region is None else [hd.sr.FindingSite(concept(region))],
        "measurements": measurements,
    }
    if segment is None or seg is None:
        identifier = hd.sr.TrackingIdentifier(uid=hd.UID(), identifier=artery.name)
        group = hd.sr.MeasurementsAndQualitativeEvaluations(tracking_identifier=identifier, **what)
    else:
        series = ct.header.series_uid or str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
            referenced_segment=hd.sr.ReferencedSegment(
                sop_class_uid=seg.SOPClassUID,
                sop_instance_uid=seg.SOPInstanceUID,
                segment_number=int(segment.SegmentNumber),
                source_series=hd.sr.SourceSeriesForSegmentation(series),
            ),
            **what,
        )
    if artery is Artery.OTHER:
        group[0].ContentSequence.append(_comment("Not coronary: shown, and not part of the total."))
    if artery is Artery.UNASSIGNED:
        group[0].ContentSequence.append(_comment("Part of the total; the artery has not been said yet."))
    return group


def _scores(totals: Totals) -> list[Any]:
    """What is measured alike for the total and for an artery."""
    measurements = [
        _measurement(codes.CORONARY_CALCIUM_SCORE, totals.agatston, codes.NO_UNITS, codes.AGATSTON_METHOD),
        _measurement(codes.VOLUME, totals.volume_mm3, codes.MM3_UNITS, codes.VOLUME_METHOD),
    ]
    if totals.mass_mg is not None:
        measurements.append(_measurement(codes.MASS, totals.mass_mg, codes.MG_UNITS, codes.MASS_METHOD))
    measurements.append(_measurement(codes.LESION_COUNT, totals.lesions, codes.NO_UNITS))
    return measurements


def _measurement(name: Code, value: float, unit: Code, method: Code | None = None) -> Any:
    import highdicom as hd

    return hd.sr.Measurement(
        name=concept(name), value=value, unit=concept(unit), method=None if method is None else concept(method)
    )


def _stamp(report: ScoreReport, risk: Risk, protocol: ScoringProtocol, ct: CTVolume) -> list[str]:
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
    texts = [technique]
    if report.mass_factor_mg_per_mm3_hu is not None:
        texts.append(
            f"Mass calibration {report.mass_factor_mg_per_mm3_hu:.6g} mg per mm3 per HU ({report.mass_factor_source})"
        )
    if risk.withheld:
        texts.append(f"Category withheld: {risk.withheld}")
    elif risk.category is not None:
        texts.append(f"Category {risk.label} (scheme {risk.scheme}, range {risk.shown})")
    if risk.percentile_text:
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


def _comment(text: str) -> Any:
    import highdicom as hd

    return hd.sr.TextContentItem(
        name=concept(codes.COMMENT), value=text, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )


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
