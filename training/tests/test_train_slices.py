"""The slice classifier: how a slice is laid out, frozen features, head, cut-off, neighbors, attention."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needed import torch

from heartlens.anatomy import heart_region
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.inference import classify_slices
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.networks.view import NetworkView, classifier_view
from heartlens.phantom import PhantomParameters, make_phantom
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.splits import Splits
from training.dino.attention import attention_map, attention_of_slices
from training.dino.features import crop_batch, embed_slices, knn_probability, middle
from training.dino.recipe import DinoRecipe
from training.dino.training import pretrain_backbone as pretrain
from training.engine.checkpoint import read_checkpoint
from training.engine.config import load_recipe, write_recipe
from training.engine.monitor import TrainingFailed
from training.engine.run_log import read_log
from training.evaluation.side_by_side import compare_backbones
from training.metrics.classification import counts
from training.metrics.cutoff import choose_cut_off
from training.slice_classifier.linear_probe import (
    Features,
    SlicesRecipe,
    crops_of,
    fit_head,
    fold,
    head_probability,
    read_features,
    train_linear_head,
)
from training.slice_classifier.weights import load_classifier, load_teacher
from training.train_slices import main

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SHAPE = BackboneShape.named("vit_mini_patch8_32")
TINY = SlicesRecipe(size=32, views=2)
REPOSITORY = Path(__file__).resolve().parents[2]
RUNS = REPOSITORY / "training" / "runs"


def scan(number: int) -> LabeledScan:
    """Six slices of 160 mm; calcium, large and bright, on two of them."""
    rng = np.random.default_rng(number)
    hu = rng.integers(-100, 100, (6, 40, 40)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    for k in (1, 4):
        row, column = rng.integers(8, 26, 2)
        hu[k, row : row + 6, column : column + 6] = 900
        labels[k, row : row + 6, column : column + 6] = 4
    ct = CTVolume(hu, np.diag([4.0, 4.0, 3.0, 1.0]))
    return LabeledScan(f"made/{number}", f"patient-{number}", "phantom", ct, labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Shards and splits of seven scans."""
    folder = tmp_path_factory.mktemp("slices")
    write_shards(folder / "shards", (scan(n) for n in range(7)))
    patients = [f"patient-{n}" for n in range(7)]
    Splits(tuple(patients[:4]), tuple(patients[4:6]), (patients[6],)).save(folder / "splits.json")
    return folder


@pytest.fixture
def slices(folder) -> SliceSet:
    return SliceSet(ShardSet.open(folder / "shards"), range(4))


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Backbone(SHAPE).eval()


def gaussian_features(n: int = 400, dim: int = 6, share: float = 0.15) -> Features:
    """Two clouds that overlap a little; rare positives."""
    rng = np.random.default_rng(0)
    labels = rng.random((2, n)) < share
    clouds = rng.normal(size=(2, n, dim)).astype(np.float32) * np.array([1, 10, 1, 1, 1, 1], np.float32)
    clouds[labels, 0] += 3
    return Features(clouds, labels, clouds[1].copy(), labels[1].copy())


# The view


@given(st.floats(0.4, 3), st.floats(0.4, 3), st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_the_view_of_inference_is_the_view_of_training(row_mm, column_mm, seed):
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1000, 1000, (50, 60)).astype(np.int16)
    view = classifier_view(70, 32)
    center, side = middle_of(hu, row_mm, column_mm), torch.tensor([[70.0, 70.0]])
    crop = crop_batch(torch.from_numpy(hu)[None], torch.tensor([[row_mm, column_mm]]), view, center, side)[0, 0]
    np.testing.assert_allclose(view.render_slice(hu, (row_mm, column_mm)), crop, atol=2e-4)


