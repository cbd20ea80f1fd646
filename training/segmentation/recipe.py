"""The recipe of a run that trains the vessel network."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from heartlens.networks.view import NetworkView
from training.datasets.segmentation_dataset import SampleRecipe
from training.engine.config import runtime_only, since_version
from training.segmentation.losses import LossRecipe
from training.segmentation.networks import NetworkRecipe, multiple_px


@dataclass(frozen=True)
class OptimizerRecipe:
    """How weights move.

    Parameters
    ----------
    name
        AdamW, or SGD with momentum
    rate
        Largest learning rate.
    schedule
        "cosine" falls to zero at the end, "constant" stays, "plateau" halves when validation has not improved
    warmup_steps
        The rate rises from zero.
    patience
        Validations without a better loss before "plateau" halves.
    clip
        Largest length of the gradient; 0 for no limit.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    rate: float = 1e-3
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 1e-2
    momentum: float = 0.9
    patience: int = 5
    clip: float = 1.0

    def rate_at(self, step: int, steps: int) -> float:
        """A function of the step alone, but for the halvings of "plateau", which `BestSoFar` counts."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "cosine":
            after = max(0, step - self.warmup_steps) / max(1, steps - self.warmup_steps)
            return self.rate * warm * 0.5 * (1 + math.cos(math.pi * after))
        return self.rate * warm


@dataclass(frozen=True)
class SegmentationRecipe:
    """One run.

    Parameters
    ----------
    epochs
        Of the balanced order; `steps`, when positive, says the length instead.
    batch
        Slices per step, over all processes.
    bf16
        The network computes in bfloat16 where that is exact enough; losses and weights stay fp32.
    compile
        `torch.compile` of the network
    parallel
        "fsdp" spreads weights over the processes (FSDP2); "ddp" keeps them on each
    validate_every, save_every
        steps; 0 is once an epoch
    mine
        epochs between two searches for hard negatives: slices without calcium on which the network fires; half of the
        places of such slices are theirs from then on (the idea is AI-CAC's); 0 never searches
    tune
        "head" moves the last layer alone, which a few dozen scans can teach without forgetting the rest; "whole" moves
        everything
    workers
        Processes that read slices, on each rank.
    keep
        Checkpoints.
    """

    seed: int = 0
    epochs: int = 100
    steps: int = 0
    batch: int = 8
    bf16: bool = True
    view: NetworkView = field(default_factory=NetworkView)
    samples: SampleRecipe = field(default_factory=SampleRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    validate_every: int = 0
    compile: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    mine: int = since_version(0)
    tune: Literal["whole", "head"] = since_version("whole")
    workers: int = runtime_only(0)
    save_every: int = runtime_only(0)
    keep: int = runtime_only(2)
    log_every: int = runtime_only(10)

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.epochs < 1 and self.steps < 1):
            raise ValueError(f"batch and epochs (or steps) must be at least 1, got {self.batch}, {self.epochs}")
        if self.mine < 0 or (self.mine and self.samples.order != "balanced"):
            raise ValueError(f'mine must not be negative and needs samples.order="balanced", got {self.mine}')
        if self.tune == "head" and self.network.name != "unet":
            raise ValueError(f'tune="head" is for network.name="unet", got {self.network.name!r}')
        if self.view.is_whole_field and (self.samples.warp_mm or self.samples.cover_share):
            raise ValueError("samples.warp_mm and cover_share need a view of fixed spacing, view.spacing_mm is 0")
        if self.view.size_px % multiple_px(self.network):
            raise ValueError(f"view.size_px must be a multiple of {multiple_px(self.network)}, got {self.view.size_px}")
        if self.network.name == "swin-unet" and self.network.base % 12:
            raise ValueError(f"network.base: Swin needs a multiple of 12, got {self.network.base}; 60 is next to 64")


WEIGHTS_SCHEMA = "heartlens.segmentation/1"


BEST = "best.pt"
