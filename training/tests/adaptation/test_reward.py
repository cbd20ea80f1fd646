"""A reward network finds labels that anatomy does not allow, dropped ones no less than added ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from island_scans import CLASSES, scan
from needed import torch

from training.adaptation.islands import coronary_classes
from training.adaptation.reward import RewardRecipe, distorted, reward_auroc, train_reward

RECIPE = RewardRecipe(steps=600, width=32, learning_rate=5e-3)
LAD, LCX, OTHER = (CLASSES.index(name) for name in ("LAD", "LCX", "OTHER"))


@pytest.fixture(scope="module")
def network():
    return train_reward([scan(n) for n in range(12)], CLASSES, RECIPE, seed=0)


def test_it_tells_labels_of_people_whom_it_never_saw(network):
    assert reward_auroc(network, [scan(n) for n in range(100, 112)], RECIPE, seed=0) > 0.95


def test_a_lesion_that_is_dropped_or_under_another_name_is_found_and_so_is_one_too_many(network):
    one = scan(200)
    of_lad, of_nothing = np.flatnonzero(one.code == LAD)[0], np.flatnonzero(one.code == 0)[0]
    for island, wrong in ((of_lad, 0), (of_lad, LCX), (of_nothing, LAD)):
        said = one.code.copy()
        said[island] = wrong
        assert network.judge(one, said)[island] < 0.5 < network.judge(one, one.code)[island]


def test_distortion_drops_swaps_and_adds_as_often_as_it_says():
    code = np.resize([0, LAD, LCX, OTHER], 40_000)
    recipe = RewardRecipe(rate=0.25, added=0.1)
    said = distorted(code, CLASSES, recipe, np.random.default_rng(1))
    is_coronary = coronary_classes(CLASSES)
    own = is_coronary[code]
    assert (own & ~is_coronary[said]).sum() / own.sum() == pytest.approx(0.25, abs=0.01)
    assert (own & is_coronary[said] & (said != code)).sum() / own.sum() == pytest.approx(0.25, abs=0.01)
    assert (~own & is_coronary[said]).sum() / (~own).sum() == pytest.approx(0.1, abs=0.01)
    assert np.array_equal(said[~own & ~is_coronary[said]], code[~own & ~is_coronary[said]])


def test_what_nobody_labeled_teaches_nothing():
    scans = [scan(n) for n in range(3)]
    unknown = [s.without_labels() for s in scans]
    alone, beside = (train_reward(s, CLASSES, replace(RECIPE, steps=1), 0) for s in (unknown, unknown))
    start = train_reward(unknown, CLASSES, replace(RECIPE, steps=40), 0)
    for a, b, c in zip(*(list(net.parameters()) for net in (alone, beside, start)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c), "40 steps moved nothing"
    assert np.isnan(reward_auroc(alone, unknown, RECIPE, 0))


@pytest.mark.parametrize("change", [{"rate": 0.0}, {"rate": 0.6}, {"added": 0.0}, {"steps": 0}, {"width": 0}])
def test_a_recipe_that_distorts_nothing_or_too_much_is_refused(change):
    with pytest.raises(ValueError, match="must"):
        replace(RECIPE, **change)


def test_no_island_is_said():
    with pytest.raises(ValueError, match="expected a scan with an island"):
        train_reward([], CLASSES, RECIPE, 0)
