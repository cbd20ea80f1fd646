"""Train a network that names calcium. One loop, for one CPU core or many GPUs.

python -m training.train_unet RECIPE.toml [KEY=VALUE ...] --shards DIR --splits FILE --out RUN
torchrun --nproc-per-node=8 -m training.train_unet RECIPE.toml ...

The same command again goes on where the last checkpoint was left.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from heartlens.core.errors import Refused
from heartlens.core.lesions import Artery
from heartlens.networks.input import View
from training.datasets.segmentation_dataset import (
    Batch,
    SampleRecipe,
    SliceSamples,
    data_checksum,
    epoch_steps,
    find_hearts,
    training_batches,
    validation_batches,
)
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, check_splits, scans_of
from training.engine.checkpoint import Checkpoints, stop_signals
from training.engine.cli import run_command, run_training, training_parser
from training.engine.config import added, as_dict, free, load_recipe, write_recipe
from training.engine.distributed import Ranks, all_sum, any_rank, process_group
from training.engine.monitor import BadSteps
from training.engine.run_log import RunLog, make_run_folder
from training.segmentation.best_weights import BEST, WEIGHTS_SCHEMA, BestSoFar, freeze_cut_off, save_best
from training.segmentation.losses import LossRecipe, loss_of_sums, loss_sums, segmentation_loss
from training.segmentation.mining import Mined, find_false_alarms
from training.segmentation.networks import NetworkRecipe, build_network, multiple_px


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
    view: View = field(default_factory=View)
    samples: SampleRecipe = field(default_factory=SampleRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    validate_every: int = 0
    compile: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    mine: int = added(0)
    workers: int = free(0)
    save_every: int = free(0)
    keep: int = free(2)
    log_every: int = free(10)

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.epochs < 1 and self.steps < 1):
            raise ValueError(f"batch and epochs (or steps) must be at least 1, got {self.batch}, {self.epochs}")
        if self.mine < 0 or (self.mine and self.samples.order != "balanced"):
            raise ValueError(f'mine must not be negative and needs samples.order="balanced", got {self.mine}')
        if self.view.is_whole_field and (self.samples.warp_mm or self.samples.cover_share):
            raise ValueError("samples.warp_mm and cover_share need a view of fixed spacing, view.spacing_mm is 0")
        if self.view.size_px % multiple_px(self.network):
            raise ValueError(f"view.size_px must be a multiple of {multiple_px(self.network)}, got {self.view.size_px}")
        if self.network.name == "swin-unet" and self.network.base % 12:
            raise ValueError(f"network.base: Swin needs a multiple of 12, got {self.network.base}; 60 is next to 64")


class Data(NamedTuple):
    """Slices to train on and to judge by."""

    training: SliceSamples
    validation: SliceSamples


def train(
    recipe: SegmentationRecipe,
    data: Data,
    run: Path,
    *,
    start: Path | None = None,
    ranks: Ranks | None = None,
    until: int | None = None,
) -> bool:
    """Run, or go on with, one training.

    Parameters
    ----------
    run
        Folder of the run.
    start
        `best.pt` of an earlier stage, whose weights this one begins with; the optimizer begins anew
    until
        Stop after this step as if a signal had come.

    Returns
    -------
    bool
        Whether the run is complete; False when it was asked to stop.

    Raises
    ------
    Refused
        recipe, data or disk will not do
    DeadRun
        Three steps in a row were not finite.
    """
    ranks = ranks or Ranks()
    network, parallel, optimizer = build(recipe, ranks, start)
    best, bad_steps = BestSoFar(), BadSteps()
    parts = {"network": network, "optimizer": optimizer, "best": best, "data": data_checksum(data.training)}
    if recipe.mine:
        parts["mined"] = Mined(data.training)
    checkpoints = Checkpoints(run, recipe, keep=recipe.keep)
    done, said = checkpoints.resume(parts)
    require_same_data(said, parts, run)
    epoch = epoch_steps(data.training, recipe.batch)
    steps = recipe.steps or recipe.epochs * epoch
    with stop_signals() as stop, RunLog(run, ranks, "train_unet", steps, done) as log:
        for batch in batches_of(recipe, network, data.training, done, steps, ranks, log):
            rate = recipe.optimizer.rate_at(done, steps) * best.rate_factor
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.bf16):
                logits = parallel(channels_last(batch.image, recipe))
            loss = segmentation_loss(recipe.loss, logits, batch.target, batch.weight)
            loss.backward()
            gradient = clip_gradient(network, recipe.optimizer.clip)
            is_bad = any_rank(not math.isfinite(loss.item() + gradient), ranks)
            if not is_bad:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bad_steps.note(done, is_bad, batch.names)

            # Log, look, save
            done += 1
            log.step(done, recipe.batch)
            is_last, is_epoch = done == steps, done % epoch == 0
            if is_last or done % recipe.log_every == 0:
                told = {"loss": loss.item(), "rate": rate, "gradient": gradient}
                log.note(done, **told, images_per_second=log.images_per_second)
            if is_last or (done % recipe.validate_every == 0 if recipe.validate_every else is_epoch):
                judgement = validate(network, data.validation, recipe, ranks)
                log.note(done, **judgement)
                if best.take(judgement, recipe.optimizer):
                    save_best(run, network, recipe, done, judgement, ranks)
            is_asked = any_rank(stop.came, ranks) or done == until
            if is_last or is_asked or (done % recipe.save_every == 0 if recipe.save_every else is_epoch):
                checkpoints.save(done, parts, ranks)
            if is_asked and not is_last:
                return False
    freeze_cut_off(run, recipe, data.validation, ranks)
    return True


def batches_of(
    recipe: SegmentationRecipe,
    network: nn.Module,
    samples: SliceSamples,
    done: int,
    steps: int,
    ranks: Ranks,
    log: RunLog,
) -> Iterator[Batch]:
    """Batches of steps `done` to `steps`; every `mine` epochs the network is first asked where it fires.

    Each stretch has a loader of its own: one that reads ahead would read in the order of before the search.
    """
    stretch = recipe.mine * epoch_steps(samples, recipe.batch)
    coronary = [n for n, name in enumerate(recipe.samples.classes, start=1) if name != Artery.OTHER.name]

    def probability(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.bf16):
            logits = network(channels_last(image, recipe)).float()
        return logits[:, 0].sigmoid() if recipe.samples.outputs == 1 else logits.softmax(1)[:, coronary].sum(1)

    while done < steps:
        if stretch and done and done % stretch == 0:
            network.eval()
            samples.mined = find_false_alarms(probability, samples, recipe.batch, ranks, recipe.workers)
            network.train()
            log.note(done, mined=samples.mined.size)
        last = min(steps, (done // stretch + 1) * stretch) if stretch else steps
        yield from training_batches(samples, recipe.batch, done, last, ranks, recipe.workers)
        done = last


def read_data(recipe: SegmentationRecipe, shards: ShardSet, splits: Splits, run: Path, ranks: Ranks) -> Data:
    """The slices of the splits' patients; hearts are found once and kept in the run's folder."""
    check_splits(shards, splits)
    chosen = [scans_of(shards, patients) for patients in (splits.train, splits.validation)]
    hearts = {}
    if not recipe.view.is_whole_field:
        hearts = find_hearts(shards, [n for scans in chosen for n in scans], run / "hearts.json", ranks)
    return Data(*(SliceSamples(shards, scans, recipe.view, recipe.samples, hearts, recipe.seed) for scans in chosen))


def build(
    recipe: SegmentationRecipe, ranks: Ranks, start: Path | None = None
) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    """The network, the same as it runs on all processes, and what moves it."""
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs).to(ranks.device)
    if start is not None:
        network.load_state_dict(read_start(start, recipe))
    if recipe.compile:
        network.compile()
    parallel = network
    if recipe.parallel == "ddp":
        network.to(memory_format=torch.channels_last)
    if ranks.world > 1 and recipe.parallel == "fsdp":
        shard_weights(network)
    elif ranks.world > 1:
        on_gpu = [ranks.local_rank] if ranks.device.type == "cuda" else None
        parallel = nn.parallel.DistributedDataParallel(network, device_ids=on_gpu)
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
    Refused
        "input": there are none, or they are of another network, view or classes; "unreadable": no such file
    """
    if not path.is_file():
        raise Refused("input", f"no such file: {path}; finish the earlier stage")
    try:
        told = torch.load(path, map_location="cpu", weights_only=True)
        if told["schema"] != WEIGHTS_SCHEMA:
            raise ValueError(f"schema {told['schema']!r}")
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        words = " ".join(str(error).split())[:120]
        raise Refused("unreadable", f"{path}: expected weights ({WEIGHTS_SCHEMA}), found: {words}") from None
    now = as_dict(recipe)
    for part in ("network", "view"):
        if told["recipe"][part] != now[part]:
            raise Refused(
                "input", f"{path} has {part} {told['recipe'][part]}, this recipe has {now[part]}; make them one"
            )
    if told["recipe"]["samples"]["classes"] != now["samples"]["classes"]:
        raise Refused("input", f"{path} was trained for other classes than {now['samples']['classes']}")
    weights: dict[str, torch.Tensor] = told["network"]
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


