"""The best weights of a run of training.train_unet: how they are known, kept, and given their cut-off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.datasets.segmentation_dataset import SliceSamples
from training.engine.checkpoint import full_state, write_torch
from training.engine.config import as_dict
from training.engine.distributed import Ranks
from training.engine.loop import BestFigure
from training.segmentation.islands import evaluate_votes, read_component_votes
from training.segmentation.networks import build_network
from training.segmentation.recipe import BEST, WEIGHTS_SCHEMA, OptimizerRecipe, SegmentationRecipe


class BestSoFar(BestFigure):
    """The best validation Dice, and how often the rate was halved for want of a smaller validation loss.

    Parameters
    ----------
    recipe
        Says whether, and after how many validations, the rate is halved.
    """

    def __init__(self, recipe: OptimizerRecipe) -> None:
        super().__init__("validation_dice", -1.0)
        self._recipe = recipe
        self.loss, self.waited, self.rate_factor = math.inf, 0, 1.0

    def take(self, metrics: Mapping[str, float]) -> bool:
        """Note one validation; whether its Dice is the best so far."""
        self.waited = 0 if metrics["validation_loss"] < self.loss else self.waited + 1
        self.loss = min(self.loss, metrics["validation_loss"])
        if self._recipe.schedule == "plateau" and self.waited >= self._recipe.patience:
            self.rate_factor, self.waited = self.rate_factor / 2, 0
        return super().take(metrics)

    def state_dict(self) -> dict[str, float]:
        """Its values as a part of a checkpoint."""
        return {"dice": self.value, "loss": self.loss, "waited": self.waited, "rate_factor": self.rate_factor}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up the values of a checkpoint."""
        self.value, self.loss, self.rate_factor = state["dice"], state["loss"], state["rate_factor"]
        self.waited = int(state["waited"])


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
