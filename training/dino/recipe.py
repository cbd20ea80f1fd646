"""The recipe of a pre-training, its schedules, and what is built from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from heartlens.networks.backbone import Backbone, BackboneShape
from training.datasets.sampling import steps_per_epoch
from training.dino.augment import AugmentConfig
from training.dino.distillation import (
    DinoModel,
    ProjectionHead,
    cosine,
    head_rule,
    linear_warmup,
    warmup_cosine,
)
from training.dino.features import ProbeConfig
from training.dino.published_weights import load_published_weights
from training.engine.config import runtime_only, since_version


@dataclass(frozen=True)
class DinoRecipe:
    """A pre-training run; the defaults are the paper's DINO where it says something, else DINO's own.

    Parameters
    ----------
    backbone
        Name, see `BackboneShape.named`.
    pretrained
        Weights to start from, a local file, see `training.dino.published_weights`.
    normalization
        Of the images that `pretrained` was trained on.
    prototypes, teacher_temperature
        None takes what `head_rule` says for the number of slices
    teacher_temperature_start, teacher_temperature_epochs
        Where it starts, and how long it rises.
    hidden, bottleneck
        Widths of the head.
    epochs, steps
        Length of the run; steps, if given, wins.
    batch
        Slices a step, all processes together.
    learning_rate
        Peak for a batch of 256, scaled linearly with the batch.
    warmup_epochs
        Of the learning rate, at most a fifth of the run.
    weight_decay
        From, to.
    momentum
        Of the teacher, from, to; 0.9995 is better for small batches.
    clip
        Largest norm of a gradient.
    clip_each
        Each tensor's gradient is clipped for itself, as facebookresearch/dino does, not all together.
    drop_path
        Stochastic depth of the student, see `Backbone.drop_paths`; DINO's own is 0.1.
    freeze_epochs
        How long the prototypes stay as they were drawn.
    bf16
        autocast; losses and the last product are float32 in any case
    views_per_pass
        Student views that go through the network at once; None is all of one size; 1 needs least memory.
    recompute
        Activations inside blocks are computed again going backward.
    compile_blocks
        `torch.compile` each block
    sharded
        FSDP2 instead of DDP
    check_every
        steps between looks at entropy and rank; `patience` bad looks in a row end the run
    """

    backbone: str = "vit_base_patch8_224"
    pretrained: Path | None = None
    normalization: Literal["half", "imagenet"] = since_version("half")
    prototypes: int | None = None
    hidden: int = 2048
    bottleneck: int = 256
    student_temperature: float = 0.1
    teacher_temperature: float | None = None
    teacher_temperature_start: float = 0.02
    teacher_temperature_epochs: float = 10
    center_momentum: float = 0.9
    epochs: int = 150
    steps: int | None = None
    batch: int = 512
    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-6
    warmup_epochs: float = 10
    weight_decay: tuple[float, float] = (0.04, 0.4)
    momentum: tuple[float, float] = (0.996, 1.0)
    clip: float = 3.0
    clip_each: bool = since_version(False)
    drop_path: float = since_version(0.0)
    freeze_epochs: float = 1
    seed: int = 0
    bf16: bool = True
    views_per_pass: int | None = None
    recompute: bool = False
    compile_blocks: bool = False
    sharded: bool = runtime_only(False)
    workers: int = runtime_only(0)
    log_every: int = runtime_only(20)
    save_every: int = runtime_only(500)
    check_every: int = runtime_only(50)
    patience: int = runtime_only(5)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)

    def __post_init__(self) -> None:
        shape = BackboneShape.named(self.backbone)
        for name in ("global_size", "local_size"):
            if getattr(self.augment, name) % shape.patch:
                raise ValueError(f"augment.{name} must be a multiple of the patch, {shape.patch} pixels")
        if min(self.batch, self.epochs, self.log_every, self.save_every, self.check_every, self.patience) < 1:
            raise ValueError("batch, epochs, log_every, save_every, check_every and patience must be 1 or more")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in 0..1, 1 left out, got {self.drop_path}")
        if (self.steps is not None and self.steps < 1) or (self.views_per_pass is not None and self.views_per_pass < 1):
            raise ValueError("steps and views_per_pass must be 1 or more, or none")


@dataclass(frozen=True)
class Schedule:
    """Everything that changes during a run, as functions of the step.

    Parameters
    ----------
    steps, epoch
        Length of the run, and of one epoch, steps.
    temperature
        Of the teacher in the end.
    """

    recipe: DinoRecipe
    steps: int
    epoch: int
    temperature: float

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step: a linear rise, then a cosine."""
        r = self.recipe
        rise = min(round(r.warmup_epochs * self.epoch), self.steps // 5)
        return warmup_cosine(
            step, self.steps, rise=rise, peak=r.learning_rate * r.batch / 256, end=r.final_learning_rate
        )

    def weight_decay(self, step: int) -> float:
        """Weight decay of a step, on a cosine."""
        return cosine(step, self.steps, *self.recipe.weight_decay)

    def momentum(self, step: int) -> float:
        """Momentum of the teacher at a step, on a cosine."""
        return cosine(step, self.steps, *self.recipe.momentum)

    def teacher_temperature(self, step: int) -> float:
        """Temperature of the teacher at a step: a linear rise, then constant."""
        r = self.recipe
        start = min(r.teacher_temperature_start, self.temperature)
        return linear_warmup(step, round(r.teacher_temperature_epochs * self.epoch), start, self.temperature)

    def prototypes_are_frozen(self, step: int) -> bool:
        """Whether the prototypes are still kept as they were drawn at a step."""
        return step < self.recipe.freeze_epochs * self.epoch


def plan(recipe: DinoRecipe, slices: int) -> tuple[Schedule, int]:
    """Schedule and number of prototypes for a number of slices."""
    prototypes, temperature = head_rule(slices)
    epoch = steps_per_epoch(recipe.batch, slices)
    steps = recipe.steps or recipe.epochs * epoch
    temperature = recipe.teacher_temperature or temperature
    return Schedule(recipe, steps, epoch, temperature), recipe.prototypes or prototypes


def build_dino_model(recipe: DinoRecipe, prototypes: int) -> DinoModel:
    """A student with its start weights; the same seed gives the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        shape = BackboneShape.named(recipe.backbone)
        backbone = Backbone(shape, recompute=recipe.recompute)
        head = ProjectionHead(shape.dim, prototypes, hidden=recipe.hidden, bottleneck=recipe.bottleneck)
    if recipe.pretrained is not None:
        load_published_weights(backbone, recipe.pretrained, normalization=recipe.normalization)
    return DinoModel(backbone, head)


def build_optimizer(learner: nn.Module) -> torch.optim.AdamW:
    """AdamW; group 0 is decayed, group 1 (biases, norms, and what is added to tokens or repeats gray) is not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in learner.named_parameters():
        alone = parameter.ndim < 2 or any(n in name for n in ("cls_token", "pos_embed", "gray_to_rgb"))
        (kept if alone else decayed).append(parameter)
    return torch.optim.AdamW([{"params": decayed}, {"params": kept, "weight_decay": 0.0}], fused=True)
