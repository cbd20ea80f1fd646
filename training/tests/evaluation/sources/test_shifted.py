"""Shifted phantoms lie outside of what is drawn, have seeds of their own, and are labeled anew where images change."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from heartlens.phantom import PhantomParameters
from training.datasets import phantom_sets
from training.datasets.phantom_sets import SHIFTED, SHIFTED_OF_A_SET, Seeds
from training.evaluation.sources.shifted import SHIFTED_SETS, TEST_SET, other_hearts, relabeled, worse_images

SEEDS = SHIFTED.range[:40]


def test_other_hearts_and_worse_images_are_drawn_by_nobody_else():
    usual = [PhantomParameters.varied(seed) for seed in SEEDS]
    shifted = [PhantomParameters.varied(seed, **other_hearts(seed), **worse_images(seed)) for seed in SEEDS]
    for value in (
        lambda p: abs(p.heart_turn_deg[0]), lambda p: abs(p.heart_turn_deg[1]), lambda p: abs(p.heart_shift_mm),
        lambda p: p.noise_hu, lambda p: p.motion_mm, lambda p: abs(p.heart_scale - 1),
    ):  # fmt: skip
        assert min(map(value, shifted)) > max(map(value, usual))
    assert {p.heart_scale > 1 for p in shifted} == {True, False}


def test_the_seeds_of_the_judge_serve_nothing_else():
    others = [s for s in vars(phantom_sets).values() if isinstance(s, Seeds) and s is not SHIFTED]
    assert len(others) >= 5
    assert not [s for s in others if set(s.range) & set(SHIFTED.range)]
    assert SHIFTED_OF_A_SET * len([s for s in SHIFTED_SETS if not s.like]) <= SHIFTED.count


def test_the_test_range_is_that_of_the_published_figures(tmp_path):
    with pytest.raises(ValueError, match="1 to 200 phantoms, got 201"):
        next(TEST_SET.scans(tmp_path, tmp_path, 201))
    scan = next(TEST_SET.scans(tmp_path, tmp_path, 1, matrix=64))
    assert scan.name == "phantom-740000"


def test_a_set_has_no_more_phantoms_than_it_has_seeds(tmp_path):
    with pytest.raises(ValueError, match="1 to 40 phantoms, got 41"):
        next(SHIFTED_SETS[0].scans(tmp_path, tmp_path, 41))


def test_an_altered_image_is_labeled_by_whole_islands_of_what_was_there():
    """One island grew by a column, one fell below the threshold, one is new and belongs to nobody."""
    hu = np.full((1, 12, 12), 0, np.int16)
    hu[0, 2:4, 2:6], hu[0, 8:10, 8:10] = 200, 200
    labels = np.zeros(hu.shape, np.uint8)
    labels[0, 2:4, 2:5], labels[0, 2:4, 5], labels[0, 6, 2] = Artery.LAD, 0, Artery.RCA
    found = relabeled(CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0])), labels)
    assert (found[0, 2:4, 2:6] == Artery.LAD).all()
    assert found.sum() == 8 * Artery.LAD
