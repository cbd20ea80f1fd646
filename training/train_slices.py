r"""Fit the slice classifier: a linear head on frozen embeddings (DINO-LG, arXiv 2411.07976).

python -m training.train_slices training/runs/mini-slices.toml [KEY=VALUE ...] --backbone DINO_RUN \
    --shards DIR --splits FILE --out RUN
torchrun --nproc-per-node=8 -m training.train_slices ...

Embeddings are computed once and kept in the run's folder; the head is fitted in seconds. The cut-off is chosen on
validation patients and saved with the weights; test patients are not looked at here. The same command again goes on
where the run was stopped: after the last view that was embedded, or the last epoch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.datasets.hearts import find_hearts
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.splits import Splits, check_splits, scans_of
from training.deploy.credits import keep_credits
from training.engine.checkpoint import Checkpoints
from training.engine.cli import run_command, run_training, training_parser
from training.engine.config import load_recipe, write_recipe
from training.engine.distributed import barrier, process_group
from training.engine.run_log import make_run_folder
from training.slice_classifier.linear_probe import FEATURES, SlicesRecipe, read_features, train_linear_head
from training.slice_classifier.weights import load_teacher

# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = training_parser("train_slices", __doc__, _run)
    parser.add_argument("--backbone", type=Path, required=True, metavar="RUN", help="folder of the pre-training run")
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    recipe = load_recipe(SlicesRecipe, options.recipe, options.changes)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    check_splits(shards, splits)
    chosen = [scans_of(shards, patients) for patients in (splits.train, splits.validation)]
    backbone = load_teacher(options.backbone)
    with process_group(options.device) as ranks:
        if ranks.is_first:
            make_run_folder(options.out)
            Checkpoints(options.out, recipe).check()
            shards.verify()
            write_recipe(recipe, options.out / "recipe.toml")
            keep_credits(options.out, options.backbone, shards.scans)
        barrier()

        def fit() -> bool:
            hearts = {}
            if recipe.center == "heart":
                hearts = find_hearts(shards, [n for scans in chosen for n in scans], options.out / "hearts.json", ranks)
            training, validation = (SliceSet(shards, scans, hearts) for scans in chosen)
            features = read_features(
                recipe, backbone, training, validation, ranks.device, options.out / FEATURES, ranks
            )
            report = train_linear_head(recipe, backbone, features, options.out, ranks=ranks, deadline=options.deadline)
            if report is not None and ranks.is_first:
                v = report["validation"]
                metrics_text = (
                    f"sensitivity {v['sensitivity']:.3f}, specificity {v['specificity']:.3f}, AUC {v['auc']:.3f}"
                )
                print(f"validation: {metrics_text}\nneighbors:  AUC {report['validation_knn']['auc']:.3f}")
            return report is not None

        return run_training(fit, options.out)


if __name__ == "__main__":
    sys.exit(main())
