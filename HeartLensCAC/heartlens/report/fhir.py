"""The result as FHIR R4: a DiagnosticReport and its Observations in one Bundle, for programs that speak no DICOM.

What the scan does not allow to be said has a reason in place of a value, and a score that a reader must decide on is a
range. No patient is named unless the user asked for it; who signed is.
"""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any

from heartlens import __version__
from heartlens.case.case import Case
from heartlens.case.signature import Signature, answered, shown_name, state_of, state_words
from heartlens.core import codes
from heartlens.core.codes import Code
from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import NOTICE
from heartlens.report.html import Identity
from heartlens.risk.assessment import Assessment
from heartlens.risk.evaluable import Evaluable, State

if TYPE_CHECKING:
    from heartlens.dicom.source.uids import ObjectUids

SYSTEMS = {
    "SCT": "http://snomed.info/sct", "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org", codes.PRIVATE_SCHEME: "urn:heartlens:codes",
}  # fmt: skip
"""Coding schemes of DICOM as FHIR names them; the last is ours, its meanings are in `heartlens.core.codes`. No LOINC:
public tables give one quantity four of its codes."""

ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
SERVICE_SECTION = "http://terminology.hl7.org/CodeSystem/v2-0074"

STATUS = {State.DRAFT: "preliminary", State.READ: "preliminary", State.SIGNED: "final", State.ALTERED: "preliminary"}
"""Of a report altered after it was signed nothing is final any more."""


def fhir_bundle(
    case: Case,
    uids: ObjectUids,
    *,
    signature: Signature | None = None,
    state: State | None = None,
    identity: Identity | None = None,
) -> dict[str, Any]:
    """A Bundle of type ``collection``: the DiagnosticReport, the total, and each artery.

    Parameters
    ----------
    case
        Scored.
    uids
        Of this version.
    signature
        Who answers for it; the report is final with one, and preliminary without.
    state
        Of it, where the case cannot know; see `heartlens.case.signature.state_of`.
    identity
        Who was scanned; None names nobody.
    """
    known = state_of(case, signature, state)
    assessment = answered(case, known)

    def url(name: str) -> str:
        return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, uids.instance(f'FHIR {name}'))}"

    shared = _shared(case, known, signature, identity)
    arteries = [*CORONARY, *([Artery.UNASSIGNED] if case.report.arteries[Artery.UNASSIGNED].lesions else [])]
    observations = {url("total"): _total(case, assessment, shared)}
    observations |= {url(artery.name): _artery(case, assessment, artery, shared) for artery in arteries}
    members = [{"reference": one} for one in observations]
    observations[url("total")]["hasMember"] = members[1:]
    report = {
        "resourceType": "DiagnosticReport",
        **shared,
        "category": [_concept_of(SERVICE_SECTION, "CT", "CAT Scan")],
        "code": _concept(codes.CALCIUM_CT),
        **_interpreted_by(signature),
        **_study(case),
        "result": members,
        "conclusion": " ".join([f"{state_words(known, signature)}.", *assessment.lines(), NOTICE]),
        **_conclusion_code(assessment),
    }
    entries = {url("report"): report, **observations}
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": one, "resource": resource} for one, resource in entries.items()],
    }


def _shared(case: Case, state: State, signature: Signature | None, identity: Identity | None) -> dict[str, Any]:
    """What report and Observations say alike: state, whose, when."""
    shared: dict[str, Any] = {"status": STATUS[state]}
    if identity is not None:
        subject: dict[str, Any] = {"identifier": {"value": identity.patient_id}} if identity.patient_id else {}
        shared["subject"] = {**subject, "display": identity.name or "name not stated"}
    if case.source_ct.header.acquired:
        shared["effectiveDateTime"] = case.source_ct.header.acquired
    issued = case.provenance.scored_at if signature is None else signature.when
    if issued:
        shared["issued"] = issued
    return shared


def _total(case: Case, assessment: Assessment, shared: dict[str, Any]) -> dict[str, Any]:
    name = "Estimated total Agatston score" if assessment.is_estimate else "Total Agatston score"
    return {
        **_observation(name, codes.REGIONS[Artery.UNASSIGNED], shared),
        **_score(assessment, assessment.total_low, assessment.total_high),
        "note": [{"text": text} for text in assessment.lines()],
        "component": _components(case, assessment),
    }


