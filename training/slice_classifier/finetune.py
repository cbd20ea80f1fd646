"""The slice classifier, trained on end to end from a fit on frozen features."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from heartlens.anatomy import heart_region
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.inference import slices_with_candidates
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.networks.view import NetworkView
from training.datasets.sampling import balanced_order, batch_at, sample_rng
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.dino.features import Place, crop_batch, middle
from training.engine.checkpoint import Checkpoints, stop_signals, write_torch
from training.engine.config import as_dict, runtime_only
from training.engine.distributed import Ranks
from training.engine.monitor import NonFiniteGuard
from training.engine.run_log import RunLog
from training.metrics.classification import area_under_roc, counts
from training.slice_classifier.weights import REPORT, SCHEMA, WEIGHTS, load_classifier

CANDIDATE_SLICES = "asked.json"


@dataclass(frozen=True)
class TuneRecipe:
    """One run.

    Parameters
    ----------
    steps, batch
        Half of each batch is calcified.
    learning_rate, weight_decay, warmup_steps
        Of AdamW; the rate falls to 0 by a cosine.
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
    """Views of some slices, shifted and zoomed, each a function of seed, epoch and slice."""
    places, noise_hu, offset_hu = [], [], []
    side = view.size_px // patch
    patches = np.zeros((len(numbers), side, side), np.float32)
    for row, n in enumerate(numbers):
        rng = sample_rng(recipe.seed, epoch, int(n))
        center = np.array(middle(slices, int(n), view).center_mm) + rng.uniform(-recipe.shift_mm, recipe.shift_mm, 2)
        side_mm = view.field_mm * rng.uniform(1 - recipe.zoom, 1 + recipe.zoom)
        places.append(Place((float(center[0]), float(center[1])), (side_mm, side_mm)))
        noise_hu.append(rng.uniform(0, recipe.noise_hu))
        offset_hu.append(rng.uniform(-recipe.offset_hu, recipe.offset_hu))
        boxes = (slices.boxes_mm(int(n)) - np.tile(center - side_mm / 2, 2)) / side_mm * side
        for top, left, bottom, right in boxes:
            if min(top, left) < side and min(bottom, right) > 0:
                low = np.maximum(np.floor([top, left]), 0).astype(int)
                high = np.minimum(np.ceil([bottom, right]), side).astype(int)
                patches[row, low[0] : high[0], low[1] : high[1]] = 1
    images, spacing_mm = slices.read(numbers)
    center_mm, side_of = (torch.tensor(p, dtype=torch.float64, device=ranks.device) for p in zip(*places, strict=True))
    crops = crop_batch(images.to(ranks.device), spacing_mm.to(ranks.device), view, center_mm, side_of)
    scale = 2 / (view.window_hu[1] - view.window_hu[0])
    drawn = np.random.default_rng([recipe.seed, epoch, *map(int, numbers[:1])]).standard_normal(crops.shape, np.float32)
    noise = torch.from_numpy(drawn).to(ranks.device)
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
) -> dict[str, Any] | None:
    """Run, or go on with, one tuning; the weights of the best validation (area under the ROC curve) are kept.

    Parameters
    ----------
    start
        `slice_classifier.pt` of a fit on frozen features
    candidate_slices
        (validation slices,) those that HeartLens would ask the classifier about

    Returns
    -------
    dict[str, Any] | None
        The report; None when it was asked to stop.
    """
    ranks = ranks or Ranks()
    classifier, view, _ = load_classifier(start)
    frozen = json.loads(start.with_name(REPORT).read_text())["validation"]
    torch.manual_seed(recipe.seed)
    network = TunedClassifier(classifier).to(ranks.device).train()
    if ranks.device.type == "cpu" and recipe.bf16:
        classifier.backbone.attend_in_products()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    checkpoints = Checkpoints(run, recipe)
    data = [training.identity(), validation.identity(), len(training)]
    parts = {"network": network, "optimizer": optimizer, "data": data}
    done, saved = checkpoints.resume(parts)
    if saved and saved["data"] != data:
        raise InputRefused("input", f"{run} was begun with other slices; give another --out")
    report = json.loads((run / REPORT).read_text()) if done and (run / REPORT).exists() else None
    patch = classifier.backbone.shape.patch
    length = len(balanced_order(training.is_calcified, recipe.seed, 0))
    bad_steps = NonFiniteGuard()
    with stop_signals() as stop, RunLog(run, ranks, "tune_slices", recipe.steps, done) as log:
        while done < recipe.steps:
            epoch, place = batch_at(done, recipe.batch, length)
            numbers = balanced_order(training.is_calcified, recipe.seed, epoch)[place].tolist()
            lesson = draw_lesson(recipe, view, patch, training, numbers, epoch, ranks)
            warm = min(1.0, (done + 1) / (recipe.warmup_steps + 1))
            rate = recipe.learning_rate * warm * (1 + math.cos(math.pi * done / recipe.steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.bf16):
                slice_logits, patch_logits = network(lesson.views)
            slice_loss = functional.binary_cross_entropy_with_logits(slice_logits, lesson.is_calcified)
            weight = 1 + (recipe.patch_positive - 1) * lesson.patches
            patch_loss = functional.binary_cross_entropy_with_logits(patch_logits, lesson.patches, weight=weight)
            loss = slice_loss + recipe.patch_share * patch_loss
            loss.backward()
            norm = float(nn.utils.clip_grad_norm_(network.parameters(), recipe.clip))
            is_bad = not math.isfinite(float(loss.detach()) + norm)
            if not is_bad:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bad_steps.note(done, is_bad, [training.name(n) for n in numbers] if is_bad else [])
            done += 1
            log.step(done, recipe.batch)
            is_last = done == recipe.steps
            if is_last or done % recipe.log_every == 0:
                metrics = {"slice_loss": float(slice_loss.detach()), "patch_loss": float(patch_loss.detach())}
                log.note(done, **metrics, rate=rate, images_per_second=log.images_per_second)
            if is_last or done % recipe.validate_every == 0:
                p = probabilities(classifier, view, validation, candidate_slices, ranks)
                evaluation = evaluate_candidates(validation.is_calcified, candidate_slices, p, recipe.least_sensitivity)
                log.note(done, validation_auc=evaluation["auc"], validation_specificity=evaluation["specificity"])
                if report is None or evaluation["auc"] > report["validation"]["auc"]:
                    report = keep(run, classifier, view, recipe, done, evaluation, frozen)
            stopping = stop.requested or done == until
            if is_last or stopping or done % recipe.save_every == 0:
                checkpoints.save(done, parts, ranks)
            if stopping and not is_last:
                return None
    return report


@torch.no_grad()
def probabilities(
    classifier: SliceClassifier, view: NetworkView, slices: SliceSet, candidate_slices: NDArray[np.bool_], ranks: Ranks
) -> NDArray[np.float64]:
    """(n,) p(calcified), 0 where nobody asks."""
    classifier.eval()
    p = np.zeros(len(slices))
    wanted = np.flatnonzero(candidate_slices)
    for first in range(0, wanted.size, 64):
        part = wanted[first : first + 64].tolist()
        images, spacing_mm = slices.read(part)
        places = [middle(slices, n, view) for n in part]
        center_mm, side_mm = (
            torch.tensor(p, dtype=torch.float64, device=ranks.device) for p in zip(*places, strict=True)
        )
        crops = crop_batch(images.to(ranks.device), spacing_mm.to(ranks.device), view, center_mm, side_mm)
        p[part] = classifier(crops).double().cpu().numpy()
    classifier.train()
    return p


def evaluate_candidates(
    is_calcified: NDArray[np.bool_],
    candidate_slices: NDArray[np.bool_],
    p: NDArray[np.float64],
    least_sensitivity: float,
) -> dict[str, Any]:
    """Figures of the slices that are asked about, at the highest cut-off with that sensitivity among them.

    Returns
    -------
    dict[str, Any]
        {"auc", "cut_off", "sensitivity", "specificity", "f1", "confusion"} of those, "all_slices" of all, and
        "specificity_at_0.89", "sensitivity_at_0.90": of those, at the paper's sensitivity and specificity
    """
    truth, candidate_p = is_calcified[candidate_slices], p[candidate_slices]
    if truth.all() or not truth.any():
        raise InputRefused("input", "validation needs slices with and without calcium; give it more patients")
    cut_off = _between(candidate_p, _cut_off_of(truth, candidate_p, least_sensitivity))
    at_cut_off, everywhere = counts(truth, candidate_p >= cut_off), counts(is_calcified, p >= cut_off)
    at_paper = counts(truth, candidate_p >= _cut_off_of(truth, candidate_p, 0.89))
    quiet = np.sort(candidate_p[~truth])[
        math.ceil(0.9 * int((~truth).sum())) - 1
    ]  # nine of ten without calcium are below
    return {
        "auc": area_under_roc(truth, candidate_p),
        "cut_off": cut_off,
        "sensitivity": at_cut_off.sensitivity,
        "specificity": at_cut_off.specificity,
        "f1": at_cut_off.f1,
        "confusion": {"tp": at_cut_off.tp, "fp": at_cut_off.fp, "fn": at_cut_off.fn, "tn": at_cut_off.tn},
        "all_slices": {"sensitivity": everywhere.sensitivity, "specificity": everywhere.specificity},
        "specificity_at_0.89": at_paper.specificity,
        "sensitivity_at_0.90": float((candidate_p[truth] > quiet).mean()),
    }


def _cut_off_of(truth: NDArray[np.bool_], p: NDArray[np.float64], sensitivity: float) -> float:
    positive = np.sort(p[truth])[::-1]
    return float(positive[math.ceil(sensitivity * positive.size - 1e-9) - 1])


def _between(p: NDArray[np.float64], cut_off: float) -> float:
    """Midway to the next lower probability, so that rounding on another device moves no slice across."""
    lower = p[p < cut_off]
    return float((cut_off + lower.max()) / 2) if lower.size else cut_off / 2


def keep(
    run: Path,
    classifier: SliceClassifier,
    view: NetworkView,
    recipe: TuneRecipe,
    step: int,
    evaluation: dict[str, Any],
    frozen: dict[str, Any],
) -> dict[str, Any]:
    """Write weights and report as `training.train_slices` does, so that the export takes either."""
    report = {
        "schema": SCHEMA,
        "cut_off": evaluation["cut_off"],
        "view": view.to_json(),
        "backbone": classifier.backbone.shape.to_json(),
        "step": step,
        "validation": evaluation,
        "validation_frozen": frozen,
    }
    state = {name: tensor.detach().cpu().clone() for name, tensor in classifier.state_dict().items()}
    write_torch({**report, "state": state, "recipe": as_dict(recipe)}, run / WEIGHTS)
    with atomic_file(run / REPORT) as sibling:
        sibling.write_text(json.dumps(report, indent=1) + "\n")
    return report


def find_candidate_slices(shards: ShardSet, slices: SliceSet, path: Path) -> NDArray[np.bool_]:
    """(slices,) those with a candidate in the heart region; found once and kept in a file."""
    try:
        known: dict[str, list[int]] = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    for scan in slices.scans:
        voxels = shards.scans[scan].voxels_sha256
        if voxels not in known:
            ct = shards.ct(scan)
            known[voxels] = np.flatnonzero(slices_with_candidates(ct, heart_region(ct), ScoringProtocol())).tolist()
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps(known))
    sets = {scan: set(known[shards.scans[scan].voxels_sha256]) for scan in slices.scans}
    return np.array([k in sets[scan] for scan, k in slices.places.tolist()], bool)
