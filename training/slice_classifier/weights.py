"""The files of a slice classifier: how they are read, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heartlens.core.errors import Refused
from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.networks.slice_input import SliceView
from training.dino.recipe import DinoRecipe
from training.engine.checkpoint import read_checkpoint
from training.engine.config import load_recipe
from training.metrics.classification import area_under_roc, counts

SCHEMA = "heartlens.slice-classifier/1"


WEIGHTS = "slice_classifier.pt"


REPORT = "slice_classifier.json"


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


def load_classifier(path: Path) -> tuple[SliceClassifier, SliceView, float]:
    """A fitted classifier, how it looks at a slice, and its cut-off.

    Raises
    ------
    Refused
        ``unreadable``
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
    Refused
        No such run, or it cannot be read.
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