def _artery(case: Case, assessment: Assessment, artery: Artery, shared: dict[str, Any]) -> dict[str, Any]:
    score = case.report.arteries[artery].agatston
    name = "without an artery" if artery is Artery.UNASSIGNED else artery.name
    mine = [lesion for lesion in case.report.lesions if lesion.artery is artery]
    is_open = any(lesion.undecided for lesion in mine)
    low = min(math.fsum(lesion.agatston for lesion in mine if not lesion.undecided), score) if is_open else score
    made = {
        **_observation(f"Agatston score, {name}", codes.REGIONS[artery], shared),
        **_score(assessment, low, score),
    }
    if artery is Artery.UNASSIGNED:  # its region is the whole tree, as that of the total is
        made["code"] = {**_concept(codes.UNASSIGNED_SCORE), "text": made["code"]["text"]}
    if is_open and assessment.decide():
        made["note"] = [{"text": assessment.decide()}]
    return made


def _observation(name: str, site: Code, shared: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        **shared,
        "category": [_concept_of(OBSERVATION_CATEGORY, "imaging", "Imaging")],
        "code": {**_concept(codes.CORONARY_CALCIUM_SCORE), "text": name},
        "bodySite": _concept(site),
        "method": _concept(codes.AGATSTON_METHOD),
        "device": {"display": f"HeartLens {__version__}, research software, not a medical device"},
    }


def _score(assessment: Assessment, low: float, high: float) -> dict[str, Any]:
    """A score, or the range in which it lies, or why there is none."""
    if assessment.evaluable is Evaluable.NO:
        return _absent("unknown", assessment.sentence())
    if low != high:
        return {"valueRange": {"low": _quantity(low, codes.SCORE_UNITS), "high": _quantity(high, codes.SCORE_UNITS)}}
    return {"valueQuantity": _quantity(low, codes.SCORE_UNITS)}


def _components(case: Case, assessment: Assessment) -> list[dict[str, Any]]:
    """Category and CAC-DRS, or why there are none; volume, mass, and what published tables say."""
    risk, total = case.risk, case.report.total
    category = _category(assessment)
    drs = assessment.cac_drs_low if assessment.cac_drs_low == assessment.cac_drs_high else None
    found = [
        {"code": _concept(codes.RISK_CATEGORY), **(category or _withheld(assessment))},
        {
            "code": _concept(codes.CAC_DRS),
            **({"valueCodeableConcept": _private(f"CAC-DRS:{drs}", drs)} if drs else _withheld(assessment)),
        },
    ]
    if assessment.evaluable is Evaluable.NO:
        return found
    quantities = [(codes.VOLUME, total.volume_mm3, codes.MM3_UNITS), (codes.MASS, total.mass_mg, codes.MG_UNITS)]
    if not assessment.must_decide:
        quantities += [
            (codes.PERCENTILE, risk.percentile, codes.PERCENT_UNITS),
            (codes.ARTERIAL_AGE, risk.arterial_age_years, codes.YEAR_UNITS),
        ]
    found += [
        {"code": _concept(code), "valueQuantity": _quantity(value, unit)}
        for code, value, unit in quantities
        if value is not None
    ]
    return found


def _category(assessment: Assessment) -> dict[str, Any]:
    """The category, where there is one and no reader has to decide on it."""
    if len(assessment.categories) != 1:
        return {}
    (row,) = assessment.categories
    return {"valueCodeableConcept": _private(f"{assessment.scheme}:{row.category}", assessment.category())}


def _withheld(assessment: Assessment) -> dict[str, Any]:
    """Why there is no category: the scan does not allow one, or a reader has yet to decide."""
    if assessment.evaluable is Evaluable.NO:
        return _absent("unknown", assessment.why())
    return _absent("temp-unknown", assessment.decide())


def _conclusion_code(assessment: Assessment) -> dict[str, Any]:
    category = _category(assessment)
    return {"conclusionCode": [category["valueCodeableConcept"]]} if category else {}


def _interpreted_by(signature: Signature | None) -> dict[str, Any]:
    if signature is None:
        return {}
    return {
        "performer": [{"display": signature.organization}],
        "resultsInterpreter": [{"display": shown_name(signature.observer)}],
    }


def _study(case: Case) -> dict[str, Any]:
    uid = case.source_ct.header.study_uid
    return {"imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}]} if uid else {}


def _absent(code: str, text: str) -> dict[str, Any]:
    return {"dataAbsentReason": {"coding": [{"system": ABSENT, "code": code}], "text": text}}


def _quantity(value: float, unit: Code) -> dict[str, Any]:
    return {"value": float(value), "unit": unit.meaning, "system": SYSTEMS[unit.scheme], "code": unit.value}


def _concept(code: Code) -> dict[str, Any]:
    return _concept_of(SYSTEMS[code.scheme], code.value, code.meaning)


def _private(value: str, meaning: str) -> dict[str, Any]:
    return _concept_of(SYSTEMS[codes.PRIVATE_SCHEME], value, meaning)


def _concept_of(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}
