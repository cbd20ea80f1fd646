"""torch.compile of the blocks changes the speed and not the weights."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from needed import torch

from training.tests.test_train_dino import TINY, folder, largest_difference, parts_of, slices  # noqa: F401
from training.train_dino import train


@pytest.mark.filterwarnings("ignore")  # of torch about itself, while it loads its compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU: install g++")
def test_compiled_blocks_give_the_weights_of_uncompiled_ones(tmp_path, slices):  # noqa: F811
    recipe = replace(TINY, steps=3, learning_rate=1e-3, backbone="vit_mini_patch8_32")
    train(recipe, slices, tmp_path / "plain")
    try:
        train(replace(recipe, compile_blocks=True), slices, tmp_path / "compiled")
    finally:
        torch._dynamo.reset()
    plain, compiled = (parts_of(tmp_path / name) for name in ("plain", "compiled"))
    assert largest_difference(plain["student"], compiled["student"]) < 1e-6
    assert largest_difference(plain["teacher"], compiled["teacher"]) < 1e-6
