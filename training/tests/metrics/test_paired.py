"""Paired differences: Student's interval, and the number of patients that would settle one; against worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from training.metrics.paired import paired_mean, pairs_to_settle


def test_the_interval_is_that_of_a_paired_t_test():
    before, after = np.random.default_rng(3).uniform(size=(2, 9))
    found = paired_mean((before - after).tolist())
    theirs = scipy.stats.ttest_rel(before, after).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_one_patient_has_no_interval_and_none_no_mean():
    assert paired_mean([0.25])[:2] == (1, 0.25)
    assert math.isnan(paired_mean([0.25]).low)
    assert math.isnan(paired_mean([]).mean)


def test_the_number_that_settles_is_the_smallest_whose_interval_leaves_zero_out():
    """Of 16 patients with a spread of 1 the half width is 2.131 / 4 = 0.533, of 15 it is 2.145 / 3.873 = 0.554."""
    found = paired_mean([0.54 - 1.0, 0.54, 0.54 + 1.0])  # mean 0.54, spread 1
    needed, (low, high) = pairs_to_settle(found)
    assert needed == 16
    assert low < needed < high


def test_no_number_settles_what_is_no_difference_and_two_settle_what_never_varies():
    assert pairs_to_settle(paired_mean([1.0, -1.0])) == (None, (None, None))
    assert pairs_to_settle(paired_mean([0.5, 0.5, 0.5])) == (2, (2, 2))
    assert pairs_to_settle(paired_mean([1e-6, 1.0, -1.0]))[0] is None
