"""From training runs to a bundle that HeartLens can load: the same weights as safetensors and ONNX, and a manifest.

python -m training.export UNET_RUN [--slices SLICES_RUN] --out BUNDLE --name NAME --shards DIR --splits FILE
    [--text trained_on="..."] [--domain kvp=80,140] [--half]

The bundle is written only when both files of each network say the same: logits and slice probabilities within rounding,
every slice on the same side of the cut-off, and, on whole scans of the validation split, the same scores.
The cut-off and the calibration of islands are those that the run froze, the domain is what the training scans span,
unless the command says others. The manifest says which commit, recipe, scans and splits it was made of.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import (
    TEXTS,
    Calibration,
    Domain,
)
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, scans_of
from training.deploy.bundle_writer import BundleMetadata, export_bundle, read_trained, read_trained_slices
from training.deploy.credits import credits_of_scans, credits_of_start, merged_credits
from training.deploy.lineage import limits_of, lineage_of, trained_on_text
from training.engine.cli import DONE, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained", type=Path, metavar="RUN", help="folder of a run of training.train_unet")
    parser.add_argument("--slices", type=Path, metavar="RUN", help="folder of a run of training.train_slices")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--name", required=True)
    parser.add_argument("--shards", type=Path, nargs="+", required=True, action="extend")
    parser.add_argument("--splits", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--text", action="append", default=[], metavar="KEY=TEXT", help=f"of {', '.join(TEXTS[1:])}")
    limits = ", ".join(one.name for one in fields(Domain))
    parser.add_argument("--domain", action="append", default=[], metavar="KEY=LOW,HIGH", help=f"of {limits}")
    parser.add_argument("--cut-off", type=float, metavar="P", help="cut-off of islands, instead of the run's")
    parser.add_argument(
        "--calibration", type=float, nargs=2, metavar=("SLOPE", "INTERCEPT"), help="instead of the run's"
    )
    parser.add_argument("--half", action="store_true", help="store weights as 16-bit numbers: half the size")
    parser.add_argument("--metrics", type=Path, metavar="FILE.json", help="figures of an evaluation, for the manifest")
    parser.add_argument("--compare", type=int, default=2, help="validation scans whose scores are compared (default 2)")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    trained = read_trained(options.trained)
    slices = None if options.slices is None else read_trained_slices(options.slices)
    shards = ShardSet.open(*options.shards)
    splits = Splits.load(options.splits)
    metadata = _metadata(options, shards, splits)
    scans = scans_of(shards, splits.validation)[: options.compare]
    bundle = export_bundle(trained, options.out, metadata, [shards.ct(n) for n in scans], slices)
    print(f"Bundle: {bundle.folder}")
    return DONE


def _metadata(options: argparse.Namespace, shards: ShardSet, splits: Splits) -> BundleMetadata:
    trained_on = scans_of(shards, splits.train)
    texts = {"name": options.name, "trained_on": trained_on_text(shards, trained_on)}
    texts |= dict(_pair(text, "--text", "KEY=TEXT") for text in options.text)
    limits: dict[str, tuple[float | str, float | str]] = dict(limits_of(shards, trained_on))
    for text in options.domain:
        key, value = _pair(text, "--domain", "KEY=LOW,HIGH")
        low, comma, high = value.partition(",")
        if key not in Domain.__dataclass_fields__ or not comma:
            known = ", ".join(Domain.__dataclass_fields__)
            raise InputRefused("input", f"--domain: expected one of {known}, such as kvp=80,140; found {text!r}")
        limits[key] = (low, high)
    try:
        domain = Domain(**{key: (float(low), float(high)) for key, (low, high) in limits.items()})
        metrics = {} if options.metrics is None else json.loads(options.metrics.read_text(encoding="utf-8"))
        calibration = None if options.calibration is None else Calibration(*options.calibration)
        lineage = lineage_of(shards, splits)
        attribution = _credits(options, shards)
        return BundleMetadata(texts, domain, options.cut_off, calibration, metrics, lineage, options.half, attribution)
    except (OSError, ValueError) as error:
        raise InputRefused("input", f"cannot export with these settings: {error}") from None


def _credits(options: argparse.Namespace, shards: ShardSet) -> list[dict[str, Any]]:
    """Of these scans, and of what the runs began with."""
    runs = [run for run in (options.trained, options.slices) if run is not None]
    return merged_credits(credits_of_scans(shards.scans), *map(credits_of_start, runs))


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputRefused("input", f"{option}: expected {form}, found {text!r}")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
