"""The cut-off of islands: asked of whole scans as HeartLens asks, and chosen by numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from needed import torch  # noqa: F401  - the package under test needs it

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from heartlens.networks.view import NetworkView
from training.datasets.scans import UNREVIEWED
from training.metrics.cutoff import ENOUGH, choose_cut_off, fit_calibration
from training.segmentation.islands import ComponentVotes, evaluate_votes, read_component_votes

CLASSES = ("none", "LAD", "RCA", "OTHER")
LAD, OTHER = int(Artery.LAD), int(Artery.OTHER)


def votes(probability: list[float], truth: list[int]) -> ComponentVotes:
    return ComponentVotes(np.array(probability), np.array(truth, bool))


def test_every_island_that_counts_is_asked_and_its_label_is_that_of_most_of_its_voxels():
    """One voxel of 1 mm2 counts, one of 0.25 mm2 does not; the network says p by column."""
    hu, codes = np.full((2, 40, 40), 40, np.int16), np.zeros((2, 40, 40), np.uint8)
    hu[0, 10:14, 4:8], codes[0, 10:14, 4:8] = 300, LAD
    hu[0, 20:24, 30:34], codes[0, 20:22, 30:34], codes[0, 22:24, 30:32] = (
        300,
        LAD,
        OTHER,
    )  # 8 of 16: no majority
    hu[1, 30:34, 20:24] = 300
    hu[1, 36, 36] = 300  # too small
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]))

    def by_column(image):
        p = np.linspace(0.1, 0.9, 40, dtype=np.float32)  # of LAD; the rest is "none"
        logits = np.full((len(image), 4, 40, 40), -30, np.float32)
        logits[:, 1], logits[:, 0] = np.log(p), np.log(1 - p)
        return logits

    votes_read = read_component_votes(by_column, [(ct, codes)], NetworkView(40, 0.5), CLASSES)
    columns = np.array([5.5, 31.5, 21.5])
    order = np.argsort(votes_read.probability)
    assert votes_read.probability[order] == pytest.approx(np.sort(0.1 + 0.8 * columns / 39), abs=2e-3)
    assert votes_read.is_coronary[order].tolist() == [True, False, False]


def test_an_island_that_nobody_reviewed_is_not_asked_and_a_half_reviewed_one_is_what_was_reviewed():
    """Of 16 voxels each: 16 LAD; 16 unreviewed; 6 LAD of 10 reviewed; 7 LAD and 9 unreviewed; none at all."""
    hu, codes = np.full((1, 40, 40), 40, np.int16), np.zeros((1, 40, 40), np.uint8)
    for n, (lad, unreviewed) in enumerate([(16, 0), (0, 16), (6, 6), (7, 9), (0, 0)]):
        rows, columns = slice(4, 8), slice(2 + 8 * n, 6 + 8 * n)
        hu[0, rows, columns] = 300
        values = [LAD] * lad + [UNREVIEWED] * unreviewed + [0] * (16 - lad - unreviewed)
        codes[0, rows, columns] = np.array(values, np.uint8).reshape(4, 4)
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]))

    def by_column(image):
        p = np.linspace(0.1, 0.9, 40, dtype=np.float32)
        logits = np.full((len(image), 4, 40, 40), -30, np.float32)
        logits[:, 1], logits[:, 0] = np.log(p), np.log(1 - p)
        return logits

    votes_read = read_component_votes(by_column, [(ct, codes)], NetworkView(40, 0.5), CLASSES)
    assert len(votes_read.probability) == 3
    assert votes_read.is_coronary[np.argsort(votes_read.probability)].tolist() == [True, True, False]


def test_the_best_f1_by_hand():
    """At 0.55 three are found and one of them is false: F1 = 2 * 2 / (3 + 2)."""
    result = evaluate_votes(votes([0.9, 0.8, 0.6, 0.5, 0.1], [1, 0, 1, 0, 0]))
    assert result["cut_off"] == pytest.approx(0.55)
    assert result["f1"] == pytest.approx(0.8)
    assert (result["islands"], result["coronary"]) == (5, 2)


@pytest.mark.parametrize("truth", [[], [1, 1], [0, 0]])
def test_with_one_kind_of_islands_the_cut_off_stays_at_one_half(truth):
    result = evaluate_votes(votes([0.7, 0.3][: len(truth)], truth))
    assert (result["cut_off"], result["slope"], result["intercept"]) == (0.5, 1.0, 0.0)


def test_calibration_brings_what_is_said_to_what_is_right():
    """Says 0.99 and 0.2; is right in 80 and in 10 of 100."""
    probability = np.repeat([0.99, 0.2], 100)
    right = np.r_[np.arange(100) < 80, np.arange(100) < 10]
    slope, intercept = fit_calibration(right, probability)
    logit = slope * np.log(probability / (1 - probability)) + intercept
    assert 1 / (1 + np.exp(-logit[[0, -1]])) == pytest.approx([0.8, 0.1], abs=0.01)


def test_few_islands_or_an_order_upside_down_are_not_calibrated_by():
    few = ENOUGH - 1
    assert fit_calibration(np.r_[np.ones(few, bool), np.zeros(50, bool)], np.linspace(0.9, 0.1, few + 50)) == (1, 0)
    assert fit_calibration(np.arange(40) < 20, np.linspace(0.1, 0.9, 40)) == (1, 0)


def test_sure_and_right_stays_finite():
    """Right 20 times of 20 is taken for 21 of 22 (Platt 1999): odds of 21 where those of 1e6 were said."""
    slope, intercept = fit_calibration(np.arange(40) < 20, (np.arange(40) < 20).astype(float))
    assert slope == pytest.approx(np.log(21) / np.log(1e6), rel=1e-5)
    assert abs(intercept) < 1e-6


def test_a_rule_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="youden, f1"):
        choose_cut_off(np.array([True, False]), np.array([0.9, 0.1]), "best")


def test_a_balanced_cut_off_misses_as_many_as_it_calls_falsely():
    """By hand: at 0.45 one of 0.4 is missed and one of 0.5 is false. F1 would take 0.35, where none is missed."""
    truth = np.array([1, 1, 1, 0, 1, 0, 0], bool)
    p = np.array([0.9, 0.8, 0.7, 0.5, 0.4, 0.3, 0.2])
    assert choose_cut_off(truth, p, "balanced") == pytest.approx(0.45)
    assert choose_cut_off(truth, p, "f1") == pytest.approx(0.35)
    with pytest.raises(ValueError, match="balanced"):
        choose_cut_off(truth, p, "even")
