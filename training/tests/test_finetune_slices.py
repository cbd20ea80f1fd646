"""Tuning end to end: it learns what frozen features do not know, resumes bit for bit, and says both numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from needed import torch
from schematic_chest import schematic_chest
from seen_steps import gradient_lengths

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.view import classifier_view
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.splits import Splits
from training.engine.checkpoint import read_checkpoint
from training.engine.config import load_recipe
from training.engine.distributed import Ranks
from training.engine.run_log import read_log
from training.finetune_slices import main
from training.slice_classifier.candidates import evaluate_candidates
from training.slice_classifier.finetune import TuneRecipe, draw_lesson, tune
from training.slice_classifier.finetune import probabilities as real_probabilities
from training.slice_classifier.linear_probe import Features, SlicesRecipe
from training.slice_classifier.linear_probe import train_linear_head as fit_frozen
from training.slice_classifier.weights import load_classifier

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]

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


def test_the_weights_of_the_largest_validation_auc_are_kept_also_across_a_resumption(data, tmp_path, monkeypatch):
    auc = {5: 0.6, 10: 0.9, 15: 0.7, 20: 0.9}
    seen: dict[int, dict] = {}

    def recorded(classifier, *rest):
        seen[5 * (len(seen) + 1)] = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
        return real_probabilities(classifier, *rest)

    def scripted(*arguments):
        return {**evaluate_candidates(*arguments), "auc": auc[5 * len(seen)]}

    monkeypatch.setattr("training.slice_classifier.finetune.probabilities", recorded)
    monkeypatch.setattr("training.slice_classifier.finetune.evaluate_candidates", scripted)
    assert run(data, tmp_path / "run", "validate_every=5", until=12) is None
    report = run(data, tmp_path / "run", "validate_every=5")
    assert (report["step"], report["validation"]["auc"]) == (10, 0.9)
    kept = load_classifier(tmp_path / "run" / "slice_classifier.pt")[0].state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in seen[10].items())
    assert not all(torch.equal(kept[name], tensor) for name, tensor in seen[20].items())


def test_no_step_is_made_by_a_gradient_longer_than_the_limit(data, tmp_path):
    with gradient_lengths() as lengths:
        run(data, tmp_path / "run", "steps=4", "clip=0.1", "log_every=1")
    assert max(metrics.get("gradient", 0) for metrics in read_log(tmp_path / "run").values()) > 0.2
    assert len(lengths) == 4
    assert max(lengths) <= 0.1 * (1 + 1e-4)


def test_processes_draw_together_what_one_draws(data):
    _, training, _, _ = data
    recipe = load_recipe(TuneRecipe, None, TINY)
    _, view, _ = load_classifier(data[0] / "frozen" / "slice_classifier.pt")
    numbers = [1, 3, 4, 7, 10, 12]
    whole = draw_lesson(recipe, view, 8, training, numbers, 2, Ranks())
    for rank in (0, 1):
        share = draw_lesson(recipe, view, 8, training, numbers, 2, Ranks(rank, 2))
        torch.testing.assert_close(share.views, whole.views[rank::2], rtol=0, atol=1e-6)
        assert torch.equal(share.patches, whole.patches[rank::2])
        assert torch.equal(share.is_calcified, whole.is_calcified[rank::2])
    assert 0 < whole.is_calcified.sum() < 6


def chest(number: int) -> LabeledScan:
    """A chest with four spots at four heights in the heart; by the labels, two of them are coronary."""
    places = [(20 - 9 * n, -20 + 2 * number, -30 - 9 * n, 3.5, 450 + 10 * n) for n in range(4)]
    ct = schematic_chest(add=tuple(places))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in ct.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    bright = np.flatnonzero(ct.hu.reshape(-1) >= 130)
    at = ct.lps_mm(index[bright])
    labels = np.zeros(ct.hu.size, np.uint8)
    for x, y, z, radius, _ in places[::2]:
        labels[bright[np.linalg.norm(at - (x, y, z), axis=1) < radius + 1]] = 2
    return LabeledScan(f"chest/{number}", f"person-{number}", "phantom", ct, labels.reshape(ct.shape))


def test_two_processes_tune_as_one_and_one_of_them_writes(data, tmp_path, monkeypatch):
    """Through torchrun, over gloo; validation has more candidates than fill a batch, so that both look at some.

    Adam blows rounding up to the learning rate: the rate is kept small, the bound is the 1e-6 of the method.
    """
    write_shards(tmp_path / "shards", (chest(n) for n in range(5)))
    patients = [f"person-{n}" for n in range(5)]
    Splits(tuple(patients[:2]), tuple(patients[2:4]), (patients[4],)).save(tmp_path / "splits.json")
    (tmp_path / "empty.toml").write_text("")
    changes = [*TINY, "steps=4", "validate_every=2", "learning_rate=1e-4", "log_every=1"]
    (tmp_path / "small.py").write_text(
        "import sys, training.finetune_slices as command, training.slice_classifier.finetune as library; "
        "library.VALIDATION_BATCH = 3; sys.exit(command.main(sys.argv[1:]))"
    )
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    words = [
        str(tmp_path / "empty.toml"), *changes, "--from", str(data[0] / "frozen"), "--shards", str(tmp_path / "shards"),
        "--splits", str(tmp_path / "splits.json"), "--device", "cpu", "--out",
    ]  # fmt: skip
    monkeypatch.setattr("training.slice_classifier.finetune.VALIDATION_BATCH", 3)
    assert main([*words, str(tmp_path / "one")]) == 0
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    command = [sys.executable, *launcher, str(tmp_path / "small.py"), *words, str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout.count("validation, slices with candidates") == 1  # one process speaks
    one, two = (
        read_checkpoint(tmp_path / name / "checkpoints" / "step-000000004.pt")["parts"]["network"]
        for name in ("one", "two")
    )
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
    logs = [read_log(tmp_path / name) for name in ("one", "two")]
    for step in range(1, 5):
        for figure in ("slice_loss", "patch_loss", "gradient"):
            assert logs[0][step][figure] == pytest.approx(logs[1][step][figure], rel=1e-5)
    reports = [json.loads((tmp_path / name / "slice_classifier.json").read_text()) for name in ("one", "two")]
    assert reports[0]["validation"]["confusion"] == reports[1]["validation"]["confusion"]
    assert reports[0]["cut_off"] == pytest.approx(reports[1]["cut_off"], abs=1e-6)
    confusion = reports[0]["validation"]["confusion"]
    assert min(confusion["tp"] + confusion["fn"], confusion["fp"] + confusion["tn"]) > 3  # more than a batch
    assert not list((tmp_path / "two").rglob(".*"))
