"""Which phantoms serve what: seeds have one purpose, and those of training have more stents than people do."""

from __future__ import annotations

from itertools import combinations

import pytest

from heartlens.phantom import PhantomParameters
from training.datasets.phantom_sets import CALIBRATION, SPARE, STENTED, TEST, TRAINING, VALIDATION, training_phantom


def test_no_seed_has_two_purposes():
    for one, other in combinations((TRAINING, VALIDATION, SPARE, CALIBRATION, TEST), 2):
        assert not set(one.range) & set(other.range)


def test_every_fifth_phantom_of_training_has_a_stent_whether_one_was_drawn_or_not():
    """In each of the three kinds (plain, many plaques, drawn counts), which the remainder by three says."""
    seeds = range(TRAINING.first, TRAINING.first + 60)
    stented = [seed for seed in seeds if seed % STENTED == 0]
    assert {seed % 3 for seed in stented} == {0, 1, 2}
    assert [seed for seed in stented if "stent" not in training_phantom(seed).traps] == []
    drawn = ["stent" in PhantomParameters.varied(seed).traps for seed in stented]
    assert sum(drawn) < len(drawn) / 2  # most were put there


@pytest.mark.parametrize("part", [VALIDATION, SPARE])
def test_phantoms_that_judge_have_the_stents_that_were_drawn(part):
    for seed in list(part.range)[:20]:
        assert training_phantom(seed) == PhantomParameters.varied(seed)


def test_other_phantoms_of_training_keep_the_traps_that_were_drawn():
    for seed in range(TRAINING.first + 1, TRAINING.first + STENTED):
        assert training_phantom(seed).traps == PhantomParameters.varied(seed).traps
