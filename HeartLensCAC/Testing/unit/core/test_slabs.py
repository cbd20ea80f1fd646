"""Slabs: the mean of neighboring slices, at the right place, and labels carried there and back."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.core.slabs import average_slabs, slab_labels, slices_per_slab, source_voxels


def test_three_slices_of_one_millimetre_become_one_of_three(a_ct):
    hu = np.arange(7)[:, None, None] * np.full((7, 2, 2), 10)
    ct = a_ct(hu, spacing_mm=(1.0, 0.5, 0.5))
    slabs = average_slabs(ct, slices_per_slab(ct, 3.0))
    assert slabs.hu[:, 0, 0].tolist() == [10, 40]  # the seventh slice makes no whole slab
    assert slabs.increment_mm == 3.0
    assert slabs.header.slice_thickness_mm == 3.0
    assert slabs.lps_mm((0, 0, 0)).tolist() == [0, 0, 1.0]
    assert slabs.lps_mm((1, 0, 0)).tolist() == [0, 0, 4.0]


def test_overlapping_slices_make_a_slab_from_face_to_face(a_ct):
    ct = a_ct(np.zeros((4, 1, 1)), spacing_mm=(1.5, 0.5, 0.5), slice_thickness_mm=3.0)
    slabs = average_slabs(ct, 2)
    assert slabs.increment_mm == 3.0
    assert slabs.header.slice_thickness_mm == 4.5


def test_a_mean_that_is_not_integral_is_not_rounded(a_ct):
    ct = a_ct(np.array([129, 130])[:, None, None], spacing_mm=(1.0, 1, 1))
    assert average_slabs(ct, 2).hu.tolist() == [[[129.5]]]


@pytest.mark.parametrize(("slab_mm", "count"), [(3.0, 5), (1.5, 2), (0.6, 1), (0.1, 1)])
def test_the_number_of_slices_is_the_nearest(a_ct, slab_mm, count):
    assert slices_per_slab(a_ct(np.zeros((6, 1, 1)), spacing_mm=(0.6, 1, 1)), slab_mm) == count


def test_a_slab_thicker_than_the_scan_is_refused(a_ct):
    with pytest.raises(ValueError, match="needs 10 slices, the scan has 4"):
        slices_per_slab(a_ct(np.zeros((4, 1, 1)), spacing_mm=(1.0, 1, 1)), 10)


def test_a_slab_takes_the_most_frequent_label_of_its_slices():
    codes = np.array([2, 4, 4, 0, 0, 1, 3, 1, 3])[:, None, None].astype(np.uint8)
    assert slab_labels(codes, 3)[:, 0, 0].tolist() == [4, 1, 3]
    assert slab_labels(codes[:4], 2)[:, 0, 0].tolist() == [2, 4]  # a tie goes to the smaller number


def test_slab_voxels_return_to_every_slice_they_came_from():
    # 4 voxels a slice: voxel 1 of slab 0 and voxel 2 of slab 1, three slices each
    assert source_voxels(np.array([1, 6]), 3, 4).tolist() == [1, 5, 9, 14, 18, 22]


def test_one_slice_per_slab_changes_nothing(a_ct):
    ct = a_ct(np.zeros((3, 2, 2)))
    assert average_slabs(ct, 1) is ct
    codes = np.ones((3, 2, 2), np.uint8)
    assert slab_labels(codes, 1) is codes
