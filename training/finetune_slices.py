"""Go on training a fitted slice classifier end to end, with the labels: the option where frozen features do not do.

python -m training.finetune_slices RECIPE.toml [KEY=VALUE ...] --from SLICES_RUN --shards DIR --splits FILE --out RUN
torchrun --nproc-per-node=8 -m training.finetune_slices ...

The paper freezes the backbone; what comes out of here is no longer a linear probe of DINO-LG, and its report keeps the
figures of the frozen features beside its own. Patches are asked as well as slices: which of them show calcium is known,
and a slice has hundreds. That second head is left out of the result. Run the same command to resume.
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
from training.slice_classifier.candidates import CANDIDATE_SLICES, find_candidate_slices
from training.slice_classifier.finetune import TuneRecipe, tune
from training.slice_classifier.weights import WEIGHTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = training_parser("finetune_slices", __doc__, _run)
    # --start is its older name, which torchrun takes for one of its own options.
    parser.add_argument(
        "--from", "--start", dest="start", type=Path, required=True, metavar="RUN",
        help="folder of a run of training.train_slices",
    )  # fmt: skip
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    recipe = load_recipe(TuneRecipe, options.recipe, options.changes)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    check_splits(shards, splits)
    chosen = [scans_of(shards, patients) for patients in (splits.train, splits.validation)]
    with process_group(options.device) as ranks:
        if ranks.is_first:
            make_run_folder(options.out)
            Checkpoints(options.out, recipe).check()
            write_recipe(recipe, options.out / "recipe.toml")
            keep_credits(options.out, options.start, shards.scans)
        barrier()

        def fit() -> bool:
            hearts = find_hearts(shards, [n for scans in chosen for n in scans], options.out / "hearts.json", ranks)
            training, validation = (SliceSet(shards, scans, hearts) for scans in chosen)
            candidate_slices = find_candidate_slices(shards, validation, options.out / CANDIDATE_SLICES, ranks)
            report = tune(
                recipe, options.start / WEIGHTS, training, validation, candidate_slices, options.out, ranks=ranks,
                deadline=options.deadline,
            )  # fmt: skip
            if report is not None and ranks.is_first:
                v = report["validation"]
                metrics_text = (
                    f"sensitivity {v['sensitivity']:.3f}, specificity {v['specificity']:.3f}, AUC {v['auc']:.3f}"
                )
                print(f"validation, slices with candidates: {metrics_text}")
                print(f"frozen features: AUC {report['validation_frozen']['auc']:.3f}")
            return report is not None

        return run_training(fit, options.out)


if __name__ == "__main__":
    sys.exit(main())
