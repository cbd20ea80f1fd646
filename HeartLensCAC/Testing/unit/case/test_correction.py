"""Corrections: whatever was painted, the case scores it, one undo takes it back, and lesions stay islands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_ct import make_ct

from heartlens.calcium import extract_lesions
from heartlens.case.case import Case
from heartlens.case.correction import apply_edited_labels, assign_at, assign_touched, lesion_at
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.scoring.report import score_lesions

EVERY_VOXEL = ScoringProtocol(minimum_area_mm2=0.0)


def make_case(hu: np.ndarray, codes: np.ndarray, protocol: ScoringProtocol | None = None, **geometry) -> Case:
    protocol = protocol or ScoringProtocol()
    ct = make_ct(hu, **geometry)
    flat = np.flatnonzero(codes)
    return Case.of(ct, extract_lesions(ct, flat, codes.reshape(-1)[flat], protocol), protocol)


@pytest.fixture
def bridge() -> Case:
    """One slice, 0.25 mm2 pixels: an LAD bar of 4 x 12 at 300 HU, and an RCA block of 4 x 4 at 450 HU."""
    hu = np.zeros((1, 16, 20), np.int16)
    hu[0, 2:6, 2:14] = 300
    hu[0, 10:14, 2:6] = 450
    codes = np.zeros(hu.shape, np.uint8)
    codes[0, 2:6, 2:14], codes[0, 10:14, 2:6] = Artery.LAD, Artery.RCA
    return make_case(hu, codes)


def kinds(case: Case) -> list[str]:
    return [edit.kind for edit in case.edits]


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == i).tolist()) for i in np.unique(labels) if i}


def test_labels_that_are_those_of_the_case_change_nothing(bridge):
    assert apply_edited_labels(bridge, bridge.scored_codes.copy()) is bridge


def test_a_lesion_painted_over_as_a_whole_is_reassigned_under_its_id(bridge):
    codes = np.where(bridge.scored_codes == Artery.RCA, np.uint8(Artery.LCX), bridge.scored_codes)
    moved = apply_edited_labels(bridge, codes, who="reader", when="2026-01-01")
    assert kinds(moved) == ["reassign"]
    assert moved.edits[0].lesion == 2
    assert moved.edits[0].who == "reader"
    assert moved.report.arteries[Artery.LCX].agatston == 16 * 0.25 * 4


def test_of_a_lesion_painted_over_in_part_the_part_goes_alone(bridge):
    """16 of the 48 pixels of 0.25 mm2 and weight 3: 12 of 36."""
    codes = bridge.scored_codes.copy()
    codes[0, 2:6, 10:14] = Artery.LCX
    painted = apply_edited_labels(bridge, codes)
    assert painted.report.arteries[Artery.LCX].agatston == 12
    assert painted.report.arteries[Artery.LAD].agatston == 24
    assert painted.lesions.arteries[1] is Artery.LAD, "what is left keeps its id"


def test_a_lesion_erased_as_a_whole_is_removed(bridge):
    assert kinds(
        apply_edited_labels(bridge, np.where(bridge.scored_codes == Artery.RCA, np.uint8(0), bridge.scored_codes))
    ) == ["remove"]


def test_cutting_a_bridge_makes_two_lesions_and_the_larger_keeps_its_id(bridge):
    codes = bridge.scored_codes.copy()
    codes[0, 2:6, 9:10] = 0
    cut = apply_edited_labels(bridge, codes)
    assert kinds(cut) == ["erase", "paint"]
    assert cut.edits[1].joined
    assert np.count_nonzero(cut.lesions.labels == 1) == 28
    assert np.count_nonzero(cut.lesions.labels == 3) == 16
    assert cut.report.arteries[Artery.LAD].agatston == 44 * 0.25 * 3
    assert cut.undo().report == bridge.report
    assert cut.undo().redo().report == cut.report


def test_painted_voxels_below_the_threshold_are_dropped(bridge):
    codes = bridge.scored_codes.copy()
    codes[0, 0:2, :] = Artery.LM
    assert apply_edited_labels(bridge, codes) is bridge


def test_paint_that_touches_a_lesion_of_the_artery_joins_it():
    hu = np.zeros((1, 8, 12), np.int16)
    hu[0, 2:6, 2:10] = 300
    codes = np.zeros(hu.shape, np.uint8)
    codes[0, 2:6, 2:6] = Artery.LAD
    case = make_case(hu, codes)
    codes[0, 2:6, 6:10] = Artery.LAD
    grown = apply_edited_labels(case, codes)
    assert kinds(grown) == ["paint"]
    assert len(grown.report.lesions) == 1
    assert grown.report.total.agatston == 32 * 0.25 * 3
    codes[0, 2:6, 6:10] = Artery.RCA
    beside = apply_edited_labels(case, codes)
    assert {row.artery for row in beside.report.lesions} == {Artery.LAD, Artery.RCA}


def test_a_speck_too_small_to_count_is_kept_and_counts_once_it_has_grown():
    hu = np.zeros((1, 8, 12), np.int16)
    hu[0, 2:4, 2:6] = 300
    case = make_case(hu, np.zeros(hu.shape, np.uint8))
    codes = np.zeros(hu.shape, np.uint8)
    codes[0, 2, 2:4] = Artery.LM
    speck = apply_edited_labels(case, codes)
    assert speck.report.total.agatston == 0
    assert speck.report.dropped_small_count == 1
    assert not speck.scored_codes.any()
    assert apply_edited_labels(speck, codes) is speck  # painted again: it is there already
    codes = np.zeros(hu.shape, np.uint8)
    codes[0, 3, 2:4] = Artery.LM
    assert apply_edited_labels(speck, codes).report.total.agatston == 4 * 0.25 * 3


def test_a_speck_that_touches_a_painted_lesion_from_the_next_slice_stays_outside_it():
    hu = np.zeros((2, 8, 8), np.int16)
    hu[0, 2:6, 2:6] = 300
    hu[1, 6, 6] = 900
    case = make_case(hu, np.zeros(hu.shape, np.uint8))
    painted = apply_edited_labels(case, np.where(hu > 0, np.uint8(Artery.LAD), np.uint8(0)))
    (row,) = painted.report.lesions
    assert np.count_nonzero(painted.lesions.labels == row.id) == 16
    assert painted.report.dropped_small_count == 1


def test_changes_of_source_slices_become_changes_of_their_slab():
    hu = np.zeros((5, 6, 8), np.int16)
    hu[:, 1:3, 1:5] = 200
    ct = make_ct(hu, spacing_mm=(1.5, 0.5, 0.5))
    protocol = ScoringProtocol(slab_mm=3.0)
    empty = extract_lesions(make_ct(hu[:2], spacing_mm=(3.0, 0.5, 0.5)), [], [], protocol)
    case = Case.of(ct, empty, protocol)
    codes = np.zeros(hu.shape, np.uint8)
    codes[1, 1:3, 1:5] = Artery.LAD  # the upper of two slices
    codes[4, 1:3, 1:5] = Artery.RCA  # in no whole slab
    painted = apply_edited_labels(case, codes)
    assert painted.report.total.agatston == 8 * 0.25 * 2
    assert painted.scored_codes[0, 1, 1] == Artery.LAD
    assert not painted.scored_codes[4].any()
    codes = painted.scored_codes.copy()
    codes[0] = 0
    assert apply_edited_labels(painted, codes).report.total.agatston == 0


@st.composite
def scans(draw, protocols=(EVERY_VOXEL,)):
    """A case of 3 x 5 x 6 voxels and labels that a reader made of it."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    shape = (3, 5, 6)
    hu = rng.choice([0, 130, 250, 450], shape, p=[0.35, 0.25, 0.2, 0.2]).astype(np.int16)
    codes = rng.choice(7, shape, p=[0.4, *[0.1] * 6]).astype(np.uint8)
    if draw(st.booleans(), label="few arteries"):
        codes = np.where(codes > 2, np.uint8(2), codes)
    case = make_case(hu, codes, draw(st.sampled_from(protocols)), spacing_mm=(3.0, 0.6, 0.6))
    wanted = case.scored_codes.copy()
    for _ in range(draw(st.integers(1, 3), label="strokes")):
        k, j, i = rng.integers(0, shape)
        box = np.s_[k : k + 2, j : j + rng.integers(1, 4), i : i + rng.integers(1, 5)]
        wanted[box] = rng.integers(0, 7)
    return case, wanted


