"""The statistics of the fork design on made-up scores: a planted effect is found, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

from training.dino.augment import AugmentConfig
from training.dino.recipe import DinoRecipe
from training.engine.config import as_dict, load_recipe
from training.evaluation.results import Estimate
from training.evaluation.sources.arms import SlicePredictions, SliceTruth
from training.evaluation.sources.forks import (
    ANCESTOR,
    ARMS,
    DECOYS,
    GUIDED,
    LABELS,
    RANDOM_CROPS,
    SHUFFLED,
    UNTRAINED,
    ZOOM,
    Effect,
    ForkRecipe,
    arm_name,
    compare_arms,
    on_candidates,
    smallest_seen,
    verdict,
)
from training.fork import RECIPE

PEOPLE, SLICES, SEEDS = 30, 12, 5


def made_up(
    rng: np.random.Generator, effects: dict[str, float]
) -> tuple[SliceTruth, dict[str, list[SlicePredictions]]]:
    """Scores of slices: calcium adds 1 and the arm's effect; persons and seeds differ, and all arms share them."""
    patient = np.repeat(np.arange(PEOPLE), SLICES)
    is_calcified = rng.random(patient.size) < 0.3
    person = rng.normal(0, 0.5, PEOPLE)[patient]
    slice_noise = rng.normal(0, 1, patient.size)
    runs: dict[str, list[SlicePredictions]] = {name: [] for name in effects}
    for _ in range(SEEDS):
        seed_noise = rng.normal(0, 0.3, patient.size)  # of the heads, which all arms have in common
        for name, effect in effects.items():
            own = rng.normal(0, 0.3, patient.size)
            runs[name].append(
                SlicePredictions(np.zeros(2), is_calcified * (1 + effect) + person + slice_noise + seed_noise + own)
            )
    truth = SliceTruth(np.array([True, False]), is_calcified, patient, np.where(is_calcified, 5.0, 0.0))
    return truth, runs


def effect_of(rng: np.random.Generator, planted: float) -> Effect:
    truth, runs = made_up(rng, {ZOOM: planted, RANDOM_CROPS: 0.0})
    _, effects = compare_arms(truth, runs, [(ZOOM, RANDOM_CROPS)], draws=100)
    return effects[f"{ZOOM} - {RANDOM_CROPS}"]


def test_a_planted_effect_is_found():
    found = [effect_of(np.random.default_rng(n), 0.4) for n in range(6)]
    assert all(one.is_above_0 for one in found)
    assert all(one.estimate.value > 0.03 for one in found)
    assert all(len(one.by_seed) == SEEDS and np.mean(one.by_seed) == pytest.approx(one.estimate.value) for one in found)


def test_where_nothing_was_planted_hardly_ever_is_anything_found():
    """Of thirty, one in forty is expected above 0 by chance alone; four or more have a probability of 1 in 150."""
    found = [effect_of(np.random.default_rng(100 + n), 0.0) for n in range(30)]
    assert sum(one.is_above_0 for one in found) <= 3
    assert np.mean([one.estimate.value for one in found]) == pytest.approx(0, abs=0.005)


def test_the_smallest_effect_that_would_have_been_seen_is_found_in_about_four_of_five():
    """Planted at the size that the experiment says of itself; of thirty, 80 % gives 20 to 28 with 95 %."""
    seen = np.median([effect_of(np.random.default_rng(200 + n), 0.0).smallest_seen for n in range(8)])
    grid = (0.05, 0.15, 0.3)
    by_size = [
        np.mean([effect_of(np.random.default_rng(300 + n), size).estimate.value for n in range(10)]) for size in grid
    ]
    size = float(np.interp(seen, by_size, grid))
    assert grid[0] < size < grid[-1]
    found = [effect_of(np.random.default_rng(400 + n), size).is_above_0 for n in range(30)]
    assert 20 <= sum(found) <= 28


def test_seeds_that_differ_widen_the_interval_and_persons_that_differ_do():
    """The same mean difference: with one seed's luck in it, the interval over seeds holds 0."""
    truth, runs = made_up(np.random.default_rng(1), {ZOOM: 0.0, RANDOM_CROPS: 0.0})
    steady = [SlicePredictions(run.validation, run.test + 0.12 * truth.test) for run in runs[RANDOM_CROPS]]
    lucky = [*runs[RANDOM_CROPS][:-1], SlicePredictions(np.zeros(2), runs[RANDOM_CROPS][-1].test + 0.6 * truth.test)]
    widths = []
    for arm in (steady, lucky):
        _, effects = compare_arms(
            truth, {ZOOM: arm, RANDOM_CROPS: runs[RANDOM_CROPS]}, [(ZOOM, RANDOM_CROPS)], draws=200
        )
        (effect,) = effects.values()
        widths.append(effect.estimate.high - effect.estimate.low)
        assert effect.estimate.value > 0
    assert widths[1] > 3 * widths[0]
    assert not effect.is_above_0


