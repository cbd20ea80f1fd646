"""The networks of both papers: sizes, shapes and recipes; Chew's ensembles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from needed import need, torch

from training import chew_table, ensemble, export, train_unet
from training.engine.config import load_recipe
from training.engine.distributed import Ranks
from training.segmentation.ensembles import Ensemble, evaluate_ensemble
from training.segmentation.networks import (
    PUBLISHED_PARAMETERS,
    NetworkRecipe,
    SpatialAttention,
    activation_bytes,
    build_network,
    count_parameters,
)
from training.segmentation.recipe import SegmentationRecipe
from training.tests.test_train_unet import blob_scan, blobs, read_data, run  # noqa: F401

RUNS = Path(__file__).resolve().parents[2] / "runs"
MINIATURE = [
    "batch=1", "bf16=false", "steps=2", "workers=0", "network.groups=2", "view.size_px=64", "save_every=1",
    "validate_every=2",
]  # fmt: skip
PAPER = [f"paper-{name}" for name in ("unet", "attention-unet", "swin-unet")] + [f"chew-{n}" for n in range(1, 6)]


def at_full_size(name: str):
    """Recipe and network on the meta device, where shapes are computed and nothing is stored."""
    recipe = load_recipe(SegmentationRecipe, RUNS / f"{name}.toml")
    if recipe.network.name in ("attention-unet", "swin-unet"):
        need("monai")
    # MONAI's Swin reads numbers out of a tensor while it is built, which the meta device cannot.
    with torch.device("cpu" if recipe.network.name == "swin-unet" else "meta"):
        network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    return recipe, network.to("meta")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("paper-unet", 31_036_741),
        ("paper-attention-unet", 31_739_445),
        ("paper-swin-unet", 39_261_815),
        ("heart-unet", 1_942_806),
        ("chew-1", 7_759_521),
        ("chew-2", 7_759_521),
        ("chew-3", 131_366_849),
        ("chew-4", 124_373_057),
        ("chew-5", 131_366_950),
    ],
)
def test_a_recipe_has_its_parameters_and_its_shapes(name, parameters):
    recipe, network = at_full_size(name)
    assert count_parameters(network) == parameters
    published = PUBLISHED_PARAMETERS.get(recipe.network.name, parameters)
    assert parameters == pytest.approx(published, rel=5e-4)  # Chew does not list every layer; see WideUNet
    size = recipe.view.size_px
    out = network.eval()(torch.empty(1, recipe.view.channels, size, size, device="meta"))
    assert out.shape == (1, recipe.samples.outputs, size, size)


def test_the_recipes_say_what_table_4_says():
    for name in PAPER[:3]:
        recipe = load_recipe(SegmentationRecipe, RUNS / f"{name}.toml")
        assert (recipe.view.size_px, recipe.batch, recipe.optimizer.rate, recipe.epochs) == (512, 64, 1e-4, 100)
        assert set(recipe.samples.classes) == {"LM", "LAD", "LCX", "RCA"}


def test_spatial_attention_adds_101_parameters_and_weighs_places_alike_in_all_channels():
    attention = SpatialAttention()
    assert count_parameters(attention) == 101
    assert PUBLISHED_PARAMETERS["chew-attention"] - PUBLISHED_PARAMETERS["chew-wide-1x1"] == 101
    x = torch.rand(2, 3, 8, 8) + 1
    ratio = attention(x) / x
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio))
    assert ((ratio > 0) & (ratio < 1)).all()


def test_activations_of_a_convolution_and_a_rectifier_are_input_and_output():
    """4-byte numbers: an 8 x 8 input for the convolution, two 8 x 8 outputs for the rectifier."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.ReLU())
    assert activation_bytes(network, 1, 8) == 4 * 64 * (1 + 2)


def test_no_batch_normalization_is_left_in_any_network():
    for name in ("unet", "attention-unet", "chew-wide"):
        network = build_network(NetworkRecipe(name, base=8, depth=2), 1, 2)
        assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in network.modules())


