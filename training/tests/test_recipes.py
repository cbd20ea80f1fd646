"""Every recipe of the papers through the real command: it starts, steps, is cut short, and goes on; on one CPU core.

Only sizes are changed: batch, crops, slices, steps; and bfloat16, which a CPU without it emulates at a seventh of the
speed, is off. Networks keep their published widths, but for two of the three DINO
recipes: they differ in crops alone, and three times 1.4 GB of checkpoint would test the disk. What was not changed has
the published value in the recipe that the run saves.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from needed import need, torch

from training import train_dino, train_slices, train_unet
from training.datasets.shard_writer import write_shards
from training.datasets.splits import split_patients
from training.engine.config import as_dict, load_recipe
from training.engine.run_log import read_log
from training.tests.test_train_unet import blob_scan

pytestmark = pytest.mark.slow

RUNS = Path(__file__).resolve().parents[1] / "runs"

COMMANDS = {
    "dino": (train_dino.main, train_dino.DinoRecipe),
    "slices": (train_slices.main, train_slices.SlicesRecipe),
    "unet": (train_unet.main, train_unet.SegmentationRecipe),
}

SMALL = {
    "dino": [
        "batch=1", "steps=2", "save_every=1", "log_every=1", "workers=0", "augment.global_size=64",
        "augment.local_size=32", "recompute=true", "probe.size=32", "probe.slices=8", "bf16=false",
    ],
    "slices": ["batch=1", "size=32", "bf16=false"],
    "unet": [
        "batch=1", "steps=2", "save_every=1", "validate_every=2", "log_every=1", "workers=0", "view.size_px=64",
        "bf16=false",
    ],
}  # fmt: skip


class Published(NamedTuple):
    """A recipe and what its paper says: of DINO-LG (arXiv 2411.07976) Tables 1, 3, 4 and Figure 2; of Chew 2024."""

    recipe: str
    command: str
    says: dict[str, Any]
    parameters: int


DINO = {
    "backbone": "vit_base_patch8_224", "epochs": 150, "student_temperature": 0.1, "augment.guided_placement": "centre",
    "augment.flip_probability": 0.5,
}  # fmt: skip
TABLE_4 = {
    "view.size_px": 512, "batch": 64, "optimizer.rate": 1e-4, "epochs": 100, "optimizer.schedule": "constant",
    "samples.classes": ["LM", "LAD", "LCX", "RCA"], "network.base": 64,
}  # fmt: skip
CHEW = {
    "view.size_px": 256, "batch": 16, "optimizer.rate": 0.1, "optimizer.schedule": "plateau",
    "samples.order": "blank-kept", "samples.blank_share": 0.125, "samples.classes": ["CALCIUM"],
}  # fmt: skip
BASELINE = {**CHEW, "network.name": "chew-baseline", "network.base": 32, "network.depth": 4}
WIDE = {**CHEW, "network.base": 64, "network.depth": 5}  # 64 * 2 ** 5 is 2,048 channels
TVERSKY = {"loss.name": "tversky", "loss.alpha": 0.82, "loss.beta": 0.2}


SMALL_BACKBONE = 21_670_278
"""Parameters of ViT-S/8 with `gray_to_rgb`."""


def crops(random: int, guided: int) -> dict[str, Any]:
    return {**DINO, "augment.random_local_crops": random, "augment.guided_local_crops": guided}


PAPERS = [
    Published("paper-dino", "dino", crops(16, 0), SMALL_BACKBONE),
    Published("paper-dino-lg", "dino", crops(12, 4), 85_807_878),
    Published("figure2-dino-lg", "dino", crops(8, 6), SMALL_BACKBONE),
    Published("paper-slices", "slices", {"epochs": 10}, 97),
    Published("paper-unet", "unet", {**TABLE_4, "network.name": "unet"}, 31_036_741),
    Published("paper-attention-unet", "unet", {**TABLE_4, "network.name": "attention-unet"}, 31_739_445),
    # MONAI's Swin takes multiples of 12: 60 is next to the 64 of the paper.
    Published("paper-swin-unet", "unet", {**TABLE_4, "network.name": "swin-unet", "network.base": 60}, 39_261_815),
    Published("chew-1", "unet", {**BASELINE, "loss.name": "ce", "epochs": 20}, 7_759_521),
    Published(
        "chew-2", "unet",
        {**BASELINE, "loss.name": "tversky", "loss.alpha": 0.9, "loss.beta": 0.1, "epochs": 100}, 7_759_521,
    ),
    Published("chew-3", "unet", {**WIDE, **TVERSKY, "network.name": "chew-wide-1x1", "epochs": 100}, 131_366_849),
    Published("chew-4", "unet", {**WIDE, "loss.name": "ce", "network.name": "chew-wide", "epochs": 200}, 124_373_057),
    Published("chew-5", "unet", {**WIDE, **TVERSKY, "network.name": "chew-attention", "epochs": 100}, 131_366_950),
]  # fmt: skip


def flat(values: dict[str, Any], table: str = "") -> dict[str, Any]:
    """{"view": {"size_px": 64}} -> {"view.size_px": 64}."""
    flattened: dict[str, Any] = {}
    for key, value in values.items():
        flattened |= flat(value, f"{table}{key}.") if isinstance(value, dict) else {f"{table}{key}": value}
    return flattened


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> list[str]:
    """Ten scans of six slices and their splits, as words of the command line."""
    folder = tmp_path_factory.mktemp("recipes")
    shards = write_shards(folder / "shards", (blob_scan(n) for n in range(10)))
    split_patients(shards, seed=1, proportions=(6, 2, 2)).save(folder / "splits.json")
    return ["--shards", str(folder / "shards"), "--splits", str(folder / "splits.json"), "--device", "cpu"]


@pytest.fixture
def run(tmp_path):
    """Folder of a run, gone afterwards: a checkpoint of the largest networks has 1.4 GB."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