def clip_gradient(network: nn.Module, longest: float) -> float:
    """Shorten the gradient to `longest` (0: leave it); its length before."""
    length = nn.utils.clip_grad_norm_(network.parameters(), longest or math.inf)
    if hasattr(length, "full_tensor"):  # FSDP2: each process holds a part
        length = length.full_tensor()
    return float(length)


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
        found = (logits[:, 0] > 0).long() if outputs == 1 else logits.argmax(dim=1)
        for c in range(hard.shape[1]):
            predicted, true = (found == c + 1) & batch.mask, (batch.target == c + 1) & batch.mask
            hard[:, c] += torch.stack([(predicted & true).sum(), predicted.sum(), true.sum()])
    network.train()
    sums, hard = all_sum(sums), all_sum(hard)
    seen = hard[1] + hard[2] > 0
    each = 2 * hard[0] / (hard[1] + hard[2])
    told = {"validation_loss": float(loss_of_sums(recipe.loss, sums))}
    told["validation_dice"] = float(each[seen].mean()) if bool(seen.any()) else 0.0
    told |= {f"dice_{name}": float(each[c]) for c, name in enumerate(recipe.samples.classes) if bool(seen[c])}
    return told


def require_same_data(said: dict[str, Any], parts: dict[str, Any], run: Path) -> None:
    """Refuse to go on with other scans or labels than the run began with."""
    if said and said["data"] != parts["data"]:
        raise Refused(
            "input", f"{run} was begun with other scans, labels or splits; give the same ones, or another --out"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = training_parser("train_unet", __doc__, _run)
    parser.add_argument("--start", type=Path, metavar="RUN", help="begin with the best weights of an earlier stage")
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    recipe = load_recipe(SegmentationRecipe, options.recipe, options.changes)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    with process_group(options.device) as ranks:
        if ranks.is_first:
            make_run_folder(options.out)
            Checkpoints(options.out, recipe).check()
            shards.verify()
            write_recipe(recipe, options.out / "recipe.toml")
        data = read_data(recipe, shards, splits, options.out, ranks)
        start = None if options.start is None else options.start / BEST
        return run_training(lambda: train(recipe, data, options.out, start=start, ranks=ranks), options.out)


if __name__ == "__main__":
    sys.exit(main())
