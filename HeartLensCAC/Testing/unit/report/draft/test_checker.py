"""A re-wording that says anything else than the draft is refused with its reason, and an honest one may stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from draft_cases import ANSWERS, DRAFTS, answer_of
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import BOXES, HEADER, make_case

from heartlens.case.signature import state_words
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.report.draft.checker import TOKEN, faults_of, lines_of
from heartlens.report.draft.sentences import SLOT
from heartlens.report.draft.template import draft_of
from heartlens.report.draft.vocabulary import CLAIM_OF, FILLERS, NEGATIONS, NUMBER_WORDS
from heartlens.risk.assessment import assess_score
from heartlens.risk.categories import SCHEMES
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, State

PAGE = Path(__file__).resolve().parents[5] / "docs" / "draft.md"


@pytest.mark.parametrize("row", ANSWERS["poisoned"], ids=lambda row: row["name"])
def test_a_poisoned_answer_is_refused_with_its_reason(row):
    faults = faults_of(DRAFTS[row["draft"]], answer_of(row))
    assert faults, row["wrong"]
    assert row["code"] in {fault.code for fault in faults}
    assert all(fault.text.isascii() and fault.text.isprintable() and len(fault.text) < 250 for fault in faults)


def test_there_are_more_than_forty_of_them_and_every_reason_is_tried():
    assert len({row["name"] for row in ANSWERS["poisoned"]}) == len(ANSWERS["poisoned"]) > 40
    assert {row["code"] for row in ANSWERS["poisoned"]} == {
        "empty", "length", "character", "number", "word", "slot", "sentences", "negation", "claim"
    }  # fmt: skip


def test_the_page_shows_the_draft_and_counts_the_answers():
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert " ".join(DRAFTS["busy"].text().split()) in page
    assert f"{len(ANSWERS['poisoned'])} poisoned answers" in page
    assert f"{len(ANSWERS['honest'])} honest re-wordings" in page


@pytest.mark.parametrize("row", ANSWERS["honest"], ids=lambda row: row["name"])
def test_an_honest_answer_may_stand_and_has_every_value_of_the_draft(row):
    own = DRAFTS[row["draft"]]
    answer = answer_of(row)
    assert faults_of(own, answer) == ()
    assert re.findall(r"\d[\d–]*", own.text(lines_of(answer))) == re.findall(r"\d[\d–]*", own.text())


def test_no_word_is_both_a_claim_and_none_and_no_number_is_a_word_of_a_draft():
    assert not FILLERS & set(CLAIM_OF)
    assert not NUMBER_WORDS & (FILLERS | set(CLAIM_OF))
    assert set(CLAIM_OF) >= NEGATIONS
    # What compares, doubts or joins otherwise would change a number without touching it.
    assert not {"above", "below", "over", "under", "less", "more", "most", "from", "or", "if", "only", "all"} & FILLERS


@st.composite
def any_draft(draw):
    """Of any assessment: lesions of any artery, undecided or not, any warnings, scheme, gating and state."""
    boxes = draw(st.lists(st.sampled_from(BOXES), unique=True, max_size=4))
    boxes = [(draw(st.sampled_from(Artery)), *box[1:]) for box in boxes]
    notes = {
        n: LesionNote(draw(st.floats(0, 1)), LabelSource.NETWORK, undecided=draw(st.booleans()))
        for n in range(1, len(boxes) + 1)
    }
    case = make_case(boxes, notes=notes, labels=draw(st.sampled_from(LabelSource)), header=HEADER)
    codes = draw(st.lists(st.sampled_from(sorted(EVALUABLE_BY_CODE)), max_size=2))
    scheme = draw(st.sampled_from(sorted(SCHEMES)))
    likely = draw(st.none() | st.sampled_from([row.category for row in SCHEMES[scheme].categories]))
    assessment = assess_score(
        case.report,
        codes,
        scheme=scheme,
        labels=case.provenance.labels,
        is_read=False,
        is_gated=draw(st.sampled_from((True, False, None))),
        probability=None if likely is None else [(likely, 1.0)],
    )
    acquired = draw(st.none() | st.dates())
    state = state_words(draw(st.sampled_from(State)))
    labels = draw(st.none() | st.sampled_from(LabelSource))
    return assessment, draft_of(case.report, assessment, state=state, acquired=acquired, labels=labels)


OUTSIDE = st.text("abcdefghijklmnopqrstuvwxyz", min_size=5, max_size=9).map(lambda word: f"q{word}")
FEW = settings(max_examples=40, deadline=None)


@FEW
@given(any_draft())
def test_the_draft_of_any_assessment_passes_its_own_check(made):
    _, own = made
    assert faults_of(own, own.skeleton) == ()
    assert not re.search(r"\d", own.skeleton)


@FEW
@given(any_draft())
def test_a_draft_says_no_more_than_its_assessment_allows(made):
    assessment, own = made
    text = own.text()
    if assessment.evaluable.value == "no":
        assert not {"category", "cac_drs", "lad", "score", "findings", "limits"} & set(own.values)
        assert ("found" in own.values) == assessment.has_total
        assert "not evaluable" in text
    else:
        assert assessment.category() in text
        assert own.values["score"] == assessment.score()
        assert ("undecided" in own.values) == bool(assessment.undecided)
        assert ("a reader must decide" in text.lower()) == assessment.must_decide
        assert ("estimated" in text) == assessment.is_estimate
        assert ("limited" in text) == (assessment.evaluable.value == "limited")


@FEW
@given(any_draft(), st.data())
def test_a_digit_anywhere_and_a_word_from_outside_are_refused(made, data):
    _, own = made
    at = data.draw(st.integers(0, len(own.skeleton)))
    digit = data.draw(st.sampled_from("0123456789½²٣Ⅻ"))
    assert faults_of(own, own.skeleton[:at] + digit + own.skeleton[at:])
    tokens = [found for found in TOKEN.finditer(own.skeleton) if found[0][0].isalpha()]
    found = data.draw(st.sampled_from(tokens))
    word = data.draw(OUTSIDE)
    answer = own.skeleton[: found.start()] + word + own.skeleton[found.end() :]
    assert {fault.code for fault in faults_of(own, answer)} & {"word", "number"}


@FEW
@given(any_draft(), st.data())
def test_a_claim_that_is_dropped_exchanged_or_moved_is_refused(made, data):
    """By the words that every draft may use: nothing but the order of the claims can tell."""
    _, own = made
    tokens = [found for found in TOKEN.finditer(own.skeleton) if found[0].lower() in CLAIM_OF or found[0][0] == "{"]
    found = data.draw(st.sampled_from(tokens))
    here = CLAIM_OF.get(found[0].lower(), found[0])
    other = data.draw(st.sampled_from(sorted(word for word in CLAIM_OF if CLAIM_OF[word] != here)))
    for instead in ("", other):
        assert faults_of(own, own.skeleton[: found.start()] + instead + own.skeleton[found.end() :])
    a, b = sorted((data.draw(st.sampled_from(tokens)), found), key=lambda one: one.start())
    if CLAIM_OF.get(a[0].lower(), a[0]) != CLAIM_OF.get(b[0].lower(), b[0]):
        text = own.skeleton
        assert faults_of(own, text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :])


@pytest.mark.parametrize("beside", ["-", "- ", "a", "by-", "{", "}"])
def test_nothing_stands_right_beside_a_slot(beside):
    """What is glued to a value changes it: a minus, a letter that reads as a unit."""
    own = DRAFTS["busy"]
    for found in SLOT.finditer(own.skeleton):
        for at in (found.start(), found.end()):
            assert faults_of(own, own.skeleton[:at] + beside + own.skeleton[at:]), (found[0], beside)
