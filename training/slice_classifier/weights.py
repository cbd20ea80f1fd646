"""The files of a slice classifier: how they are read, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.networks.view import NetworkView
from training.dino.recipe import DinoRecipe
from training.engine.checkpoint import read_checkpoint
from training.engine.config import load_recipe
from training.metrics.classification import area_under_roc, counts

SCHEMA = "heartlens.slice-classifier/1"


WEIGHTS = "slice_classifier.pt"


REPORT = "slice_classifier.json"


def evaluate_probabilities(
    is_calcified: NDArray[np.bool_], probability: NDArray[np.float64], cut_off: float
) -> dict[str, Any]:
    """What a classifier does on validation slices."""
    confusion = counts(is_calcified, probability >= cut_off)
    return {
        "auc": area_under_roc(is_calcified, probability),
        "sensitivity": confusion.sensitivity,
        "specificity": confusion.specificity,
        "f1": confusion.f1,
        "confusion": {"tp": confusion.tp, "fp": confusion.fp, "fn": confusion.fn, "tn": confusion.tn},
    }


def load_classifier(path: Path) -> tuple[SliceClassifier, NetworkView, float]:
    """A fitted classifier, how it looks at a slice, and its cut-off.

    Raises
    ------
    InputRefused
        ``unreadable``
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}")
        classifier = SliceClassifier(Backbone(BackboneShape(**content["backbone"])))
        classifier.load_state_dict(content["state"])
        return classifier.eval(), NetworkView.from_json(content["view"]), float(content["cut_off"])
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        error_text = " ".join(str(error).split())[:120]
        raise InputRefused(
            "unreadable", f"{path}: expected a slice classifier ({SCHEMA}), found: {error_text}"
        ) from None


def load_teacher(run: Path) -> Backbone:
    """The teacher's backbone of the newest checkpoint of a pre-training run: what the paper's features are.

    Raises
    ------
    InputRefused
        No such run, or it cannot be read.
    """
    paths = sorted((run / "checkpoints").glob("step-*.pt"))
    if not paths:
        raise InputRefused("input", f"{run} holds no checkpoints; give the folder of a run of training.train_dino")
    recipe = load_recipe(DinoRecipe, run / "recipe.toml")
    state = read_checkpoint(paths[-1])["parts"].get("teacher", {})
    weights = {n.removeprefix("backbone."): t for n, t in state.items() if n.startswith("backbone.")}
    backbone = Backbone(BackboneShape.named(recipe.backbone))
    try:
        backbone.load_state_dict(weights)
    except RuntimeError as error:
        error_text = " ".join(str(error).split())[:200]
        raise InputRefused("input", f"{paths[-1]} does not hold the backbone of its recipe: {error_text}") from None
    return backbone.requires_grad_(False)
