"""Fit what a bundle says of lesions to validation scans: probability, cut-off of islands, cut-off of slices.

python -m training.calibrate BUNDLE --shards DIR ... --splits FILE [--cut-off RULE|P] [--slice-sensitivity P]

The scans go through the networks as HeartLens runs them: from the bundle's ONNX files, or on a GPU where there is one.
The weights stay as they are; the manifest is written again, whole or not at all. Test scans are not looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from heartlens.networks.bundle import MANIFEST, load_bundle
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, check_splits, scans_of
from training.deploy.calibration import calibrate, write_manifest
from training.engine.cli import DONE, add_data, run_command
from training.metrics.cutoff import CUT_OFF_RULES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder of a bundle; its manifest is updated")
    add_data(parser)
    parser.add_argument(
        "--cut-off",
        type=_cut_off,
        metavar="RULE|P",
        help="of islands: f1, youden, balanced or a number (default: unchanged)",
    )
    parser.add_argument(
        "--slice-sensitivity", type=float, metavar="P",
        help="sensitivity the slice stage must reach (default: cut-off unchanged)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--dry-run", action="store_true", help="print the changes without writing them")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    bundle = load_bundle(options.bundle)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    check_splits(shards, splits)
    changes = calibrate(
        bundle, scans_of(shards, splits.validation), shards, cut_off=options.cut_off,
        slice_sensitivity=options.slice_sensitivity, device=options.device,
    )  # fmt: skip
    print(json.dumps(changes, indent=1))
    if not options.dry_run:
        write_manifest(bundle, changes)
        print(f"Manifest: {bundle.folder / MANIFEST}")
    return DONE


def _cut_off(text: str) -> str | float:
    if text in CUT_OFF_RULES:
        return text
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be {', '.join(CUT_OFF_RULES)} or lie in 0..1, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