@pytest.fixture
def start(run, data, tmp_path) -> Callable[[Published], int]:
    def start(paper: Published) -> int:
        words = [str(RUNS / f"{paper.recipe}.toml"), *small(paper), *data, "--out", str(run)]
        if paper.command == "slices":
            backbone = tmp_path / "backbone"
            if not backbone.exists():
                size = ["batch=4", "steps=1", "probe.every=9", "augment.global_size=32", "augment.local_size=16"]
                mini = [str(RUNS / "mini-dino-lg.toml"), *size, *data, "--out", str(backbone)]
                assert train_dino.main(mini) == 0
            words += ["--backbone", str(backbone)]
        return COMMANDS[paper.command][0](words)

    return start


def small(paper: Published) -> list[str]:
    """Sizes that a CPU can take; as many local crops as show a random and a guided one."""
    changes = list(SMALL[paper.command])
    if paper.command == "dino":
        guided = min(1, paper.says["augment.guided_local_crops"])
        changes += ["augment.random_local_crops=1", f"augment.guided_local_crops={guided}"]
        if paper.parameters == SMALL_BACKBONE:
            changes.append("backbone=vit_small_patch8_224")
    return changes


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p.recipe)
def test_a_recipe_says_what_its_paper_says(paper):
    settings = flat(as_dict(load_recipe(COMMANDS[paper.command][1], RUNS / f"{paper.recipe}.toml")))
    assert {key: settings[key] for key in paper.says} == paper.says


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p.recipe)
def test_a_recipe_starts_steps_and_goes_on_where_it_was_cut_short(paper, start, run):
    if paper.recipe in ("paper-attention-unet", "paper-swin-unet"):
        need("monai")
    assert start(paper) == 0
    # What was not changed is as published, also in what the run saved.
    changed = {change.partition("=")[0] for change in small(paper)}
    saved = flat(as_dict(load_recipe(COMMANDS[paper.command][1], run / "recipe.toml")))
    kept = {key: value for key, value in paper.says.items() if key not in changed}
    assert kept
    assert {key: saved[key] for key in kept} == kept
    # A kill during the last step leaves the checkpoint before it.
    *_, before, last = sorted((run / "checkpoints").glob("step-*.pt"))
    straight, written = read_log(run), before.stat().st_mtime_ns
    last.unlink()
    assert start(paper) == 0
    assert before.stat().st_mtime_ns == written  # not begun again
    resumed = read_log(run)
    assert sorted(resumed) == sorted(straight)
    for step, figures in straight.items():
        for name in ("loss", "gradient", "gradient_norm", "validation_loss", "validation_auc"):
            assert resumed[step].get(name) == figures.get(name), (step, name)
    assert weights_in(last, paper.command) == paper.parameters


def weights_in(checkpoint: Path, command: str) -> int:
    """Numbers in the trained part of a checkpoint: backbone, head, or network."""
    part = {"dino": "student", "slices": "head", "unet": "network"}[command]
    content = torch.load(checkpoint, map_location="meta", weights_only=True)
    state = content["parts"][part].items()
    trained = {name: t for name, t in state if t.is_floating_point()}  # Swin also keeps an index of positions
    return sum(t.numel() for name, t in trained.items() if command != "dino" or name.startswith("backbone."))