def test_a_view_around_the_heart_is_the_same_in_training_and_in_use(tmp_path, backbone):
    parameters = PhantomParameters.random(
        3, matrix=64, pixel_mm=5.5, field_of_view="chest", slice_thickness_mm=10.0, increment_mm=10.0, traps=()
    )
    ct = make_phantom(parameters).ct
    shards = write_shards(tmp_path / "s", [LabeledScan("p", "p", "phantom", ct, np.zeros(ct.shape, np.uint8))])
    region, view = heart_region(ct), classifier_view(120, 32, center="heart")
    slices = SliceSet(shards, [0])
    height_mm, width_mm = slices.extent_mm(0)
    assert np.abs(np.subtract(slices.heart_mm(0), (height_mm / 2, width_mm / 2))).max() > 5  # not where it would be
    classifier = SliceClassifier(backbone)
    numbers = np.arange(len(slices))
    expected = head_probability(classifier.head, embed_slices(backbone, slices, numbers, view, device=CPU))

    def network(image):
        with torch.no_grad():
            return classifier(torch.from_numpy(image)).numpy()

    probability = classify_slices(ct, region, network, view, np.ones(len(slices), bool))
    np.testing.assert_allclose(probability, expected, atol=2e-3)
    assert np.ptp(expected) > 0.01


def test_hearts_that_were_found_are_taken(slices):
    voxels = slices.shards.scans[0].voxels_sha256
    known = SliceSet(slices.shards, [0], {voxels: [10.0, 20.0, 0.0, 6.0]})
    assert known.heart_mm(3) == (42.0, 82.0)  # pixels of 4 mm, from the corner of the first
    assert middle(known, 3, classifier_view(100, 32, center="heart")).center_mm == (42.0, 82.0)


def middle_of(hu, row_mm, column_mm):
    return torch.tensor([[hu.shape[0] * row_mm / 2, hu.shape[1] * column_mm / 2]], dtype=torch.float64)


def test_a_view_shows_the_same_mm_of_scans_with_other_pixels():
    """A disc of 20 mm fills the same part of the view, whatever the pixels."""
    view = classifier_view(64, 64, window_hu=(0, 1000))
    areas = []
    for spacing in (0.5, 0.8):
        place = (np.arange(round(100 / spacing)) + 0.5) * spacing - 50
        disc = np.where(place[:, None] ** 2 + place**2 < 10**2, 1000.0, 0.0)
        areas.append(((view.render_slice(disc, (spacing, spacing)) + 1) / 2).sum())
    assert areas == pytest.approx([np.pi * 100] * 2, rel=0.01)


def test_a_view_can_look_elsewhere_and_travels_as_json():
    hu = np.zeros((20, 20))
    hu[2, 15] = 500
    view = classifier_view(8, 8, window_hu=(0, 1000))
    rendered = view.render_slice(hu, (1, 1), center_mm=(3, 16))
    assert np.unravel_index(rendered.argmax(), rendered.shape) == (3, 3)
    assert NetworkView.from_json(json.loads(json.dumps(view.to_json()))) == view


def test_embeddings_do_not_depend_on_the_batch(slices, backbone):
    view = classifier_view(200, 32)
    one, other = (embed_slices(backbone, slices, range(10), view, device=CPU, batch=b) for b in (3, 10))
    assert one.shape == (10, 96)
    np.testing.assert_allclose(one, other, atol=1e-5)


# Neighbors


def test_a_neighbor_of_rare_calcium_counts_for_more():
    known = np.array([[1, 0], [0.9, 0.1], [0.9, -0.1], [-1, 0]], np.float32)
    labels = np.array([True, False, False, False])
    assert knn_probability(known, labels, np.array([[1, 0]], np.float32), neighbors=3)[0] > 0.5
    assert knn_probability(known, labels, np.array([[-1, 0]], np.float32), neighbors=1)[0] == 0


def test_length_of_an_embedding_does_not_matter_to_its_neighbors():
    rng = np.random.default_rng(0)
    known, queries = (rng.normal(size=(n, 4)).astype(np.float32) for n in (30, 5))
    labels = rng.random(30) < 0.3
    one, other = knn_probability(known, labels, queries), knn_probability(7 * known, labels, 3 * queries)
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_neighbors_of_one_class_say_that_class():
    known = np.eye(3, dtype=np.float32)
    assert knn_probability(known, np.ones(3, bool), known).tolist() == [1, 1, 1]


# Head and cut-off


