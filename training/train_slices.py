"""Fit the slice classifier: a linear head on frozen embeddings (DINO-LG, arXiv 2411.07976).

python -m training.train_slices training/runs/mini-slices.toml [KEY=VALUE ...] --backbone DINO_RUN \\
    --shards DIR --splits FILE --out RUN

Embeddings are computed once and kept in the run's folder; the head is fitted in seconds. The cut-off is chosen on
validation patients and saved with the weights; test patients are not looked at here.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from heartlens.models.backbone import Backbone, BackboneShape
from heartlens.models.slice_classifier import SliceClassifier
from heartlens.models.slice_view import SliceView
from heartlens.refusal import Refused
from heartlens.whole_file import whole_file
from training.checkpoint import read_checkpoint, write_torch
from training.command import DONE, run_command
from training.config import as_dict, fingerprint, load_recipe, write_recipe
from training.data import Splits, check_splits, scans_of
from training.distributed import process_group
from training.features import Place, embed_slices, knn_probability, middle
from training.metrics import area_under_roc, counts
from training.run_log import RunLog, make_run_folder
from training.sampling import epoch_order
from training.shards import ShardSet
from training.slices import SliceSet
from training.train_dino import DinoRecipe

SCHEMA = "heartlens.slice-classifier/1"
WEIGHTS, FEATURES, REPORT = "slice_classifier.pt", "features.npz", "slice_classifier.json"


@dataclass(frozen=True)
class SlicesRecipe:
    """One fit; the defaults are the paper's where it says something.

    Parameters
    ----------
    epochs : 10 in the paper; misses grow beyond
    learning_rate, weight_decay, batch : of AdamW; the rate falls to 0 by a cosine
    views : embeddings of each training slice; the first is the whole view, the others random crops, resized
    crop_sides : smallest and largest crop, as a share of the view's side
    cut_off : "youden" (sensitivity + specificity is largest) or "f1", on validation
    field_mm, size, window_hu : of the view
    neighbors : of the second opinion
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

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.views, self.neighbors) < 1:
            raise ValueError("epochs, batch, views and neighbors must be 1 or more")
        if not 0 < self.crop_sides[0] <= self.crop_sides[1] <= 1:
            raise ValueError(f"crop_sides must be shares of the view's side, ascending, got {self.crop_sides}")
        SliceView(self.field_mm, self.size, self.window_hu)

    @property
    def view(self) -> SliceView:
        return SliceView(self.field_mm, self.size, self.window_hu)


class Features(NamedTuple):
    """Frozen embeddings, and what their slices show.

    Parameters
    ----------
    training : (views, n, dim)
    training_labels : (views, n) bool; a crop may have lost the calcium of its slice
    validation, validation_labels : (m, dim), (m,)
    """

    training: NDArray[np.float32]
    training_labels: NDArray[np.bool_]
    validation: NDArray[np.float32]
    validation_labels: NDArray[np.bool_]


