"""Pre-train the slice backbone by DINO, label-guided or not (arXiv 2411.07976; 2104.14294).

python -m training.train_dino training/runs/mini-dino-lg.toml [KEY=VALUE ...] --shards DIR --splits FILE --out RUN
torchrun --nproc-per-node=8 -m training.train_dino training/runs/paper-dino-lg.toml ...

Run the same command to resume a stopped run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from training.datasets.hearts import HEARTS, find_hearts
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.splits import Splits, pretraining_scans, scans_of
from training.deploy.credits import keep_credits
from training.dino.features import KnnProbe
from training.dino.recipe import DinoRecipe
from training.dino.training import pretrain_backbone
from training.engine.cli import run_command, run_training, training_parser
from training.engine.config import load_recipe
from training.engine.distributed import barrier, process_group
from training.engine.run_log import make_run_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(training_parser("train_dino", __doc__, _run), arguments)


def _run(options: argparse.Namespace) -> int:
    recipe = load_recipe(DinoRecipe, options.recipe, options.changes)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    seen = pretraining_scans(shards, splits)
    known, queries = (SliceSet(shards, scans_of(shards, patients)) for patients in (splits.train, splits.validation))
    with process_group(options.device) as ranks:
        if ranks.is_first:
            make_run_folder(options.out)
            shards.verify()
            keep_credits(options.out, None, shards.scans)
        barrier()
        hearts = find_hearts(shards, list(seen), options.out / HEARTS, ranks) if recipe.augment.field_mm else None
        slices = SliceSet(shards, seen, hearts)
        probe = KnnProbe(recipe.probe, known, queries)
        return run_training(
            lambda: pretrain_backbone(recipe, slices, options.out, ranks=ranks, probe=probe, deadline=options.deadline),
            options.out,
        )


if __name__ == "__main__":
    sys.exit(main())
