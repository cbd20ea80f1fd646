"""The views of a slice, batch by batch, for pre-training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.datasets.sampling import batch_at, epoch_order, share_of_rank
from training.datasets.slice_dataset import SliceSet
from training.dino.augment import AugmentConfig, Views, draw_views, stack


class ViewBatch(NamedTuple):
    """What one process needs for one step of pre-training.

    Parameters
    ----------
    images, spacing_mm
        (batch, rows, columns) int16 and (batch, 2)
    global_views, local_views
        Leading shape (batch, views).
    numbers
        (batch,), of the slices
    """

    images: Tensor
    spacing_mm: Tensor
    global_views: Views
    local_views: Views
    numbers: Tensor


class ViewBatches(Dataset[ViewBatch]):
    """The batch of each step, by the step's number: resuming is starting at another number.

    Parameters
    ----------
    batch
        Slices of all processes together.
    """

    def __init__(
        self, slices: SliceSet, config: AugmentConfig, *, batch: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.slices, self.config = slices, config
        self.batch, self.seed, self.rank, self.world = batch, seed, rank, world

    def __getitem__(self, step: int) -> ViewBatch:
        epoch, places = batch_at(step, self.batch, len(self.slices))
        order = epoch_order(len(self.slices), self.seed, epoch)
        numbers = share_of_rank(order[places], self.rank, self.world)
        drawn = [
            draw_views(
                self.config,
                self.slices.extent_mm(n),
                self.slices.guides_mm(n, self.config.guided_by, self.seed),
                seed=self.seed,
                epoch=epoch,
                sample=int(n),
                middle_mm=self.slices.heart_mm(n) if self.config.field_mm else None,
            )
            for n in numbers
        ]
        images, spacing_mm = self.slices.read(numbers)
        global_views, local_views = (stack(views) for views in zip(*drawn, strict=True))
        return ViewBatch(images, spacing_mm, global_views, local_views, torch.from_numpy(numbers))
