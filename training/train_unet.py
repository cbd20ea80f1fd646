"""Train a network that names calcium. One loop, for one CPU core or many GPUs.

python -m training.train_unet RECIPE.toml [KEY=VALUE ...] --shards DIR --splits FILE --out RUN
torchrun --nproc-per-node=8 -m training.train_unet RECIPE.toml ...

Run the same command to resume from the last checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from heartlens.networks.bundle import MANIFEST
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits
from training.deploy.bundle_weights import vessel_start
from training.deploy.credits import keep_credits
from training.engine.checkpoint import Checkpoints
from training.engine.cli import run_command, run_training, training_parser
from training.engine.config import load_recipe, write_recipe
from training.engine.distributed import process_group
from training.engine.run_log import make_run_folder
from training.segmentation.recipe import BEST, SegmentationRecipe
from training.segmentation.training import read_data, train_segmentation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = training_parser("train_unet", __doc__, _run)
    # --start is its older name, which torchrun takes for one of its own options.
    parser.add_argument(
        "--from", "--start", dest="start", type=Path, metavar="RUN",
        help="begin with the best weights of an earlier stage, or with those of a bundle",
    )  # fmt: skip
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    recipe = load_recipe(SegmentationRecipe, options.recipe, options.changes)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    with process_group(options.device) as ranks:
        if ranks.is_first:
            make_run_folder(options.out)
            Checkpoints(options.out, recipe).check()
            shards.verify()
            write_recipe(recipe, options.out / "recipe.toml")
            keep_credits(options.out, options.start, shards.scans)
        data = read_data(recipe, shards, splits, options.out, ranks)
        start = None if options.start is None else options.start / BEST
        if options.start is not None and (options.start / MANIFEST).is_file():
            start = vessel_start(options.start, recipe, options.out, ranks)
        return run_training(
            lambda: train_segmentation(recipe, data, options.out, start=start, ranks=ranks, deadline=options.deadline),
            options.out,
        )


if __name__ == "__main__":
    sys.exit(main())
