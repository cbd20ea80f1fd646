"""A bundle that ships can be trained on: its weights begin a run, and another network is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from needed import torch
from safetensors.torch import load_file

from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import find_bundle
from training.deploy.bundle_weights import slices_start, vessel_start
from training.engine.config import load_recipe
from training.engine.distributed import Ranks
from training.segmentation.recipe import SegmentationRecipe
from training.segmentation.training import build, read_start
from training.slice_classifier.weights import WEIGHTS, load_classifier

RECIPE = Path(__file__).resolve().parents[2] / "runs" / "fourth-unet.toml"


@pytest.fixture(scope="module")
def bundle() -> Path:
    folder = find_bundle("heartlens-embedded")
    assert folder is not None
    return folder


@pytest.mark.slow
def test_the_third_recipe_begins_with_the_weights_of_the_bundle(bundle, tmp_path):
    recipe = load_recipe(SegmentationRecipe, RECIPE)
    network, _, _ = build(recipe, Ranks(), vessel_start(bundle, recipe, tmp_path, Ranks()))
    shipped = load_file(bundle / "vessel.safetensors")
    begun = network.state_dict()
    assert begun.keys() == shipped.keys()
    assert all(torch.equal(begun[name], shipped[name].float()) for name in shipped)


def test_a_recipe_of_another_width_or_view_is_refused(bundle, tmp_path):
    recipe = load_recipe(SegmentationRecipe, RECIPE)
    wide = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, base=32))
    near = dataclasses.replace(recipe, view=dataclasses.replace(recipe.view, spacing_mm=1.0))
    for other, part in ((wide, "network"), (near, "view")):
        with pytest.raises(InputRefused, match=f"has {part}"):
            read_start(vessel_start(bundle, other, tmp_path, Ranks()), other)


def test_the_slice_classifier_of_the_bundle_is_read_as_one_that_was_trained(bundle, tmp_path):
    classifier, view, cut_off = load_classifier(slices_start(bundle, tmp_path / "slices") / WEIGHTS)
    shipped = load_file(bundle / "slices.safetensors")
    assert all(torch.equal(tensor, shipped[name].float()) for name, tensor in classifier.state_dict().items())
    assert (view.size_px, view.field_mm) == (128, 154.0)
    assert 0 < cut_off < 0.5


def test_a_folder_without_a_bundle_is_refused(tmp_path):
    with pytest.raises(InputRefused, match="no bundle"):
        slices_start(tmp_path, tmp_path / "slices")