@pytest.mark.slow
@given(scans())
@settings(max_examples=200, deadline=None)
def test_the_lesions_are_the_islands_of_what_was_painted(scan):
    case, wanted = scan
    after = apply_edited_labels(case, wanted)
    flat = np.flatnonzero(wanted)
    fresh = extract_lesions(case.ct, flat, wanted.reshape(-1)[flat], case.protocol)
    assert np.array_equal(after.lesions.artery_map(), fresh.artery_map())
    assert partition(after.lesions.labels) == partition(fresh.labels)
    assert after.report.total == score_lesions(case.ct, fresh, case.protocol).total


@pytest.mark.slow
@given(scans((ScoringProtocol(), replace(ScoringProtocol(), connectivity=8))))
@settings(max_examples=200, deadline=None)
def test_the_totals_are_those_of_the_labels_that_are_shown(scan):
    case, wanted = scan
    after = apply_edited_labels(case, wanted)
    shown = after.scored_codes
    flat = np.flatnonzero(shown)
    fresh = extract_lesions(case.ct, flat, shown.reshape(-1)[flat], case.protocol)
    assert after.report.total.agatston == score_lesions(case.ct, fresh, case.protocol).total.agatston
    assert apply_edited_labels(after, shown) is after
    again = Case.of(case.source_ct, case.auto, case.protocol, edits=after.edits)
    assert again.report == after.report
    if after is not case:
        assert after.undo().report == case.report
        assert after.undo().redo().report == after.report


