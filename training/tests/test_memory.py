"""What a segmentation recipe needs: measured activations agree with those of the meta device, weights are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from needed import need, torch

from training.engine.config import load_recipe
from training.memory import is_segmentation, kept_for_one, main, measure_segmentation
from training.segmentation.networks import activation_bytes, build_network, count_parameters
from training.segmentation.recipe import SegmentationRecipe

pytestmark = pytest.mark.slow

RUNS = Path(__file__).resolve().parents[1] / "runs"


def test_a_rectifier_keeps_its_output_and_a_convolution_its_input():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.ReLU())
    assert kept_for_one(network, (1, 8, 8), bf16=False) == 4 * 64 * (1 + 2)


@pytest.mark.parametrize("name", ["heart-unet", "mini-unet", "chew-2"])
def test_measured_activations_are_those_of_the_meta_device(name):
    recipe = load_recipe(SegmentationRecipe, RUNS / f"{name}.toml", ["bf16=false"])
    weights, per_slice = measure_segmentation(recipe)
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    moments = 0 if recipe.optimizer.name == "sgd" else 2  # Chew's has no momentum
    assert weights == count_parameters(network) * 4 * (2 + moments)
    expected = activation_bytes(network, recipe.view.channels, recipe.view.size_px)
    assert per_slice == pytest.approx(expected, rel=0.02)


def test_bfloat16_halves_what_is_kept_and_more_filters_keep_more():
    recipe = load_recipe(SegmentationRecipe, RUNS / "mini-unet.toml", ["bf16=true"])
    half, whole = (measure_segmentation(replace(recipe, bf16=bf16))[1] for bf16 in (True, False))
    assert 0.4 * whole < half < 0.75 * whole
    wide = load_recipe(SegmentationRecipe, RUNS / "mini-unet.toml", ["bf16=true", "network.base=16"])
    assert measure_segmentation(wide)[1] > 1.8 * half


def test_computing_again_keeps_less():
    need("monai")
    changes = ["bf16=false", "view.size_px=64", "network.base=12"]
    kept = {
        again: measure_segmentation(
            load_recipe(
                SegmentationRecipe,
                RUNS / "paper-swin-unet.toml",
                [*changes, f"network.checkpointing={str(again).lower()}"],
            )
        )[1]
        for again in (True, False)
    }
    assert kept[True] < kept[False]


def test_the_command_tells_both_kinds_of_recipe(capsys):
    assert is_segmentation(RUNS / "paper-unet.toml")
    assert not is_segmentation(RUNS / "paper-dino.toml")
    assert main([str(RUNS / "mini-unet.toml")]) == 0
    output = capsys.readouterr().out
    assert "activations of a slice" in output
    assert "141 GB card" in output
    small = ["batch=1", "augment.global_size=32", "augment.local_size=16"]
    assert main([str(RUNS / "mini-dino-lg.toml"), *small]) == 0
    assert "activations of a global view" in capsys.readouterr().out
    assert main([str(RUNS / "nothing.toml")]) == 3
