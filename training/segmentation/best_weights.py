"""The best weights of a run of training.train_unet: how they are known, kept, and given their cut-off."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.datasets.segmentation_dataset import SliceSamples
from training.engine.checkpoint import full_state, write_torch
from training.engine.config import as_dict
from training.engine.distributed import Ranks
from training.segmentation.islands import evaluate_votes, read_component_votes
from training.segmentation.networks import build_network
from training.segmentation.recipe import BEST, WEIGHTS_SCHEMA

if TYPE_CHECKING:
    from training.segmentation.recipe import OptimizerRecipe, SegmentationRecipe


class BestSoFar:
    """The best validation, and how often the rate was halved for want of a better one."""

    def __init__(self) -> None:
        self.dice, self.loss, self.waited, self.rate_factor = -1.0, math.inf, 0, 1.0

    def take(self, validation_metrics: dict[str, float], recipe: OptimizerRecipe) -> bool:
        """Note one validation; whether its Dice is the best so far."""
        self.waited = 0 if validation_metrics["validation_loss"] < self.loss else self.waited + 1
        self.loss = min(self.loss, validation_metrics["validation_loss"])
        if recipe.schedule == "plateau" and self.waited >= recipe.patience:
            self.rate_factor, self.waited = self.rate_factor / 2, 0
        is_best = validation_metrics["validation_dice"] > self.dice
        self.dice = max(self.dice, validation_metrics["validation_dice"])
        return is_best

    def state_dict(self) -> dict[str, float]:
        """Its values as a part of a checkpoint."""
        return dict(self.__dict__)

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up the values of a checkpoint."""
        self.__dict__.update(state)


def save_best(
    run: Path,
    network: nn.Module,
    recipe: SegmentationRecipe,
    step: int,
    validation_metrics: dict[str, float],
    ranks: Ranks,
) -> None:
    """Keep the weights with the best validation Dice, for export."""
    weights = full_state(network)
    if ranks.is_first:
        content = {
            "schema": WEIGHTS_SCHEMA,
            "step": step,
            "network": weights,
            "recipe": as_dict(recipe),
            "judgement": validation_metrics,
        }
        write_torch(content, run / BEST)


def freeze_cut_off(run: Path, recipe: SegmentationRecipe, validation: SliceSamples, ranks: Ranks) -> None:
    """Write the islands' cut-off and calibration beside the best weights: `best.pt`, key "islands".

    It is chosen once, on whole scans of validation patients, by the vote of islands that HeartLens will take. A network
    that only says calcium or not names no islands and has none.
    """
    path = run / BEST
    if not ranks.is_first or recipe.samples.outputs == 1 or not path.exists():
        return
    content = torch.load(path, map_location="cpu", weights_only=True)
    if "islands" in content:
        return
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    network.load_state_dict(content["network"])
    network.to(ranks.device).eval()

    def ask(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(image).to(ranks.device)).cpu())

    shards = validation.shards
    scans = ((shards.ct(n), np.array(shards.labels(n))) for n in sorted(validation.crops))
    votes = read_component_votes(ask, scans, recipe.view, ("none", *recipe.samples.classes))
    write_torch({**content, "islands": evaluate_votes(votes)}, path)
