"""The loop that trains the vessel network, on one CPU core or many GPUs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from training.datasets.hearts import find_hearts
from training.datasets.segmentation_dataset import (
    Batch,
    SliceSamples,
    data_checksum,
    epoch_steps,
    training_batches,
    validation_batches,
)
from training.datasets.shards import ShardSet
from training.datasets.sources import WITHOUT_OTHER
from training.datasets.splits import Splits, check_splits, scans_of
from training.engine.config import as_dict
from training.engine.distributed import Ranks, all_sum, data_parallel, require_even_batch
from training.engine.loop import TrainingLoop, clip_gradient
from training.segmentation.best_weights import BestSoFar, freeze_cut_off, save_best
from training.segmentation.losses import loss_of_sums, loss_sums, segmentation_loss
from training.segmentation.mining import Mined, find_false_alarms
from training.segmentation.networks import build_network
from training.segmentation.recipe import WEIGHTS_SCHEMA, SegmentationRecipe


class SegmentationData(NamedTuple):
    """Slices to train on and to judge by."""

    training: SliceSamples
    validation: SliceSamples


def train_segmentation(
    recipe: SegmentationRecipe,
    data: SegmentationData,
    run: Path,
    *,
    start: Path | None = None,
    ranks: Ranks | None = None,
    until: int | None = None,
    deadline: float | None = None,
) -> bool:
    """Run, or go on with, one training.

    Parameters
    ----------
    run
        Folder of the run.
    start
        `best.pt` of an earlier stage, whose weights this one begins with; the optimizer begins again
    until, deadline
        Stop after this step, or after this time, as if a signal had come, see `training.engine.loop.TrainingLoop`.

    Returns
    -------
    bool
        Whether the run is complete; False when it was asked to stop.

    Raises
    ------
    InputRefused
        recipe, data or disk will not do
    TrainingFailed
        Three steps in a row were not finite.
    """
    ranks = ranks or Ranks()
    require_even_batch(recipe.batch, ranks)
    network, parallel, optimizer = build(recipe, ranks, start)
    best = BestSoFar(recipe.optimizer)
    parts = {"network": network, "optimizer": optimizer, "best": best}
    if recipe.mine:
        parts["mined"] = Mined(data.training)
    epoch = epoch_steps(data.training, recipe.batch)
    loop = TrainingLoop(
        run,
        recipe,
        parts,
        "train_unet",
        recipe.steps or recipe.epochs * epoch,
        data=data_checksum(data.training),
        other_data="begun with other scans, labels or splits; give the same ones, or another --out",
        ranks=ranks,
        save_every=recipe.save_every or epoch,
        keep=recipe.keep,
        best=best,
        until=until,
        deadline=deadline,
    )
    with loop:
        for batch in batches_of(recipe, network, data.training, loop, ranks):
            rate = recipe.optimizer.rate_at(loop.done, loop.steps) * best.rate_factor
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.bf16):
                logits = parallel(channels_last(batch.image, recipe))
            loss = segmentation_loss(recipe.loss, logits, batch.target, batch.weight)
            loss.backward()
            gradient = float(clip_gradient(network, recipe.optimizer.clip))
            if loop.is_finite(loss.item() + gradient, partial(list, batch.names)):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            # Log, look, save
            loop.count(recipe.batch)
            if loop.is_due(recipe.log_every):
                metrics = {"loss": loss.item(), "rate": rate, "gradient": gradient}
                loop.note(**metrics, images_per_second=loop.log.images_per_second)
            if loop.is_due(recipe.validate_every or epoch):
                metrics = validate(network, data.validation, recipe, ranks)
                if loop.is_best(metrics):
                    save_best(run, network, recipe, loop.done, metrics, ranks)
            if loop.save_or_stop():
                break
    if loop.is_complete:
        freeze_cut_off(run, recipe, data.validation, ranks)
    return loop.is_complete


def batches_of(
    recipe: SegmentationRecipe, network: nn.Module, samples: SliceSamples, loop: TrainingLoop, ranks: Ranks
) -> Iterator[Batch]:
    """Batches of the steps that are left; every `mine` epochs the network is first asked where it fires.

    Each stretch has a loader of its own: one that reads ahead would read in the order of before the search.
    """
    stretch = recipe.mine * epoch_steps(samples, recipe.batch)
    coronary = [n for n, name in enumerate(recipe.samples.classes, start=1) if name != Artery.OTHER.name]

    def probability(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.bf16):
            logits = network(channels_last(image, recipe)).float()
        return logits[:, 0].sigmoid() if recipe.samples.outputs == 1 else logits.softmax(1)[:, coronary].sum(1)

    done = loop.done
    while done < loop.steps:
        if stretch and done and done % stretch == 0:
            network.eval()
            samples.mined = find_false_alarms(probability, samples, recipe.batch, ranks, recipe.workers)
            network.train()
            loop.note(mined=samples.mined.size)
        last = min(loop.steps, (done // stretch + 1) * stretch) if stretch else loop.steps
        yield from training_batches(samples, recipe.batch, done, last, ranks, recipe.workers)
        done = last


def read_data(
    recipe: SegmentationRecipe, shards: ShardSet, splits: Splits, run: Path, ranks: Ranks
) -> SegmentationData:
    """The slices of the splits' patients; hearts are found once and kept in the run's folder."""
    check_splits(shards, splits)
    if ranks.is_first and (words := mixed_labels(recipe, shards, splits)):
        print(f"note: {words}", file=sys.stderr)
    chosen = [scans_of(shards, patients) for patients in (splits.train, splits.validation)]
    hearts = {}
    if not recipe.view.is_whole_field:
        hearts = find_hearts(shards, [n for scans in chosen for n in scans], run / "hearts.json", ranks)
    return SegmentationData(
        *(SliceSamples(shards, scans, recipe.view, recipe.samples, hearts, recipe.seed) for scans in chosen)
    )


def mixed_labels(recipe: SegmentationRecipe, shards: ShardSet, splits: Splits) -> str:
    """What a run is told that learns OTHER from some scans and nothing at the same places of others; "" where not.

    Parameters
    ----------
    recipe
        Of the run.
    shards
        Of the scans.
    splits
        Whom it learns from.
    """
    sources = {shards.scans[n].source for n in scans_of(shards, splits.train)}
    silent = sources & WITHOUT_OTHER
    if Artery.OTHER.name not in recipe.samples.classes or not silent or silent == sources:
        return ""
    return (
        f"labels of {', '.join(sorted(silent))} name no calcium that is not coronary, those of "
        f"{', '.join(sorted(sources - silent))} do: the same wall of the aorta is learned as none and as OTHER; the "
        "coronary sum does not change by it"
    )


def build(
    recipe: SegmentationRecipe, ranks: Ranks, start: Path | None = None
) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    """The network, the same as it runs on all processes, and what moves it."""
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs).to(ranks.device)
    if start is not None:
        network.load_state_dict(read_start(start, recipe))
    if recipe.tune == "head":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("head."))
    if recipe.compile:
        network.compile()
    parallel = network
    if recipe.parallel == "ddp":
        network.to(memory_format=torch.channels_last)
        parallel = data_parallel(network, ranks)
    elif ranks.world > 1:
        shard_weights(network)
    o = recipe.optimizer
    optimizer: torch.optim.Optimizer
    if o.name == "adamw":
        fused = ranks.device.type == "cuda" or None
        optimizer = torch.optim.AdamW(network.parameters(), lr=o.rate, weight_decay=o.weight_decay, fused=fused)
    else:
        optimizer = torch.optim.SGD(
            network.parameters(), lr=o.rate, momentum=o.momentum, weight_decay=o.weight_decay, nesterov=o.momentum > 0
        )
    return network, parallel, optimizer


def read_start(path: Path, recipe: SegmentationRecipe) -> dict[str, torch.Tensor]:
    """The weights that an earlier stage left.

    Raises
    ------
    InputRefused
        "input": there are none, or they are of another network, view or classes; "unreadable": no such file
    """
    if not path.is_file():
        raise InputRefused("input", f"no such file: {path}; finish the earlier stage")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if checkpoint["schema"] != WEIGHTS_SCHEMA:
            raise ValueError(f"schema {checkpoint['schema']!r}")
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        words = " ".join(str(error).split())[:120]
        raise InputRefused("unreadable", f"{path}: expected weights ({WEIGHTS_SCHEMA}), found: {words}") from None
    now = as_dict(recipe)
    for part in ("network", "view"):
        if checkpoint["recipe"][part] != now[part]:
            raise InputRefused(
                "input", f"{path} has {part} {checkpoint['recipe'][part]}, this recipe has {now[part]}; make them one"
            )
    if checkpoint["recipe"]["samples"]["classes"] != now["samples"]["classes"]:
        raise InputRefused("input", f"{path} was trained for other classes than {now['samples']['classes']}")
    weights: dict[str, torch.Tensor] = checkpoint["network"]
    return weights


def shard_weights(network: nn.Module) -> None:
    """FSDP2: each large block, then what is left, is spread over the processes."""
    from torch.distributed.fsdp import fully_shard

    for child in network.children():
        for block in child if isinstance(child, nn.ModuleList) else [child]:
            if any(True for _ in block.parameters()):
                fully_shard(block)
    fully_shard(network)


def channels_last(image: torch.Tensor, recipe: SegmentationRecipe) -> torch.Tensor:
    """The memory order in which convolutions are fastest, on CPUs and GPUs alike; FSDP2 does not keep it."""
    return image if recipe.parallel == "fsdp" else image.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def validate(network: nn.Module, samples: SliceSamples, recipe: SegmentationRecipe, ranks: Ranks) -> dict[str, float]:
    """Loss, and Dice of each class from whole sums: over pixels that count, on slices of unseen patients.

    Returns
    -------
    dict[str, float]
        {"validation_loss", "validation_dice", "dice_LM", ...}; a class that is neither there nor predicted has no Dice
    """
    network.eval()
    outputs = recipe.samples.outputs
    sums = torch.zeros(2 + 3 * max(1, outputs - 1), device=ranks.device)
    hard = torch.zeros(3, max(1, outputs - 1), device=ranks.device)
    for batch in validation_batches(samples, recipe.batch, ranks, recipe.workers):
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.bf16):
            logits = network(channels_last(batch.image, recipe)).float()
        sums += loss_sums(logits, batch.target, batch.weight, recipe.loss.class_weights)
        predicted_class = (logits[:, 0] > 0).long() if outputs == 1 else logits.argmax(dim=1)
        for c in range(hard.shape[1]):
            predicted, true = (predicted_class == c + 1) & batch.mask, (batch.target == c + 1) & batch.mask
            hard[:, c] += torch.stack([(predicted & true).sum(), predicted.sum(), true.sum()])
    network.train()
    sums, hard = all_sum(sums), all_sum(hard)
    present = hard[1] + hard[2] > 0
    each = 2 * hard[0] / (hard[1] + hard[2])
    metrics = {"validation_loss": float(loss_of_sums(recipe.loss, sums))}
    metrics["validation_dice"] = float(each[present].mean()) if bool(present.any()) else 0.0
    metrics |= {f"dice_{name}": float(each[c]) for c, name in enumerate(recipe.samples.classes) if bool(present[c])}
    return metrics