def test_only_slices_with_candidates_count():
    truth, runs = made_up(np.random.default_rng(2), {ZOOM: 0.0})
    asked = np.arange(truth.test.size) % 3 == 0
    kept, answers = on_candidates(truth, runs, np.array([True, False]), asked)
    assert (kept.test.size, answers[ZOOM][0].test.size) == (asked.sum(), asked.sum())
    spoiled = {ZOOM: [SlicePredictions(np.zeros(2), np.where(asked, run.test, 1e6)) for run in runs[ZOOM]]}
    _, again = on_candidates(truth, spoiled, np.array([True, False]), asked)
    one, other = (compare_arms(kept, of, (), draws=2)[0][ZOOM].value for of in (answers, again))
    assert one == other


def test_too_few_seeds_have_no_smallest_effect():
    assert smallest_seen(Estimate(0.1, 0.0, 0.2), 1) is None
    assert smallest_seen(Estimate(0.1), 5) is None
    assert smallest_seen(Estimate(0.0, -0.0196, 0.0196), 2) == pytest.approx(0.028 * 2**0.5)


def effects(zoom=(0.05, 0.01), decoys=(0.03, 0.01), shuffled=(0.03, 0.01), floor=(0.1, 0.05)) -> dict[str, Effect]:
    rows = {
        (ZOOM, RANDOM_CROPS): zoom,
        (ZOOM, DECOYS): decoys,
        (ZOOM, SHUFFLED): shuffled,
        (ANCESTOR, UNTRAINED): floor,
    }
    return {
        f"{arm_name(a, 1.0)} - {arm_name(b, 1.0)}": Effect(Estimate(value, low, 0.2), (value,), 0.0123)
        for (a, b), (value, low) in rows.items()
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "it is the calcium that they show"),
        ({"decoys": (0.03, -0.01)}, "not more than crops as close at wrong places"),
        ({"shuffled": (0.03, -0.01)}, "not more than crops as close at wrong places"),
        ({"zoom": (0.05, -0.01)}, "null result"),
        (
            {"zoom": (0.015, 0.01)},
            "null result: close guided crops are not shown to help by 0.02 or more; an effect of 0.012",
        ),
        ({"floor": (0.1, -0.01)}, "no answer: the ancestor is not shown to be better"),
    ],
)
def test_the_verdict_follows_the_rule(changed, words):
    assert words in verdict(effects(**changed), 1.0)
    assert verdict(effects(**changed), 0.1) == "no verdict: an arm is missing"


def test_arms_have_one_budget_and_differ_in_the_guides_alone():
    for path in (RECIPE, RECIPE.with_name("fork-gpu.toml")):
        recipe = load_recipe(ForkRecipe, path)
        recipes = {arm: as_dict(recipe.arm(arm, 2)) for arm in ARMS if arm != LABELS}
        guides = {
            arm: tuple(str(of["augment"].pop(name)) for name in (
                "random_local_crops", "guided_local_crops", "guided_by", "guided_mm", "guided_placement"))
            for arm, of in recipes.items()
        }  # fmt: skip
        assert all(of == recipes[RANDOM_CROPS] for of in recipes.values())
        assert guides[RANDOM_CROPS][:2] == ("4", "0")
        assert guides[GUIDED] == ("2", "2", "coronary", "none", "centre")
        assert guides[ZOOM] == ("2", "2", "coronary", "[12.0, 30.0]", "random")
        assert [guides[arm][2] for arm in (DECOYS, SHUFFLED)] == ["traps", "shuffled"]
        assert guides[DECOYS][3:] == guides[SHUFFLED][3:] == guides[ZOOM][3:]
        assert recipe.arm(ZOOM, 0).seed != recipe.arm(ZOOM, 1).seed


def test_an_ancestor_that_has_seen_guides_is_refused():
    guided = DinoRecipe(augment=AugmentConfig(guided_local_crops=1))
    with pytest.raises(ValueError, match="no continuation may have seen guides"):
        ForkRecipe(ancestor=guided)
    with pytest.raises(ValueError, match="shares must lie above 0"):
        replace(ForkRecipe(), shares=(0.0, 1.0))
