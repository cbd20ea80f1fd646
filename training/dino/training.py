"""The loop of pre-training, on one CPU core or many GPUs."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from heartlens.core.errors import InputRefused
from training.datasets.slice_dataset import SliceSet
from training.dino.augment import AugmentConfig, render_views
from training.dino.distillation import (
    DinoModel,
    DistillationLoss,
    update_ema,
)
from training.dino.features import KnnProbe
from training.dino.recipe import DinoRecipe, Schedule, build_dino_model, build_optimizer, plan
from training.dino.views import ViewBatch, ViewBatches
from training.engine.checkpoint import Checkpoints, leave_signals_to_the_run, stop_signals
from training.engine.config import write_recipe
from training.engine.distributed import Ranks, all_mean, any_rank
from training.engine.monitor import CollapseMonitor, NonFiniteGuard, TrainingFailed, effective_rank, teacher_entropy
from training.engine.run_log import RunLog, make_run_folder


def pretrain_backbone(
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
    student = build_dino_model(recipe, prototypes).to(device)
    if device.type == "cpu" and recipe.bf16:
        student.backbone.attend_in_products()
    teacher = copy.deepcopy(student).requires_grad_(False)
    loss = DistillationLoss(
        prototypes, student_temperature=recipe.student_temperature, center_momentum=recipe.center_momentum
    ).to(device)
    parallel = wrap_distributed(student, teacher, recipe, ranks)
    optimizer = build_optimizer(student)
    watch, bad_steps = CollapseMonitor(recipe.patience), NonFiniteGuard()
    checkpoints = Checkpoints(run, recipe)
    parts = {"student": student, "teacher": teacher, "optimizer": optimizer, "loss": loss, "watch": watch}
    start, plain = checkpoints.resume({**parts, "data": slices.identity()})
    if start and plain["data"] != slices.identity():
        raise InputRefused("input", f"{run} was begun on other scans; give the shards and splits it was begun with")
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
            crops = render_batch(batch, recipe.augment, device)  # global, local: (views, batch, 1, size, size)
            with torch.no_grad(), autocast:
                embeddings, cosines = teacher(crops[0].flatten(0, 1))
            cosines = cosines.unflatten(0, (len(crops[0]), -1))  # (views, batch, prototypes)
            teacher_p = loss.teacher_probs(cosines, schedule.teacher_temperature(step))

            # Student: each pass leaves its gradients, which add up to those of the whole loss
            value = torch.zeros((), device=device)
            for views, first_view, is_last in forward_chunks(crops, recipe.views_per_pass):
                with gradient_sync(parallel, is_last):
                    with autocast:
                        _, student_logits = parallel(views.flatten(0, 1))
                    student_logits = student_logits.unflatten(0, (len(views), -1))
                    part = loss(teacher_p, student_logits, first_view=first_view, views=sum(map(len, crops)))
                    part.backward()
                value += part.detach()

            # Step
            if schedule.prototypes_are_frozen(step):
                student.head.prototypes.weight.grad = None
            norm = full_tensor(nn.utils.clip_grad_norm_(student.parameters(), recipe.clip))
            # The one wait for the device in a step: a bad update would stay in the teacher for ever.
            is_bad = any_rank(not math.isfinite(float(value + norm)), ranks)
            if not is_bad:
                optimizer.step()
                update_ema(teacher, student, schedule.momentum(step))
                loss.update_center(cosines)
            optimizer.zero_grad(set_to_none=True)
            bad_steps.note(step, is_bad, [slices.name(n) for n in batch.numbers.tolist()] if is_bad else [])

            # Log, look, save
            step += 1
            is_last = step == schedule.steps
            if is_last or step % recipe.log_every == 0:
                metrics = step_statistics(schedule, step - 1, all_mean(value), norm, prototypes)
                log.note(step, **metrics, images_per_second=log.images_per_second)
            if is_last or step % recipe.check_every == 0:
                entropy, rank = teacher_entropy(teacher_p), effective_rank(embeddings.float())
                log.note(step, teacher_entropy=entropy, effective_rank=rank)
                if reason := watch.check(step, entropy, rank):
                    raise TrainingFailed(reason)
            if probe is not None and (is_last or step % recipe.probe.every == 0):
                log.note(step, **probe.evaluate(lambda x: teacher(x)[0], device))
            log.step(step, recipe.batch)
            stopping = any_rank(stop.requested, ranks) or step == until
            if is_last or stopping or step % recipe.save_every == 0:
                checkpoints.save(step, {**parts, "data": slices.identity()}, ranks)
            if stopping:
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


def forward_chunks(all_views: list[Tensor], views_per_pass: int | None) -> Iterator[tuple[Tensor, int, bool]]:
    """What goes through the student at once: views of one size, number of the first, whether it is the last pass."""
    parts, number = [], 0
    for views in all_views:
        for part in views.split(views_per_pass or len(views)):
            parts.append((part, number))
            number += len(part)
    for n, (part, first_view) in enumerate(parts):
        yield part, first_view, n == len(parts) - 1


def step_statistics(schedule: Schedule, step: int, value: Tensor, norm: Tensor, prototypes: int) -> dict[str, float]:
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


def wrap_distributed(student: DinoModel, teacher: DinoModel, recipe: DinoRecipe, ranks: Ranks) -> nn.Module:
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


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that FSDP2 may have spread over processes."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
