"""The slice classifier, trained on end to end from a fit on frozen features."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from heartlens.core.atomic import atomic_file
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.networks.view import NetworkView
from training.datasets.sampling import balanced_order, batch_at, sample_rng, share_of_rank
from training.datasets.slice_dataset import SliceSet
from training.dino.features import Place, crop_batch, middle
from training.engine.checkpoint import write_torch
from training.engine.config import as_dict, runtime_only
from training.engine.distributed import Ranks, all_mean, all_sum, data_parallel, require_even_batch
from training.engine.loop import BestFigure, TrainingLoop, clip_gradient
from training.slice_classifier.candidates import evaluate_candidates
from training.slice_classifier.weights import REPORT, SCHEMA, WEIGHTS, load_classifier

VALIDATION_BATCH = 64
"""Slices that go through the classifier at once."""


@dataclass(frozen=True)
class TuneRecipe:
    """One run.

    Parameters
    ----------
    steps, batch
        Half of each batch, of all processes together, is calcified.
    learning_rate, weight_decay, warmup_steps
        Of AdamW; the rate falls to 0 by a cosine.
    clip
        Largest length of the gradient; 0 for no limit.
    patch_share
        Weight of the patches' loss beside that of the slices.
    patch_positive
        Weight of a calcified patch among the others.
    shift_mm, zoom
        Largest change of the view each way.
    noise_hu, offset_hu
        Largest added noise (standard deviation) and offset.
    least_sensitivity
        Of validation slices; the cut-off is the highest that reaches it, because a slice that is lost loses calcium,
        and one too many only costs time.
    validate_every
        steps
    """

    steps: int = 1000
    batch: int = 32
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup_steps: int = 50
    clip: float = 1.0
    patch_share: float = 1.0
    patch_positive: float = 10.0
    shift_mm: float = 10.0
    zoom: float = 0.1
    noise_hu: float = 8.0
    offset_hu: float = 10.0
    least_sensitivity: float = 0.97
    bf16: bool = True
    seed: int = 0
    validate_every: int = 250
    save_every: int = runtime_only(100)
    log_every: int = runtime_only(20)

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.validate_every) < 1 or not 0 < self.least_sensitivity <= 1:
            raise ValueError("steps, batch and validate_every must be 1 or more, least_sensitivity within 0 to 1")


class TunedClassifier(nn.Module):
    """The classifier, and a head that is asked about each patch."""

    def __init__(self, classifier: SliceClassifier) -> None:
        super().__init__()
        self.classifier = classifier.requires_grad_(True)
        # The head that was fitted to frozen features is steep where they hardly vary: the first step of the backbone
        # would throw it off (loss 14 after 40 steps). It begins again.
        nn.init.trunc_normal_(classifier.head.weight, std=0.02)
        nn.init.zeros_(classifier.head.bias)
        self.patch_head = nn.Linear(classifier.backbone.shape.dim, 1)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 1, size, size) -> (n,) and (n, patches) log odds."""
        backbone = self.classifier.backbone
        x = backbone.tokens(view)
        for block in backbone.blocks:
            x = block(x)
        x = backbone.norm(x)
        return self.classifier.head(x[:, 0])[:, 0].float(), self.patch_head(x[:, 1:])[..., 0].float()


class Lesson(NamedTuple):
    """One batch: views (n, 1, size, size), whether calcium is on them (n,), and on which patches (n, patches)."""

    views: Tensor
    is_calcified: Tensor
    patches: Tensor


