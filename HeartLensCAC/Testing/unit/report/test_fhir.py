"""FHIR: valid by the models of fhir-resources, and nothing said that the assessment does not say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fhir.resources.R4B.bundle import Bundle
from report_cases import BOXES, HEADER, PERSON, make_case

from heartlens.case.signature import Signature
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.report.dicom_objects import object_uids
from heartlens.report.fhir import fhir_bundle
from heartlens.report.html import Identity
from heartlens.risk.evaluable import State

SIGNATURE = Signature("Doe^Jane", "Clinic", "2026-11-29T10:00:00+01:00")
DOUBT = {4: LesionNote(0.5, LabelSource.NETWORK, undecided=True)}
"""Of the 36 that are called not coronary: 67 as it is, 103 with it."""


def resources(case, **more):
    """The resources by what they are, after the round through JSON and through the models."""
    uids = object_uids(case, more.get("signature"), more.get("state"))
    text = json.dumps(fhir_bundle(case, uids, **more), allow_nan=False)
    assert Bundle.model_validate_json(text).type == "collection"
    report, *observations = (entry["resource"] for entry in json.loads(text)["entry"])
    return report, {one["code"]["text"]: one for one in observations}


def component(observation, code):
    return next(c for c in observation["component"] if c["code"]["coding"][0]["code"] == code)


def test_score_arteries_and_category_have_their_codes_and_units():
    report, found = resources(make_case(BOXES))
    total = found["Total Agatston score"]
    assert total["code"]["coding"][0]["system"] == "http://snomed.info/sct"
    assert total["code"]["coding"][0]["code"] == "450360000"
    assert total["valueQuantity"] == {
        "value": 67.0, "unit": "score", "system": "http://unitsofmeasure.org", "code": "{score}",
    }  # fmt: skip
    values = {one["bodySite"]["coding"][0]["code"]: one["valueQuantity"]["value"] for one in found.values()}
    assert values == {"41801008": 67, "3227004": 16, "59438005": 50, "57396003": 0, "13647002": 1}
    category = component(total, "HL-CATEGORY")["valueCodeableConcept"]
    assert (category["coding"][0]["code"], category["text"]) == ("heartlens:mild", "mild, range 11–100")
    assert report["conclusionCode"] == [category]
    assert component(total, "112197")["valueQuantity"]["value"] == pytest.approx(90.0)


def test_every_reference_leads_to_an_entry():
    case = make_case(BOXES).reassign(1, Artery.UNASSIGNED)
    document = fhir_bundle(case, object_uids(case))
    urls = [entry["fullUrl"] for entry in document["entry"]]
    report, total, *_ = (entry["resource"] for entry in document["entry"])
    assert [one["reference"] for one in report["result"]] == urls[1:]
    assert [one["reference"] for one in total["hasMember"]] == urls[2:]
    assert len(set(urls)) == len(urls) == 7
    said = [
        (one["code"]["coding"][0]["code"], one["bodySite"]["coding"][0]["code"])
        for one in (entry["resource"] for entry in document["entry"][1:])
    ]
    assert len(set(said)) == len(said), "what has no artery is not the total to who reads codes"


def test_a_score_on_which_a_reader_must_decide_is_a_range_and_has_no_category():
    report, found = resources(make_case(BOXES, notes=DOUBT, labels=LabelSource.NETWORK))
    total = found["Total Agatston score"]
    assert "valueQuantity" not in total
    assert (total["valueRange"]["low"]["value"], total["valueRange"]["high"]["value"]) == (67, 103)
    for code in ("HL-CATEGORY", "HL-CACDRS"):
        absent = component(total, code)["dataAbsentReason"]
        assert absent["coding"][0]["code"] == "temp-unknown"
        assert "a reader must decide" in absent["text"]
    assert "conclusionCode" not in report


def test_an_artery_with_an_undecided_lesion_is_a_range_and_the_others_are_not():
    notes = {1: LesionNote(0.55, LabelSource.NETWORK, undecided=True)}
    _, found = resources(make_case(BOXES, notes=notes, labels=LabelSource.NETWORK))
    lad, rca = found["Agatston score, LAD"], found["Agatston score, RCA"]
    assert (lad["valueRange"]["low"]["value"], lad["valueRange"]["high"]["value"]) == (0, 50)
    assert "lesion 1" in lad["note"][0]["text"]
    assert rca["valueQuantity"]["value"] == 1
    assert "note" not in rca


def test_a_class_of_cac_drs_that_is_open_says_why():
    """Lesion 3, of 1, is the only one in its artery: with it A1/N3, without it A1/N2; the category stands."""
    notes = {3: LesionNote(0.55, LabelSource.NETWORK, undecided=True)}
    _, found = resources(make_case(BOXES, notes=notes, labels=LabelSource.NETWORK))
    total = found["Total Agatston score"]
    assert "valueCodeableConcept" in component(total, "HL-CATEGORY")
    why = component(total, "HL-CACDRS")["dataAbsentReason"]["text"]
    assert why == "Undecided, without changing the category: lesion 3."


def test_where_nothing_may_be_said_no_number_stands():
    case = make_case(BOXES, cautions=(WarningRecord("contrast", "contrast was given"),), risk_inputs=PERSON)
    report, found = resources(case)
    assert all(one["dataAbsentReason"]["coding"][0]["code"] == "unknown" for one in found.values())
    assert not [one for one in found.values() if "valueQuantity" in one or "valueRange" in one]
    total = found["Total Agatston score"]
    assert {c["dataAbsentReason"]["text"] for c in total["component"]} == {"contrast medium, which scores as calcium"}
    assert report["conclusion"].startswith("DRAFT, read by nobody. Not evaluable: contrast medium")


@pytest.mark.parametrize(
    ("state", "signature", "status"),
    [
        (None, None, "preliminary"),
        (State.READ, None, "preliminary"),
        (State.ALTERED, None, "preliminary"),
        (None, SIGNATURE, "final"),
    ],
)
def test_only_what_somebody_signed_is_final(state, signature, status):
    report, found = resources(make_case(BOXES), state=state, signature=signature)
    assert {report["status"], *(one["status"] for one in found.values())} == {status}
    signers = [person["display"] for person in report.get("resultsInterpreter", [])]
    assert signers == (["Jane Doe"] if signature else [])
    assert report.get("issued") == (signature.when if signature else None)


def test_nobody_is_named_unless_it_was_asked_for():
    case = make_case(BOXES, header=replace(HEADER, acquired="2026-01-02"))
    report, found = resources(case)
    assert not [one for one in (report, *found.values()) if "subject" in one]
    identity = Identity(patient_id="P-7", name="Jane Doe")
    report, found = resources(case, identity=identity)
    subjects = [one["subject"] for one in (report, *found.values())]
    assert subjects == [{"identifier": {"value": "P-7"}, "display": "Jane Doe"}] * 6
    assert report["effectiveDateTime"] == "2026-01-02"
    assert report["imagingStudy"][0]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}


def test_percentile_and_age_follow_from_a_score_that_stands():
    _, found = resources(make_case(BOXES, risk_inputs=PERSON))
    total = found["Total Agatston score"]
    case = make_case(BOXES, risk_inputs=PERSON)
    assert component(total, "HL-PERCENTILE")["valueQuantity"]["value"] == case.risk.percentile
    assert component(total, "HL-ARTERIALAGE")["valueQuantity"]["value"] == case.risk.arterial_age_years
    _, found = resources(make_case(BOXES, risk_inputs=PERSON, notes=DOUBT, labels=LabelSource.NETWORK))
    codes = {c["code"]["coding"][0]["code"] for c in found["Total Agatston score"]["component"]}
    assert not codes & {"HL-PERCENTILE", "HL-ARTERIALAGE"}
