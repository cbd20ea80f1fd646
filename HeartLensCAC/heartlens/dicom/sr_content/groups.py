"""The measurement groups: one for the total, with every artery in it, and one for each lesion.

Viewers want coordinates in every group and drop numbers without; a group that shares its region with another is drawn
over it. So what belongs to no place of its own stands in the group of the total, and each lesion has a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heartlens.core import codes
from heartlens.core.codes import Code
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, SITE_NAMES, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.dicom.source.images import concept
from heartlens.dicom.source.uids import ObjectUids
from heartlens.dicom.sr_content.places import StoredPlaces, corners_mm
from heartlens.risk.assess import Risk
from heartlens.risk.assessment import Assessment
from heartlens.risk.evaluable import Evaluable
from heartlens.scoring.report import LesionScore, ScoreReport, Totals, display_agatston

Box = tuple[int, slice, slice]
"""Slice, rows and columns on the grid of the CT."""

SHOWN_DIGITS = 1
"""Of a number as a viewer prints it; the exact one stands beside it as FloatingPointValue (0040,A161)."""


def total_group(
    report: ScoreReport,
    risk: Risk,
    assessment: Assessment,
    protocol: ScoringProtocol,
    *,
    region: Any,
    uids: ObjectUids,
    more: Sequence[Any] = (),
) -> Any:
    """The total, each artery, and what is not coronary; present at a score of 0, too.

    Parameters
    ----------
    report
        The scores.
    risk
        Percentile and arterial age of the total.
    assessment
        What may be said of it.
    protocol
        How it was scored.
    region
        Coordinates from which the total is inferred.
    uids
        By which findings are known.
    more
        Measurements that belong to the total as a whole.
    """
    import highdicom as hd

    measurements = scores(report.total, region=region) if assessment.has_total else []
    has_open_artery = report.arteries[Artery.UNASSIGNED].lesions > 0
    if assessment.has_total and not has_open_artery:  # else nobody knows
        measurements.append(measurement(codes.CALCIFIED_VESSELS, report.calcified_vessels, codes.VESSEL_UNITS))
    measurements += [
        measurement(codes.DROPPED_SMALL, report.dropped_small_count, codes.ISLAND_UNITS),
        measurement(codes.AGATSTON_THRESHOLD, protocol.threshold_hu, codes.HU_UNITS),
    ]
    is_settled = assessment.evaluable is not Evaluable.NO and not assessment.must_decide
    if is_settled and risk.percentile is not None:
        measurements.append(measurement(codes.PERCENTILE, risk.percentile, codes.PERCENT_UNITS))
    if is_settled and risk.arterial_age_years is not None:
        measurements.append(measurement(codes.ARTERIAL_AGE, risk.arterial_age_years, codes.YEAR_UNITS))
    shown = (*CORONARY, *([Artery.UNASSIGNED] if has_open_artery else []))
    for artery in shown if assessment.has_total else ():
        measurements += scores(report.arteries[artery], site=codes.REGIONS[artery])
    other = report.arteries[Artery.OTHER]
    if other.lesions:
        measurements.append(measurement(codes.NOT_CORONARY_SCORE, other.agatston, codes.SCORE_UNITS))
        measurements += [
            measurement(codes.NOT_CORONARY_SCORE, agatston, codes.SCORE_UNITS, site=codes.SITES[site])
            for site, agatston in report.findings.items()
            if site is not None
        ]
    measurements += more
    evaluations = []
    if is_settled and risk.category is not None:
        meaning = f"{risk.label} (Agatston {risk.shown})"
        value = Code(f"{risk.scheme}:{risk.category}", codes.PRIVATE_SCHEME, meaning)
        evaluations.append(hd.sr.QualitativeEvaluation(concept(codes.RISK_CATEGORY), concept(value)))
    if is_settled and risk.cac_drs is not None and assessment.cac_drs_low == assessment.cac_drs_high:
        value = Code(f"CAC-DRS:{risk.cac_drs}", codes.PRIVATE_SCHEME, risk.cac_drs)
        evaluations.append(hd.sr.QualitativeEvaluation(concept(codes.CAC_DRS), concept(value)))
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=uids.finding("total"), identifier="Total"),
        finding_type=concept(codes.PLAQUE) if report.total.agatston > 0 else None,
        finding_sites=[hd.sr.FindingSite(concept(codes.REGIONS[Artery.UNASSIGNED]))],
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )
    group[0].ContentSequence.append(comment(total_words(report, assessment)))
    return group


def total_words(report: ScoreReport, assessment: Assessment) -> str:
    """What a viewer shows first: what may be said, then each artery, where there is a total."""
    if not assessment.has_total:
        return " ".join(assessment.lines())
    arteries = ", ".join(f"{a.name} {display_agatston(report.arteries[a].agatston)}" for a in CORONARY)
    unassigned = report.arteries[Artery.UNASSIGNED]
    if unassigned.lesions:
        arteries += f", without an artery {display_agatston(unassigned.agatston)}"
    return f"{' '.join(assessment.lines())} {arteries}."


def lesion_group(lesion: LesionScore, number: int, places: StoredPlaces, uids: ObjectUids) -> Any:
    """One lesion at its place, with its numbers; undecided where a reader has to decide on it.

    Parameters
    ----------
    lesion
        Of the report.
    number
        Within its artery, 1 for the highest score.
    places
        Of the stored images.
    uids
        By which findings are known.
    """
    import highdicom as hd

    is_counted = lesion.artery in SCORED_ARTERIES
    name = codes.CORONARY_CALCIUM_SCORE if is_counted else codes.NOT_CORONARY_SCORE
    measurements = [
        measurement(name, lesion.agatston, codes.SCORE_UNITS, codes.AGATSTON_METHOD),
        measurement(codes.VOLUME, lesion.volume_mm3, codes.MM3_UNITS, codes.VOLUME_METHOD),
    ]
    if lesion.mass_mg is not None:
        measurements.append(measurement(codes.MASS, lesion.mass_mg, codes.MG_UNITS, codes.MASS_METHOD))
    measurements += [
        measurement(codes.PEAK_HU, lesion.peak_hu, codes.HU_UNITS),
        measurement(codes.MEAN_HU, lesion.mean_hu, codes.HU_UNITS),
    ]
    frame = places.frame_at(lesion.centroid_lps_mm)
    region = codes.REGIONS.get(lesion.artery) if lesion.site is None else codes.SITES[lesion.site]
    words = f"{lesion.artery.name} {number}, Agatston {display_agatston(lesion.agatston)}"
    if not is_counted:
        words += ", judged not coronary and not part of the total"
        words += "" if lesion.site is None else f"; {SITE_NAMES[lesion.site]}"
    if lesion.artery is Artery.UNASSIGNED:
        words += ", part of the total; the artery has not been said yet"
    if lesion.undecided:
        words += "; undecided: a reader must decide"
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=uids.finding(f"lesion {lesion.id}"), identifier=f"{lesion.artery.name} {number}"
        ),
        referenced_region=hd.sr.ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.POINT,
            graphic_data=places.pixels(frame, lesion.centroid_lps_mm),
            source_image=places.reference(frame),
        ),
        finding_type=concept(codes.PLAQUE if is_counted else codes.CALCIFICATION),
        finding_sites=None if region is None else [hd.sr.FindingSite(concept(region))],
        measurements=measurements,
    )
    group[0].ContentSequence.append(comment(f"{words}."))
    return group


def heart_outline(ct: CTVolume, box: Box, places: StoredPlaces) -> Any:
    """A box on one slice as a closed line, from which the total is inferred."""
    import highdicom as hd

    corners = corners_mm(ct, *box)
    frame = places.frame_at(np.mean(corners[:4], axis=0))
    pixels = np.clip(places.pixels(frame, corners), 0, places.size(frame))
    return hd.sr.CoordinatesForMeasurement(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE, graphic_data=pixels, source_image=places.reference(frame)
    )


def scores(totals: Totals, *, site: Code | None = None, region: Any = None) -> list[Any]:
    """What is measured alike for the total and for an artery, the artery as finding site of each."""
    where = {"site": site, "region": region}
    measurements = [
        measurement(codes.CORONARY_CALCIUM_SCORE, totals.agatston, codes.SCORE_UNITS, codes.AGATSTON_METHOD, **where),
        measurement(codes.VOLUME, totals.volume_mm3, codes.MM3_UNITS, codes.VOLUME_METHOD, site=site),
    ]
    if totals.mass_mg is not None:
        measurements.append(measurement(codes.MASS, totals.mass_mg, codes.MG_UNITS, codes.MASS_METHOD, site=site))
    measurements.append(measurement(codes.LESION_COUNT, totals.lesions, codes.LESION_UNITS, site=site))
    return measurements


def measurement(
    name: Code, value: float, unit: Code, method: Code | None = None, *, site: Code | None = None, region: Any = None
) -> Any:
    """A number as a person reads it, with the exact one beside it."""
    import highdicom as hd

    item = hd.sr.Measurement(
        name=concept(name),
        value=value,
        unit=concept(unit),
        method=None if method is None else concept(method),
        finding_sites=None if site is None else [hd.sr.FindingSite(concept(site))],
        referenced_coordinates=None if region is None else [region],
    )
    measured = item[0].MeasuredValueSequence[0]
    if isinstance(value, int):
        measured.NumericValue = str(value)
        return item
    measured.FloatingPointValue = float(value)
    sign = "-" if value < 0 else ""  # a change may be below
    shown = f"{sign}{display_agatston(abs(value))}" if unit == codes.SCORE_UNITS else f"{value:.{SHOWN_DIGITS}f}"
    measured.NumericValue = shown.replace("<1", f"{abs(value):.2g}")  # DICOM has no "less than"
    return item


def comment(text: str) -> Any:
    """A sentence for a reader."""
    import highdicom as hd

    return hd.sr.TextContentItem(
        name=concept(codes.COMMENT), value=text, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )


def numbered(lesions: Sequence[LesionScore]) -> list[tuple[LesionScore, int]]:
    """Lesions that count or are undecided, each with its number within its artery, the highest score first."""
    numbers: dict[Artery, int] = {}
    found = []
    for lesion in lesions:
        numbers[lesion.artery] = numbers.get(lesion.artery, 0) + 1
        if lesion.undecided or (lesion.artery in SCORED_ARTERIES and lesion.agatston > 0):
            found.append((lesion, numbers[lesion.artery]))
    return found