def draw_lesson(
    recipe: TuneRecipe,
    view: NetworkView,
    patch: int,
    slices: SliceSet,
    numbers: Sequence[int],
    epoch: int,
    ranks: Ranks,
) -> Lesson:
    """Views of a process's share of some slices, shifted and zoomed, each a function of seed, epoch and slice.

    Parameters
    ----------
    patch
        pixels
    numbers
        The slices of the whole batch, of which each process takes its share.
    """
    share = share_of_rank(np.asarray(numbers, np.int64), ranks.rank, ranks.world).tolist()
    places, noise_hu, offset_hu = [], [], []
    side = view.size_px // patch
    patches = np.zeros((len(share), side, side), np.float32)
    for row, n in enumerate(share):
        rng = sample_rng(recipe.seed, epoch, n)
        center = np.array(middle(slices, n, view).center_mm) + rng.uniform(-recipe.shift_mm, recipe.shift_mm, 2)
        side_mm = view.field_mm * rng.uniform(1 - recipe.zoom, 1 + recipe.zoom)
        places.append(Place((float(center[0]), float(center[1])), (side_mm, side_mm)))
        noise_hu.append(rng.uniform(0, recipe.noise_hu))
        offset_hu.append(rng.uniform(-recipe.offset_hu, recipe.offset_hu))
        boxes = (slices.boxes_mm(n) - np.tile(center - side_mm / 2, 2)) / side_mm * side
        for top, left, bottom, right in boxes:
            if min(top, left) < side and min(bottom, right) > 0:
                low = np.maximum(np.floor([top, left]), 0).astype(int)
                high = np.minimum(np.ceil([bottom, right]), side).astype(int)
                patches[row, low[0] : high[0], low[1] : high[1]] = 1
    images, spacing_mm = slices.read(share)
    center_mm, side_of = (torch.tensor(p, dtype=torch.float64, device=ranks.device) for p in zip(*places, strict=True))
    crops = crop_batch(images.to(ranks.device), spacing_mm.to(ranks.device), view, center_mm, side_of)
    scale = 2 / (view.window_hu[1] - view.window_hu[0])
    # Drawn for the whole batch, so that a slice has the same noise whichever process shows it.
    whole = (len(numbers), *crops.shape[1:])
    drawn = np.random.default_rng([recipe.seed, epoch, *map(int, numbers[:1])]).standard_normal(whole, np.float32)
    noise = torch.from_numpy(drawn[ranks.rank :: ranks.world]).to(ranks.device)
    each = [torch.tensor(v, dtype=torch.float32, device=ranks.device).view(-1, 1, 1, 1) for v in (noise_hu, offset_hu)]
    crops = (crops + (noise * each[0] + each[1]) * scale).clamp_(-1, 1)
    patch_calcium = torch.from_numpy(patches).flatten(1).to(ranks.device)
    return Lesson(crops, (patch_calcium.sum(1) > 0).float(), patch_calcium)


