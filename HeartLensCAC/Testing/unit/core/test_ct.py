"""Geometry: a CT is valid or does not exist, and turning its axes moves no voxel in the patient."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartlens.core.ct import CTHeader, CTVolume, canonical_axes, hu_array

AFFINE = np.array([[0.5, 0, 0, -10], [0, 0.6, 0, -20], [0, 0, 3.0, 30], [0, 0, 0, 1]])


def test_spacing_area_and_volume_come_from_the_affine():
    ct = CTVolume(np.zeros((4, 3, 2), np.int16), AFFINE)
    assert ct.spacing_mm == (3.0, 0.6, 0.5)
    assert ct.increment_mm == 3.0
    assert ct.pixel_area_mm2 == pytest.approx(0.3)
    assert ct.voxel_volume_mm3 == pytest.approx(0.9)


def test_index_and_position_are_inverse():
    ct = CTVolume(np.zeros((4, 3, 2), np.int16), AFFINE)
    assert ct.lps_mm((2, 1, 1)).tolist() == [-9.5, -19.4, 36.0]
    assert ct.index_kji([-9.5, -19.4, 36.0]) == pytest.approx([2, 1, 1])


def test_voxels_and_affine_are_read_only():
    ct = CTVolume(np.zeros((1, 2, 2), np.int16), AFFINE)
    with pytest.raises(ValueError, match="read-only"):
        ct.hu[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        ct.affine[0, 0] = 1


def shear(affine):
    out = affine.copy()
    out[1, 2] = 0.7
    return out


@pytest.mark.parametrize(
    ("hu", "affine", "reason"),
    [
        (np.zeros((2, 2), np.int16), AFFINE, "shape"),
        (np.zeros((0, 2, 2), np.int16), AFFINE, "non-empty"),
        (np.zeros((2, 2, 2), np.float64), AFFINE, "int16 or float32"),
        (np.zeros((2, 2, 2), np.int16), np.eye(3), "4x4"),
        (np.zeros((2, 2, 2), np.int16), np.diag([1, 1, -1, 1.0]), "right-handed"),
        (np.zeros((2, 2, 2), np.int16), np.diag([1, -1, -1, 1.0]), "foot to head"),
        (np.zeros((2, 2, 2), np.int16), shear(AFFINE), "tilted"),
        (np.zeros((2, 2, 2), np.int16), np.diag([0, 1, 1, 1.0]), "positive"),
    ],
)
def test_an_impossible_volume_does_not_exist(hu, affine, reason):
    with pytest.raises(ValueError, match=reason):
        CTVolume(hu, affine)


def test_one_uid_per_slice_is_required():
    with pytest.raises(ValueError, match="one SOP Instance UID per slice"):
        CTVolume(np.zeros((2, 2, 2), np.int16), AFFINE, CTHeader(sop_instance_uids=("1.2",)))


def rotation(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.eye(4)
    turned[1:3, 1:3] = [[c, -s], [s, c]]
    return turned


def test_eight_degrees_are_axial_and_nine_are_not():
    hu = np.zeros((2, 2, 2), np.int16)
    CTVolume(hu, rotation(8))
    with pytest.raises(ValueError, match="near-axial"):
        CTVolume(hu, rotation(9))
    assert CTVolume(hu, rotation(9), allow_oblique=True).spacing_mm == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([130.0, -1024.0]), np.int16),
        (np.array([130.5]), np.float32),
        (np.array([40000.0]), np.float32),
        (np.array([130], np.int32), np.int16),
        (np.array([130], np.uint16), np.int16),
        (np.array([-40000], np.int32), np.float32),
    ],
)
def test_hu_are_stored_without_changing_any(values, dtype):
    stored = hu_array(values)
    assert stored.dtype == dtype
    assert stored.tolist() == values.tolist()


def test_hu_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        hu_array(np.array([1.0, np.nan]))


@given(
    st.sampled_from(list(itertools.permutations(range(3)))),
    st.tuples(*[st.booleans()] * 3),
    st.floats(-7, 7),
)
def test_any_orientation_of_the_same_voxels_is_the_same_ct(permutation, flips, degrees):
    truth = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    truth_affine = rotation(degrees) @ AFFINE
    values, affine = truth, truth_affine.copy()
    for axis, flip in enumerate(flips):  # axis of the array; column 2 - axis of the affine
        if flip:
            affine[:3, 3] += affine[:3, 2 - axis] * (values.shape[axis] - 1)
            affine[:3, 2 - axis] *= -1
            values = np.flip(values, axis)
    values = np.transpose(values, permutation)
    turned = affine.copy()
    for axis, source in enumerate(permutation):
        turned[:3, 2 - axis] = affine[:3, 2 - source]
    back, back_affine = canonical_axes(values, turned)
    assert np.array_equal(back, truth)
    assert back_affine == pytest.approx(truth_affine)
