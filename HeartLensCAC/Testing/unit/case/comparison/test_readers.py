"""Two readings of one scan: agreement worked out by hand, and a third case that settles nothing by itself."""

from __future__ import annotations

import numpy as np
import pytest
from report_cases import BOXES, make_case
from two_scans import UNDECIDED, opened

from heartlens.case.case import Case
from heartlens.case.comparison.adjudication import adjudicated
from heartlens.case.comparison.readers import Agreement, compare_readings, kappa_of, linear_kappa
from heartlens.case.signature import obstacles
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.risk.person import RiskInputs

# LAD 50 (100 pixels), LM 16 (16 pixels), RCA 1 (4 pixels); and OTHER
A = make_case(BOXES)


def compared(a, b):
    return compare_readings(opened(a), opened(b))


def test_a_reading_agrees_with_itself():
    same = compared(A, A)
    assert [one.kind for one in same.lesions] == ["both"] * 3
    assert (same.dice, same.same_category) == (1.0, True)
    assert set(np.unique(same.map)) == {0, Agreement.BOTH}


def test_removed_renamed_and_excluded_lesions_are_told_apart():
    b = A.reassign(1, Artery.LCX).reassign(2, Artery.OTHER).remove(3)
    found = compared(A, b)
    kinds = {one.a: (one.kind, one.arteries_b, one.says_other) for one in found.lesions}
    assert kinds == {
        (1,): ("other artery", ("LCX",), False), (2,): ("only A", (), True), (3,): ("only A", (), False),
    }  # fmt: skip
    count = np.bincount(found.map.reshape(-1), minlength=5)[1:]
    assert count.tolist() == [0, 100, 20, 0]
    assert found.dice == pytest.approx(2 * 100 / (120 + 100))
    assert found.same_category is True  # 67 and 50 are both mild


def test_what_only_the_second_calls_coronary_is_its_own():
    found = compared(A.remove(1), A)
    assert [(one.kind, one.b) for one in found.lesions if not one.a] == [("only B", (1,))]
    assert found.same_category is True  # 17 and 67
    assert compared(A.remove(1).remove(2), A).same_category is False  # 1 is minimal


def named(artery, undecided):
    """One island of 50 Agatston, by one reader."""
    return make_case([(artery, 5, 10, 10, 10, 250)], notes={1: UNDECIDED} if undecided else None)


@pytest.mark.parametrize(
    ("other", "says_other", "undecided"),
    [(named(Artery.OTHER, False), True, False), (named(Artery.OTHER, True), False, True)],
)
def test_a_reader_who_has_not_decided_has_not_said_that_it_is_not_coronary(other, says_other, undecided):
    for pair in ((named(Artery.LAD, False), other), (other, named(Artery.LAD, False))):
        (one,) = compared(*pair).lesions
        assert (one.kind[:4], one.says_other, one.undecided) == ("only", says_other, undecided)


def test_lesions_that_share_voxels_in_a_chain_are_one_group():
    halves = make_case([(Artery.LAD, 5, 10, 10, 10, 250), (Artery.LM, 5, 10, 20, 10, 250)])
    one_island = LesionMap((halves.lesions.labels > 0).astype(np.uint16), {1: Artery.LAD})
    whole = Case.of(halves.source_ct, one_island, halves.protocol)
    (one,) = compared(whole, halves).lesions
    assert (one.kind, one.a, one.b) == ("other artery", (1,), (1, 2))
    assert (one.agatston_a, one.agatston_b) == (100, 100)


def test_categories_of_two_ways_of_scoring_or_of_two_schemes_are_not_compared():
    other = make_case(BOXES, protocol=ScoringProtocol(minimum_area_mm2=0.5))
    found = compared(A, other)
    assert [len(one.categories) for one in (found.a, found.b)] == [1, 1]
    assert found.same_category is None
    assert "scored differently (minimum area mm2)" in found.category_withheld
    scheme = make_case(BOXES, risk_inputs=RiskInputs(scheme="five-bin"))
    by_other = compared(scheme, scheme)
    assert by_other.a.scheme != found.a.scheme
    assert compared(A, scheme).same_category is None
    assert kappa_of([compared(A, A), by_other]) == (None, 2)


