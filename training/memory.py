"""How much memory a recipe of pre-training or segmentation needs: activations measured on one slice, the rest counted.

python -m training.memory training/runs/paper-dino-lg.toml [KEY=VALUE ...]
python -m training.memory training/runs/paper-unet.toml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.dino.recipe import DinoRecipe, build_dino_model, plan
from training.engine.cli import DONE, run_command
from training.engine.config import load_recipe
from training.segmentation.networks import build_network
from training.segmentation.recipe import SegmentationRecipe

ADAM_BYTES = 16
"""Each trained weight: itself, its gradient and two moments, float32."""

TEACHER_BYTES = 4

CARDS_GB = (24, 80, 141)
"""Memory of common cards; 141 is an H200."""


class Memory(NamedTuple):
    """Bytes.

    Parameters
    ----------
    weights
        Student, teacher, gradients and moments.
    global_view, local_view
        Kept for the backward pass of one view of one slice.
    """

    weights: int
    global_view: int
    local_view: int

    def per_slice(self, recipe: DinoRecipe) -> int:
        """Kept at once for one slice: all views of the larger group, or as many as go through at a time."""
        groups = ((2, self.global_view), (recipe.augment.local_crops, self.local_view))
        return max(min(count, recipe.views_per_pass or count) * size for count, size in groups)


def measure(recipe: DinoRecipe, slices: int) -> Memory:
    """Run one view of each size through the network and count what autograd keeps; weights are not counted twice.

    Parameters
    ----------
    slices
        Of the data set, which decides the number of prototypes.
    """
    _, prototypes = plan(recipe, slices)
    learner = build_dino_model(recipe, prototypes)
    count = sum(p.numel() for p in learner.parameters())
    per_view = [
        kept_for_one(learner, (1, size, size), recipe.bf16)
        for size in (recipe.augment.global_size, recipe.augment.local_size)
    ]
    return Memory(count * (ADAM_BYTES + TEACHER_BYTES), *per_view)


def measure_segmentation(recipe: SegmentationRecipe) -> tuple[int, int]:
    """Bytes of weights, gradients and moments, and what autograd keeps of one image."""
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    network.to(memory_format=torch.channels_last)
    moments = 2 if recipe.optimizer.name == "adamw" else int(recipe.optimizer.momentum > 0)
    weights = sum(p.numel() for p in network.parameters()) * 4 * (2 + moments)
    size = recipe.view.size_px
    return weights, kept_for_one(network, (recipe.view.channels, size, size), recipe.bf16)


def kept_for_one(network: nn.Module, shape: tuple[int, int, int], bf16: bool) -> int:
    """What a second image adds: copies of weights in bfloat16, which all images share, cancel."""
    return kept_bytes(network, torch.zeros(2, *shape), bf16) - kept_bytes(network, torch.zeros(1, *shape), bf16)


def kept_bytes(network: nn.Module, images: Tensor, bf16: bool) -> int:
    """What autograd keeps for the backward pass of some images, without the weights themselves."""
    bytes_of_storage = {p.untyped_storage().data_ptr(): 0 for p in network.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        bytes_of_storage.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        graph = network(images)  # alive until all is counted, so no address comes twice
    total = sum(bytes_of_storage.values())
    del graph
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--slices", type=int, default=36_411, help="of the data set (default: gated COCA)")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    if is_segmentation(options.recipe):
        recipe = load_recipe(SegmentationRecipe, options.recipe, options.changes)
        weights, per_slice = measure_segmentation(recipe)
        print(f"weights, gradients, moments: {weights / 1e9:.2f} GB")
        print(f"activations of a slice: {per_slice / 1e9:.2f} GB; of the recipe's {recipe.batch}: ", end="")
        print(f"{recipe.batch * per_slice / 1e9:.0f} GB")
    else:
        pretraining = load_recipe(DinoRecipe, options.recipe, options.changes)
        memory = measure(pretraining, options.slices)
        weights, per_slice = memory.weights, memory.per_slice(pretraining)
        print(f"weights, gradients, moments, teacher: {weights / 1e9:.2f} GB")
        global_mb, local_mb = memory.global_view / 1e6, memory.local_view / 1e6
        print(f"activations of a global view {global_mb:.0f} MB, of a local view {local_mb:.0f} MB")
        print(f"activations at once, per slice of the batch: {per_slice / 1e9:.2f} GB")
    for card in CARDS_GB:
        # A fifth is left for buffers of kernels and communication.
        print(f"{card} GB card: {max(0, int((0.8 * card * 1e9 - weights) // per_slice))} slices a step")
    return DONE


def is_segmentation(path: Path) -> bool:
    """Whether a recipe has a network to segment with; an unreadable one is refused when it is loaded."""
    try:
        return any(line.strip() == "[network]" for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return False


if __name__ == "__main__":
    sys.exit(main())
