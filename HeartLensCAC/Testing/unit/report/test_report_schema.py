"""report.json is what its published JSON Schema says, in every state; what the schema says is not empty."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest
from report_cases import BOXES, HEADER, PERSON, make_case

from heartlens.case.case import REPORT_SCHEMA
from heartlens.case.result import Result
from heartlens.case.signature import Signature
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.protocol import PROFILES
from heartlens.core.provenance import LabelSource
from heartlens.report.outputs import write_outputs

SCHEMA = json.loads((files("heartlens") / "report" / "report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

UNDECIDED = LesionNote(0.55, LabelSource.NETWORK, "close to the cut-off", undecided=True)

CASES = {
    "zero": make_case(),
    "a person": make_case(BOXES, risk_inputs=PERSON),
    "by networks": make_case(BOXES, notes={1: UNDECIDED}, labels=LabelSource.NETWORK, bundle="b 1", slice_stage=True),
    "not evaluable": make_case(BOXES, cautions=(WarningRecord("contrast", "enhanced"),)),
    "given labels": make_case(BOXES, labels=LabelSource.FILE, labels_sha256="0" * 64),
    "a vendor's protocol": make_case(BOXES, protocol=replace(PROFILES["philips"], mass_factor_mg_per_mm3_hu=7e-4)),
    "edited": make_case(BOXES).reassign(1, Artery.UNASSIGNED).remove(2),
}


@pytest.fixture(params=CASES)
def document(request):
    return json.loads(json.dumps(CASES[request.param].report_document()))


def test_the_schema_is_valid_and_names_its_version():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"]["const"] == REPORT_SCHEMA


def test_every_report_is_what_the_schema_says(document):
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


def test_a_signed_report_is_what_the_schema_says(tmp_path):
    case = make_case(BOXES)
    write_outputs(Result(case, ()), tmp_path / "out", signature=Signature("R", "O", "2026-11-29T10:00:00+00:00"))
    signed = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [error.message for error in VALIDATOR.iter_errors(signed)] == []
    assert (signed["assessment"]["state"], signed["signature"]["observer"]) == ("signed", "R")


def test_signing_resolves_what_asked_for_a_reader_and_nothing_else(tmp_path):
    cautions = tuple(WarningRecord(code, "why") for code in ("network", "kvp", "unsettled"))
    case = make_case(BOXES, cautions=cautions)
    write_outputs(Result(case, ()), tmp_path / "out", signature=Signature("R", "O", "2026-11-29T10:00:00+00:00"))
    signed = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(w["code"], w["state"], w["by"]) for w in signed["warnings"]] == [
        ("network", "resolved", "R"),
        ("kvp", "open", None),
        ("unsettled", "resolved", "R"),
    ]
    assert (signed["assessment"]["evaluable"], signed["assessment"]["reasons"]) == ("yes", [])
    assert {w["state"] for w in case.report_document()["warnings"]} == {"open"}


def test_signing_gives_no_number_of_images_that_nobody_knows(tmp_path):
    case = make_case(BOXES, cautions=(WarningRecord("image-count", "why"),))
    write_outputs(Result(case, ()), tmp_path / "out", signature=Signature("R", "O", "2026-11-29T10:00:00+00:00"))
    signed = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(w["code"], w["state"]) for w in signed["warnings"]] == [("image-count", "open")]
    assert (signed["assessment"]["evaluable"], signed["assessment"]["reasons"]) == ("limited", ["image-count"])


def test_lesions_name_the_images_that_a_viewer_shows():
    header = replace(HEADER, instance_numbers=tuple(range(14, 0, -1)))
    lesions = make_case(BOXES, header=header).report_document()["lesions"]
    assert {row["id"]: row["instances"] for row in lesions} == {1: [9], 2: [5], 3: [11], 4: [7]}
    assert {tuple(row["instances"]) for row in make_case(BOXES).report_document()["lesions"]} == {()}


def test_no_key_can_be_missing_and_none_can_be_added_unnoticed(document):
    for key in document:
        assert not VALIDATOR.is_valid({name: value for name, value in document.items() if name != key}), key
    for part in ("total", "assessment", "risk", "ct", "protocol", "provenance"):
        assert not VALIDATOR.is_valid({**document, part: {**document[part], "patient_name": "DOE^JANE"}}), part
    assert not VALIDATOR.is_valid({**document, "patient_name": "DOE^JANE"})


def test_the_range_of_the_total_spans_what_is_undecided():
    """LAD of 50 undecided and called coronary, LM of 16, RCA of 1: 17 without it, 67 with it."""
    assessment = CASES["by networks"].report_document()["assessment"]
    assert (assessment["total_low"], assessment["total_high"], assessment["undecided"]) == (17, 67, [1])
    assert (assessment["category_low"], assessment["category_high"]) == ("mild", "mild")


def test_an_undecided_island_that_is_not_called_coronary_can_only_add():
    """OTHER of 36 pixels of 0.25 mm2 at 600 HU: 36 on top of 67 makes another category."""
    case = make_case(BOXES, notes={4: UNDECIDED}, labels=LabelSource.NETWORK)
    assessment = case.assessment
    assert (assessment.total_low, assessment.total_high, assessment.undecided) == (67, 103, (4,))
    assert (assessment.category_low, assessment.category_high) == ("mild", "moderate")


def test_what_cannot_be_evaluated_has_no_category():
    assessment = CASES["not evaluable"].assessment
    assert (assessment.evaluable.value, assessment.reasons) == ("no", ("contrast",))
    assert (assessment.category_low, assessment.category_high) == (None, None)


@pytest.mark.parametrize("code", ["no-heart", "extrapolated-gaps"])
def test_where_the_risk_is_withheld_the_assessment_gives_no_category_either(code):
    case = make_case(BOXES, cautions=(WarningRecord(code, "why"),))
    assert (case.risk.category, case.assessment.category_low, case.assessment.category_high) == (None, None, None)


def test_an_edit_makes_a_draft_read():
    assert (CASES["a person"].assessment.state.value, CASES["edited"].assessment.state.value) == ("draft", "read")