def test_two_scans_are_refused():
    other = make_case([(Artery.LAD, 5, 10, 10, 10, 251)])
    with pytest.raises(InputRefused, match="heartlens progress"):
        compared(A, other)


def test_kappa_counts_how_far_apart_grades_lie():
    assert linear_kappa([(0, 0), (1, 1), (4, 4)], 5) == 1.0
    # Apart: one of two pairs, by 1. By chance half the pairs of {0, 1} with {0, 2}: (0 + 2 + 1 + 1) / 2 = 2.
    assert linear_kappa([(0, 0), (1, 2)], 5) == pytest.approx(1 - 1 / 2)
    assert linear_kappa([(2, 2), (2, 2)], 5) is None
    assert linear_kappa([], 5) is None
    assert kappa_of([compared(A, A), compared(A.remove(1).remove(2).remove(3), A)])[1] == 2


def test_a_third_case_holds_what_both_say_and_leaves_the_rest_open():
    b = A.reassign(1, Artery.LCX).remove(2)
    third = adjudicated(opened(A), opened(b))
    by_artery = {a: third.report.arteries[a].agatston for a in Artery}
    # RCA by both; the LAD of one and LCX of the other counts without an artery; LM of one alone is undecided.
    assert by_artery[Artery.RCA] == 1
    assert by_artery[Artery.UNASSIGNED] == 50
    assert by_artery[Artery.LM] == 16
    assert (third.assessment.total_low, third.assessment.total_high) == (51, 67)
    assert len(third.assessment.undecided) == 1
    assert [text.split(" ", 2)[:2] for text in obstacles(third, confirmed=True)] == [["1", "lesion"], ["Lesion", "3"]]


@pytest.mark.parametrize(
    ("a", "b", "artery", "low"),
    [
        ((Artery.OTHER, True), (Artery.OTHER, False), Artery.OTHER, 0),
        ((Artery.OTHER, True), (Artery.OTHER, True), Artery.OTHER, 0),
        ((Artery.OTHER, True), (Artery.LAD, False), Artery.LAD, 0),
        ((Artery.LAD, True), (Artery.LCX, True), Artery.UNASSIGNED, 0),
        ((Artery.LAD, True), (Artery.LCX, False), Artery.UNASSIGNED, 0),
        ((Artery.LAD, True), (Artery.LAD, True), Artery.LAD, 0),
        ((Artery.LAD, True), (Artery.LAD, False), Artery.LAD, 0),
    ],
)
def test_what_a_reading_leaves_open_stays_open_in_the_third_case(a, b, artery, low):
    readings = (named(*a), named(*b))
    for pair in (readings, readings[::-1]):
        third = adjudicated(*map(opened, pair))
        assert set(third.lesions.arteries.values()) == {artery}
        assert (third.assessment.total_low, third.assessment.total_high) == (low, 50)
        assert third.assessment.total_high >= max(one.assessment.total_high for one in readings)
        assert any("undecided" in text for text in obstacles(third, confirmed=True))


def test_a_third_case_of_two_ways_of_scoring_is_refused():
    b = make_case(BOXES, protocol=ScoringProtocol(minimum_area_mm2=0.5))
    with pytest.raises(InputRefused, match="score both in one way"):
        adjudicated(opened(A), opened(b))


def test_a_third_case_of_two_empty_readings_is_empty():
    none = make_case()
    assert adjudicated(opened(none), opened(none)).report.total.agatston == 0


@pytest.mark.parametrize(
    ("other", "says_other"),
    [
        (named(Artery.OTHER, False), True),
        (named(Artery.OTHER, True), False),
        (named(Artery.OTHER, True).remove(1), False),
    ],
)
def test_what_nobody_calls_coronary_and_one_has_not_decided_is_told(other, says_other):
    for pair in ((named(Artery.OTHER, True), other), (other, named(Artery.OTHER, True))):
        found = compared(*pair)
        (one,) = found.lesions
        assert (one.kind, one.undecided, one.says_other) == ("open", True, says_other)
        assert found.dice is None, "neither calls any voxel coronary"
    assert compared(named(Artery.OTHER, False), named(Artery.OTHER, False)).lesions == ()
