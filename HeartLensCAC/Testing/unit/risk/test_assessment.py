"""What a score may be called: never more than the scan, the lesions and the networks allow, and the same everywhere."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import BOXES, HEADER, PERSON, make_case

from heartlens.__main__ import result_table
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.risk.categories import SCHEMES
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, REASONS, Evaluable, State
from heartlens.risk.person import RiskInputs


def undecided(p=0.55):
    return LesionNote(p, LabelSource.NETWORK, "close to the cut-off", undecided=True)


def by_networks(notes=None, boxes=BOXES, **more):
    """LAD 50, LM 16, RCA 1 and 36 that is called not coronary, each with a probability unless its note says another."""
    sure = {
        n: LesionNote(0.99 if box[0] is not Artery.OTHER else 0.1, LabelSource.NETWORK)
        for n, box in enumerate(boxes, 1)
    }
    return make_case(boxes, notes=sure | (notes or {}), labels=LabelSource.NETWORK, **more)


def said(case):
    return list(case.assessment.lines())


def test_a_score_without_doubt_is_one_sentence_with_its_ranges():
    assert said(make_case(BOXES)) == ["Total Agatston score 67 (heartlens: mild, range 11–100). CAC-DRS A1/N3 (1–99)."]
    assert make_case(BOXES).assessment.headline() == "Mild, range 11–100"


def test_a_scheme_without_words_gives_its_range_alone():
    case = make_case(BOXES, risk_inputs=RiskInputs(scheme="ai-cac"))
    assert said(case) == ["Total Agatston score 67 (ai-cac: range 1–100). CAC-DRS A1/N3 (1–99)."]


def test_a_missed_plaque_that_was_flagged_is_in_the_headline():
    """67 as named; with the 36 that may be coronary 103, which is another category and another class of CAC-DRS."""
    case = by_networks({4: undecided(0.45)})
    assert case.assessment.headline() == "Mild or moderate: a reader must decide"
    assert said(case)[:3] == [
        (
            "Total Agatston score 67 to 103 (heartlens: mild, range 11–100, or moderate, range 101–400). "
            "CAC-DRS A1 (1–99) or A2 (100–299)."
        ),
        "67, or 103 if lesion 4 is coronary.",
        "The category depends on lesion 4: a reader must decide.",
    ]


@pytest.mark.parametrize(
    ("doubts", "sentence"),
    [
        ((), ""),
        ((1,), "67, or 17 if lesion 1 is not coronary"),
        ((2, 3), "67, or 50 if lesions 2 and 3 are not coronary"),
        ((4,), "67, or 103 if lesion 4 is coronary"),
        ((1, 4), "67, or 17 if lesion 1 is not, or 103 if lesion 4 is, too"),
        ((1, 2, 3, 4), "67, or 0 if lesions 1, 2 and 3 are not, or 103 if lesion 4 is, too"),
    ],
)
def test_the_range_says_what_each_decision_would_make_of_the_score(doubts, sentence):
    assert by_networks({n: undecided() for n in doubts}).assessment.range() == sentence


def test_of_many_undecided_lesions_five_are_named_and_the_rest_is_counted():
    boxes = [(Artery.LAD, n, 10, 10, 2, 150) for n in range(7)]
    text = by_networks({n: undecided() for n in range(1, 8)}, boxes).assessment.decide()
    assert text == "The category depends on lesions 1, 2, 3, 4, 5 and 2 more: a reader must decide."


def test_undecided_lesions_come_with_the_highest_score_first():
    assert by_networks({n: undecided() for n in (1, 2, 3, 4)}).assessment.undecided == (1, 4, 2, 3)


def test_doubt_within_a_category_leaves_it_and_is_told():
    """16 or 1 less than 67 is mild all the same."""
    case = by_networks({2: undecided(), 3: undecided()})
    assert case.assessment.headline() == "Mild, range 11–100"
    assert case.assessment.score() == "50 to 67"
    assert case.assessment.decide() == "Undecided, without changing the category: lesions 2 and 3."
    assert case.assessment.cac_drs() == "A1 (1–99)", "with or without them one or three arteries are calcified"


def test_the_likeliest_category_never_contradicts_the_headline():
    """Nothing is undecided, and four lesions left out with 0.45 each make more than 100 of 67 in most cases."""
    left = [(Artery.OTHER, k, 40, 40, 5, 450) for k in (0, 2, 4, 6)]  # 25 each
    boxes = [*BOXES[:3], *left]
    case = by_networks({n: LesionNote(0.45, LabelSource.NETWORK) for n in (4, 5, 6, 7)}, boxes)
    likeliest = max(case.risk.category_probability, key=lambda row: row[1])
    assert (case.risk.category, likeliest[0]) == ("mild", "moderate")
    assert case.assessment.headline() == "Mild or moderate: a reader must decide"
    assert case.assessment.probability() == f"Likeliest by the networks: moderate ({100 * likeliest[1]:.0f} %)."
    assert case.assessment.decide().startswith("No lesion alone is close to the cut-off")


def test_of_an_empty_map_no_network_is_sure():
    for case in (by_networks(boxes=()), by_networks(boxes=BOXES[3:])):
        assert case.report.total.agatston == 0
        assert case.risk.category_probability is None
        assert case.assessment.probability() == ""
        assert "%" not in result_table(case)


def test_a_zero_with_an_undecided_lesion_is_not_called_absent_alone():
    case = by_networks({1: undecided(0.4)}, BOXES[3:])
    assert case.assessment.headline() == "Absent up to mild: a reader must decide"
    assert case.assessment.score() == "0 to 36"


def test_what_a_reader_has_decided_has_no_probability_left():
    case = by_networks({4: undecided(0.45)})
    for lesion in (1, 2, 3, 4):
        case = case.reassign(lesion, case.lesions.arteries[lesion])
    assert case.assessment.probability() == ""
    assert case.assessment.undecided == ()
    assert case.assessment.headline() == "Mild, range 11–100"


NOT_EVALUABLE = [code for code, leads_to in EVALUABLE_BY_CODE.items() if leads_to is Evaluable.NO]


@pytest.mark.parametrize("code", NOT_EVALUABLE)
@pytest.mark.parametrize("boxes", [(), BOXES], ids=["zero", "calcium"])
def test_where_nothing_can_be_known_nothing_is_claimed_in_any_place(code, boxes):
    from heartlens.report.html import render_report

    case = by_networks(boxes=boxes, cautions=(WarningRecord(code, "why"),), risk_inputs=PERSON)
    risk, assessment = case.risk, case.assessment
    assert (assessment.category_low, assessment.category_high, assessment.cac_drs_low, assessment.likeliest) == (
        None,
    ) * 4
    assert (risk.category, risk.cac_drs, risk.percentile, risk.category_probability, risk.arterial_age_years) == (
        None,
    ) * 5
    page = re.sub(r"<style>.*?</style>|<[^>]+>", " ", render_report(case), flags=re.DOTALL)
    for text in (result_table(case), json.dumps(assessment.to_json()["texts"]), page):
        assert "Not evaluable" in text
        assert REASONS[code].lower() in text.lower()
        assert not re.search(r"CAC-DRS A\d|percentile for|Likeliest", text)


def test_given_labels_need_no_heart():
    case = make_case(BOXES, cautions=(WarningRecord("no-heart", "none"),), labels=LabelSource.FILE)
    assert case.assessment.evaluable is Evaluable.YES
    assert case.risk.category == "mild"


def test_no_heart_gives_no_number_at_all():
    case = by_networks(boxes=(), cautions=(WarningRecord("no-heart", "none"),))
    assert said(case) == ["Not evaluable: no heart was found."]


def test_what_limits_a_statement_stands_beside_it():
    codes = ("non-gated", "kvp", "metal")
    case = make_case(BOXES, cautions=tuple(WarningRecord(code, "a text") for code in codes))
    assert said(case)[-1] == "Limited: not known to be ECG-gated; metal near the heart."


def test_every_finding_of_the_table_has_its_few_words():
    assert set(EVALUABLE_BY_CODE) <= set(REASONS)
    assert "YES" not in {leads_to.name for leads_to in EVALUABLE_BY_CODE.values()}


@pytest.mark.parametrize("is_gated", [True, False, None])
def test_without_gating_the_sentence_says_estimated(is_gated):
    from dataclasses import replace

    case = make_case(BOXES, header=replace(HEADER, is_gated=is_gated))
    assert case.assessment.sentence().startswith("Total" if is_gated else "Estimated total")


def test_an_unassigned_lesion_leaves_the_number_of_arteries_open():
    case = make_case([(Artery.UNASSIGNED, 5, 10, 10, 10, 250)])
    assert case.assessment.cac_drs() == "A1 (1–99)"


def test_a_percentile_can_move_the_category_of_the_2018_scheme_here_too():
    scheme = next(name for name, one in SCHEMES.items() if any(row.percentile_from for row in one.categories))
    young = RiskInputs(scheme=scheme, age_years=46, sex="F", race="white")
    case = make_case(BOXES, risk_inputs=young)
    assert [row.category for row in case.assessment.categories] == [case.risk.category]
    assert case.risk.category != make_case(BOXES, risk_inputs=RiskInputs(scheme=scheme)).risk.category


BOX = st.tuples(
    st.sampled_from([*Artery]), st.integers(0, 13), st.sampled_from([2, 20, 40]), st.sampled_from([2, 20, 40]),
    st.integers(1, 10), st.sampled_from([150, 250, 350, 450]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(BOX, max_size=6, unique_by=lambda box: box[1:4]),
    data=st.data(),
    scheme=st.sampled_from(sorted(SCHEMES)),
    codes=st.sets(st.sampled_from([*EVALUABLE_BY_CODE, "kvp"]), max_size=2),
)
def test_in_every_state_the_texts_agree_with_each_other(boxes, data, scheme, codes):
    notes = {
        n: LesionNote(data.draw(st.floats(0, 1)), LabelSource.NETWORK, undecided=data.draw(st.booleans()))
        for n in range(1, len(boxes) + 1)
    }
    case = make_case(
        boxes, notes=notes, labels=LabelSource.NETWORK, risk_inputs=RiskInputs(scheme=scheme),
        cautions=tuple(WarningRecord(code, "why") for code in sorted(codes)),
    )  # fmt: skip
    one = case.assessment
    assert one.total_low <= case.report.total.agatston <= one.total_high
    if one.evaluable is Evaluable.NO:
        assert (one.categories, one.probability(), one.range(), one.cac_drs()) == ((), "", "", "")
        return
    codes_allowed = [row.category for row in one.categories]
    assert case.risk.category in codes_allowed
    for row in one.categories[:: max(len(one.categories) - 1, 1)]:
        assert row.shown in one.sentence()
    assert one.must_decide == one.headline().endswith("a reader must decide")
    if one.likeliest is not None:
        assert one.likeliest in codes_allowed
        assert case.report.total.agatston > 0
    assert one.state is State.DRAFT
