"""UIDs follow from what is said: the same result is one object, a corrected one another that names it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_cases import BOXES, HEADER, make_case

from heartlens.case.signature import Signature
from heartlens.core.lesions import Artery
from heartlens.report.dicom_objects import object_uids
from heartlens.risk.evaluable import State
from heartlens.risk.person import RiskInputs

SIGNATURE = Signature("Doe^Jane", "Clinic", "2026-11-29T10:00:00+01:00")
KINDS = ("seg", "sr", "key page", "PDF")


def all_of(uids):
    return {uids.instance(kind) for kind in KINDS}


def test_scoring_once_more_is_the_same_object_whenever_and_however_fast():
    first = make_case(BOXES, scored_at="2026-11-29T10:00:00+00:00", device="cpu")
    again = make_case(BOXES, scored_at="2026-11-30T11:00:00+00:00", device="cuda", seconds={"read": 9.0})
    assert object_uids(first) == object_uids(again)
    assert len(all_of(object_uids(first))) == len(KINDS)
    assert not object_uids(first).is_corrected


def test_another_scan_of_the_same_voxels_is_another_object():
    other = make_case(BOXES, header=replace(HEADER, series_uid="1.2.3.5"))
    assert not all_of(object_uids(make_case(BOXES))) & all_of(object_uids(other))
    assert object_uids(make_case(BOXES)).series("sr") != object_uids(other).series("sr")


def test_a_correction_is_a_later_object_in_the_same_series_and_names_the_automatic_one():
    automatic = make_case(BOXES)
    before, after = object_uids(automatic), object_uids(automatic.reassign(1, Artery.LCX))
    assert after.is_corrected
    assert after.predecessor("sr") == before.instance("sr") != after.instance("sr")
    assert [before.series(kind) for kind in KINDS] == [after.series(kind) for kind in KINDS]
    assert (before.number, after.number) == (1, 2)
    assert before.finding("lesion 1") == after.finding("lesion 1") != after.finding("lesion 2")


def test_as_many_edits_that_say_something_else_are_another_object():
    """An archive keeps the first of two objects with one UID, and the reader's second thought would be lost."""
    automatic = make_case(BOXES)
    one, other = automatic.reassign(1, Artery.LCX), automatic.reassign(1, Artery.RCA)
    assert len(one.edits) == len(other.edits)
    assert not all_of(object_uids(one)) & all_of(object_uids(other))
    assert object_uids(one).predecessor("sr") == object_uids(other).predecessor("sr")


@pytest.mark.parametrize(
    ("signature", "state"), [(SIGNATURE, None), (replace(SIGNATURE, observer="Roe^Ann"), None), (None, State.ALTERED)]
)
def test_who_signed_and_that_it_was_altered_make_another_object(signature, state):
    automatic = make_case(BOXES)
    later = object_uids(automatic, signature, state)
    assert later.is_corrected
    assert later.predecessor("sr") == object_uids(automatic).instance("sr")


def test_a_later_heartlens_that_corrects_a_case_names_the_automatic_object_that_was_written(monkeypatch):
    automatic = make_case(BOXES, version="1.0")
    written = object_uids(automatic).instance("sr")
    monkeypatch.setattr("heartlens.case.case.__version__", "2.0")
    assert object_uids(automatic.reassign(1, Artery.LCX)).predecessor("sr") == written


def test_what_is_said_in_another_language_is_another_object_of_the_same_series():
    english = object_uids(make_case(BOXES))
    german = english.told_apart_by(language="de")
    assert not all_of(english) & all_of(german)
    assert [english.series(kind) for kind in KINDS] == [german.series(kind) for kind in KINDS]


def test_what_is_known_of_the_person_changes_what_is_said():
    assert object_uids(make_case(BOXES)) != object_uids(make_case(BOXES, risk_inputs=RiskInputs(age_years=61, sex="M")))
