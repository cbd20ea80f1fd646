"""The loop of pre-training, on one CPU core or many GPUs."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
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
from training.dino.view_batches import ViewBatch, ViewBatches
from training.engine.checkpoint import leave_signals_to_the_run, read_checkpoint
from training.engine.config import write_recipe
from training.engine.distributed import Ranks, all_mean, data_parallel, require_even_batch
from training.engine.loop import TrainingLoop, clip_gradient
from training.engine.monitor import CollapseMonitor, TrainingFailed, effective_rank, teacher_entropy
from training.engine.run_log import make_run_folder


def pretrain_backbone(
    recipe: DinoRecipe,
    slices: SliceSet,
    run: Path,
    *,
    start: Path | None = None,
    ranks: Ranks | None = None,
    probe: KnnProbe | None = None,
    until: int | None = None,
    deadline: float | None = None,
) -> bool:
    """Run, or go on with, one pre-training.

    Parameters
    ----------
    slices
        What may be seen.
    run
        Folder of the run.
    start
        Folder of a run of the same networks, which this one goes on from: student, teacher and the center of its
        answers, with another recipe and the optimizer anew. A run that has begun goes on from itself.
    probe
        Looks at the teacher's embeddings from time to time.
    until, deadline
        Stop after this step, or after this time, as if a signal had come, see `training.engine.loop.TrainingLoop`.

    Returns
    -------
    bool
        Whether the run is complete; False when it was asked to stop.

    Raises
    ------
    InputRefused
        The run was begun with another recipe or on other scans, or the disk is full.
    TrainingFailed
        Embeddings collapsed, or three steps in a row were not finite.
    """
    ranks = ranks or Ranks()
    require_even_batch(recipe.batch, ranks)
    device = ranks.device
    schedule, prototypes = plan(recipe, len(slices))
    student = build_dino_model(recipe, prototypes).to(device)
    if device.type == "cpu" and recipe.bf16:
        student.backbone.attend_in_products()
    teacher = copy.deepcopy(student).requires_grad_(False)
    loss = DistillationLoss(
        prototypes, student_temperature=recipe.student_temperature, center_momentum=recipe.center_momentum
    ).to(device)
    if start is not None:
        begin_as({"student": student, "teacher": teacher, "loss": loss}, start)
    student.backbone.drop_paths(recipe.drop_path)  # the teacher says what it knows with all of its blocks
    parallel = wrap_distributed(student, teacher, recipe, ranks)
    optimizer = build_optimizer(student)
    watch = CollapseMonitor(recipe.patience)
    loop = TrainingLoop(
        run,
        recipe,
        {"student": student, "teacher": teacher, "optimizer": optimizer, "loss": loss, "watch": watch},
        "train_dino",
        schedule.steps,
        data=slices.identity(),
        other_data="begun on other scans; give the shards and splits it was begun with",
        ranks=ranks,
        save_every=recipe.save_every,
        until=until,
        deadline=deadline,
    )
    if ranks.is_first:
        make_run_folder(run)
        write_recipe(recipe, run / "recipe.toml")
    batches = ViewBatches(
        slices, recipe.augment, batch=recipe.batch, seed=recipe.seed, rank=ranks.rank, world=ranks.world
    )
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(loop.done, schedule.steps),
        num_workers=recipe.workers,
        worker_init_fn=leave_signals_to_the_run,
        pin_memory=device.type == "cuda",
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16)

    with loop:
        for step, batch in zip(range(loop.done, schedule.steps), loader, strict=True):
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
            if recipe.drop_path:  # what is dropped is a function of the step: a resumed run drops the same
                torch.manual_seed(int(np.random.SeedSequence([recipe.seed, step, ranks.rank]).generate_state(1)[0]))
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
            norm = clip_gradient(student, recipe.clip, each=recipe.clip_each)
            # The one wait for the device in a step: a bad update would stay in the teacher for ever.
            if loop.is_finite(float(value + norm), partial(names_of, slices, batch)):
                optimizer.step()
                update_ema(teacher, student, schedule.momentum(step))
                loss.update_center(cosines)
            optimizer.zero_grad(set_to_none=True)

            # Log, look, save
            loop.count(recipe.batch)
            if loop.is_due(recipe.log_every):
                metrics = step_statistics(schedule, step, all_mean(value), norm, prototypes)
                loop.note(**metrics, images_per_second=loop.log.images_per_second)
            if loop.is_due(recipe.check_every):
                entropy, rank = teacher_entropy(teacher_p), effective_rank(embeddings.float())
                loop.note(teacher_entropy=entropy, effective_rank=rank)
                if reason := watch.check(loop.done, entropy, rank):
                    raise TrainingFailed(reason)
            if probe is not None and loop.is_due(recipe.probe.every):
                loop.note(**probe.evaluate(lambda x: teacher(x)[0], device))
            if loop.save_or_stop():
                break
    return loop.is_complete


def begin_as(parts: Mapping[str, nn.Module], run: Path) -> None:
    """Give networks the state that those of an earlier run ended with.

    Parameters
    ----------
    parts
        By their names in a checkpoint.
    run
        Folder of the earlier run.

    Raises
    ------
    InputRefused
        ``input``: it has no checkpoint, or one of other networks
    """
    paths = sorted((run / "checkpoints").glob("step-*.pt"))
    if not paths:
        raise InputRefused("input", f"{run} holds no checkpoints; give the folder of a run of training.train_dino")
    states = read_checkpoint(paths[-1])["parts"]
    for name, part in parts.items():
        try:
            part.load_state_dict(states[name])
        except (KeyError, RuntimeError) as error:
            words = " ".join(str(error).split())[:200]
            raise InputRefused("input", f"{paths[-1]} is of other networks than this recipe: {words}") from None


def names_of(slices: SliceSet, batch: ViewBatch) -> list[str]:
    """Scan and slice of each image of a batch."""
    return [slices.name(n) for n in batch.numbers.tolist()]


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
    return data_parallel(student, ranks)


def gradient_sync(parallel: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
    """Average gradients over processes in the last pass of a step, not in each."""
    if hasattr(parallel, "set_requires_gradient_sync"):
        parallel.set_requires_gradient_sync(is_last)
    elif hasattr(parallel, "no_sync") and not is_last:
        return parallel.no_sync()
    return nullcontext()
