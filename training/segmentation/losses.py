"""Losses of segmentation, each the sum that it is, over the pixels that count.

What counts is given by a mask: with the >= 130 HU mask the boundary of calcium is known, and the network only has to
name what is inside. Every loss is a ratio of sums over all such pixels of the whole batch on all processes
(`training.engine.distributed.all_sum`): a mean of means would depend on how the batch is shared, and calcium is so
sparse that the ratio of one slice alone is unstable. Sums are taken in fp32, also inside autocast.

MONAI has these losses (tests hold them equal where no pixel is masked), but no mask that works: its `MaskedLoss`
multiplies the logits, and a logit of 0 is a probability of one half. It has no sums over processes either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from training.engine.distributed import all_sum

SMOOTH = 1e-5
"""Added above and below each region ratio: a class that is neither there nor predicted costs nothing."""

LossName = Literal["ce", "dice", "ce+dice", "iou", "tversky", "ce+tversky", "focal-tversky"]


@dataclass(frozen=True)
class LossRecipe:
    """Which loss.

    Parameters
    ----------
    name
        "ce" is binary cross-entropy (BCE) where the network has one output; "+" is a plain sum
    alpha, beta
        Weight of false positives and of false negatives, of the Tversky losses.
    gamma
        Of the focal Tversky loss.
    class_weights
        Of cross-entropy, one per class; () is 1 for all. For one output: of negatives, of positives.
    """

    name: LossName = "ce+tversky"
    alpha: float = 0.3
    beta: float = 0.7
    gamma: float = 4 / 3
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if min(self.alpha, self.beta) < 0 or self.alpha + self.beta == 0:
            raise ValueError(f"alpha and beta must not be negative, nor both 0, got {self.alpha}, {self.beta}")
        if self.gamma < 1:
            raise ValueError(f"gamma must be at least 1, got {self.gamma}")


def segmentation_loss(
    recipe: LossRecipe, logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """The loss that a recipe names, of the whole batch on all processes.

    Parameters
    ----------
    logits
        (n, classes, rows, columns), class 0 none; (n, 1, rows, columns) for calcium or not
    target
        (n, rows, columns) integer class
    mask
        (n, rows, columns) bool, pixels that count; or their weights, 0 where they do not

    Returns
    -------
    torch.Tensor
        () fp32, the same on all processes
    """
    return loss_of_sums(recipe, all_sum(loss_sums(logits, target, mask, recipe.class_weights)))


def loss_sums(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, weights: tuple[float, ...] = ()
) -> torch.Tensor:
    """Everything that any of the losses needs of a batch; sums of several batches may be added.

    Returns
    -------
    torch.Tensor
        (2 + 3 classes,) fp32: w * -log p and w of cross-entropy; then, for each class but none, TP, the sum of p, and
        the number of pixels
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        return torch.cat([_cross_entropy_sums(logits, target, mask, weights), *_region_sums(logits, target, mask)])


def loss_of_sums(recipe: LossRecipe, sums: torch.Tensor) -> torch.Tensor:
    """The loss that a recipe names, from `loss_sums`."""
    ce, region = sums[0] / sums[1].clamp_min(SMOOTH), sums[2:].reshape(3, -1)
    match recipe.name:
        case "ce":
            return ce
        case "dice":
            return _missing(region, 0.5, 0.5).mean()
        case "ce+dice":
            return ce + _missing(region, 0.5, 0.5).mean()
        case "iou":
            return _missing(region, 1.0, 1.0).mean()
        case "tversky":
            return _missing(region, recipe.alpha, recipe.beta).mean()
        case "ce+tversky":
            return ce + _missing(region, recipe.alpha, recipe.beta).mean()
        case "focal-tversky":
            # The slope at 0 is infinite: a class that is right to the last digit must not give an infinite gradient.
            return _missing(region, recipe.alpha, recipe.beta).clamp_min(1e-6).pow(1 / recipe.gamma).mean()


def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, weights: tuple[float, ...] = ()
) -> torch.Tensor:
    """Sum of w_c * -log p(true class c), over the sum of w_c. With one output: BCE, p from a sigmoid."""
    return segmentation_loss(LossRecipe("ce", class_weights=weights), logits, target, mask)


def dice(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 - 2 TP / (2 TP + FP + FN), mean over classes but none: Tversky with one half and one half."""
    return segmentation_loss(LossRecipe("dice"), logits, target, mask)


def iou(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 - TP / (TP + FP + FN), mean over classes but none: Tversky with one and one."""
    return segmentation_loss(LossRecipe("iou"), logits, target, mask)


def tversky(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """1 - TP / (TP + alpha FP + beta FN), mean over classes but none.

    TP is the sum of p over pixels of the class, FP of p elsewhere, FN of 1 - p over pixels of the class.
    """
    return segmentation_loss(LossRecipe("tversky", alpha, beta), logits, target, mask)


def focal_tversky(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, alpha: float, beta: float, gamma: float
) -> torch.Tensor:
    """(1 - Tversky index) to the power 1 / gamma, mean over classes but none (Abraham and Khan, ISBI 2019).

    With gamma above 1 the slope rises as a class comes near to right: small lesions keep being learned.
    """
    return segmentation_loss(LossRecipe("focal-tversky", alpha, beta, gamma), logits, target, mask)


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """(n, classes, ...) softmax over classes; sigmoid where there is one output."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def _cross_entropy_sums(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, weights: tuple[float, ...]
) -> torch.Tensor:
    """(2,)."""
    index = target.long()
    if logits.shape[1] == 1:
        index = index.clamp(max=1)
        each = functional.binary_cross_entropy_with_logits(logits[:, 0], index.float(), reduction="none")
    else:
        each = functional.cross_entropy(logits, index, reduction="none")
    counted = mask.float()
    if weights:
        expected = max(2, logits.shape[1])
        if len(weights) != expected:
            raise ValueError(f"class_weights: expected {expected}, got {len(weights)}")
        counted = counted * torch.tensor(weights, device=logits.device)[index]
    return torch.stack([(each * counted).sum(), counted.sum()])


def _region_sums(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """TP, sum of p, number of pixels; (classes but none,) each."""
    p = probabilities(logits)
    if logits.shape[1] == 1:
        truth = (target > 0).float()[:, None]
    else:
        truth = functional.one_hot(target.long(), logits.shape[1]).movedim(-1, 1)[:, 1:].float()
        p = p[:, 1:]
    counted = mask.float()[:, None]
    p, truth = p * counted, truth * counted
    return (p * truth).sum((0, 2, 3)), p.sum((0, 2, 3)), truth.sum((0, 2, 3))


def _missing(region: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """(classes but none,) 1 - Tversky index."""
    tp, predicted, true = region
    fp, fn = predicted - tp, true - tp
    return 1 - (tp + SMOOTH) / (tp + alpha * fp + beta * fn + SMOOTH)
