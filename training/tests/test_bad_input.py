"""Each training command ends with 3 and one line where it cannot begin or go on, and leaves what was there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from full_disk import a_disk_with_room_for
from needed import torch  # noqa: F401  - the commands need it

from heartlens.core.ct import CTVolume
from training import train_dino, train_slices, train_unet
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.splits import Splits

DINO = ("backbone=vit_mini_patch8_32", "hidden=16", "bottleneck=8", "prototypes=12", "steps=2", "batch=8", "bf16=false",
        "augment.global_size=32", "augment.local_size=16", "augment.random_local_crops=1", "probe.size=32",
        "augment.guided_local_crops=1")  # fmt: skip
SLICES = ("size=32", "views=1", "epochs=2")
UNET = ("steps=2", "batch=4", "bf16=false", "view.size_px=32", "view.spacing_mm=4.0", "network.base=4",
        "network.depth=2", "network.groups=2")  # fmt: skip

COMMANDS = {"dino": (train_dino.main, DINO), "slices": (train_slices.main, SLICES), "unet": (train_unet.main, UNET)}


def scan(number: int) -> LabeledScan:
    rng = np.random.default_rng(number)
    hu = rng.integers(-100, 100, (5, 40, 40)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    hu[2, 10:16, 12:18], labels[2, 10:16, 12:18] = 600, 2
    ct = CTVolume(hu, np.diag([4.0, 4.0, 3.0, 1.0]))
    return LabeledScan(f"made/{number}", f"patient-{number}", "phantom", ct, labels)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Shards and splits of five scans, an empty recipe, and a finished pre-training."""
    folder = tmp_path_factory.mktemp("made")
    write_shards(folder / "shards", (scan(n) for n in range(5)))
    Splits(("patient-0", "patient-1", "patient-2"), ("patient-3",), ("patient-4",)).save(folder / "splits.json")
    (folder / "empty.toml").write_text("")
    assert run("dino", folder, folder / "backbone") == 0
    return folder


@pytest.fixture
def copy(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def run(name: str, folder: Path, out: Path, *changes: str) -> int:
    main, settings = COMMANDS[name]
    words = [folder / "empty.toml", *settings, *changes, "--shards", folder / "shards", "--device", "cpu"]
    words += ["--splits", folder / "splits.json", "--out", out]
    return main([str(w) for w in (*words, *(("--backbone", folder / "backbone") if name == "slices" else ()))])


def refused(capsys) -> str:
    """The one line on stderr that says why."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_shard_is_named_before_training_begins(copy, tmp_path, capsys, name):
    path = copy / "shards" / "labels-0000.npy"
    path = path if path.exists() else next((copy / "shards").glob("labels-*.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert run(name, copy, tmp_path / "out") == 3
    message = refused(capsys)
    assert message.startswith("error: checksum: ")
    assert path.name in message
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_empty_part_and_a_patient_in_two_are_refused(copy, tmp_path, capsys, name):
    document = json.loads((copy / "splits.json").read_text())
    for part, patients, words in (
        ("validation", [], "the validation split has no patient"),
        ("validation", ["patient-0"], "1 patients are in both train and validation"),
        ("test", ["patient-3"], "1 patients are in both validation and test"),
    ):
        (copy / "splits.json").write_text(json.dumps({**document, part: patients}))
        assert run(name, copy, tmp_path / "out") == 3
        assert words in refused(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "change"), [("dino", "seed=4"), ("slices", "seed=4"), ("unet", "seed=4")])
def test_a_run_of_another_recipe_is_refused_and_left_as_it_is(made, tmp_path, capsys, name, change):
    assert run(name, made, tmp_path) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(name, made, tmp_path, change) == 3
    assert "another recipe (setting: in the checkpoint, now): seed: 0, 4" in refused(capsys)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_ends_the_run_in_one_line_and_leaves_no_half_file(made, tmp_path, capsys, name):
    room = {"dino": 20_000, "slices": 1_500, "unet": 8_000}[name]  # enough for logs, not for a checkpoint
    with a_disk_with_room_for(room):
        assert run(name, made, tmp_path / "out") == 3
    assert refused(capsys).startswith("error: output: cannot write ")
    assert not list(tmp_path.rglob("*.pt"))
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    assert run(name, made, tmp_path / "out") == 0  # with room again, the same command goes on


def test_a_backbone_that_is_none_is_refused(copy, tmp_path, capsys):
    shutil.rmtree(copy / "backbone" / "checkpoints")
    assert run("slices", copy, tmp_path / "out") == 3
    assert "holds no checkpoints; give the folder of a run of training.train_dino" in refused(capsys)
