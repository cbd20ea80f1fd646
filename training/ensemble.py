"""Chew's ensembles: a member's prediction x the baseline's squared x the image; and the study's five figures.

python -m training.ensemble MEMBER_RUN BASELINE_RUN --shards DIR --splits FILE [--part test] [--json]
python -m training.ensemble RUN --shards DIR --splits FILE        one network alone: prediction x image

Both runs must see the same view. The image is the view's, 0 to 1, so that what is dark cannot be calcium.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from heartlens.core.errors import InputRefused
from training.datasets.hearts import find_hearts
from training.datasets.segmentation_dataset import SliceSamples
from training.datasets.shards import ShardSet
from training.datasets.splits import SPLITS, Splits, check_splits, scans_of
from training.deploy.bundle_writer import read_trained
from training.engine.cli import DONE, run_command
from training.engine.distributed import Ranks
from training.segmentation.ensembles import Ensemble, evaluate_ensemble


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.ensemble", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("member", type=Path, help="run of model 3 or 5 (or of any, alone)")
    parser.add_argument("baseline", type=Path, nargs="?", help="run of model 1")
    parser.add_argument("--shards", type=Path, nargs="+", required=True, action="extend")
    parser.add_argument("--splits", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--part", choices=SPLITS, default="test")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    member = read_trained(options.member)
    baseline = None if options.baseline is None else read_trained(options.baseline)
    recipe = member.recipe
    for trained in (member, baseline):
        if trained is not None and (trained.recipe.samples.outputs != 1 or trained.recipe.view != recipe.view):
            raise InputRefused(
                "input", "expected networks of one output that see the same view; choose runs of chew-*.toml"
            )
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    check_splits(shards, splits)
    scans = scans_of(shards, getattr(splits, options.part))
    hearts = {} if recipe.view.is_whole_field else find_hearts(shards, scans, options.member / "hearts.json", Ranks())
    samples = SliceSamples(shards, scans, recipe.view, recipe.samples, hearts, recipe.seed)
    ensemble = Ensemble(member.network, None if baseline is None else baseline.network, recipe.view.neighbors)
    losses = evaluate_ensemble(ensemble, samples, options.batch)
    if options.json:
        print(json.dumps({"part": options.part, "slices": len(samples), **losses}))
    else:
        print(f"{options.part}: {len(samples)} slices")
        print("\n".join(f"{name:<9} {value:.4f}" for name, value in losses.items()))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
