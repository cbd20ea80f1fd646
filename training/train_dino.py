"""Pre-train the slice backbone by DINO, label-guided or not (arXiv 2411.07976; 2104.14294).

python -m training.train_dino training/runs/mini-dino-lg.toml [KEY=VALUE ...] --shards DIR --splits FILE --out RUN
torchrun --nproc-per-node=8 -m training.train_dino training/runs/paper-dino-lg.toml ...

The same command again goes on where the run was stopped.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from heartlens.core.errors import Refused
from heartlens.networks.backbone import Backbone, BackboneShape, load_timm_weights
from training.datasets.sampling import steps_per_epoch
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet, ViewBatch, ViewBatches
from training.datasets.splits import Splits, pretraining_scans, scans_of
from training.dino.augment import AugmentConfig, render_views
from training.dino.distillation import (
    DistillationLoss,
    Learner,
    ProjectionHead,
    cosine,
    follow,
    head_rule,
    rise_then_cosine,
    rise_to,
)
from training.dino.features import KnnProbe, ProbeConfig
from training.engine.checkpoint import Checkpoints, leave_signals_to_the_run, stop_signals
from training.engine.cli import run_command, run_training, training_parser
from training.engine.config import free, load_recipe, write_recipe
from training.engine.distributed import Ranks, all_mean, any_rank, process_group
from training.engine.monitor import BadSteps, CollapseWatch, DeadRun, effective_rank, teacher_entropy
from training.engine.run_log import RunLog, make_run_folder


@dataclass(frozen=True)
class DinoRecipe:
    """A pre-training run; the defaults are the paper's DINO where it says something, else DINO's own.

    Parameters
    ----------
    backbone
        Name, see `BackboneShape.named`.
    pretrained
        Weights to start from, a local safetensors file in timm's names.
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
    freeze_epochs: float = 1
    seed: int = 0
    bf16: bool = True
    views_per_pass: int | None = None
    recompute: bool = False
    compile_blocks: bool = False
    sharded: bool = free(False)
    workers: int = free(0)
    log_every: int = free(20)
    save_every: int = free(500)
    check_every: int = free(50)
    patience: int = free(5)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)

    def __post_init__(self) -> None:
        shape = BackboneShape.named(self.backbone)
        for name in ("global_size", "local_size"):
            if getattr(self.augment, name) % shape.patch:
                raise ValueError(f"augment.{name} must be a multiple of the patch, {shape.patch} pixels")
        if min(self.batch, self.epochs, self.log_every, self.save_every, self.check_every, self.patience) < 1:
            raise ValueError("batch, epochs, log_every, save_every, check_every and patience must be 1 or more")
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
        return rise_then_cosine(
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
        return rise_to(step, round(r.teacher_temperature_epochs * self.epoch), start, self.temperature)

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


def build_learner(recipe: DinoRecipe, prototypes: int) -> Learner:
    """A student with its start weights; the same seed gives the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        shape = BackboneShape.named(recipe.backbone)
        backbone = Backbone(shape, recompute=recipe.recompute)
        head = ProjectionHead(shape.dim, prototypes, hidden=recipe.hidden, bottleneck=recipe.bottleneck)
    if recipe.pretrained is not None:
        load_timm_weights(backbone, recipe.pretrained)
    return Learner(backbone, head)


def build_optimizer(learner: nn.Module) -> torch.optim.AdamW:
    """AdamW; group 0 is decayed, group 1 (biases, norms, and what is added to tokens or repeats gray) is not."""
    decayed, kept = [], []
    for name, parameter in learner.named_parameters():
        alone = parameter.ndim < 2 or any(n in name for n in ("cls_token", "pos_embed", "gray_to_rgb"))
        (kept if alone else decayed).append(parameter)
    return torch.optim.AdamW([{"params": decayed}, {"params": kept, "weight_decay": 0.0}], fused=True)


def train(
    recipe: DinoRecipe,
    slices: SliceSet,
    run: Path,
    *,
    ranks: Ranks | None = None,
    probe: KnnProbe | None = None,
    until: int | None = None,
) -> bool:
    """Run, or go on with, one pre-training.

    Parameters
    ----------
    slices
        What may be seen.
    run
        Folder of the run.
    probe
        Looks at the teacher's embeddings from time to time.
    until
        Stop after this step as if a signal had come.

    Returns
    -------
    bool
        Whether the run is complete; False when it was asked to stop.

    Raises
    ------
    DeadRun
        Embeddings collapsed, or three steps in a row were not finite.
    """
    ranks = ranks or Ranks()
    device = ranks.device
    schedule, prototypes = plan(recipe, len(slices))
    student = build_learner(recipe, prototypes).to(device)
    if device.type == "cpu" and recipe.bf16:
        student.backbone.attend_in_products()
    teacher = copy.deepcopy(student).requires_grad_(False)
    loss = DistillationLoss(
        prototypes, student_temperature=recipe.student_temperature, center_momentum=recipe.center_momentum
    ).to(device)
    parallel = spread(student, teacher, recipe, ranks)
    optimizer = build_optimizer(student)
    watch, bad_steps = CollapseWatch(recipe.patience), BadSteps()
    checkpoints = Checkpoints(run, recipe)
    parts = {"student": student, "teacher": teacher, "optimizer": optimizer, "loss": loss, "watch": watch}
    start, plain = checkpoints.resume({**parts, "data": slices.identity()})
    if start and plain["data"] != slices.identity():
        raise Refused("input", f"{run} was begun on other scans; give the shards and splits it was begun with")
    if ranks.is_first:
        make_run_folder(run)
        write_recipe(recipe, run / "recipe.toml")
    batches = ViewBatches(
        slices, recipe.augment, batch=recipe.batch, seed=recipe.seed, rank=ranks.rank, world=ranks.world
    )
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, schedule.steps),
        num_workers=recipe.workers,
        worker_init_fn=leave_signals_to_the_run,
        pin_memory=device.type == "cuda",
    )
    log = RunLog(run, ranks, "train_dino", schedule.steps, start)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16)

    with stop_signals() as stop, log:
        for step, batch in zip(range(start, schedule.steps), loader, strict=True):
            # Schedules
            optimizer.param_groups[0]["weight_decay"] = schedule.weight_decay(step)
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step)

            # Teacher: what it says of the global views
            seen = render_batch(batch, recipe.augment, device)  # global, local: (views, batch, 1, size, size)
            with torch.no_grad(), autocast:
                embeddings, cosines = teacher(seen[0].flatten(0, 1))
            cosines = cosines.unflatten(0, (len(seen[0]), -1))  # (views, batch, prototypes)
            teacher_p = loss.teacher_says(cosines, schedule.teacher_temperature(step))

            # Student: each pass leaves its gradients, which add up to those of the whole loss
            value = torch.zeros((), device=device)
            for views, first_view, is_last in passes(seen, recipe.views_per_pass):
                with gradient_sync(parallel, is_last):
                    with autocast:
                        _, says = parallel(views.flatten(0, 1))
                    says = says.unflatten(0, (len(views), -1))
                    part = loss(teacher_p, says, first_view=first_view, views=sum(map(len, seen)))
                    part.backward()
                value += part.detach()

            # Step
            if schedule.prototypes_are_frozen(step):
                student.head.prototypes.weight.grad = None
            norm = whole(nn.utils.clip_grad_norm_(student.parameters(), recipe.clip))
            # The one wait for the device in a step: a bad update would stay in the teacher for ever.
            is_bad = any_rank(not math.isfinite(float(value + norm)), ranks)
            if not is_bad:
                optimizer.step()
                follow(teacher, student, schedule.momentum(step))
                loss.move_center(cosines)
            optimizer.zero_grad(set_to_none=True)
            bad_steps.note(step, is_bad, [slices.name(n) for n in batch.numbers.tolist()] if is_bad else [])

            # Log, look, save
            step += 1
            is_last = step == schedule.steps
            if is_last or step % recipe.log_every == 0:
                told = figures(schedule, step - 1, all_mean(value), norm, prototypes)
                log.note(step, **told, images_per_second=log.images_per_second)
            if is_last or step % recipe.check_every == 0:
                entropy, rank = teacher_entropy(teacher_p), effective_rank(embeddings.float())
                log.note(step, teacher_entropy=entropy, effective_rank=rank)
                if reason := watch.look(step, entropy, rank):
                    raise DeadRun(reason)
            if probe is not None and (is_last or step % recipe.probe.every == 0):
                log.note(step, **probe.look(lambda x: teacher(x)[0], device))
            log.step(step, recipe.batch)
            is_asked = any_rank(stop.came, ranks) or step == until
            if is_last or is_asked or step % recipe.save_every == 0:
                checkpoints.save(step, {**parts, "data": slices.identity()}, ranks)
            if is_asked:
                return is_last
    return True


def render_batch(batch: ViewBatch, config: AugmentConfig, device: torch.device) -> list[Tensor]:
    """Global views, and local ones if there are any, each (views, batch, 1, size, size)."""
    images = batch.images.to(device, non_blocking=True)
    spacing_mm = batch.spacing_mm.to(device, non_blocking=True)
    kinds = [(batch.global_views, config.global_size)]
    if config.local_crops:
        kinds.append((batch.local_views, config.local_size))
    return [render_views(images, spacing_mm, v, size=size, window_hu=config.window_hu) for v, size in kinds]


def passes(seen: list[Tensor], views_per_pass: int | None) -> Iterator[tuple[Tensor, int, bool]]:
    """What goes through the student at once: views of one size, number of the first, whether it is the last pass."""
    parts, number = [], 0
    for views in seen:
        for part in views.split(views_per_pass or len(views)):
            parts.append((part, number))
            number += len(part)
    for n, (part, first_view) in enumerate(parts):
        yield part, first_view, n == len(parts) - 1


def figures(schedule: Schedule, step: int, value: Tensor, norm: Tensor, prototypes: int) -> dict[str, float]:
    """What the log says of a step."""
    return {
        "loss": float(value),
        "loss_over_ln_k": float(value) / math.log(prototypes),
        "gradient_norm": float(norm),
        "learning_rate": schedule.learning_rate(step),
        "weight_decay": schedule.weight_decay(step),
        "teacher_momentum": schedule.momentum(step),
        "teacher_temperature": schedule.teacher_temperature(step),
    }


# One process or many


def spread(student: Learner, teacher: Learner, recipe: DinoRecipe, ranks: Ranks) -> nn.Module:
    """The student as the loop calls it: compiled, and joined with those of the other processes."""
    if recipe.compile_blocks:
        for block in (*student.backbone.blocks, *teacher.backbone.blocks):
            block.compile()
    if recipe.sharded:
        from torch.distributed.fsdp import fully_shard

        for learner in (student, teacher):
            for block in learner.backbone.blocks:
                fully_shard(block)
            # Also the outermost part: the teacher is moved in its parts, and never goes backward, which would reshard.
            fully_shard(learner, reshard_after_forward=True)
        return student
    if ranks.world == 1:
        return student
    return nn.parallel.DistributedDataParallel(
        student, device_ids=[ranks.local_rank] if ranks.device.type == "cuda" else None
    )


def gradient_sync(parallel: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
    """Average gradients over processes in the last pass of a step, not in each."""
    if hasattr(parallel, "set_requires_gradient_sync"):
        parallel.set_requires_gradient_sync(is_last)
    elif hasattr(parallel, "no_sync") and not is_last:
        return parallel.no_sync()
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that FSDP2 may have spread over processes."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(training_parser("train_dino", __doc__, _run), arguments)


def _run(options: argparse.Namespace) -> int:
    recipe = load_recipe(DinoRecipe, options.recipe, options.changes)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    slices = SliceSet(shards, pretraining_scans(shards, splits))
    known, asked = (SliceSet(shards, scans_of(shards, patients)) for patients in (splits.train, splits.validation))
    with process_group(options.device) as ranks:
        if ranks.is_first:
            shards.verify()
        probe = KnnProbe(recipe.probe, known, asked)
        return run_training(lambda: train(recipe, slices, options.out, ranks=ranks, probe=probe), options.out)


if __name__ == "__main__":
    sys.exit(main())
