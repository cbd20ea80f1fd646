"""The draft says what the assessment of a result allows, in each state, and nothing else."""

from __future__ import annotations

import pytest
from draft_cases import BUSY_CASE, CONTRAST_CASE, DRAFTS, READER, SCANNED, ZERO_CASE, draft, networks
from report_cases import BOXES, make_case

from heartlens.core.lesions import Artery
from heartlens.core.protocol import NOTICE
from heartlens.core.provenance import LabelSource
from heartlens.report.draft.sentences import DraftText, Sentence
from heartlens.report.draft.template import draft_of
from heartlens.risk.evaluable import State


def body(own):
    """The paragraph between the state and the notice."""
    state, text, notice = own.text().split("\n\n")
    assert (state.startswith("State of the result: "), notice) == (True, NOTICE)
    return text


def test_a_range_over_two_categories_names_both_and_asks_for_a_reader():
    """LAD 50 and 36 at the valve undecided, LM 16 and RCA 1 not: 17 without the LAD, 103 with the valve, now 67."""
    assert body(DRAFTS["busy"]) == (
        f"Coronary artery calcium was scored by the Agatston method on a CT scan of {SCANNED}. Calcium was found and "
        "named by networks. The estimated total Agatston score lies in the range 17 to 103, and by the scheme "
        "heartlens the category is mild, range 11–100, or moderate, range 101–400. Its CAC-DRS class is A1 (1–99) or "
        "A2 (100–299). As the lesions are named now, the score is 67, or 17 if lesion 1 is not, or 103 if lesion 4 is, "
        "too. The category depends on lesions 1 and 4, and a reader must decide. This statement is limited: not known "
        "to be ECG-gated. By artery, as the lesions are named now, the Agatston scores are LM 16, LAD 50, LCX 0 and "
        "RCA 1. Calcium that is now called not coronary scores, by its place: aortic valve 36."
    )


def test_a_zero_excludes_no_plaque_without_calcium():
    text = body(DRAFTS["zero"])
    assert "total Agatston score is 0, and by the scheme heartlens the category is absent, range 0." in text
    assert text.endswith("Plaque that is not calcified is not excluded.")
    assert "not excluded" not in body(draft(networks(BOXES[3:], 1)))  # an undecided lesion: it may be no zero


@pytest.mark.parametrize("case", [CONTRAST_CASE, networks(BOXES, 1, 4, codes=("clipped",))])
def test_a_scan_that_is_not_evaluable_has_no_category_no_artery_and_no_site(case):
    text = body(draft(case))
    assert "adds up to an Agatston score of 67, which says nothing about this person" in text
    for word in ("mild", "moderate", "range", "CAC-DRS", "LAD", "category", "lesion", "place"):
        assert word not in text


def test_without_a_heart_there_is_no_number_at_all():
    text = body(draft(networks((), codes=("no-heart",))))
    assert text.endswith("The scan is not evaluable: no heart was found. No total score is given.")


def test_an_undecided_lesion_within_the_category_and_an_unassigned_one_are_said():
    assert "Undecided, without changing the category: lesion 2." in body(draft(networks(BOXES, 2)))
    text = body(draft(make_case(BOXES).reassign(1, Artery.UNASSIGNED)))
    assert "LM 16, LAD 0, LCX 0 and RCA 1. Calcium without a named artery scores 50." in text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.DRAFT, "DRAFT, read by nobody."),
        (State.READ, "READ, edited by a reader and not signed."),
        (State.ALTERED, "ALTERED after it was signed: no signature is valid."),
    ],
)
def test_the_state_comes_first(state, words):
    assert draft(ZERO_CASE, state=state).text().startswith(f"State of the result: {words}\n\n")


def test_a_signed_draft_names_the_reader_whose_name_is_no_slot_and_limits_no_more_what_the_reader_settled():
    text = draft(ZERO_CASE, READER).text()
    assert text.startswith("State of the result: SIGNED by Rita Reader, Clinic {score}, 2026-11-29 10:00 (UTC+01:00).")
    unsettled = networks(BOXES, codes=("unsettled",))
    assert "limited" in body(draft(unsettled))
    assert "limited" not in body(draft(unsettled, READER))


def test_what_is_shown_to_a_model_holds_no_value_and_neither_state_nor_notice():
    own = draft(BUSY_CASE, READER)
    assert own.values["state"].startswith("SIGNED by Rita Reader")
    for name, value in own.values.items():
        assert value not in own.skeleton, name
    assert "{state}" not in own.skeleton
    assert "{notice}" not in own.skeleton


def test_what_is_not_known_is_said_or_left_out():
    report, assessment = ZERO_CASE.report, ZERO_CASE.assessment
    text = body(draft_of(report, assessment, state="DRAFT"))
    assert text.startswith("Coronary artery calcium was scored by the Agatston method on a CT scan without a stated")
    assert "named by" not in text
    assert "named by labels that were given" in body(
        draft_of(report, assessment, state="DRAFT", labels=LabelSource.FILE)
    )


def test_a_slot_without_a_value_a_value_without_a_slot_and_a_slot_twice_are_refused():
    for sentences, values in (
        ((Sentence("{a}."),), {}),
        ((Sentence("{a}."),), {"a": ""}),
        ((Sentence("A."),), {"a": "1"}),
        ((Sentence("{a}."), Sentence("{a}.")), {"a": "1"}),
    ):
        with pytest.raises(ValueError, match="each slot once"):
            DraftText(sentences, values)
