"""Calcium: candidate voxels, islands, lesions."""

import numpy as np
import pytest

from heartlens.calcium import TOO_SMALL, candidate_mask, extract_lesions
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.protocol import PROFILES, ScoringProtocol

DEFAULT = ScoringProtocol()


def a_ct(hu, spacing_mm=(3.0, 0.5, 0.5)):
    dz, dy, dx = spacing_mm
    return CTVolume(np.asarray(hu, np.int16), np.diag([dx, dy, dz, 1.0]))


def lesions_of(ct, codes, protocol=DEFAULT, **more):
    flat = np.flatnonzero(codes)
    return extract_lesions(ct, flat, np.asarray(codes).reshape(-1)[flat], protocol, **more)


def test_the_threshold_is_inclusive():
    hu = np.full((1, 4, 4), 129)
    hu[0, 1:3, 1:3] = 130
    candidates = candidate_mask(a_ct(hu), DEFAULT)
    assert candidates.flat.tolist() == [5, 6, 9, 10]
    assert candidates.pixels.tolist() == [4]
    assert candidates.accepted.tolist() == [True]


def test_a_box_finds_the_same_voxels_as_the_whole_volume():
    rng = np.random.default_rng(1)
    hu = np.where(rng.random((4, 20, 20)) < 0.1, 200, 0)
    hu[:, :3], hu[:, :, 17:], hu[0] = 0, 0, 0
    ct = a_ct(hu)
    whole, boxed = candidate_mask(ct, DEFAULT), candidate_mask(ct, DEFAULT, np.s_[1:, 3:, :17])
    assert np.array_equal(whole.flat, boxed.flat)
    assert np.array_equal(whole.island, boxed.island)
    assert np.array_equal(whole.hu, boxed.hu)


def test_corner_contact_joins_islands_only_when_eight_connected():
    hu = np.zeros((1, 6, 6))
    hu[0, 1:3, 1:3] = hu[0, 3:5, 3:5] = 300
    assert candidate_mask(a_ct(hu), DEFAULT).pixels.tolist() == [4, 4]
    assert candidate_mask(a_ct(hu), ScoringProtocol(connectivity=8)).pixels.tolist() == [8]


def test_keeping_some_islands_renumbers_them():
    hu = np.zeros((1, 3, 9))
    hu[0, 1, 1], hu[0, 1, 3:5], hu[0, 1, 6:9] = 200, 300, 400
    candidates = candidate_mask(a_ct(hu), DEFAULT).keep(np.array([True, False, True]))
    assert candidates.island.tolist() == [0, 1, 1, 1]
    assert candidates.hu.tolist() == [200, 400, 400, 400]
    assert candidates.pixels.tolist() == [1, 3]


def test_labelled_voxels_below_the_threshold_do_not_count():
    hu = np.full((1, 4, 4), 100)
    hu[0, 1:3, 1:3] = 200
    codes = np.full((1, 4, 4), Artery.LAD, np.uint8)
    lesions = lesions_of(a_ct(hu), codes)
    assert lesions.voxels.flat.tolist() == [5, 6, 9, 10]
    assert dict(lesions.arteries) == {1: Artery.LAD}


def test_islands_that_touch_across_slices_are_one_lesion():
    hu = np.zeros((3, 8, 8))
    hu[0, 1:3, 1:3] = hu[1, 3:5, 3:5] = 300  # corner to corner across the slice gap
    hu[2, 6:8, 0:2] = 300  # apart
    lesions = lesions_of(a_ct(hu), np.where(hu > 0, Artery.RCA, 0))
    assert np.unique(lesions.labels[:2]).tolist() == [0, 1]
    assert np.unique(lesions.labels[2]).tolist() == [0, 2]


def test_touching_voxels_of_two_arteries_stay_two_lesions():
    hu = np.full((1, 2, 4), 300)
    codes = np.array([[[1, 1, 2, 2], [1, 1, 2, 2]]])
    lesions = lesions_of(a_ct(hu), codes)
    assert dict(lesions.arteries) == {1: Artery.LM, 2: Artery.LAD}
    assert lesions.labels.tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2]]]


def test_lesions_are_numbered_by_artery_and_then_from_the_foot_to_the_head():
    hu = np.zeros((3, 2, 8))
    hu[0, :, :2] = hu[2, :, :2] = hu[1, :, 4:6] = 300
    codes = np.zeros(hu.shape, np.uint8)
    codes[0, :, :2] = codes[2, :, :2] = Artery.RCA
    codes[1, :, 4:6] = Artery.LAD
    lesions = lesions_of(a_ct(hu), codes)
    assert dict(lesions.arteries) == {1: Artery.LAD, 2: Artery.RCA, 3: Artery.RCA}
    assert [lesions.labels[k].max() for k in range(3)] == [2, 1, 3]


def test_a_piece_below_the_minimum_area_becomes_its_own_lesion_after_all_others():
    hu = np.zeros((2, 4, 6))
    hu[0, 0:2, 0:2] = 300
    hu[1, 0, 0:2] = 300  # 0.5 mm2 right above the accepted island
    lesions = lesions_of(a_ct(hu), np.where(hu > 0, Artery.LAD, 0))
    assert np.unique(lesions.labels[0]).tolist() == [0, 1]
    assert np.unique(lesions.labels[1]).tolist() == [0, 2]
    assert lesions.notes[1].why == ""
    assert lesions.notes[2].why == TOO_SMALL
    assert np.unique(lesions_of(a_ct(hu), np.where(hu > 0, 2, 0), PROFILES["siemens"]).labels).tolist() == [0, 1]


def test_a_lesion_takes_the_note_of_most_of_its_voxels():
    hu = np.full((1, 2, 3), 300)
    notes = [LesionNote(0.2, "rules", "few"), LesionNote(0.9, "rules", "most")]
    lesions = extract_lesions(a_ct(hu), np.arange(6), np.full(6, 2), DEFAULT, notes=notes, note_of_voxel=[0, 1, 1] * 2)
    assert lesions.notes[1] == notes[1]


def test_no_voxel_above_the_threshold_gives_an_empty_map():
    lesions = lesions_of(a_ct(np.full((2, 3, 3), 129)), np.ones((2, 3, 3)))
    assert lesions.labels.max() == 0
    assert not lesions.arteries


def test_an_unknown_label_is_refused_by_number():
    with pytest.raises(InputRefused, match="found 7") as caught:
        lesions_of(a_ct(np.full((1, 2, 2), 300)), np.full((1, 2, 2), 7))
    assert caught.value.code == "labels"


def test_more_lesions_than_a_label_map_can_hold_are_refused():
    hu = np.zeros((1, 1, 131074), np.int16)
    hu[..., ::2] = 300
    with pytest.raises(InputRefused, match="found 65537") as caught:
        lesions_of(a_ct(hu), np.where(hu > 0, 2, 0))
    assert caught.value.code == "labels"
