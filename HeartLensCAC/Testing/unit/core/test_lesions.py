"""A lesion map: ids and arteries always belong together, and edits leave the old map alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartlens.core.lesions import ARTERY_COLORS, CORONARY, SCORED_ARTERIES, Artery, Draft, LesionMap, LesionNote
from heartlens.core.provenance import LabelSource


@pytest.fixture
def two_lesions():
    labels = np.array([[[1, 1, 0, 2]]], np.uint16)
    return LesionMap(labels, {1: Artery.LAD, 2: Artery.RCA}, {1: LesionNote(0.9, "rules", "in fat")})


def test_codes_are_those_of_a_label_map():
    assert {artery.name: int(artery) for artery in Artery} == {
        "LM": 1, "LAD": 2, "LCX": 3, "RCA": 4, "OTHER": 5, "UNASSIGNED": 6,
    }  # fmt: skip
    assert [a.name for a in CORONARY] == ["LM", "LAD", "LCX", "RCA"]
    assert [a.name for a in SCORED_ARTERIES] == ["LM", "LAD", "LCX", "RCA", "UNASSIGNED"]


def test_colors_are_the_agreed_ones():
    assert [ARTERY_COLORS[a] for a in Artery] == ["#F0E442", "#009E73", "#56B4E9", "#D55E00", "#999999", "#CC79A7"]


@pytest.mark.parametrize("arteries", [{1: Artery.LAD}, {1: Artery.LAD, 2: Artery.RCA, 3: Artery.LM}])
def test_ids_and_arteries_must_match(arteries):
    with pytest.raises(ValueError, match="voxels and an artery"):
        LesionMap(np.array([[[1, 1, 0, 2]]], np.uint16), arteries)


def test_labels_must_be_uint16():
    with pytest.raises(ValueError, match="uint16"):
        LesionMap(np.zeros((1, 1, 1), np.uint8), {})


def test_a_probability_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"1\.2"):
        LesionNote(1.2)


def test_artery_map_holds_the_code_of_each_voxel(two_lesions):
    assert two_lesions.artery_map().tolist() == [[[2, 2, 0, 4]]]
    assert two_lesions.artery_of_voxels().tolist() == [2, 2, 4]


def edited(lesions: LesionMap, verb: str, *what) -> LesionMap:
    """The map after one edit on a draft of it."""
    draft = Draft(lesions)
    getattr(draft, verb)(*what)
    return draft.lesions()


def test_reassigning_makes_a_new_map(two_lesions):
    moved = edited(two_lesions, "reassign", 1, Artery.LCX, LesionNote(source=LabelSource.READER))
    assert moved.arteries[1] is Artery.LCX
    assert moved.notes[1].source == "reader"
    assert two_lesions.arteries[1] is Artery.LAD
    assert two_lesions.notes[1].source == "rules"


def test_removing_leaves_the_others(two_lesions):
    left = edited(two_lesions, "remove", 1)
    assert left.labels.tolist() == [[[0, 0, 0, 2]]]
    assert dict(left.arteries) == {2: Artery.RCA}
    assert two_lesions.labels.tolist() == [[[1, 1, 0, 2]]]


def test_painting_makes_a_new_lesion_and_takes_voxels_from_the_old(two_lesions):
    painted = edited(two_lesions, "paint", [1, 2], Artery.LM)
    assert painted.labels.tolist() == [[[1, 3, 3, 2]]]
    assert painted.arteries[3] is Artery.LM
    assert edited(painted, "paint", [0], Artery.LM).labels.tolist() == [[[4, 3, 3, 2]]]
    assert 1 not in edited(painted, "paint", [0], Artery.LM).arteries


def test_erasing_all_voxels_of_a_lesion_ends_it(two_lesions):
    assert dict(edited(two_lesions, "erase", [3]).arteries) == {1: Artery.LAD}


@pytest.mark.parametrize("flat", [[-1], [4]])
def test_voxels_outside_the_volume_are_refused(two_lesions, flat):
    with pytest.raises(ValueError, match=r"0\.\.3"):
        edited(two_lesions, "erase", flat)


def test_an_unknown_lesion_cannot_be_removed(two_lesions):
    with pytest.raises(ValueError, match="no lesion 7"):
        edited(two_lesions, "remove", 7)


def test_an_empty_map_is_valid():
    assert dict(LesionMap.empty((2, 3, 4)).arteries) == {}


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_draft_does_what_plain_arrays_do(data):
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=24, max_size=24)), np.uint16).reshape(2, 3, 4)
    arteries = {int(i): Artery(int(i)) for i in np.unique(labels) if i}
    lesions = LesionMap(labels.copy(), arteries)
    draft = Draft(lesions)
    plain = labels.copy()
    for _ in range(data.draw(st.integers(1, 6), label="edits")):
        flat = data.draw(st.lists(st.integers(0, 23), min_size=1, max_size=8))
        if data.draw(st.booleans(), label="paint"):
            new, artery = max([int(plain.max()), 0]) + 1, data.draw(st.sampled_from(Artery))
            draft.paint(flat, artery)
            plain.reshape(-1)[flat], arteries[new] = new, artery
        else:
            draft.erase(flat)
            plain.reshape(-1)[flat] = 0
    edited = draft.lesions()
    assert np.array_equal(edited.labels, plain)
    assert dict(edited.arteries) == {int(i): arteries[int(i)] for i in np.unique(plain) if i}
    assert np.array_equal(edited.voxels.flat, np.flatnonzero(plain))
    assert np.array_equal(edited.voxels.ids, plain[plain > 0])
    assert np.array_equal(lesions.labels, labels)


def test_a_draft_that_moves_no_voxel_shares_the_volume(two_lesions):
    draft = Draft(two_lesions)
    draft.reassign(1, Artery.LCX)
    assert np.shares_memory(draft.lesions().labels, two_lesions.labels)


def test_a_map_taken_from_a_draft_does_not_change_when_the_draft_goes_on(two_lesions):
    draft = Draft(two_lesions)
    draft.erase([0])
    before = draft.lesions()
    draft.erase([1])
    assert before.labels.tolist() == [[[0, 1, 0, 2]]]
    assert draft.lesions().labels.tolist() == [[[0, 0, 0, 2]]]


def test_a_map_of_voxels_is_the_map_of_its_volume(two_lesions):
    made = LesionMap.of_voxels((1, 1, 4), two_lesions.voxels, two_lesions.arteries, two_lesions.notes)
    assert made.labels.tolist() == [[[1, 1, 0, 2]]]
    assert made.labels.dtype == np.uint16
    assert not made.labels.flags.writeable
    assert made.notes == two_lesions.notes
    with pytest.raises(ValueError, match="voxels and an artery"):
        LesionMap.of_voxels((1, 1, 4), two_lesions.voxels, {1: Artery.LAD})


def test_ids_at_voxels_are_those_of_the_volume(two_lesions):
    assert two_lesions.ids_at([3, 0, 2, 1]).tolist() == [2, 1, 0, 1]
    assert int(two_lesions.ids_at(3)) == 2
    assert LesionMap.empty((1, 1, 4)).ids_at([0, 3]).tolist() == [0, 0]


def test_an_edit_makes_no_volume(two_lesions):
    draft = Draft(two_lesions)
    draft.erase([0])
    draft.paint([2], Artery.LM)
    after = draft.lesions()
    assert "labels" not in vars(after)
    assert after.labels.tolist() == [[[0, 1, 3, 2]]]
    assert two_lesions.labels.tolist() == [[[1, 1, 0, 2]]]
