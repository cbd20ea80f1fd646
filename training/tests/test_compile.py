"""torch.compile changes the speed and not the weights: of the backbone's blocks, and of the whole U-Net."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from needed import torch

from training.dino.training import pretrain_backbone
from training.engine.distributed import Ranks
from training.segmentation.training import build
from training.tests.test_train_dino import TINY, folder, largest_difference, parts_of, slices  # noqa: F401
from training.tests.test_train_unet import blobs, run, tiny, weights  # noqa: F401

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of torch about itself, while it loads its compiler
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU: install g++"),
]


def test_compiled_blocks_give_the_weights_of_uncompiled_ones(tmp_path, slices):  # noqa: F811
    recipe = replace(TINY, steps=3, learning_rate=1e-3, backbone="vit_mini_patch8_32")
    pretrain_backbone(recipe, slices, tmp_path / "plain")
    try:
        pretrain_backbone(replace(recipe, compile_blocks=True), slices, tmp_path / "compiled")
    finally:
        torch._dynamo.reset()
    plain, compiled = (parts_of(tmp_path / name) for name in ("plain", "compiled"))
    assert largest_difference(plain["student"], compiled["student"]) < 1e-6
    assert largest_difference(plain["teacher"], compiled["teacher"]) < 1e-6


def test_a_compiled_unet_gives_the_weights_of_an_uncompiled_one_under_the_same_names(blobs, tmp_path, monkeypatch):  # noqa: F811
    """So that a bundle is exported from either, and a run may be judged without a compiler.

    By gradient descent: Adam divides a gradient by its own size, which blows rounding up to the learning rate.
    """
    compiled = []
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m, *a, **k: (compiled.append(m), compile_module(m, *a, **k)))
    changes = ("steps=3", "validate_every=3", "optimizer.name=sgd", "optimizer.rate=0.1")
    run(blobs, tmp_path / "plain", *changes)
    assert not compiled
    try:
        run(blobs, tmp_path / "compiled", *changes, "compile=true")
    finally:
        torch._dynamo.reset()
    assert len(compiled) == 1
    plain, other = (weights(tmp_path / name, 3)["network"] for name in ("plain", "compiled"))
    assert plain.keys() == other.keys()
    assert largest_difference(plain, other) < 1e-6
    start = build(tiny(*changes), Ranks())[0].state_dict()
    assert largest_difference(start, dict(plain)) > 1e-3  # they have moved