def fit_head(recipe: SlicesRecipe, features: Features, log: RunLog | None = None) -> nn.Linear:
    """The linear head; the same seed and features give the same head.

    Each class has half of the loss, however rare calcium is: p is as if every second slice were calcified.
    """
    known = torch.from_numpy(features.training)  # (views, slices, dim)
    labels = torch.from_numpy(features.training_labels).float()
    mean, spread = known[0].mean(0), known[0].std(0, correction=0).clamp_min(1e-6)
    share = labels.mean()
    weights = torch.where(labels > 0, 0.5 / share, 0.5 / (1 - share))
    head = nn.Linear(known.shape[-1], 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=recipe.weight_decay)
    starts = range(0, known.shape[1], recipe.batch)
    steps = recipe.epochs * len(starts)
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(epoch_order(known.shape[1], recipe.seed, epoch))
        view = epoch % recipe.views  # another crop of every slice in each epoch
        total = 0.0
        for n, start in enumerate(starts, start=epoch * len(starts)):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate * (1 + math.cos(math.pi * n / steps)) / 2
            chosen = order[start : start + recipe.batch]
            logits = head((known[view, chosen] - mean) / spread)[:, 0]
            loss = functional.binary_cross_entropy_with_logits(
                logits, labels[view, chosen], weight=weights[view, chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(chosen)
        if log is not None:
            p = head_probability(fold(head, mean, spread), features.validation)
            auc = area_under_roc(features.validation_labels, p)
            log.note(epoch + 1, loss=total / known.shape[1], validation_auc=auc)
            log.step(epoch + 1, known.shape[1])
    return fold(head, mean, spread)


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


def choose_cut_off(is_calcified: NDArray[np.bool_], probability: NDArray[np.float64], rule: str) -> float:
    """The cut-off that is best by a rule: at or above it a slice counts as calcified.

    It lies midway between two probabilities that occurred, so that rounding on another device moves no slice across;
    of equally good ones the lowest, because a missed slice loses calcium and a false one only costs time.

    Examples
    --------
    >>> choose_cut_off(np.array([False, False, True, True]), np.array([0.1, 0.3, 0.5, 0.9]), "youden")
    0.4
    """
    if rule not in ("youden", "f1"):
        raise ValueError(f"rule must be youden or f1, got {rule!r}")
    if is_calcified.all() or not is_calcified.any():
        raise Refused(
            "input", "validation needs slices with and without calcium to choose a cut-off; give it more patients"
        )
    values = np.unique(probability)
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2])
    found = probability >= candidates[:, None]  # (candidates, slices)
    hit = (found & is_calcified).sum(1)
    false = (found & ~is_calcified).sum(1)
    if rule == "youden":
        merit = hit / is_calcified.sum() - false / (~is_calcified).sum()
    else:
        merit = 2 * hit / (hit + false + is_calcified.sum())
    return float(candidates[np.flatnonzero(merit >= merit.max() - 1e-12)[0]])


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
    recipe: SlicesRecipe, backbone: Backbone, training: SliceSet, validation: SliceSet, device: torch.device
) -> Features:
    """Embed every slice of the labelled scans; minutes, where fitting takes seconds."""
    backbone.to(device).eval()
    how: dict[str, Any] = {"view": recipe.view, "device": device, "bf16": recipe.bf16}
    seen, labels = [], []
    for view in range(recipe.views):
        crops = [crops_of(recipe, training, n, view) for n in range(len(training))]
        places = [place for place, _ in crops]
        seen.append(embed_slices(backbone, training, np.arange(len(training)), place=places.__getitem__, **how))
        labels.append([is_calcified for _, is_calcified in crops])
    asked = embed_slices(backbone, validation, np.arange(len(validation)), **how)
    return Features(np.stack(seen), np.array(labels), asked, validation.is_calcified.copy())


def judge(is_calcified: NDArray[np.bool_], probability: NDArray[np.float64], cut_off: float) -> dict[str, Any]:
    """What a classifier does on validation slices."""
    found = counts(is_calcified, probability >= cut_off)
    return {
        "auc": area_under_roc(is_calcified, probability),
        "sensitivity": found.sensitivity,
        "specificity": found.specificity,
        "f1": found.f1,
        "confusion": {"tp": found.tp, "fp": found.fp, "fn": found.fn, "tn": found.tn},
    }


def train(recipe: SlicesRecipe, backbone: Backbone, features: Features, run: Path, log: RunLog) -> dict[str, Any]:
    """Fit, choose the cut-off, write weights and a report.

    Returns
    -------
    the report
    """
    labels = features.validation_labels
    head = fit_head(recipe, features, log)
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
        "validation": judge(labels, p, cut_off),
        "validation_knn": judge(labels, neighbors, 0.5),
    }
    classifier = SliceClassifier(backbone)
    classifier.head = head
    state = {name: tensor.cpu() for name, tensor in classifier.state_dict().items()}
    write_torch({**report, "state": state, "recipe": as_dict(recipe)}, run / WEIGHTS)
    with whole_file(run / REPORT) as sibling:
        sibling.write_text(json.dumps(report, indent=1) + "\n")
    return report


