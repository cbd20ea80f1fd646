"""The pre-training loop: resume, processes, passes, gray at step 0, paper recipes, dead runs."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from needed import torch
from seen_steps import gradient_lengths

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.splits import Splits
from training.dino.augment import AugmentConfig
from training.dino.distillation import update_ema
from training.dino.features import KnnProbe, ProbeConfig
from training.dino.recipe import DinoRecipe, build_dino_model, build_optimizer, plan
from training.dino.training import forward_chunks, pretrain_backbone
from training.dino.view_batches import ViewBatches
from training.engine.checkpoint import read_checkpoint
from training.engine.config import as_dict, load_recipe, write_recipe
from training.engine.monitor import NonFiniteGuard, TrainingFailed
from training.engine.run_log import read_log
from training.memory import measure
from training.train_dino import main

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
RUNS = REPOSITORY / "training" / "runs"

TINY = DinoRecipe(
    backbone="vit_mini_patch8_32",
    hidden=16,
    bottleneck=8,
    prototypes=12,
    teacher_temperature=0.04,
    teacher_temperature_epochs=1,
    steps=20,
    batch=8,
    learning_rate=0.02,
    warmup_epochs=1,
    freeze_epochs=1,
    bf16=False,
    log_every=5,
    check_every=5,
    save_every=100,
    augment=AugmentConfig(global_size=32, local_size=16, random_local_crops=1, guided_local_crops=1),
    probe=ProbeConfig(every=100, size=32, slices=40),
)


def scan(number: int) -> LabeledScan:
    """Five slices of noise; two of them with a bright square that is labeled."""
    rng = np.random.default_rng(number)
    hu = rng.integers(-200, 200, (5, 40, 40)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    for k in (1, 3):
        row, column = rng.integers(4, 32, 2)
        hu[k, row : row + 4, column : column + 4] = 600
        labels[k, row : row + 4, column : column + 4] = 2
    ct = CTVolume(hu, np.diag([4.0, 4.0, 3.0, 1.0]))
    return LabeledScan(f"made/{number}", f"patient-{number}", "phantom", ct, labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Shards of eight scans, and splits of their patients."""
    folder = tmp_path_factory.mktemp("dino")
    write_shards(folder / "shards", (scan(n) for n in range(8)))
    patients = [f"patient-{n}" for n in range(8)]
    Splits(tuple(patients[:5]), (patients[5], patients[6]), (patients[7],)).save(folder / "splits.json")
    return folder


@pytest.fixture
def slices(folder) -> SliceSet:
    return SliceSet(ShardSet.open(folder / "shards"), range(5))


def parts_of(run: Path) -> dict:
    return read_checkpoint(sorted((run / "checkpoints").glob("*.pt"))[-1])["parts"]