# Clicks


def test_a_click_gives_the_whole_lesion_to_the_artery(bridge):
    moved = assign_at(bridge, (0, 11.4, 3.6), Artery.LCX)
    assert kinds(moved) == ["reassign"]
    assert assign_at(moved, (0, 11, 3), Artery.LCX) is moved


def test_a_click_beside_calcium_means_it_and_one_far_from_it_means_nothing(bridge):
    assert lesion_at(bridge, (0, 3, 15.0)) == 1  # 2 columns of 0.5 mm beside
    assert lesion_at(bridge, (0, 3, 18.0)) is None
    assert lesion_at(bridge, (0, 7, 15)) == 1  # 1 mm beside and 1 mm below: 1.41 mm
    assert lesion_at(bridge, (0, 7.9, 15.9)) is None  # 1.45 mm beside and 1.45 mm below: 2.05 mm
    assert lesion_at(bridge, (9, 3, 3)) is None
    assert lesion_at(bridge, (0, -30, 3)) is None
    with pytest.raises(ValueError, match=r"130 HU or more within 1\.5 mm"):
        assign_at(bridge, (0, 8, 17), Artery.LM)


def test_a_click_on_unlabelled_calcium_takes_its_island_through_the_slices():
    hu = np.zeros((3, 30, 60), np.int16)
    hu[0, 4:8, 4:8] = 300
    hu[1, 8:12, 8:40] = 200  # touches by a corner, and reaches beyond the first box
    case = make_case(hu, np.zeros(hu.shape, np.uint8))
    taken = assign_at(case, (0, 5, 5), Artery.LAD)
    assert np.count_nonzero(taken.lesions.labels) == 16 + 4 * 32
    part = assign_at(case, (0, 5, 5), Artery.LAD, in_slice=True)
    assert np.count_nonzero(part.lesions.labels) == 16


def test_a_click_in_one_slice_takes_only_that_part_of_a_lesion():
    hu = np.zeros((2, 8, 8), np.int16)
    hu[:, 2:6, 2:6] = 300
    case = make_case(hu, np.where(hu > 0, np.uint8(Artery.LAD), np.uint8(0)))
    part = assign_at(case, (1, 3, 3), Artery.OTHER, in_slice=True)
    assert part.report.total.agatston == 16 * 0.25 * 3
    assert part.report.arteries[Artery.OTHER].agatston == 16 * 0.25 * 3


def test_a_click_on_bone_is_refused_with_a_way_out():
    hu = np.full((10, 60, 60), 400, np.int16)
    case = make_case(hu, np.zeros(hu.shape, np.uint8))
    with pytest.raises(ValueError, match=r"larger than 1500 mm3.*Ctrl-click"):
        assign_at(case, (5, 30, 30), Artery.LAD)
    with pytest.raises(ValueError, match="paint the part"):
        assign_at(case, (5, 30, 30), Artery.LAD, in_slice=True)


def in_box(case: Case, rows: slice, columns: slice, k: int = 0) -> np.ndarray:
    """Voxels at or above the threshold in a box of one slice."""
    box = np.zeros(case.ct.shape, bool)
    box[k, rows, columns] = True
    return np.flatnonzero(box & (case.ct.hu >= 130))


def test_a_box_that_touches_two_lesions_gives_both_away_whole_as_one_action(bridge):
    moved = assign_touched(bridge, in_box(bridge, slice(5, 11), slice(2, 4)), Artery.LCX)
    assert set(moved.lesions.arteries.values()) == {Artery.LCX}
    assert moved.report.total.agatston == bridge.report.total.agatston
    assert moved.undo().report == bridge.report


def test_a_box_takes_the_unlabeled_island_in_it_through_the_slices_and_no_bone():
    """One slice of a plaque of 3 slices is in the box, and the edge of a bone of 60 x 60 x 3 mm."""
    hu = np.zeros((3, 100, 100), np.int16)
    hu[:, 80:83, 80:83] = 300
    hu[:, 0:70, 0:70] = 400
    case = make_case(hu, np.zeros(hu.shape, np.uint8), spacing_mm=(3.0, 1.0, 1.0))
    taken = assign_touched(case, in_box(case, slice(65, 90), slice(65, 90), k=1), Artery.LAD)
    assert taken.report.arteries[Artery.LAD].lesions == 1
    assert np.count_nonzero(taken.lesions.labels) == 27
    assert taken.report.total.agatston == 3 * 9 * 3


def test_a_box_without_calcium_or_with_bone_alone_is_refused(bridge):
    with pytest.raises(ValueError, match="no island of calcium of at most 1500 mm3 in the box"):
        assign_touched(bridge, in_box(bridge, slice(7, 9), slice(0, 20)), Artery.LAD)


def test_a_box_around_what_has_the_artery_already_changes_nothing(bridge):
    same = assign_touched(bridge, in_box(bridge, slice(10, 14), slice(2, 6)), Artery.RCA)
    assert same.edits == ()
    assert same is bridge