def test_the_head_finds_rare_calcium_that_features_show():
    features = gaussian_features()
    p = head_probability(fit_head(SlicesRecipe(views=2, batch=32), features), features.validation)
    labels = features.validation_labels
    assert ((p > 0.5) == labels)[labels].mean() > 0.85  # balanced: not drowned by the 85 % without
    assert ((p > 0.5) == labels)[~labels].mean() > 0.85


def test_the_same_features_give_the_same_head():
    recipe = SlicesRecipe(views=2)
    one, other = (fit_head(recipe, gaussian_features()) for _ in range(2))
    assert torch.equal(one.weight, other.weight)


def test_folding_the_standardization_changes_no_probability():
    head, x = torch.nn.Linear(6, 1), torch.randn(50, 6) * 10 + 3
    mean, spread = x.mean(0), x.std(0)
    torch.testing.assert_close(fold(head, mean, spread)(x), head((x - mean) / spread), rtol=1e-4, atol=1e-5)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=40))
@settings(deadline=None)
def test_no_other_cut_off_is_better(labeled_values):
    labels = np.array([label for label, _ in labeled_values])
    if labels.all() or not labels.any():
        return
    p = np.array([value / 20 for _, value in labeled_values])

    def youden(cut_off):
        return (p[labels] >= cut_off).mean() - (p[~labels] >= cut_off).mean()

    chosen = choose_cut_off(labels, p, "youden")
    assert youden(chosen) >= max(youden(c) for c in np.linspace(-0.01, 1.01, 200)) - 1e-9
    assert not np.isclose(p[p > 0], chosen).any()  # midway: rounding moves nothing across


def test_of_equal_cut_offs_the_lowest_is_taken():
    assert choose_cut_off(np.array([False, True]), np.array([0.2, 0.8]), "f1") == 0.5
    # Sensitivity + specificity - 1 is one half at 0.3 (both found, one false) and at 0.7 (one found, none false).
    probability = np.array([0.2, 0.4, 0.6, 0.8])
    assert choose_cut_off(np.array([False, True, False, True]), probability, "youden") == pytest.approx(0.3)


def test_without_both_kinds_of_slices_no_cut_off_is_chosen():
    with pytest.raises(InputRefused, match="give it more patients"):
        choose_cut_off(np.zeros(3, bool), np.array([0.1, 0.2, 0.3]), "youden")


def test_a_crop_that_lost_the_calcium_is_not_called_calcified(slices):
    recipe = replace(TINY, field_mm=160.0, crop_sides=(0.3, 0.5))
    number = int(np.flatnonzero(slices.is_calcified)[0])
    (box,) = slices.boxes_mm(number)
    center = (box[:2] + box[2:]) / 2
    crops = [crops_of(recipe, slices, number, view) for view in range(40)]
    assert crops[0] == (middle(slices, number, recipe.view), True)
    for place, is_calcified in crops:
        assert is_calcified == bool((np.abs(center - place.center_mm) <= np.array(place.side_mm) / 2).all())
    assert {is_calcified for _, is_calcified in crops} == {True, False}


# The command


@pytest.fixture(scope="module")
def dino_run(folder, tmp_path_factory) -> Path:
    recipe = DinoRecipe(
        backbone="vit_mini_patch8_32", hidden=16, bottleneck=8, prototypes=12, steps=2, batch=8, bf16=False
    )
    recipe = replace(recipe, augment=replace(recipe.augment, global_size=32, local_size=16, random_local_crops=1))
    run = tmp_path_factory.mktemp("dino-run")
    pretrain(recipe, SliceSet(ShardSet.open(folder / "shards"), range(4)), run)
    return run