def largest_difference(one, other) -> float:
    """Between two nested dicts of tensors and numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((largest_difference(one[k], other[k]) for k in one), default=0.0)
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        return max((largest_difference(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, torch.Tensor):
        return (one.double() - other.double()).abs().max().item()
    return 0.0 if one == other else math.inf


# The same run by other roads


@pytest.mark.parametrize("changes", [{"bf16": False}, {"bf16": True}, {"drop_path": 0.3, "clip_each": True}])
def test_20_steps_are_10_and_a_resume_and_10_bit_for_bit(tmp_path, slices, changes):
    recipe = replace(TINY, **changes)
    assert pretrain_backbone(recipe, slices, tmp_path / "straight")
    assert not pretrain_backbone(recipe, slices, tmp_path / "halves", until=10)
    assert parts_of(tmp_path / "halves")["student"]
    assert pretrain_backbone(recipe, slices, tmp_path / "halves")
    straight, halves = parts_of(tmp_path / "straight"), parts_of(tmp_path / "halves")
    assert largest_difference(straight, halves) == 0
    logs = [read_log(tmp_path / run) for run in ("straight", "halves")]
    assert [log[20]["loss"] for log in logs] == [logs[0][20]["loss"]] * 2
    assert sorted(logs[1]) == [5, 10, 15, 20]


@pytest.mark.parametrize("sharded", [False, True], ids=["DDP", "FSDP2"])
def test_two_processes_give_the_weights_of_one(tmp_path, folder, slices, sharded):
    # Adam divides a gradient by its own size, so rounding in gradients that are zero in exact arithmetic (a key's
    # bias) would be blown up to the learning rate: the rate is kept small, the bound is the 1e-6 of the method.
    recipe = replace(TINY, steps=6, learning_rate=1e-3)
    pretrain_backbone(recipe, slices, tmp_path / "one")
    write_recipe(replace(recipe, sharded=sharded), tmp_path / "recipe.toml")
    with socket.socket() as free_port:
        free_port.bind(("127.0.0.1", 0))
        port = free_port.getsockname()[1]
    joined = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # as torchrun sets them
    processes = [start_command(folder, tmp_path, RANK=str(rank), LOCAL_RANK=str(rank), **joined) for rank in (0, 1)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    one, two = parts_of(tmp_path / "one"), parts_of(tmp_path / "run")
    assert one["loss"]["center"].abs().max() > 0.01  # it has moved
    assert largest_difference(one["loss"]["center"], two["loss"]["center"]) < 1e-6
    assert largest_difference(one["student"], two["student"]) < 1e-6
    assert largest_difference(one["teacher"], two["teacher"]) < 1e-6


def start_command(folder: Path, tmp_path: Path, **environment: str) -> subprocess.Popen:
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
    return subprocess.Popen(
        [sys.executable, "-m", "training.train_dino", str(tmp_path / "recipe.toml"), "--shards", str(folder / "shards"),
         "--splits", str(folder / "splits.json"), "--device", "cpu", "--out", str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_views_may_go_through_the_student_one_by_one(tmp_path, slices):
    recipe = replace(TINY, steps=3, learning_rate=1e-3)
    pretrain_backbone(recipe, slices, tmp_path / "all")
    pretrain_backbone(replace(recipe, views_per_pass=1, recompute=True), slices, tmp_path / "single")
    assert largest_difference(parts_of(tmp_path / "all")["student"], parts_of(tmp_path / "single")["student"]) < 1e-6


def test_passes_cover_every_view_once():
    views = [torch.zeros(2, 1), torch.zeros(5, 1)]
    assert [(len(v), first, last) for v, first, last in forward_chunks(views, 2)] == [
        (2, 0, False), (2, 2, False), (2, 4, False), (1, 6, True),
    ]  # fmt: skip
    assert [(len(v), first, last) for v, first, last in forward_chunks(views, None)] == [(2, 0, False), (5, 2, True)]


def test_loader_processes_give_the_same_batches(slices):
    loader = torch.utils.data.DataLoader
    batches = ViewBatches(slices, TINY.augment, batch=8, seed=1)
    here_and_there = [loader(batches, batch_size=None, sampler=range(2), num_workers=n) for n in (0, 1)]
    for here, there in zip(*here_and_there, strict=True):
        assert torch.equal(here.images, there.images)
        assert torch.equal(torch.as_tensor(here.local_views.center_mm), torch.as_tensor(there.local_views.center_mm))


def test_two_ranks_see_together_what_one_sees(slices):
    whole = ViewBatches(slices, TINY.augment, batch=8, seed=1)[3].numbers.tolist()
    shares = [ViewBatches(slices, TINY.augment, batch=8, seed=1, rank=r, world=2)[3].numbers.tolist() for r in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(whole)


# Start, stop, refuse


def test_at_step_0_teacher_and_student_are_equal_and_gray_is_repeated():
    student = build_dino_model(TINY, 12)
    teacher = copy.deepcopy(student)
    gray = torch.randn(2, 1, 32, 32)
    assert torch.equal(student.backbone.gray_to_rgb(gray), gray.expand(-1, 3, -1, -1))
    assert torch.equal(student(gray)[1], teacher(gray)[1])
    update_ema(teacher, student, 0.5)
    assert torch.equal(student(gray)[1], teacher(gray)[1])


def test_the_same_seed_gives_the_same_start_and_leaves_other_generators_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, other = build_dino_model(TINY, 12), build_dino_model(TINY, 12)
    assert largest_difference(one.state_dict(), other.state_dict()) == 0
    assert torch.equal(torch.rand(1), expected)
    assert largest_difference(one.state_dict(), build_dino_model(replace(TINY, seed=1), 12).state_dict()) > 0


def test_no_bias_norm_or_token_is_decayed():
    learner = build_dino_model(TINY, 12)
    decayed, kept = (group["params"] for group in build_optimizer(learner).param_groups)
    names = {id(p): n for n, p in learner.named_parameters()}
    assert {names[id(p)] for p in kept} >= {"backbone.cls_token", "backbone.pos_embed", "backbone.gray_to_rgb.weight"}
    assert all(names[id(p)].endswith("weight") for p in decayed)
    assert len(decayed) + len(kept) == len(names)


def test_a_step_takes_rate_times_decay_from_a_weight_and_nothing_from_a_bias(tmp_path, slices):
    """AdamW decays apart from the gradient: with and without decay, one step differs by a twentieth of the weight."""
    recipe = replace(TINY, steps=4, learning_rate=0.32, freeze_epochs=0)
    for name, decay in (("none", (0.0, 0.0)), ("five", (5.0, 5.0)), ("rising", (0.0, 5.0))):
        pretrain_backbone(replace(recipe, weight_decay=decay), slices, tmp_path / name, until=1)
    none, five, rising = (parts_of(tmp_path / name)["student"] for name in ("none", "five", "rising"))
    learner = build_dino_model(recipe, 12)
    decayed = {id(p) for p in build_optimizer(learner).param_groups[0]["params"]}
    assert plan(recipe, len(slices))[0].learning_rate(0) * 5 == pytest.approx(0.05)
    for name, start in learner.named_parameters():
        taken = 0.05 * start if id(start) in decayed else torch.zeros_like(start)
        torch.testing.assert_close(none[name] - five[name], taken, rtol=1e-3, atol=1e-6)
    assert largest_difference(none, rising) == 0  # it has not begun to rise
    for name, decay in (("none", (0.0, 0.0)), ("rising", (0.0, 5.0))):
        pretrain_backbone(replace(recipe, weight_decay=decay), slices, tmp_path / name, until=3)
    assert largest_difference(*(parts_of(tmp_path / name)["student"] for name in ("none", "rising"))) > 1e-3


def test_no_step_is_made_by_a_gradient_longer_than_the_limit(tmp_path, slices):
    with gradient_lengths() as lengths:
        pretrain_backbone(replace(TINY, steps=4, clip=0.05, log_every=1), slices, tmp_path)
    assert max(metrics["gradient_norm"] for metrics in read_log(tmp_path).values()) > 0.1
    assert len(lengths) == 4
    assert max(lengths) <= 0.05 * (1 + 1e-4)


def test_a_command_whose_time_is_over_saves_ends_with_4_and_goes_on(tmp_path, folder, capsys):
    write_recipe(replace(TINY, steps=3), tmp_path / "recipe.toml")
    words = [str(tmp_path / "recipe.toml"), "--shards", str(folder / "shards"), "--splits", str(folder / "splits.json")]
    words += ["--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*words, "--minutes", "1e-9"]) == 4
    assert "run the same command to resume" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000001.pt"]
    assert main(words) == 0


def test_prototypes_stay_as_drawn_in_the_first_epoch(tmp_path, slices):
    drawn = build_dino_model(TINY, 12).head.prototypes.weight
    pretrain_backbone(TINY, slices, tmp_path, until=3)  # 25 slices, batches of 8: an epoch is 3 steps
    assert torch.equal(parts_of(tmp_path)["student"]["head.prototypes.weight"], drawn)
    pretrain_backbone(TINY, slices, tmp_path, until=4)
    assert not torch.equal(parts_of(tmp_path)["student"]["head.prototypes.weight"], drawn)


def test_sigterm_ends_with_a_checkpoint_and_the_same_command_goes_on(tmp_path, folder):
    write_recipe(replace(TINY, steps=4000, save_every=4000, log_every=1), tmp_path / "recipe.toml")
    process = start_command(folder, tmp_path)
    log = tmp_path / "run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4, errors
    assert "run the same command to resume" in errors
    step = read_checkpoint(next((tmp_path / "run" / "checkpoints").glob("*.pt")))["step"]
    assert 2 < step < 4000


def test_a_run_is_not_continued_on_other_scans(tmp_path, folder, slices):
    pretrain_backbone(TINY, slices, tmp_path, until=2)
    other = SliceSet(slices.shards, range(1, 6))
    with pytest.raises(InputRefused, match="begun on other scans"):
        pretrain_backbone(TINY, other, tmp_path)


def test_pretraining_sees_no_validation_and_no_test_patient(tmp_path, folder, monkeypatch):
    passed = {}
    monkeypatch.setattr("training.train_dino.pretrain_backbone", lambda r, s, *a, **k: passed.update(slices=s) or True)
    write_recipe(TINY, tmp_path / "recipe.toml")
    words = [str(tmp_path / "recipe.toml"), "--shards", str(folder / "shards"), "--splits", str(folder / "splits.json")]
    assert main([*words, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    patients = {passed["slices"].shards.scans[n].patient for n in passed["slices"].scans}
    assert patients == {f"patient-{n}" for n in range(5)}


def test_a_field_around_the_heart_finds_the_hearts_once_and_keeps_them(tmp_path, folder):
    run = tmp_path / "run"
    write_recipe(replace(TINY, steps=2), tmp_path / "tiny.toml")
    words = ["--shards", str(folder / "shards"), "--splits", str(folder / "splits.json"), "--out", str(run)]
    assert main([str(tmp_path / "tiny.toml"), "augment.field_mm=100", *words]) == 0
    shards = ShardSet.open(folder / "shards")
    hearts = json.loads((run / "hearts.json").read_text())
    assert set(hearts) == {scan.voxels_sha256 for scan in shards.scans[:5]}  # no validation and no test patient


def test_three_bad_steps_end_the_run_with_the_batch_named(tmp_path, slices, monkeypatch):
    monkeypatch.setattr("training.dino.training.render_batch", lambda *a: [torch.full((2, 8, 1, 32, 32), math.nan)])
    with pytest.raises(TrainingFailed, match=r"step 3: loss .* not finite 3 times in a row, the last on made/\d slice"):
        pretrain_backbone(TINY, slices, tmp_path)


def test_a_bad_step_changes_nothing_and_a_good_one_ends_the_count(caplog):
    bad = NonFiniteGuard(patience=2)
    for step, is_bad in enumerate((True, False, True)):
        bad.note(step, is_bad, ["made/1 slice 0"])
    assert bad.in_a_row == 1
    assert caplog.text.count("left out") == 2


def test_equal_slices_end_the_run_as_collapsed(tmp_path, slices, monkeypatch):
    monkeypatch.setattr("training.dino.training.render_batch", lambda *a: [torch.zeros(2, 8, 1, 32, 32)])
    with pytest.raises(TrainingFailed, match="every slice has the same embedding"):
        pretrain_backbone(replace(TINY, check_every=1, patience=3), slices, tmp_path)


def test_the_probe_is_logged(tmp_path, slices):
    probe = KnnProbe(TINY.probe, slices, SliceSet(slices.shards, [5, 6]))
    pretrain_backbone(replace(TINY, steps=2, probe=replace(TINY.probe, every=1)), slices, tmp_path, probe=probe)
    assert set(read_log(tmp_path)[1]) >= {"knn_auc", "knn_sensitivity", "knn_specificity"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("backbone=resnet50", "backbone must be vit_"),
        ("augment.global_size=100", "augment.global_size must be a multiple of the patch, 8 pixels"),
        ("batch=0", "must be 1 or more"),
        ("augment.guided_placement=center", "must be one of centre, random, got 'center'"),
        ("augment.guided_crops=4", r"unknown key augment.guided_crops; did you mean augment.guided_local_crops\?"),
    ],
)
def test_settings_without_sense_are_refused(change, message):
    with pytest.raises(InputRefused, match=message):
        load_recipe(DinoRecipe, None, [change])


# Recipes


@pytest.mark.parametrize(
    ("name", "random_crops", "guided_crops"),
    [("paper-dino", 16, 0), ("paper-dino-lg", 12, 4), ("figure2-dino-lg", 8, 6)],
)
def test_recipes_of_the_paper_are_those_of_its_table_3(name, random_crops, guided_crops):
    recipe = load_recipe(DinoRecipe, RUNS / f"{name}.toml")
    assert (recipe.augment.random_local_crops, recipe.augment.guided_local_crops) == (random_crops, guided_crops)
    assert (recipe.backbone, recipe.epochs, recipe.augment.guided_placement) == ("vit_base_patch8_224", 150, "centre")
    schedule, prototypes = plan(recipe, 36_411)
    assert (prototypes, schedule.temperature) == (2048, 0.03)
    assert schedule.steps == 150 * (36_411 // recipe.batch)
    with torch.device("meta"):
        learner = build_dino_model(recipe, prototypes)
        embedding, cosines = learner(torch.empty(2, 1, recipe.augment.global_size, recipe.augment.global_size))
        local = learner(torch.empty(3, 1, recipe.augment.local_size, recipe.augment.local_size))[1]
    assert (tuple(embedding.shape), tuple(cosines.shape), tuple(local.shape)) == ((2, 768), (2, 2048), (3, 2048))
    assert sum(p.numel() for p in learner.backbone.parameters()) == 85_807_878


def test_memory_is_measured_per_view_and_falls_with_recomputing_and_fewer_views_at_once():
    memory = measure(TINY, 100)
    learner = build_dino_model(TINY, 12)
    assert memory.weights == 20 * sum(p.numel() for p in learner.parameters())
    # 17 tokens of 96 numbers: more than 4 blocks x 10 kept tensors, in float32
    assert memory.global_view > 4 * 10 * 17 * 96 * 4
    assert memory.local_view / memory.global_view == pytest.approx(5 / 17, rel=0.03)
    assert memory.per_slice(TINY) == 2 * memory.global_view
    assert memory.per_slice(replace(TINY, views_per_pass=1)) == memory.global_view
    assert measure(replace(TINY, recompute=True), 100).global_view < memory.global_view / 4


@pytest.mark.parametrize("path", sorted(RUNS.glob("*dino*.toml")), ids=lambda p: p.stem)
def test_every_recipe_can_be_read_and_written(tmp_path, path):
    recipe = load_recipe(DinoRecipe, path)
    write_recipe(recipe, tmp_path / "recipe.toml")
    assert load_recipe(DinoRecipe, tmp_path / "recipe.toml") == recipe
    assert json.dumps(as_dict(recipe))