def load_classifier(path: Path) -> tuple[SliceClassifier, SliceView, float]:
    """A fitted classifier, how it looks at a slice, and its cut-off.

    Raises
    ------
    Refused : ``unreadable``
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}")
        classifier = SliceClassifier(Backbone(BackboneShape(**content["backbone"])))
        classifier.load_state_dict(content["state"])
        return classifier.eval(), SliceView.from_json(content["view"]), float(content["cut_off"])
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        told = " ".join(str(error).split())[:120]
        raise Refused("unreadable", f"{path}: expected a slice classifier ({SCHEMA}), found: {told}") from None


def load_teacher(run: Path) -> Backbone:
    """The teacher's backbone of the newest checkpoint of a pre-training run: what the paper's features are.

    Raises
    ------
    Refused : no such run, or it cannot be read
    """
    paths = sorted((run / "checkpoints").glob("step-*.pt"))
    if not paths:
        raise Refused("input", f"{run} holds no checkpoints; give the folder of a run of training.train_dino")
    recipe = load_recipe(DinoRecipe, run / "recipe.toml")
    state = read_checkpoint(paths[-1])["parts"].get("teacher", {})
    weights = {n.removeprefix("backbone."): t for n, t in state.items() if n.startswith("backbone.")}
    backbone = Backbone(BackboneShape.named(recipe.backbone))
    try:
        backbone.load_state_dict(weights)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise Refused("input", f"{paths[-1]} does not hold the backbone of its recipe: {told}") from None
    return backbone.requires_grad_(False)


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train_slices", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("recipe", type=Path, help="TOML file, see training/runs")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings that differ from the recipe")
    parser.add_argument("--backbone", type=Path, required=True, metavar="RUN", help="folder of the pre-training run")
    parser.add_argument("--shards", type=Path, nargs="+", required=True, action="extend")
    parser.add_argument("--splits", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    recipe = load_recipe(SlicesRecipe, options.recipe, options.changes)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    check_splits(shards, splits)
    training, validation = (SliceSet(shards, scans_of(shards, p)) for p in (splits.train, splits.validation))
    backbone = load_teacher(options.backbone)
    with process_group(options.device) as ranks:
        make_run_folder(options.out)
        write_recipe(recipe, options.out / "recipe.toml")
        identity = json.dumps(
            [fingerprint(recipe), training.identity(), validation.identity(), _checksum(backbone)], sort_keys=True
        )
        features = cached_features(options.out / FEATURES, identity)
        if features is None:
            features = read_features(recipe, backbone, training, validation, ranks.device)
            save_features(options.out / FEATURES, identity, features)
        with RunLog(options.out, ranks, "train_slices", recipe.epochs) as log:
            report = train(recipe, backbone, features, options.out, log)
    v = report["validation"]
    print(f"validation: sensitivity {v['sensitivity']:.3f}, specificity {v['specificity']:.3f}, AUC {v['auc']:.3f}")
    print(f"neighbors:  AUC {report['validation_knn']['auc']:.3f}")
    print(f"Run: {options.out}")
    return DONE


def cached_features(path: Path, identity: str) -> Features | None:
    """Embeddings of an earlier start of this run; None when there are none or something has changed."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["identity"]) != identity:
                return None
            return Features(*(file[name] for name in Features._fields))
    except (OSError, ValueError, KeyError, EOFError):
        return None


def save_features(path: Path, identity: str, features: Features) -> None:
    """Keep embeddings for the next start."""
    with whole_file(path) as sibling, open(sibling, "wb") as file:
        np.savez(file, identity=np.array(identity), **features._asdict())


def _checksum(backbone: Backbone) -> float:
    """Changes with any weight; the same on every machine."""
    return math.fsum(float(p.double().abs().sum()) * n for n, p in enumerate(backbone.parameters(), start=1))


if __name__ == "__main__":
    sys.exit(main())
