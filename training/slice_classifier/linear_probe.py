"""A linear head on frozen embeddings, which are computed once (DINO-LG, arXiv 2411.07976)."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from heartlens.core.atomic import atomic_file
from heartlens.networks.backbone import Backbone
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.networks.view import NetworkView, classifier_view
from training.datasets.sampling import epoch_order
from training.datasets.slice_dataset import SliceSet
from training.dino.features import Place, embed_slices, knn_probability, middle
from training.engine.checkpoint import write_torch
from training.engine.cli import Progress
from training.engine.config import as_dict, fingerprint, since_version
from training.engine.distributed import Ranks, all_sum, any_rank
from training.engine.loop import TrainingLoop
from training.engine.monitor import NonFiniteGuard, TrainingFailed
from training.engine.run_log import make_run_folder
from training.metrics.classification import area_under_roc
from training.metrics.cutoff import choose_cut_off
from training.slice_classifier.weights import REPORT, SCHEMA, WEIGHTS, evaluate_probabilities

EMBEDDING_BATCH = 64
"""Slices that go through the backbone at once."""


FEATURES = "features"


@dataclass(frozen=True)
class SlicesRecipe:
    """One fit; the defaults are the paper's where it says something.

    Parameters
    ----------
    epochs
        10 in the paper; misses grow beyond
    learning_rate, weight_decay, batch
        Of AdamW; the rate falls to 0 by a cosine.
    views
        Embeddings of each training slice; the first is the whole view, the others random crops, resized.
    crop_sides
        Smallest and largest crop, as a share of the view's side.
    cut_off
        "youden" (sensitivity + specificity is largest) or "f1", on validation
    field_mm, size, window_hu, center
        Of the view.
    neighbors
        Of the second opinion.
    """

    epochs: int = 10
    learning_rate: float = 3e-2
    weight_decay: float = 1e-2
    batch: int = 64
    views: int = 4
    crop_sides: tuple[float, float] = (0.7, 1.0)
    cut_off: Literal["youden", "f1"] = "youden"
    field_mm: float = 200.0
    size: int = 224
    window_hu: tuple[float, float] = (-460.0, 540.0)
    neighbors: int = 20
    bf16: bool = False
    seed: int = 0
    center: Literal["slice", "heart"] = since_version("slice")

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.views, self.neighbors) < 1:
            raise ValueError("epochs, batch, views and neighbors must be 1 or more")
        if not 0 < self.crop_sides[0] <= self.crop_sides[1] <= 1:
            raise ValueError(f"crop_sides must be shares of the view's side, ascending, got {self.crop_sides}")
        _ = self.view

    @property
    def view(self) -> NetworkView:
        """The view in which slices are embedded."""
        return classifier_view(self.field_mm, self.size, self.window_hu, self.center)


class Features(NamedTuple):
    """Frozen embeddings, and what their slices show.

    Parameters
    ----------
    training
        (views, n, dim)
    training_labels
        (views, n) bool; a crop may have lost the calcium of its slice
    validation, validation_labels
        (m, dim), (m,)
    """

    training: NDArray[np.float32]
    training_labels: NDArray[np.bool_]
    validation: NDArray[np.float32]
    validation_labels: NDArray[np.bool_]


class HeadFit:
    """A linear head on its way, one epoch at a time; the same seed and features give the same head.

    Each class has half of the loss, however rare calcium is: p is as if every second slice were calcified.
    """

    def __init__(self, recipe: SlicesRecipe, features: Features) -> None:
        self.recipe = recipe
        self.known = torch.from_numpy(features.training)  # (views, slices, dim)
        self.labels = torch.from_numpy(features.training_labels).float()
        self.mean, self.spread = self.known[0].mean(0), self.known[0].std(0, correction=0).clamp_min(1e-6)
        share = self.labels.mean()
        self.weights = torch.where(self.labels > 0, 0.5 / share, 0.5 / (1 - share))
        self.head = nn.Linear(self.known.shape[-1], 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.optimizer = torch.optim.AdamW(self.head.parameters(), weight_decay=recipe.weight_decay)

    def epoch(self, epoch: int) -> float:
        """Every slice once, in another crop in each epoch; the mean loss."""
        r, slices, view = self.recipe, self.known.shape[1], epoch % self.recipe.views
        order = torch.from_numpy(epoch_order(slices, r.seed, epoch))
        starts = range(0, slices, r.batch)
        total = 0.0
        for n, start in enumerate(starts, start=epoch * len(starts)):
            done = n / (r.epochs * len(starts))
            self.optimizer.param_groups[0]["lr"] = r.learning_rate * (1 + math.cos(math.pi * done)) / 2
            chosen = order[start : start + r.batch]
            logits = self.head((self.known[view, chosen] - self.mean) / self.spread)[:, 0]
            loss = functional.binary_cross_entropy_with_logits(
                logits, self.labels[view, chosen], weight=self.weights[view, chosen]
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) * len(chosen)
        return total / slices

    def folded(self) -> nn.Linear:
        """The head as it takes embeddings."""
        return fold(self.head, self.mean, self.spread)


def fit_head(recipe: SlicesRecipe, features: Features) -> nn.Linear:
    """The linear head after all epochs."""
    fit = HeadFit(recipe, features)
    for epoch in range(recipe.epochs):
        fit.epoch(epoch)
    return fit.folded()


@torch.no_grad()
def fold(head: nn.Linear, mean: Tensor, spread: Tensor) -> nn.Linear:
    """The same head for embeddings that are not standardized."""
    folded = nn.Linear(head.in_features, 1)
    folded.weight.copy_(head.weight / spread)
    folded.bias.copy_(head.bias - (head.weight * mean / spread).sum(1))
    return folded


@torch.no_grad()
def head_probability(head: nn.Linear, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, dim) -> (n,) p(calcified)."""
    return torch.sigmoid(head(torch.from_numpy(embeddings))[:, 0]).double().numpy()


