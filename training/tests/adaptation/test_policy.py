"""Reward teaches what confidence cannot: a network that is sure of the wrong artery is put right without a label."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from island_scans import CLASSES, head, scan
from needed import torch

from training.adaptation.policy import Policy, PolicyRecipe, accuracy, adapt
from training.adaptation.reward import RewardRecipe, train_reward

LCX, RCA = CLASSES.index("LCX"), CLASSES.index("RCA")
FREE = PolicyRecipe(rounds=12, draws=8, learning_rate=0.1, divergence=0.0, most_divergence=99.0)


@pytest.fixture(scope="module")
def reward():
    return train_reward([scan(n) for n in range(12)], CLASSES, RewardRecipe(steps=600, width=32, learning_rate=5e-3), 0)


@pytest.fixture(scope="module")
def targets():
    return [scan(n) for n in range(300, 306)]


def mistaken() -> Policy:
    """Calls every LCX an RCA, with 0.7 of its votes."""
    return Policy(head({LCX: RCA}, sure=2.5))


def test_reward_puts_a_swapped_artery_right_and_confidence_does_not(reward, targets):
    start = mistaken()
    assert accuracy(start, targets, CLASSES) == pytest.approx(0.8, abs=0.05)
    by_reward, rounds, ended = adapt(start, targets, [], reward, FREE)
    assert (len(rounds), ended) == (FREE.rounds + 1, "")
    assert accuracy(by_reward, targets, CLASSES) > 0.95
    assert rounds[-1].reward > rounds[0].reward
    trusting = replace(FREE, method="self-training", confident=0.5)
    by_itself, _, _ = adapt(start, targets, [], reward, trusting)
    assert accuracy(by_itself, targets, CLASSES) < 0.85


def test_labels_of_the_target_are_not_looked_at(reward, targets):
    start = mistaken()
    with_labels, *_ = adapt(start, targets, [], reward, replace(FREE, rounds=2))
    without, *_ = adapt(start, [s.without_labels() for s in targets], [], reward, replace(FREE, rounds=2))
    assert torch.equal(with_labels.weight, without.weight)
    assert not torch.equal(with_labels.weight, start.weight)


def test_a_reward_that_looks_at_the_labels_of_the_target_sees_none(targets):
    class Peeking:
        classes = CLASSES

        def judge(self, islands, code):
            return (islands.code == code).astype(float)

    start = mistaken()
    after, rounds, _ = adapt(start, targets, [], Peeking(), replace(FREE, rounds=2, entropy=0.0))
    assert [one.reward for one in rounds] == [0, 0, 0]
    assert torch.equal(after.weight, start.weight)


def test_the_start_is_left_as_it_is_and_a_reward_that_is_the_same_for_all_moves_nothing(targets):
    class Flat:
        classes = CLASSES

        def judge(self, islands, code):
            return np.full(len(code), 0.5)

    start = mistaken()
    weight = start.weight.detach().clone()
    after, *_ = adapt(start, targets, [], Flat(), replace(FREE, rounds=2, entropy=0.0))
    assert torch.equal(start.weight, weight)
    assert torch.equal(after.weight, weight)


def test_a_policy_that_leaves_its_start_is_stopped_and_the_round_before_is_taken(reward, targets):
    start = mistaken()
    after, rounds, ended = adapt(start, targets, [], reward, replace(FREE, most_divergence=0.02))
    assert ended == f"it left the start by {rounds[-1].divergence:.2f} nats an island"
    assert len(rounds) < FREE.rounds
    assert torch.equal(after.weight, start.weight)


def test_divergence_costs(reward, targets):
    free, tied = (
        adapt(mistaken(), targets, [], reward, replace(FREE, rounds=4, divergence=weight))[1][-1].divergence
        for weight in (0.0, 3.0)
    )
    assert tied < free / 2


def test_what_the_source_loses_ends_it(reward, targets):
    """A sliver on which LCX really is what the start says: putting the target right loses it."""
    sliver = [replace_code(s) for s in targets]
    _, rounds, ended = adapt(mistaken(), targets, sliver, reward, FREE)
    assert ended.startswith("on labeled scans 0.")
    assert rounds[0].kept == 1.0 > rounds[-1].kept


def replace_code(islands):
    return replace(islands, code=np.where(islands.code == LCX, RCA, islands.code))


def test_a_time_that_is_over_leaves_the_start(reward, targets):
    after, rounds, ended = adapt(mistaken(), targets, [], reward, FREE, deadline=time.monotonic() - 1)
    assert (len(rounds), ended) == (1, "the time budget is over")
    assert torch.equal(after.weight, mistaken().weight)


def test_a_last_layer_goes_back_where_it_came_from():
    layer = head()
    mistaken().put_into(layer)
    assert torch.equal(Policy(layer).weight, mistaken().weight)


def test_no_island_is_said(reward):
    with pytest.raises(ValueError, match="expected a scan with an island"):
        adapt(mistaken(), [], [], reward, FREE)