class Always(torch.nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.logit = torch.tensor(p).logit()

    def forward(self, x):
        return self.logit.expand(len(x), 1, *x.shape[2:])


def test_an_ensemble_is_member_times_baseline_squared_times_image():
    x = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    assert Ensemble(Always(0.8))(x).flatten().tolist() == pytest.approx([0, 0.4, 0.8])
    assert Ensemble(Always(0.8), Always(0.5))(x).flatten().tolist() == pytest.approx([0, 0.1, 0.2])


def test_the_five_figures_of_an_ensemble_hang_together(blobs, tmp_path):  # noqa: F811
    recipe = load_recipe(SegmentationRecipe, RUNS / "chew-1.toml", MINIATURE)
    data = read_data(recipe, blobs[1], blobs[2], tmp_path, Ranks())
    losses = evaluate_ensemble(Ensemble(Always(0.5)), data.validation, 4)
    assert losses["bce+dice"] == pytest.approx(losses["bce"] + losses["dice"])
    dice = 1 - losses["dice"]
    assert losses["iou"] == pytest.approx(1 - dice / (2 - dice), abs=1e-5)


def test_the_commands_train_and_judge_an_ensemble(blobs, tmp_path, capsys):  # noqa: F811
    data = ["--shards", str(blobs[0] / "shards"), "--splits", str(blobs[0] / "splits.json")]
    chew = [str(RUNS / "chew-1.toml"), *MINIATURE, "network.base=4"]
    out = str(tmp_path / "baseline")
    assert train_unet.main([*chew, *data, "--out", out, "--device", "cpu"]) == 0
    assert load_recipe(SegmentationRecipe, tmp_path / "baseline" / "recipe.toml").network.base == 4
    capsys.readouterr()
    assert ensemble.main([out, out, *data, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["slices"] == 12
    assert set(report) == {"part", "slices", "bce", "dice", "bce+dice", "iou", "tversky"}
    assert export.main([out, *data, "--out", str(tmp_path / "bundle"), "--name", "x"]) == 3
    assert "names no artery" in capsys.readouterr().err
    assert train_unet.main([*chew, "steps=3", *data, "--out", out, "--device", "cpu"]) == 3
    assert "another recipe (setting: in the checkpoint, now): steps: 2, 3" in capsys.readouterr().err


@pytest.mark.slow
def test_both_ensembles_of_the_study_are_trained_and_judged_by_their_commands(blobs, tmp_path, capsys):  # noqa: F811
    """Models 3 and 5 with model 1, from their recipes; each is its own product, and not a member alone."""
    data = ["--shards", str(blobs[0] / "shards"), "--splits", str(blobs[0] / "splits.json")]
    runs = {model: str(tmp_path / model) for model in ("chew-1", "chew-3", "chew-5")}
    for model, out in runs.items():
        words = [str(RUNS / f"{model}.toml"), *MINIATURE, "network.base=4", *data, "--out", out, "--device", "cpu"]
        assert train_unet.main(words) == 0
    capsys.readouterr()
    losses = []
    for words in ([runs["chew-3"], runs["chew-1"]], [runs["chew-5"], runs["chew-1"]], [runs["chew-3"]]):
        assert ensemble.main([*words, *data, "--json"]) == 0
        losses.append(json.loads(capsys.readouterr().out)["bce"])
    assert len(set(losses)) == 3


@pytest.mark.slow
def test_the_table_of_the_study_has_a_row_for_each_network_and_ensemble_and_pictures(blobs, tmp_path, capsys):  # noqa: F811
    """Two networks and one product; each row's figures are those that training.ensemble gives."""
    data = ["--shards", str(blobs[0] / "shards"), "--splits", str(blobs[0] / "splits.json")]
    runs = [str(tmp_path / model) for model in ("chew-1", "chew-3")]
    for out in runs:
        recipe = str(RUNS / f"{Path(out).name}.toml")
        words = [recipe, *MINIATURE, "network.base=4", *data, "--out", out, "--device", "cpu"]
        assert train_unet.main(words) == 0
    words = [*runs, *data, "--gallery", "2", "--out", str(tmp_path / "table")]
    assert chew_table.main([*words, "--ensemble", runs[1]]) == 3
    assert "--ensemble needs --baseline" in capsys.readouterr().err
    words += ["--ensemble", runs[1], "--baseline", runs[0]]
    for _ in range(2):  # a table may be made again
        assert chew_table.main(words) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "table" / "table.json").read_text())["rows"]}
    assert list(rows) == ["chew-1", "chew-3", "chew-3 x chew-1²"]
    capsys.readouterr()
    for name, members in (("chew-1", runs[:1]), ("chew-3 x chew-1²", runs[::-1])):
        assert ensemble.main([*members, *data, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert rows[name]["losses"] == {key: report[key] for key in rows[name]["losses"]}
    assert rows["chew-3 x chew-1²"]["parameters"] == rows["chew-1"]["parameters"] + rows["chew-3"]["parameters"]
    assert all(row["seconds"] > 0 for row in rows.values())
    pictures = sorted(path.name for path in (tmp_path / "table" / "gallery").iterdir())
    assert len(pictures) == 2
    assert len({name.split(" slice")[0][3:] for name in pictures}) == 2  # each of another scan
    assert "| chew-3 | tversky (0.82 / 0.2) |" in (tmp_path / "table" / "table.md").read_text()


def test_networks_that_see_other_views_or_name_arteries_make_no_ensemble(blobs, tmp_path, capsys):  # noqa: F811
    data = ["--shards", str(blobs[0] / "shards"), "--splits", str(blobs[0] / "splits.json")]
    for name, change in (("a", "seed=0"), ("b", "view.size_px=32"), ("c", 'samples.classes=["LAD"]')):
        words = [str(RUNS / "chew-1.toml"), *MINIATURE, "network.base=4", change]  # of two values the last one holds
        assert train_unet.main([*words, *data, "--device", "cpu", "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    for other in ("b", "c"):
        assert ensemble.main([str(tmp_path / "a"), str(tmp_path / other), *data]) == 3
        assert "expected networks of one output that see the same view" in capsys.readouterr().err
