"""What is said of two scans: changes worked out by hand, and everything that forbids to say one."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from two_scans import AGATSTON, LAD_4, LAD_MM, LCX_MM, RCA_MM, UNDECIDED, VOLUME_MM3, opened, scan

from heartlens.anatomy import heart_region
from heartlens.anatomy.alignment.rigid import Alignment
from heartlens.case.case import Case
from heartlens.case.comparison.noise import Verdict, slab_phase_floor, slab_phase_totals
from heartlens.case.comparison.persons import check_same_person
from heartlens.case.comparison.progress import compare_scans
from heartlens.case.comparison.words import progress_lines
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.report.comparison.write import progress_page
from heartlens.risk.person import RiskInputs

SHIFT_MM = (9.0, -6.0, 15.0)
PRIOR = scan(LAD_4, acquired="2020-01-01")
GROWN = scan((Artery.LAD, LAD_MM, 8), seed=1, shift_mm=SHIFT_MM, acquired="2022-01-01")


REGION = heart_region(PRIOR.ct)
"""Every scan of this file is of one chest: where none moved, to look for its heart and align it costs time alone."""


def progress(prior, current, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heartlens.case.comparison.progress.heart_region", lambda ct: REGION)
        patch.setattr(
            "heartlens.case.comparison.progress.align_hearts", lambda a, b: Alignment(np.eye(4), 1.0, 1.0, 0.0)
        )
        return compare_scans(opened(prior), opened(current), **options)


@pytest.fixture(scope="module")
def grown():
    return compare_scans(opened(PRIOR), opened(GROWN))


def test_a_plaque_of_four_voxels_that_became_eight_has_grown(grown):
    assert grown.total.change == pytest.approx((4 * AGATSTON, 4 * AGATSTON))
    root = math.sqrt(8 * VOLUME_MM3) - math.sqrt(4 * VOLUME_MM3)
    assert root == pytest.approx(4.02, abs=0.01)
    assert grown.root_volume.change == pytest.approx((root, root))
    assert grown.verdict is Verdict.INCREASE
    assert grown.per_year[0] == pytest.approx((62.72 / (731 / 365.2425),) * 2)
    assert grown.arteries[Artery.LAD].change == pytest.approx((62.72, 62.72))
    assert grown.arteries[Artery.RCA].change == (0, 0)
    assert grown.category_change == "higher"  # 63 is mild, 125 moderate


def test_its_lesion_is_matched_across_a_scan_that_lies_elsewhere(grown):
    (one,) = grown.lesions
    assert (one.kind, one.prior, one.current) == ("matched", (1,), (1,))
    assert one.gap_mm < 1
    assert grown.alignment.matrix[:3, 3] == pytest.approx(SHIFT_MM, abs=0.5)


def test_the_sentences_say_it(grown):
    lines = progress_lines(grown)
    assert lines[0] == "Calcium has increased beyond measurement noise."
    assert lines[1] == "Agatston 63, then 125: +63 (LAD +63)."
    assert lines[2] == "Per year: +31 Agatston."
    assert "Category mild, then moderate: higher." in lines


def test_one_voxel_more_is_noise_even_across_a_border():
    prior, current = scan((Artery.LAD, LAD_MM, 6)), scan((Artery.LAD, LAD_MM, 7), seed=1)
    found = progress(prior, current)  # 94, mild; 110, moderate; roots 11.88 and 12.83
    assert found.verdict is Verdict.NONE
    assert found.category_change == "higher"
    lines = progress_lines(found)
    assert lines[0] == "No change beyond measurement noise."
    assert "Category mild, then moderate: higher, across a border and within measurement noise." in lines


def test_a_category_that_a_reader_must_decide_is_not_said_to_have_crossed_a_border():
    border = (Artery.LAD, LAD_MM, 6)  # 94, mild; with the undecided voxel 110, moderate
    found = progress(scan(border), scan(border, (Artery.OTHER, RCA_MM, 1, UNDECIDED), seed=1))
    assert (found.verdict, found.category_change) == (Verdict.NONE, "open")
    assert "Category mild, then mild or moderate: open until a reader decides." in progress_lines(found)


def test_an_unknown_day_or_a_short_time_gives_no_change_a_year():
    found = progress(PRIOR, scan((Artery.LAD, LAD_MM, 8), seed=1))
    assert found.per_year[0] is None
    assert "--current-date" in found.per_year[1]
    assert found.total.change == pytest.approx((62.72, 62.72))
    soon = progress(PRIOR, scan(LAD_4, seed=1, acquired="2020-03-01"))
    assert soon.per_year == (None, "60 days between the scans are too few to speak of a year (180 or more)")
    said = progress(scan(LAD_4), scan(LAD_4, seed=1), dates=(date(2020, 1, 1), date(2021, 1, 1)))
    assert said.days == 366


def test_a_change_between_ranges_is_a_range():
    open_scan = scan(LAD_4, (Artery.OTHER, RCA_MM, 4, UNDECIDED), seed=1)
    found = progress(PRIOR, open_scan)
    assert found.total.change == pytest.approx((0, 62.72))
    assert found.verdict is Verdict.OPEN
    assert found.category_change == "open"
    assert progress_lines(found)[0] == (
        "Whether calcium has changed depends on lesion 2 of the current scan: a reader must decide."
    )
    back = progress(open_scan, scan(LAD_4, seed=2))
    assert back.total.change == pytest.approx((-62.72, 0))


def test_a_scan_that_allows_no_statement_allows_none_of_a_change():
    contrast = scan((Artery.LAD, LAD_MM, 8), seed=1, cautions=(WarningRecord("contrast", "enhanced"),))
    found = progress(PRIOR, contrast)
    assert found.verdict is Verdict.WITHHELD
    assert progress_lines(found)[0].startswith("Nothing is said of a change: the current scan is not evaluable")
    document = found.to_json()
    for name in ("total_agatston", "per_year", "root_volume", "arteries"):
        assert document[name] is None
    assert document["categories"]["change"] is None


def test_no_lesion_is_called_new_or_gone_where_nothing_is_said_of_a_change(grown):
    contrast = scan((Artery.LAD, LAD_MM, 8), seed=1, cautions=(WarningRecord("contrast", "enhanced"),))
    found = progress(PRIOR, contrast)
    assert found.to_json()["lesions"] is None
    assert not any("Lesions:" in line for line in progress_lines(found))
    assert not any(word in progress_page(found) for word in ("Lesions, matched", "matched</th>"))
    assert "matched</th>" in progress_page(grown)


def test_scans_scored_in_two_ways_are_not_compared():
    found = progress(PRIOR, scan((Artery.LAD, LAD_MM, 8), seed=1, protocol=ScoringProtocol(connectivity=8)))
    assert found.verdict is Verdict.WITHHELD
    assert "connectivity" in found.withheld


def test_what_differs_in_the_scan_is_told_and_does_not_decide():
    found = progress(PRIOR, scan((Artery.LAD, LAD_MM, 8), seed=1, kvp=100.0, kernel="B70f"))
    assert {(one.what, one.prior, one.current) for one in found.differences} == {
        ("tube voltage", "120 kVp", "100 kVp"), ("kernel", "B35f", "B70f"),
    }  # fmt: skip
    assert found.verdict is Verdict.INCREASE


def test_new_and_gone_lesions_have_no_partner():
    found = progress(scan(LAD_4, (Artery.RCA, RCA_MM, 2)), scan(LAD_4, (Artery.LCX, LCX_MM, 2), seed=1))
    assert {one.kind: one.arteries for one in found.lesions} == {"matched": ("LAD",), "gone": ("RCA",), "new": ("LCX",)}


def test_one_scan_is_not_two_and_the_earlier_comes_first():
    with pytest.raises(InputRefused, match="both cases are of one scan"):
        progress(PRIOR, PRIOR)
    with pytest.raises(InputRefused, match="name the earlier one first"):
        progress(GROWN, PRIOR)


def test_another_anatomy_is_refused():
    air = scan(seed=1)
    air = Case.of(
        replace(air.source_ct, hu=np.full_like(air.source_ct.hu, -1000)), LesionMap.empty(air.ct.shape), air.protocol
    )
    with pytest.raises(InputRefused, match="no heart was found in the current scan"):
        compare_scans(opened(PRIOR), opened(air))


@pytest.fixture
def thin(a_ct):
    """2 x 2 pixels of 1 mm2 at 200 HU on two of six slices of 1.5 mm."""
    hu = np.zeros((6, 8, 8), np.int16)
    hu[2:4, 3:5, 3:5] = 200
    return Case.of(
        a_ct(hu, spacing_mm=(1.5, 1.0, 1.0)), LesionMap((hu > 0).astype(np.uint16), {1: Artery.LAD}), ScoringProtocol()
    )


def test_slabs_that_begin_at_another_slice_have_another_score(thin):
    # From the first slice on both lie in one slab: 4 mm2 x 2. From the second on each slab has the mean of 200 and 0.
    assert slab_phase_totals(thin) == (8.0, 0.0)
    assert slab_phase_floor(thin, PRIOR) == 4.0
    assert slab_phase_floor(PRIOR, GROWN) is None


def test_a_change_within_what_slabs_do_is_none(grown):
    found = grown
    assert replace(found, floor_agatston=62.8).verdict is Verdict.NONE
    assert replace(found, floor_agatston=62.6).verdict is Verdict.INCREASE


WOMAN, MAN = RiskInputs(sex="F", age_years=60), RiskInputs(sex="M", age_years=60)


def test_two_people_are_refused_by_sex_unless_the_user_answers_for_it():
    a, b = opened(scan(person=WOMAN)), opened(scan(person=MAN, seed=1))
    with pytest.raises(InputRefused, match="--same-person"):
        check_same_person(a, b, asserted=False)
    assert any("user said" in note for note in check_same_person(a, b, asserted=True))


def test_ages_that_the_dates_contradict_are_told():
    a = opened(scan(person=MAN, acquired="2020-01-01"))
    b = opened(scan(person=replace(MAN, age_years=75), acquired="2022-01-01", seed=1))
    assert any("+15 years apart and the scans 2.0" in note for note in check_same_person(a, b, asserted=False))
    c = opened(scan(person=replace(MAN, age_years=62), acquired="2022-01-01", seed=1))
    assert not any("years apart" in note for note in check_same_person(a, c, asserted=False))