def crops_of(recipe: SlicesRecipe, slices: SliceSet, number: int, view: int) -> tuple[Place, bool]:
    """Where one view of a training slice looks, and whether calcium is in it."""
    place = middle(slices, number, recipe.view)
    if view:
        rng = np.random.default_rng([recipe.seed, number, view])
        side = recipe.field_mm * rng.uniform(*recipe.crop_sides)
        shift = (rng.random(2) - 0.5) * (recipe.field_mm - side)
        row, column = (float(c + s) for c, s in zip(place.center_mm, shift, strict=True))
        place = Place((row, column), (side, side))
    boxes = slices.boxes_mm(number)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = np.abs(centers - place.center_mm) <= np.array(place.side_mm) / 2
    return place, bool(inside.all(axis=1).any())


def read_features(
    recipe: SlicesRecipe,
    backbone: Backbone,
    training: SliceSet,
    validation: SliceSet,
    device: torch.device,
    folder: Path,
    ranks: Ranks | None = None,
) -> Features:
    """Embed every slice of the labeled scans; minutes, where fitting takes seconds.

    Parameters
    ----------
    folder
        Keeps the embeddings of each view; those that are there already, of the same backbone and slices, are taken.
    ranks
        The processes that share the work; all of them get all embeddings.

    Raises
    ------
    DeadRun
        Embeddings that are not finite.
    """
    ranks = ranks or Ranks()
    backbone.to(device).eval()
    how: dict[str, Any] = {"view": recipe.view, "device": device, "bf16": recipe.bf16}
    inputs = [fingerprint(recipe), training.identity(), validation.identity(), checksum(backbone)]
    identity = json.dumps(inputs, sort_keys=True)
    make_run_folder(folder)
    training_embeddings, labels = [], []
    for view in range(recipe.views):
        crops = [crops_of(recipe, training, n, view) for n in range(len(training))]
        places = [place for place, _ in crops]
        labels.append([is_calcified for _, is_calcified in crops])
        path = folder / f"view-{view}.npz"
        training_embeddings.append(
            _embeddings(backbone, training, path, identity, ranks, place=places.__getitem__, **how)
        )
    validation_embeddings = _embeddings(backbone, validation, folder / "validation.npz", identity, ranks, **how)
    return Features(
        np.stack(training_embeddings), np.array(labels), validation_embeddings, validation.is_calcified.copy()
    )


