"""How much memory a pre-training recipe needs: activations measured on one slice, the rest counted.

python -m training.memory training/runs/paper-dino-lg.toml [KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from training.command import DONE, run_command
from training.config import load_recipe
from training.distillation import Learner
from training.train_dino import DinoRecipe, build_learner, plan

ADAM_BYTES = 16
"""Each trained weight: itself, its gradient and two moments, float32."""

TEACHER_BYTES = 4

CARDS_GB = (24, 80, 141)
"""Memory of common cards; 141 is an H200."""


class Memory(NamedTuple):
    """Bytes.

    Parameters
    ----------
    weights : student, teacher, gradients and moments
    global_view, local_view : kept for the backward pass of one view of one slice
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
    slices : of the data set, which decides the number of prototypes
    """
    _, prototypes = plan(recipe, slices)
    learner = build_learner(recipe, prototypes)
    count = sum(p.numel() for p in learner.parameters())
    sizes = (recipe.augment.global_size, recipe.augment.local_size)
    # What a second view adds: copies of weights in bfloat16, which all views share, cancel.
    per_view = [kept_bytes(learner, 2, size, recipe.bf16) - kept_bytes(learner, 1, size, recipe.bf16) for size in sizes]
    return Memory(count * (ADAM_BYTES + TEACHER_BYTES), *per_view)


def kept_bytes(learner: Learner, views: int, size: int, bf16: bool) -> int:
    """What autograd keeps for the backward pass of some views, without the weights themselves."""
    seen = {p.untyped_storage().data_ptr(): 0 for p in learner.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        graph = learner(torch.zeros(views, 1, size, size))  # alive until all is counted, so no address comes twice
    total = sum(seen.values())
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
    recipe = load_recipe(DinoRecipe, options.recipe, options.changes)
    memory = measure(recipe, options.slices)
    per_slice = memory.per_slice(recipe)
    print(f"weights, gradients, moments, teacher: {memory.weights / 1e9:.2f} GB")
    global_mb, local_mb = memory.global_view / 1e6, memory.local_view / 1e6
    print(f"activations of a global view {global_mb:.0f} MB, of a local view {local_mb:.0f} MB")
    print(f"activations at once, per slice of the batch: {per_slice / 1e9:.2f} GB")
    for card in CARDS_GB:
        # A fifth is left for buffers of kernels and communication.
        print(f"{card} GB card: {max(0, int((0.8 * card * 1e9 - memory.weights) // per_slice))} slices a step")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