def test_the_command_fits_chooses_and_saves(tmp_path, folder, dino_run, capsys):
    write_recipe(TINY, tmp_path / "recipe.toml")
    words = [str(tmp_path / "recipe.toml"), "--backbone", str(dino_run), "--shards", str(folder / "shards")]
    words += ["--splits", str(folder / "splits.json"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main(words) == 0
    report = json.loads((tmp_path / "run" / "slice_classifier.json").read_text())
    assert report["slices"] == {"training": 24, "validation": 12}
    assert report["calcified"] == {"training": 8, "validation": 4}
    kept = sorted((tmp_path / "run" / "features").iterdir())
    assert [path.name for path in kept] == ["validation.npz", "view-0.npz", "view-1.npz"]
    before = [path.stat().st_mtime_ns for path in kept]
    kept[1].write_bytes(b"cut short")
    assert main(words) == 0  # what is whole is taken, the rest is embedded again
    after = [path.stat().st_mtime_ns for path in kept]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]
    assert main([words[0], "seed=3", *words[1:]]) == 3
    assert "another recipe (setting: in the checkpoint, now): seed: 0, 3" in capsys.readouterr().err
    assert load_recipe(SlicesRecipe, tmp_path / "run" / "recipe.toml").seed == 0  # the run's own is left


def test_two_processes_embed_fit_and_choose_as_one(tmp_path, folder, dino_run, monkeypatch):
    """Through torchrun, over gloo; 24 slices in batches of 8 give both processes something to embed."""
    write_recipe(replace(TINY, epochs=3), tmp_path / "recipe.toml")
    words = [str(tmp_path / "recipe.toml"), "--backbone", str(dino_run), "--shards", str(folder / "shards")]
    words += ["--splits", str(folder / "splits.json"), "--device", "cpu", "--out"]
    monkeypatch.setattr("training.slice_classifier.linear_probe.EMBEDDING_BATCH", 8)
    assert main([*words, str(tmp_path / "one")]) == 0
    small = (
        "import sys, training.train_slices as t, training.slice_classifier.linear_probe as p; "
        "p.EMBEDDING_BATCH = 8; sys.exit(t.main(sys.argv[1:]))"
    )
    (tmp_path / "small.py").write_text(small)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(tmp_path / "small.py"),
        *words, str(tmp_path / "two"),
    ]  # fmt: skip
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    for _ in range(2):  # the second start finds everything done
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-6000:]
        assert done.stdout.count("validation: sensitivity") == 1  # one process speaks
    for name in ("view-0", "view-1", "validation"):
        one, two = (np.load(tmp_path / run / "features" / f"{name}.npz")["embeddings"] for run in ("one", "two"))
        assert (one != 0).any(axis=1).all()
        np.testing.assert_allclose(one, two, atol=1e-6)
    heads = [read_checkpoint(tmp_path / run / "checkpoints" / "step-000000003.pt")["parts"]["head"]
             for run in ("one", "two")]  # fmt: skip
    assert all((heads[0][name] - heads[1][name]).abs().max() < 1e-6 for name in heads[0])
    one, two = (json.loads((tmp_path / run / "slice_classifier.json").read_text()) for run in ("one", "two"))
    assert one.pop("cut_off") == pytest.approx(two.pop("cut_off"), abs=1e-6)
    assert one == two
    assert not list((tmp_path / "two").rglob(".*"))


def test_20_epochs_are_10_and_a_resume_and_10_bit_for_bit(tmp_path, backbone):
    """One step an epoch; the features are given, as the command takes them from the run's folder."""
    recipe = SlicesRecipe(epochs=20, views=2, batch=400)
    assert train_linear_head(recipe, backbone, gaussian_features(), tmp_path / "straight")
    assert train_linear_head(recipe, backbone, gaussian_features(), tmp_path / "halves", until=10) is None
    assert not (tmp_path / "halves" / "slice_classifier.pt").exists()
    assert train_linear_head(recipe, backbone, gaussian_features(), tmp_path / "halves")
    straight, halves = (read_checkpoint(tmp_path / n / "checkpoints" / "step-000000020.pt")["parts"]
                        for n in ("straight", "halves"))  # fmt: skip
    assert all(torch.equal(straight["head"][name], halves["head"][name]) for name in straight["head"])
    for n, state in straight["optimizer"]["state"].items():
        assert all(torch.equal(value, halves["optimizer"]["state"][n][key]) for key, value in state.items())
    reports = [(tmp_path / n / "slice_classifier.json").read_text() for n in ("straight", "halves")]
    assert reports[0] == reports[1]
    logs = [read_log(tmp_path / n) for n in ("straight", "halves")]
    assert logs[0] == logs[1]
    assert sorted(logs[0]) == list(range(1, 21))


