"""The same plaque in two scans, by where it lies."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.calcium.matching import joined_groups, match_lesions


def row(*x_mm):
    return np.array([[x, 0.0, 0.0] for x in x_mm])


def groups(first, second, **options):
    return [(m.first, m.second) for m in match_lesions(first, second, **options)]


def test_each_lesion_is_in_one_group_whatever_the_order():
    first, second = {4: row(0, 1), 2: row(40)}, {9: row(41), 1: row(0.5)}
    assert groups(first, second) == [((4,), (1,)), ((2,), (9,))]


def test_a_lesion_beyond_reach_is_gone_and_another_new():
    assert groups({1: row(0)}, {1: row(6)}) == [((1,), ()), ((), (1,))]
    assert groups({1: row(0)}, {1: row(6)}, reach_mm=7) == [((1,), (1,))]


def test_plaques_that_grew_together_are_one_group():
    assert groups({1: row(0, 1), 2: row(10, 11)}, {5: row(*range(12))}) == [((1, 2), (5,))]


def test_a_plaque_between_two_goes_to_the_nearer_and_the_other_stays_alone():
    assert groups({1: row(0)}, {5: row(1), 6: row(4.9)}) == [((1,), (5, 6))]  # the other's nearest is it, too
    assert groups({1: row(0), 2: row(5)}, {5: row(1), 6: row(4.9)}) == [((1,), (5,)), ((2,), (6,))]


def test_a_chain_of_links_is_one_group_and_what_has_none_stands_alone():
    #       column 0 1 2 3
    links = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0]]
    assert joined_groups(np.array(links, bool)) == [([0], []), ([1, 2, 3], [0, 2]), ([], [1]), ([], [3])]
    assert joined_groups(np.zeros((0, 2), bool)) == [([], [0]), ([], [1])]
    assert joined_groups(np.zeros((0, 0), bool)) == []


def test_the_gap_is_the_mean_way_from_the_smaller_lesion():
    (one,) = match_lesions({1: row(0, 2)}, {1: row(1, 2, 3, 4)})
    assert one.gap_mm == pytest.approx(0.5)  # 1 mm from 0 to 1, none from 2


def test_without_a_lesion_on_one_side_there_is_nothing_to_join():
    assert groups({}, {3: row(0)}) == [((), (3,))]
    assert groups({3: row(0)}, {}) == [((3,), ())]
    assert groups({}, {}) == []