def tune(
    recipe: TuneRecipe,
    start: Path,
    training: SliceSet,
    validation: SliceSet,
    candidate_slices: NDArray[np.bool_],
    run: Path,
    *,
    ranks: Ranks | None = None,
    until: int | None = None,
    deadline: float | None = None,
) -> dict[str, Any] | None:
    """Run, or go on with, one tuning; the weights of the best validation (area under the ROC curve) are kept.

    Parameters
    ----------
    start
        `slice_classifier.pt` of a fit on frozen features
    candidate_slices
        (validation slices,) those that HeartLens would ask the classifier about
    ranks
        The processes that share each batch and each validation; the first one writes.
    until, deadline
        Stop after this step, or after this time, as if a signal had come, see `training.engine.loop.TrainingLoop`.

    Returns
    -------
    dict[str, Any] | None
        The report, the same on all processes; None when it was asked to stop.

    Raises
    ------
    InputRefused
        The run was begun with another recipe or other slices, validation will not do, or the disk is full.
    TrainingFailed
        Three steps in a row were not finite.
    """
    ranks = ranks or Ranks()
    require_even_batch(recipe.batch, ranks)
    classifier, view, _ = load_classifier(start)
    frozen = json.loads(start.with_name(REPORT).read_text())["validation"]
    torch.manual_seed(recipe.seed)
    network = TunedClassifier(classifier).to(ranks.device).train()
    if ranks.device.type == "cpu" and recipe.bf16:
        classifier.backbone.attend_in_products()
    parallel = data_parallel(network, ranks)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    best = BestFigure("validation_auc")
    loop = TrainingLoop(
        run,
        recipe,
        {"network": network, "optimizer": optimizer},
        "tune_slices",
        recipe.steps,
        data=[training.identity(), validation.identity(), len(training)],
        other_data="begun with other slices; give another --out",
        ranks=ranks,
        save_every=recipe.save_every,
        best=best,
        until=until,
        deadline=deadline,
    )
    # The best so far is in the report beside its weights, and in no checkpoint.
    report = json.loads((run / REPORT).read_text()) if loop.done and (run / REPORT).exists() else None
    if report is not None:
        best.value = report["validation"]["auc"]
    patch = classifier.backbone.shape.patch
    length = len(balanced_order(training.is_calcified, recipe.seed, 0))
    with loop:
        while not loop.is_complete:
            epoch, place = batch_at(loop.done, recipe.batch, length)
            numbers = balanced_order(training.is_calcified, recipe.seed, epoch)[place].tolist()
            lesson = draw_lesson(recipe, view, patch, training, numbers, epoch, ranks)
            warm = min(1.0, (loop.done + 1) / (recipe.warmup_steps + 1))
            rate = recipe.learning_rate * warm * (1 + math.cos(math.pi * loop.done / recipe.steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.bf16):
                slice_logits, patch_logits = parallel(lesson.views)
            slice_loss = functional.binary_cross_entropy_with_logits(slice_logits, lesson.is_calcified)
            weight = 1 + (recipe.patch_positive - 1) * lesson.patches
            patch_loss = functional.binary_cross_entropy_with_logits(patch_logits, lesson.patches, weight=weight)
            loss = slice_loss + recipe.patch_share * patch_loss
            loss.backward()
            gradient = float(clip_gradient(network, recipe.clip))
            if loop.is_finite(float(loss.detach()) + gradient, partial(list, map(training.name, numbers))):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            # Log, look, save
            loop.count(recipe.batch)
            if loop.is_due(recipe.log_every):
                losses = [float(all_mean(part.detach())) for part in (slice_loss, patch_loss)]
                metrics = dict(zip(("slice_loss", "patch_loss"), losses, strict=True))
                loop.note(**metrics, gradient=gradient, rate=rate, images_per_second=loop.log.images_per_second)
            if loop.is_due(recipe.validate_every):
                p = probabilities(classifier, view, validation, candidate_slices, ranks)
                evaluation = evaluate_candidates(validation.is_calcified, candidate_slices, p, recipe.least_sensitivity)
                figures = {"validation_auc": evaluation["auc"], "validation_specificity": evaluation["specificity"]}
                if loop.is_best(figures):
                    report = keep(run, classifier, view, recipe, loop.done, evaluation, frozen, ranks)
            if loop.save_or_stop():
                break
    return report if loop.is_complete else None


@torch.no_grad()
def probabilities(
    classifier: SliceClassifier, view: NetworkView, slices: SliceSet, candidate_slices: NDArray[np.bool_], ranks: Ranks
) -> NDArray[np.float64]:
    """(n,) p(calcified), 0 where nobody asks; the processes share the batches, and all get the whole."""
    classifier.eval()
    p = torch.zeros(len(slices), dtype=torch.float64, device=ranks.device)
    wanted = np.flatnonzero(candidate_slices)
    for first in range(ranks.rank * VALIDATION_BATCH, wanted.size, ranks.world * VALIDATION_BATCH):
        # The same batches whatever the number of processes: a sum may depend on what else is in its batch.
        part = wanted[first : first + VALIDATION_BATCH].tolist()
        images, spacing_mm = slices.read(part)
        places = [middle(slices, n, view) for n in part]
        center_mm, side_mm = (
            torch.tensor(values, dtype=torch.float64, device=ranks.device) for values in zip(*places, strict=True)
        )
        crops = crop_batch(images.to(ranks.device), spacing_mm.to(ranks.device), view, center_mm, side_mm)
        p[part] = classifier(crops).double()
    classifier.train()
    return np.asarray(all_sum(p).cpu().numpy())


def keep(
    run: Path,
    classifier: SliceClassifier,
    view: NetworkView,
    recipe: TuneRecipe,
    step: int,
    evaluation: dict[str, Any],
    frozen: dict[str, Any],
    ranks: Ranks,
) -> dict[str, Any]:
    """Write weights and report as `training.train_slices` does, so that the export takes either.

    The first process writes.

    Returns
    -------
    dict[str, Any]
        The report.
    """
    report = {
        "schema": SCHEMA,
        "cut_off": evaluation["cut_off"],
        "view": view.to_json(),
        "backbone": classifier.backbone.shape.to_json(),
        "step": step,
        "validation": evaluation,
        "validation_frozen": frozen,
    }
    if ranks.is_first:
        state = {name: tensor.detach().cpu().clone() for name, tensor in classifier.state_dict().items()}
        write_torch({**report, "state": state, "recipe": as_dict(recipe)}, run / WEIGHTS)
        with atomic_file(run / REPORT) as sibling:
            sibling.write_text(json.dumps(report, indent=1) + "\n")
    return report
