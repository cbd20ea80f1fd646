"""Islands: a plain flood fill and scipy must agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from heartlens.core.components import label_components

STRUCTURES = {
    4: np.array([[[0] * 3] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0] * 3] * 3]),
    8: np.array([[[0] * 3] * 3, [[1] * 3] * 3, [[0] * 3] * 3]),
    6: ndimage.generate_binary_structure(3, 1),
    26: ndimage.generate_binary_structure(3, 3),
}


@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 8), st.integers(1, 8))),
    st.sampled_from([4, 8, 6, 26]),
)
@settings(max_examples=200, deadline=None)
def test_islands_equal_scipys(mask, connectivity):
    flat = np.flatnonzero(mask)
    ours = label_components(flat, mask.shape, connectivity=connectivity)
    theirs = ndimage.label(mask, STRUCTURES[connectivity])[0].reshape(-1)[flat]
    pairs = {(a, b) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)}
    assert len(pairs) == len(set(ours.tolist())) == len(set(theirs.tolist()))


def test_a_long_snake_is_one_island():
    mask = np.zeros((1, 41, 41), bool)
    mask[0, ::2] = True
    mask[0, 1::4, -1] = mask[0, 3::4, 0] = True
    assert label_components(np.flatnonzero(mask), mask.shape, connectivity=4).max() == 0


def test_groups_keep_touching_voxels_apart():
    flat, group = np.arange(4), np.array([1, 1, 2, 2])
    assert label_components(flat, (1, 1, 4), connectivity=4, group=group).tolist() == [0, 0, 1, 1]


def test_the_end_of_a_row_does_not_touch_the_start_of_the_next():
    assert label_components(np.array([3, 4]), (1, 2, 4), connectivity=8).tolist() == [0, 1]


def test_nothing_has_no_islands():
    assert label_components(np.zeros(0, np.int64), (2, 2, 2), connectivity=26).tolist() == []


def test_an_unknown_neighbourhood_is_refused():
    with pytest.raises(ValueError, match="18"):
        label_components(np.array([0]), (1, 1, 1), connectivity=18)