def _embeddings(
    backbone: Backbone, slices: SliceSet, path: Path, identity: str, ranks: Ranks, **how: Any
) -> NDArray[np.float32]:
    """Embeddings of all slices: those that are kept, or each process takes its share of the batches."""
    kept = _kept(path, identity)
    if not any_rank(kept is None, ranks):
        assert kept is not None
        return kept
    values = torch.zeros(len(slices), backbone.shape.dim)
    firsts = range(ranks.rank * EMBEDDING_BATCH, len(slices), ranks.world * EMBEDDING_BATCH)
    bar = Progress(f"{path.stem}: batch", len(firsts)) if ranks.is_first else None
    for first in firsts:
        # The same batches whatever the number of processes: a sum may depend on what else is in its batch.
        numbers = np.arange(first, min(first + EMBEDDING_BATCH, len(slices)))
        values[numbers] = torch.from_numpy(embed_slices(backbone, slices, numbers, batch=EMBEDDING_BATCH, **how))
        if bar is not None:
            bar.step()
    if bar is not None:
        bar.close()
    embeddings = all_sum(values.to(ranks.device)).cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if bad.size:
        text = ", ".join(slices.name(n) for n in bad[:5].tolist())
        raise TrainingFailed(
            f"{path.stem}: the embeddings of {bad.size} of {len(slices)} slices are not finite (first {text}); look at "
            "the pre-training, or set bf16=false"
        )
    if ranks.is_first:
        _keep(path, identity, embeddings)
    return embeddings


def _kept(path: Path, identity: str) -> NDArray[np.float32] | None:
    """Embeddings of an earlier start of this run; None when there are none or something has changed."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file["embeddings"]) if str(file["identity"]) == identity else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _keep(path: Path, identity: str, embeddings: NDArray[np.float32]) -> None:
    with atomic_file(path) as sibling, open(sibling, "wb") as file:
        np.savez(file, identity=np.array(identity), embeddings=embeddings)


def checksum(backbone: Backbone) -> float:
    """Changes with any weight; the same on every machine."""
    return math.fsum(float(p.double().abs().sum()) * n for n, p in enumerate(backbone.parameters(), start=1))


def train_linear_head(
    recipe: SlicesRecipe,
    backbone: Backbone,
    features: Features,
    run: Path,
    *,
    ranks: Ranks | None = None,
    until: int | None = None,
    deadline: float | None = None,
) -> dict[str, Any] | None:
    """Fit, or go on with fitting; choose the cut-off, write weights and a report.

    Parameters
    ----------
    run
        Folder of the run.
    ranks
        All processes fit the same head, which takes seconds; the first one writes.
    until, deadline
        Stop after this epoch, or after this time, as if a signal had come, see `training.engine.loop.TrainingLoop`.

    Returns
    -------
    dict[str, Any] | None
        The report; None when it was asked to stop.

    Raises
    ------
    InputRefused
        The run was begun with another recipe, backbone or slices, or the disk is full.
    TrainingFailed
        The loss is not finite.
    """
    ranks = ranks or Ranks()
    fit = HeadFit(recipe, features)
    data = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in features)).hexdigest()
    loop = TrainingLoop(
        run,
        recipe,
        {"head": fit.head, "optimizer": fit.optimizer},
        "train_slices",
        recipe.epochs,
        data=data,
        other_data="begun with another backbone or other slices; give another --out",
        ranks=ranks,
        guard=NonFiniteGuard(patience=1, unit="epoch"),  # its steps are made
        until=until,
        deadline=deadline,
    )
    labels = features.validation_labels
    with loop:
        for epoch in range(loop.done, recipe.epochs):
            loss = fit.epoch(epoch)
            loop.is_finite(loss, list)
            loop.count(features.training.shape[1])
            loop.note(
                loss=loss, validation_auc=area_under_roc(labels, head_probability(fit.folded(), features.validation))
            )
            if loop.save_or_stop():
                break
    if not loop.is_complete:
        return None
    head = fit.folded()
    p = head_probability(head, features.validation)
    cut_off = choose_cut_off(labels, p, recipe.cut_off)
    neighbors = knn_probability(
        features.training[0], features.training_labels[0], features.validation, neighbors=recipe.neighbors
    )
    report = {
        "schema": SCHEMA,
        "cut_off": cut_off,
        "view": recipe.view.to_json(),
        "backbone": backbone.shape.to_json(),
        "slices": {"training": features.training.shape[1], "validation": len(labels)},
        "calcified": {"training": int(features.training_labels[0].sum()), "validation": int(labels.sum())},
        "validation": evaluate_probabilities(labels, p, cut_off),
        "validation_knn": evaluate_probabilities(labels, neighbors, 0.5),
    }
    if ranks.is_first:
        classifier = SliceClassifier(backbone)
        classifier.head = head
        state = {name: tensor.cpu() for name, tensor in classifier.state_dict().items()}
        write_torch({**report, "state": state, "recipe": as_dict(recipe)}, run / WEIGHTS)
        with atomic_file(run / REPORT) as sibling:
            sibling.write_text(json.dumps(report, indent=1) + "\n")
    return report