def test_a_fit_is_not_continued_on_other_features(tmp_path, backbone):
    recipe, features = SlicesRecipe(epochs=4, views=2), gaussian_features()
    train_linear_head(recipe, backbone, features, tmp_path, until=2)
    other = features._replace(validation=features.validation + 1)
    with pytest.raises(InputRefused, match="begun with another backbone or other slices"):
        train_linear_head(recipe, backbone, other, tmp_path)


def test_embeddings_that_are_not_finite_end_the_run_and_name_the_slices(tmp_path, slices):
    """A slice of many: the head would learn from it and say nothing of any slice, with a cut-off that is no number."""

    class Broken(Backbone):
        def forward(self, x):
            return torch.where((torch.arange(len(x)) == 3)[:, None], torch.nan, super().forward(x))

    broken = Broken(SHAPE).requires_grad_(False)
    with pytest.raises(TrainingFailed, match=r"view-0: .* 1 of 24 slices are not finite \(first made/0 slice 3\)"):
        read_features(TINY, broken, slices, slices, CPU, tmp_path)
    assert list(tmp_path.iterdir()) == []  # what is not finite is not kept


def test_a_fit_that_diverges_ends_and_leaves_no_classifier(tmp_path, backbone):
    recipe = SlicesRecipe(views=2, learning_rate=1e37)
    with pytest.raises(TrainingFailed, match=r"epoch \d: the loss is not finite; lower the learning rate"):
        train_linear_head(recipe, backbone, gaussian_features(), tmp_path)
    assert not (tmp_path / "slice_classifier.pt").exists()


