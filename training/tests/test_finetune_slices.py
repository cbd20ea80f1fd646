"""Tuning end to end: it learns what frozen features do not know, resumes bit for bit, and says both numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from needed import torch

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.view import classifier_view
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.engine.checkpoint import read_checkpoint
from training.engine.config import load_recipe
from training.engine.distributed import Ranks
from training.slice_classifier.finetune import TuneRecipe, draw_lesson, evaluate_candidates, tune
from training.slice_classifier.linear_probe import Features, SlicesRecipe
from training.slice_classifier.linear_probe import train_linear_head as fit_frozen
from training.slice_classifier.weights import load_classifier

pytestmark = pytest.mark.slow

TINY = [
    "steps=20",
    "batch=4",
    "learning_rate=3e-3",
    "warmup_steps=2",
    "validate_every=10",
    "save_every=10",
    "bf16=false",
]


def scan(number: int) -> LabeledScan:
    """Six slices of 160 mm; calcium, large and bright, on two of them."""
    rng = np.random.default_rng(number)
    hu = rng.integers(-100, 100, (6, 40, 40)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    for k in (1, 4):
        row, column = rng.integers(12, 22, 2)
        hu[k, row : row + 6, column : column + 6] = 900
        labels[k, row : row + 6, column : column + 6] = 4
    return LabeledScan(f"made/{number}", f"p-{number}", "phantom", CTVolume(hu, np.diag([4.0, 4.0, 3.0, 1.0])), labels)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training slices, validation slices, which of those are asked, and a fit on frozen features that knows nothing."""
    folder = tmp_path_factory.mktemp("tune")
    shards = write_shards(folder / "shards", (scan(n) for n in range(6)))
    training, validation = (SliceSet(shards, part) for part in (range(4), range(4, 6)))
    torch.manual_seed(0)
    backbone = Backbone(BackboneShape.named("vit_mini_patch8_32"))
    (folder / "frozen").mkdir()
    blank = np.zeros((1, 24, 96), np.float32)
    features = Features(blank, training.is_calcified[None], blank[0, :12], validation.is_calcified)
    fit_frozen(
        SlicesRecipe(size=32, field_mm=150.0, views=1, epochs=1, neighbors=1), backbone, features, folder / "frozen"
    )
    return folder, training, validation, np.ones(len(validation), bool)


def run(data, out: Path, *changes: str, until: int | None = None):
    out.mkdir(exist_ok=True)
    folder, training, validation, candidate_slices = data
    recipe = load_recipe(TuneRecipe, None, [*TINY, *changes])
    return tune(
        recipe, folder / "frozen" / "slice_classifier.pt", training, validation, candidate_slices, out, until=until
    )


def test_it_learns_and_keeps_the_frozen_figures_beside_its_own(data, tmp_path):
    report = run(data, tmp_path / "run", "steps=60", "validate_every=20")
    assert report["validation"]["auc"] > 0.95
    assert report["validation_frozen"]["auc"] == pytest.approx(0.5)
    classifier, view, cut_off = load_classifier(tmp_path / "run" / "slice_classifier.pt")
    assert view.field_mm == 150.0
    assert cut_off == report["validation"]["cut_off"]
    assert not any("patch_head" in name for name in classifier.state_dict())


def test_twenty_steps_equal_ten_a_resumption_and_ten(data, tmp_path):
    run(data, tmp_path / "whole")
    assert run(data, tmp_path / "halves", until=10) is None
    run(data, tmp_path / "halves")
    one, other = (
        read_checkpoint(tmp_path / name / "checkpoints" / "step-000000020.pt")["parts"]["network"]
        for name in ("whole", "halves")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_patches_are_calcified_where_the_calcium_is(data):
    _, training, _, _ = data
    number = int(np.flatnonzero(training.is_calcified)[0])
    recipe = load_recipe(TuneRecipe, None, [*TINY, "shift_mm=0", "zoom=0", "noise_hu=0", "offset_hu=0"])
    _, view, _ = load_classifier(data[0] / "frozen" / "slice_classifier.pt")
    lesson = draw_lesson(recipe, view, 8, training, [number], 0, Ranks())
    patches = lesson.patches.reshape(4, 4).numpy() > 0
    bright = lesson.views[0, 0].unfold(0, 8, 8).unfold(1, 8, 8).amax((2, 3)).numpy() > 0.99
    assert lesson.is_calcified.item() == 1
    assert patches.any()
    assert (patches | ~bright).all()  # every patch as bright as the calcium is one of its patches


def test_a_view_that_misses_the_calcium_is_not_calcified(data):
    _, training, _, _ = data
    _, view, _ = load_classifier(data[0] / "frozen" / "slice_classifier.pt")
    recipe = load_recipe(TuneRecipe, None, [*TINY, "shift_mm=0", "zoom=0", "noise_hu=0", "offset_hu=0"])
    narrow = classifier_view(16.0, 32, view.window_hu)  # 72 to 88 mm in both directions
    for number in np.flatnonzero(training.is_calcified).tolist():
        boxes = training.boxes_mm(number)
        meets = bool(((boxes[:, :2] < 88) & (boxes[:, 2:] > 72)).all(axis=1).any())
        assert bool(draw_lesson(recipe, narrow, 8, training, [number], 0, Ranks()).is_calcified.item()) == meets


def test_the_cut_off_is_the_highest_that_reaches_the_sensitivity_and_unasked_slices_count_as_negative():
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0], bool)
    candidate_slices = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0], bool)
    p = np.array([0.9, 0.8, 0.7, 0.2, 0.75, 0.3, 0.1, 0.05, 0.0, 0.0])
    evaluation = evaluate_candidates(truth, candidate_slices, p, 0.75)
    assert evaluation["cut_off"] == pytest.approx(0.5)  # between 0.7, the third of four, and 0.3
    assert evaluation["confusion"] == {"tp": 3, "fp": 1, "fn": 1, "tn": 3}
    assert evaluation["all_slices"] == {"sensitivity": 3 / 5, "specificity": 4 / 5}


def test_a_run_goes_on_only_with_the_slices_that_it_began_with(data, tmp_path):
    run(data, tmp_path / "run", until=10)
    folder, _, validation, candidate_slices = data
    other = SliceSet(ShardSet.open(folder / "shards"), range(3))
    recipe = load_recipe(TuneRecipe, None, TINY)
    with pytest.raises(InputRefused, match="other slices"):
        tune(recipe, folder / "frozen" / "slice_classifier.pt", other, validation, candidate_slices, tmp_path / "run")


def test_the_report_is_the_one_in_the_run(data, tmp_path):
    report = run(data, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "slice_classifier.json").read_text()) == report
