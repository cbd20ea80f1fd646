"""Losses against numbers worked out by hand, and against MONAI's where nothing is masked."""

from __future__ import annotations

from math import log
from typing import get_args

import pytest
from needed import need, torch

from training.segmentation.losses import (
    LossName,
    LossRecipe,
    cross_entropy,
    dice,
    focal_tversky,
    iou,
    segmentation_loss,
    tversky,
)

NAMES = get_args(LossName)
LOGIT = {p: log(p / (1 - p)) for p in (0.9, 0.8, 0.4, 0.1)}


def four_pixels(*, masked_fifth: bool = False):
    """One output: p = .9 .8 .4 .1 on truth 1 1 0 0, so TP 1.7, FP 0.5, FN 0.3; a fifth pixel that must not count."""
    p = [0.9, 0.8, 0.4, 0.1] + [0.9] * masked_fifth
    logits = torch.tensor([LOGIT[v] for v in p]).reshape(1, 1, 1, -1)
    target = torch.tensor([1, 1, 0, 0] + [0] * masked_fifth).reshape(1, 1, -1)
    mask = torch.tensor([True] * 4 + [False] * masked_fifth).reshape(1, 1, -1)
    return logits, target, mask


@pytest.mark.parametrize("masked_fifth", [False, True])
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (cross_entropy, -(log(0.9) + log(0.8) + log(0.6) + log(0.9)) / 4),
        (dice, 1 - 3.4 / (3.4 + 0.5 + 0.3)),
        (iou, 1 - 1.7 / (1.7 + 0.5 + 0.3)),
        (lambda *x: tversky(*x, 0.9, 0.1), 1 - 1.7 / (1.7 + 0.45 + 0.03)),
        (lambda *x: focal_tversky(*x, 0.9, 0.1, 4 / 3), (1 - 1.7 / (1.7 + 0.45 + 0.03)) ** 0.75),
    ],
)
def test_four_pixels_give_the_sum_by_hand(loss, expected, masked_fifth):
    assert loss(*four_pixels(masked_fifth=masked_fifth)).item() == pytest.approx(expected, rel=1e-5)


def test_classes_are_averaged_without_none():
    """p of (none, A, B): (.5 .3 .2) where A is true, (.2 .2 .6) where B is: TP .3, .6; FP .2, .2; FN .7, .4."""
    p = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    logits = p.log().T.reshape(1, 3, 1, 2)
    target, mask = torch.tensor([[[1, 2]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    assert iou(logits, target, mask).item() == pytest.approx(1 - (0.3 / 1.2 + 0.6 / 1.2) / 2, rel=1e-4)
    assert cross_entropy(logits, target, mask).item() == pytest.approx(-(log(0.3) + log(0.6)) / 2, rel=1e-5)
    weighted = cross_entropy(logits, target, mask, (1.0, 3.0, 1.0))
    assert weighted.item() == pytest.approx(-(3 * log(0.3) + log(0.6)) / 4, rel=1e-5)
    with pytest.raises(ValueError, match="class_weights: expected 3, got 2"):
        cross_entropy(logits, target, mask, (1.0, 3.0))


def test_weights_of_one_output_are_of_negatives_and_positives():
    loss = cross_entropy(*four_pixels(), (1.0, 3.0)).item()
    assert loss == pytest.approx(-(3 * log(0.9) + 3 * log(0.8) + log(0.6) + log(0.9)) / 8, rel=1e-5)


def test_the_names_of_recipes_are_the_sums_they_say():
    pixels = four_pixels()
    value = {name: segmentation_loss(LossRecipe(name, 0.3, 0.7), *pixels).item() for name in NAMES}
    assert value["ce+dice"] == pytest.approx(value["ce"] + value["dice"])
    assert value["ce+tversky"] == pytest.approx(value["ce"] + value["tversky"])
    assert value["tversky"] == pytest.approx(1 - 1.7 / (1.7 + 0.15 + 0.21), rel=1e-5)
    assert value["focal-tversky"] == pytest.approx(value["tversky"] ** 0.75, rel=1e-5)


@pytest.mark.parametrize("classes", [1, 4])
def test_unmasked_losses_are_monais(classes):
    monai = need("monai.losses")
    torch.manual_seed(0)
    logits = torch.randn(3, classes, 6, 5)
    target = torch.randint(0, max(2, classes), (3, 6, 5))
    mask = torch.ones(3, 6, 5, dtype=torch.bool)
    many = {"softmax": True, "include_background": False, "to_onehot_y": True} if classes > 1 else {"sigmoid": True}
    same = {"batch": True, "smooth_nr": 1e-5, "smooth_dr": 1e-5, **many}
    truth = target[:, None].float()
    assert tversky(logits, target, mask, 0.3, 0.7).item() == pytest.approx(
        monai.TverskyLoss(alpha=0.3, beta=0.7, **same)(logits, truth).item(), rel=1e-4
    )
    assert dice(logits, target, mask).item() == pytest.approx(monai.DiceLoss(**same)(logits, truth).item(), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [1, 3])
def test_gradients_are_finite_where_nothing_is_there_and_nothing_counts(name, classes):
    for target, mask in ((0, True), (0, False), (1, True)):
        logits = torch.full((1, classes, 4, 4), 40.0, requires_grad=True)
        where = torch.full((1, 4, 4), mask)
        loss = segmentation_loss(LossRecipe(name), logits, torch.full((1, 4, 4), target), where)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


def test_sums_are_fp32_inside_autocast():
    logits, target, mask = four_pixels()
    with torch.autocast("cpu", torch.bfloat16):
        loss = segmentation_loss(LossRecipe("ce+dice"), logits.bfloat16(), target, mask)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(("changes", "words"), [({"alpha": -1.0}, "alpha and beta"), ({"gamma": 0.5}, "gamma")])
def test_impossible_numbers_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        LossRecipe(**changes)
