"""Chew's ensembles of segmentation networks, and the study's five figures of them."""

from __future__ import annotations

import time

import torch
from torch import nn

from training.datasets.segmentation_dataset import SliceSamples, validation_batches
from training.engine.distributed import Ranks
from training.segmentation.losses import LossRecipe, loss_of_sums, loss_sums

SMALLEST = 1e-6
"""A probability of 0 or 1 has no logit; BCE of a product that is exactly 0 would be infinite."""


class Ensemble(nn.Module):
    """(n, channels, rows, columns) -> (n, 1, rows, columns) p: member x baseline squared x image.

    Parameters
    ----------
    member, baseline
        Networks of one output; without a baseline: member x image, as Chew shows single models.
    image_channel
        Of the input, 0 to 1.
    """

    def __init__(self, member: nn.Module, baseline: nn.Module | None = None, image_channel: int = 0) -> None:
        super().__init__()
        self.member, self.baseline, self.image_channel = member, baseline, image_channel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, rows, columns) -> (n, 1, rows, columns) probability."""
        p = self.member(x).sigmoid() * x[:, self.image_channel : self.image_channel + 1]
        return p if self.baseline is None else p * self.baseline(x).sigmoid() ** 2


@torch.no_grad()
def evaluate_ensemble(ensemble: Ensemble, samples: SliceSamples, batch: int) -> dict[str, float]:
    """Chew's figures, as losses over all pixels of all slices: BCE, Dice, BCE+Dice, IoU, Tversky (0.82, 0.2)."""
    ensemble.eval()
    sums: torch.Tensor | None = None
    for b in validation_batches(samples, batch, Ranks(), 0):
        logits = ensemble(b.image).clamp(SMALLEST, 1 - SMALLEST).logit()
        batch_sums = loss_sums(logits, b.target, b.mask)
        sums = batch_sums if sums is None else sums + batch_sums
    assert sums is not None
    kinds = {
        "bce": LossRecipe("ce"),
        "dice": LossRecipe("dice"),
        "bce+dice": LossRecipe("ce+dice"),
        "iou": LossRecipe("iou"),
        "tversky": LossRecipe("tversky", 0.82, 0.2),
    }
    return {name: float(loss_of_sums(kind, sums)) for name, kind in kinds.items()}


@torch.no_grad()
def seconds_per_slice(ensemble: Ensemble, samples: SliceSamples, batch: int, *, most: int = 10) -> float:
    """Median time from an image in memory to its prediction; the first batch, which also warms up, does not count.

    Parameters
    ----------
    ensemble
        Network or networks.
    samples
        Slices.
    batch
        Slices at once.
    most
        Batches that are timed.
    """
    ensemble.eval()
    seconds: list[float] = []
    for n, b in enumerate(validation_batches(samples, batch, Ranks(), 0)):
        begun = time.perf_counter()
        ensemble(b.image).sum().item()  # which waits for the device
        seconds.append((time.perf_counter() - begun) / len(b.image))
        if n == most:
            break
    timed = torch.tensor(seconds[1:] or seconds)
    return float(timed.median())