def test_a_loaded_classifier_gives_the_probabilities_that_were_judged(tmp_path, folder, dino_run):
    shards = ShardSet.open(folder / "shards")
    validation = SliceSet(shards, [4, 5])
    backbone = load_teacher(dino_run).eval()
    view = TINY.view
    embeddings = embed_slices(backbone, validation, range(12), view, device=CPU)
    features = Features(embeddings[None], validation.is_calcified[None], embeddings, validation.is_calcified)
    report = train_linear_head(replace(TINY, views=1), backbone, features, tmp_path)
    classifier, loaded_view, cut_off = load_classifier(tmp_path / "slice_classifier.pt")
    assert (loaded_view, cut_off) == (view, report["cut_off"])
    for n in range(12):
        hu = np.array(shards.image(4 + n // 6)[n % 6])
        with torch.no_grad():
            p = classifier(torch.from_numpy(loaded_view.render_slice(hu, (4.0, 4.0)))[None, None])
        expected = head_probability(classifier.head, embeddings[n : n + 1])
        assert p.item() == pytest.approx(expected[0], abs=1e-4)


def test_a_damaged_classifier_and_a_missing_run_are_refused(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"no weights")
    with pytest.raises(InputRefused, match="expected a slice classifier"):
        load_classifier(tmp_path / "x.pt")
    with pytest.raises(InputRefused, match="holds no checkpoints"):
        load_teacher(tmp_path)


@pytest.mark.parametrize(
    "path", sorted(set(RUNS.glob("*slices*.toml")) - {RUNS / "fourth-slices.toml"}), ids=lambda p: p.stem
)
def test_every_recipe_fits_ten_epochs_as_the_paper(path):
    """The third bundle's recipe is one of `finetune_slices`, and has steps."""
    assert load_recipe(SlicesRecipe, path).epochs == 10


def test_an_exported_graph_takes_any_number_of_slices(backbone):
    classifier = SliceClassifier(backbone.fix_size(32))
    graph = torch.export.export(
        classifier.eval(), (torch.zeros(2, 1, 32, 32),), dynamic_shapes=({0: torch.export.Dim("slices", min=1)},)
    )
    view = torch.randn(5, 1, 32, 32)
    torch.testing.assert_close(graph.module()(view), classifier(view))


# Attention


def test_attention_is_a_map_over_the_slice_and_says_how_much_is_on_calcium(slices, backbone):
    number = int(np.flatnonzero(slices.is_calcified)[0])
    (row,) = attention_of_slices({"DINO": backbone, "DINO-LG": backbone}, slices, [number], classifier_view(160, 32))
    assert list(row) == ["DINO", "DINO-LG"]
    shown = row["DINO"]
    assert shown.image.shape == shown.mean.shape == (32, 32)
    assert shown.heads.shape == (3, 32, 32)
    patches = shown.mean.reshape(4, 8, 4, 8)
    assert (patches == patches[:, :1, :, :1]).all()  # one value a patch
    assert 0 < shown.on_calcium < 1
    assert 1 / 16 <= shown.calcium_area <= 4 / 16  # 24 mm of calcium in patches of 40 mm


def test_attention_without_labels_says_nothing_of_calcium(backbone):
    shown = attention_map(backbone, np.zeros((40, 40)), (4, 4), classifier_view(160, 32))
    assert np.isnan([shown.on_calcium, shown.calcium_area]).all()


# Side by side


@pytest.fixture(scope="module")
def slice_runs(folder, dino_run, tmp_path_factory) -> dict[str, Path]:
    """Two fits on one backbone, with other seeds."""
    shards, runs = ShardSet.open(folder / "shards"), {}
    backbone = load_teacher(dino_run).eval()
    known, validation = SliceSet(shards, range(4)), SliceSet(shards, [4, 5])
    for n, name in enumerate(("DINO", "DINO-LG")):
        run, recipe = tmp_path_factory.mktemp(name), replace(TINY, seed=n)
        train_linear_head(
            recipe, backbone, read_features(recipe, backbone, known, validation, CPU, run / "features"), run
        )
        runs[name] = run
    return runs


def test_backbones_side_by_side_are_judged_on_every_slice_and_asked_where_they_look(folder, slice_runs):
    shards = ShardSet.open(folder / "shards")
    evaluations, pictures = compare_backbones(slice_runs, shards, [5, 6], draws=20, seed=1)
    assert list(evaluations) == ["DINO", "DINO-LG"]
    slices = SliceSet(shards, [5, 6])
    classifier, view, cut_off = load_classifier(slice_runs["DINO"] / "slice_classifier.pt")
    p = head_probability(classifier.head, embed_slices(classifier.backbone, slices, range(12), view, device=CPU))
    one = evaluations["DINO"]
    assert one.classifier.counts == counts(slices.is_calcified, p >= cut_off)
    assert (one.classifier.slices, one.classifier.asked, one.classifier.cut_off) == (12, 12, cut_off)
    rows = attention_of_slices({"x": classifier.backbone}, slices, np.flatnonzero(slices.is_calcified), view)
    assert one.looked_at == 4
    assert one.attention_on_calcium.value == pytest.approx(np.mean([row["x"].on_calcium for row in rows]))
    assert one.calcium_area == pytest.approx(np.mean([row["x"].calcium_area for row in rows]))
    assert [caption.split(" slice")[0] for _, caption in sorted(pictures, key=lambda p: p[1])] == ["made/5", "made/6"]
    assert all(url.startswith("data:image/png;base64,") for url, _ in pictures)


def test_scans_without_calcium_are_judged_without_attention(folder, slice_runs, tmp_path):
    blank = LabeledScan("blank", "b", "phantom", scan(9).ct, np.zeros((6, 40, 40), np.uint8))
    evaluations, pictures = compare_backbones(slice_runs, write_shards(tmp_path / "s", [blank]), [0], draws=5, seed=1)
    assert (evaluations["DINO"].looked_at, evaluations["DINO"].calcium_area, pictures) == (0, None, [])
    assert evaluations["DINO"].attention_on_calcium.value is None


def test_backbones_of_other_views_are_not_compared(folder, slice_runs, tmp_path):
    content = torch.load(slice_runs["DINO"] / "slice_classifier.pt", weights_only=True)
    content["view"]["spacing_mm"] *= 1.1
    torch.save(content, tmp_path / "slice_classifier.pt")
    with pytest.raises(InputRefused, match="DINO, other see slices in different views"):
        compare_backbones({"DINO": slice_runs["DINO"], "other": tmp_path}, ShardSet.open(folder / "shards"), [6],
                          draws=5, seed=1)  # fmt: skip
