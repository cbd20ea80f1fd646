"""Two label maps on a CT of a few voxels, with an answer that can be counted."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from training.metrics.classification import Counts
from training.metrics.overlap import compare, count_slices, slices_above

LM, LAD, LCX, RCA, OTHER, UNASSIGNED = (int(a) for a in Artery)
PROTOCOL = ScoringProtocol()


@pytest.fixture
def scene():
    """Slices of 3 mm, pixels of 1 mm2: LAD of 4 voxels at 250 HU on slice 1 and 2 at 410 HU on slice 2; RCA of 3."""
    hu = np.zeros((4, 10, 10), np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    hu[1, 2, 2:6], hu[2, 2, 2:4], hu[3, 7, 5:8] = 250, 410, 150
    labels[1, 2, 2:6], labels[2, 2, 2:4], labels[3, 7, 5:8] = LAD, LAD, RCA
    return CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0])), labels


def test_a_map_agrees_with_itself(scene):
    ct, labels = scene
    c = compare(ct, labels, labels, PROTOCOL)
    assert c.reference_agatston == {"LM": 0, "LAD": 4 * 2 + 2 * 4, "LCX": 0, "RCA": 3, "all": 19}
    assert c.predicted_agatston == c.reference_agatston
    assert c.reference_slices == (False, True, True, True)
    assert c.voxels == {
        "LM": Counts(0, 0, 0), "LAD": Counts(6, 0, 0), "LCX": Counts(0, 0, 0), "RCA": Counts(3, 0, 0),
        "all": Counts(9, 0, 0),
    }  # fmt: skip
    assert [(x.artery, x.volume_mm3, x.matched) for x in c.reference_lesions] == [
        ("LAD", 18.0, (True, True, True)),
        ("RCA", 9.0, (True, True, True)),
    ]
    assert c.predicted_lesions == c.reference_lesions


def test_a_missed_slice_and_a_wrong_vessel_are_counted(scene):
    ct, labels = scene
    predicted = labels.copy()
    predicted[2] = 0
    predicted[3][labels[3] == RCA] = LCX
    c = compare(ct, labels, predicted, PROTOCOL)
    assert c.voxels["LAD"] == Counts(tp=4, fp=0, fn=2)
    assert c.voxels["RCA"] == Counts(tp=0, fp=0, fn=3)
    assert c.voxels["LCX"] == Counts(tp=0, fp=3, fn=0)
    assert c.voxels["all"] == Counts(tp=7, fp=0, fn=2)
    assert count_slices(c.reference_slices, c.predicted_slices) == Counts(tp=2, fp=0, fn=1, tn=1)
    assert [x.matched for x in c.reference_lesions] == [(True, True, True), (False, False, True)]
    assert [(x.artery, x.matched) for x in c.predicted_lesions] == [
        ("LAD", (True, True, True)),
        ("LCX", (False, False, True)),
    ]


def test_left_main_called_lad_is_a_match_only_for_orcascore(scene):
    ct, labels = scene
    reference = np.where(labels == LAD, LM, labels).astype(np.uint8)
    c = compare(ct, reference, labels, PROTOCOL)
    assert c.reference_lesions[0].artery == "LM"
    assert c.reference_lesions[0].matched == (False, True, True)
    assert c.predicted_lesions[0].matched == (False, True, True)


def test_voxels_below_the_threshold_and_small_islands_do_not_count(scene):
    ct, labels = scene
    loose = labels.copy()
    loose[1, 1:4, 1:8] = LAD  # a careless outline around the lesion
    assert compare(ct, labels, loose, PROTOCOL) == compare(ct, labels, labels, PROTOCOL)
    small = CTVolume(ct.hu, np.diag([0.5, 0.5, 3.0, 1.0]))  # 0.25 mm2 a pixel: three are 0.75 mm2, below 1 mm2
    c = compare(small, labels, labels, PROTOCOL)
    assert c.reference_agatston["RCA"] == 0
    assert c.reference_slices == (False, True, False, False)
    assert [x.artery for x in c.reference_lesions] == ["LAD"]


def test_calcium_outside_the_coronaries_is_not_compared(scene):
    ct, labels = scene
    predicted = np.where(labels == RCA, OTHER, labels).astype(np.uint8)
    c = compare(ct, labels, predicted, PROTOCOL)
    assert c.voxels["all"] == Counts(tp=6, fp=0, fn=3)
    assert [x.artery for x in c.predicted_lesions] == ["LAD"]


def test_calcium_without_an_artery_counts_in_the_total_and_matches_no_vessel(scene):
    ct, labels = scene
    predicted = np.where(labels == RCA, UNASSIGNED, labels).astype(np.uint8)
    c = compare(ct, labels, predicted, PROTOCOL)
    assert c.predicted_agatston["all"] == 19
    assert c.voxels["all"] == Counts(9, 0, 0)
    assert c.reference_lesions[1].matched == (False, False, True)


def test_a_lesion_has_one_artery_that_of_most_of_its_voxels(scene):
    ct, labels = scene
    predicted = labels.copy()
    predicted[1, 2, 2] = LM  # one voxel of six: still an LAD lesion, and still one lesion
    c = compare(ct, labels, predicted, PROTOCOL)
    assert [x.artery for x in c.predicted_lesions] == ["LAD", "RCA"]
    assert c.predicted_lesions[0].volume_mm3 == 18


def test_a_lesion_is_strictly_above_the_threshold_and_joined_by_faces():
    hu = np.zeros((3, 8, 8), np.int16)
    hu[0, 2, 2:5], hu[1, 3, 5:8] = 200, 200  # corner to corner across slices: two lesions
    hu[0, 6, 2:5] = 130  # scores, but is no orCaScore lesion
    labels = (hu > 0).astype(np.uint8) * LAD
    c = compare(CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0])), labels, labels, PROTOCOL)
    assert c.reference_agatston["LAD"] == 3 * 2 + 3 * 2 + 3
    assert [x.volume_mm3 for x in c.reference_lesions] == [9, 9]


def test_one_predicted_lesion_may_find_two(scene):
    ct, labels = scene
    hu = ct.hu.copy()
    hu[1, 2, 2:9] = 250
    reference = np.zeros_like(labels)
    reference[1, 2, 2:4], reference[1, 2, 6:8] = LAD, LAD
    predicted = np.zeros_like(labels)
    predicted[1, 2, 2:9] = LAD
    c = compare(CTVolume(hu, ct.affine), reference, predicted, PROTOCOL)
    assert [x.matched[0] for x in c.reference_lesions] == [True, True]
    assert [x.matched[0] for x in c.predicted_lesions] == [True]


def test_the_slice_stage_clears_slices_below_the_cut_off(scene):
    _, labels = scene
    gated = slices_above(labels, [0.9, 0.5, 0.49, 0.8], 0.5)
    assert [int((plane > 0).sum()) for plane in gated] == [0, 4, 0, 3]
    assert gated.dtype == np.uint8
    with pytest.raises(ValueError, match="each of 4 slices, got 2"):
        slices_above(labels, [0.9, 0.5], 0.5)


def test_empty_maps_compare_to_nothing(scene):
    ct, labels = scene
    nothing = np.zeros_like(labels)
    c = compare(ct, nothing, nothing, PROTOCOL)
    assert c.voxels["all"] == Counts(0, 0, 0)
    assert c.reference_lesions == c.predicted_lesions == ()
    assert compare(ct, labels, nothing, PROTOCOL).reference_lesions[0].matched == (False, False, False)


def test_a_map_of_another_shape_or_code_is_named(scene):
    ct, labels = scene
    with pytest.raises(ValueError, match=r"shape of the CT, \(4, 10, 10\), got \(3, 10, 10\)"):
        compare(ct, labels, labels[:3], PROTOCOL)
    with pytest.raises(InputRefused, match="found 9"):
        compare(ct, labels, np.where(labels > 0, 9, 0).astype(np.uint8), PROTOCOL)
