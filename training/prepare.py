"""Make shards and splits from phantoms, a COCA download or saved cases.

python -m training.prepare phantoms --out SHARDS --count 100 [--seed N] [--balanced] [--set KEY=VALUE ...]
python -m training.prepare coca DOWNLOAD --out SHARDS [--workers N]
python -m training.prepare cases CASE ... --out SHARDS
python -m training.prepare split SHARDS ... --out splits.json [--seed N]
python -m training.prepare check SHARDS ... [--splits splits.json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from heartlens.core.atomic import check_folder
from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.risk.categories import SCHEMES
from training.datasets.scans import LabeledScan, Skipped
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.splits import PAPER_PROPORTIONS, SCHEME, SPLITS, Splits, check_splits, scans_of, split_patients
from training.engine.cli import CANCELLED, DONE, Progress, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return run_command(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.prepare", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    phantoms = commands.add_parser("phantoms", help="synthetic chest CTs with known calcium")
    phantoms.add_argument("--out", type=Path, required=True, help="folder to make")
    phantoms.add_argument("--count", type=int, required=True, help="how many")
    phantoms.add_argument("--seed", type=int, default=0, help="of the first; the others follow (default 0)")
    phantoms.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter, such as matrix=128 (repeatable)"
    )
    phantoms.add_argument(
        "--balanced", action="store_true", help="every calcium category equally often, not as in a population"
    )
    phantoms.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    phantoms.set_defaults(run=_run_phantoms)

    coca = commands.add_parser("coca", help="a COCA download, gated and non-gated")
    coca.add_argument("root", type=Path, help="folder that holds patient/ and calcium_xml/, or scores.xlsx, somewhere")
    coca.add_argument("--out", type=Path, required=True, help="folder to make")
    coca.add_argument("--allow", action="append", default=[], choices=sorted(OVERRIDABLE), metavar="CODE")
    coca.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    coca.set_defaults(run=_run_coca)

    cases = commands.add_parser("cases", help="case folders saved by HeartLens, with the reader's edits")
    cases.add_argument("case", type=Path, nargs="+", help="a case/ folder, or the result folder around it")
    cases.add_argument("--out", type=Path, required=True, help="folder to make")
    cases.add_argument("--accept-automatic", action="store_true", help="also use labels that no reader reviewed")
    cases.set_defaults(run=_run_cases)

    split = commands.add_parser("split", help="split patients into training, validation and test")
    split.add_argument("shards", type=Path, nargs="+")
    split.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    split.add_argument("--seed", type=int, default=0)
    split.add_argument(
        "--proportions", type=float, nargs=3, default=PAPER_PROPORTIONS, metavar=("TRAIN", "VALIDATION", "TEST")
    )
    split.set_defaults(run=_run_split)

    check = commands.add_parser("check", help="compare checksums and print what the shards hold")
    check.add_argument("shards", type=Path, nargs="+")
    check.add_argument("--splits", type=Path, metavar="FILE.json")
    check.add_argument("--json", action="store_true", help="print JSON, with every note")
    check.set_defaults(run=_run_check)
    return parser


def _run_phantoms(options: argparse.Namespace) -> int:
    from training.datasets.sources import phantom_scans

    if options.count < 1:
        raise InputRefused("input", f"--count must be 1 or more, got {options.count}")
    seeds = range(options.seed, options.seed + options.count)
    scans = phantom_scans(seeds, options.set, balanced=options.balanced, workers=options.workers)
    return _write(options.out, scans, "phantom", options.count)


def _run_coca(options: argparse.Namespace) -> int:
    from training.datasets.sources import coca_scans

    check_folder(options.out.absolute())
    parts = options.out.with_name(f"{options.out.name}-parts")
    scans = coca_scans(options.root, allow=frozenset(options.allow), workers=options.workers, parts=parts)
    try:
        code = _write(options.out, scans, "scan")
    except KeyboardInterrupt:
        print(f"stopped; what was read is kept in {parts}; run the same command to resume", file=sys.stderr)
        return CANCELLED
    shutil.rmtree(parts)
    return code


def _run_cases(options: argparse.Namespace) -> int:
    from training.datasets.sources import case_scans

    scans = case_scans(options.case, accept_automatic=options.accept_automatic)
    return _write(options.out, scans, "case", len(options.case))


def _write(out: Path, scans: Iterable[LabeledScan | Skipped], what: str, total: int | None = None) -> int:
    bar = Progress(what, total)
    try:
        shards = write_shards(out, scans, progress=bar.step)
    finally:
        bar.close()
    print(summary(shards))
    print(f"\nShards: {out}")
    return DONE


def _run_split(options: argparse.Namespace) -> int:
    shards = ShardSet.open(*options.shards)
    splits = split_patients(shards, seed=options.seed, proportions=tuple(options.proportions))
    if options.out.exists() and Splits.load(options.out) != splits:
        raise InputRefused(
            "output",
            f"{options.out} holds other splits: who was tested on must not change; give another --out, or delete it "
            "if no result rests on it",
        )
    splits.save(options.out)
    print(splits_table(shards, splits))
    print(f"\nSplits: {options.out}")
    return DONE


def _run_check(options: argparse.Namespace) -> int:
    shards = ShardSet.open(*options.shards)
    bar = Progress("file")
    try:
        shards.verify(bar.step)
    finally:
        bar.close()
    splits = None if options.splits is None else Splits.load(options.splits)
    if splits is not None:
        check_splits(shards, splits)
    if options.json:
        notes = {scan.name: [scan.why_unlabelled, *scan.notes] for scan in shards.scans}
        skipped = [skip.__dict__ for skip in shards.skipped]
        json.dump({"scans": len(shards.scans), "skipped": skipped, "notes": notes}, sys.stdout, indent=1)
        print()
        return DONE
    print(summary(shards))
    if splits is not None:
        print(f"\n{splits_table(shards, splits)}")
    print("\nEvery file is what was written.")
    return DONE


def summary(shards: ShardSet) -> str:
    """What the shards hold, what was skipped and what carries notes, as text."""
    lines = []
    for source, count in sorted(Counter(scan.source for scan in shards.scans).items()):
        scans = [scan for scan in shards.scans if scan.source == source]
        labeled = sum(scan.is_labeled for scan in scans)
        slices = sum(scan.shape[0] for scan in scans)
        calcified = sum(len(scan.calcified_slices) for scan in scans)
        lines.append(f"{source}: {count} scans, {labeled} labeled, {slices} slices, {calcified} with calcium")
    for reason, count in Counter(scan.why_unlabelled for scan in shards.scans if not scan.is_labeled).most_common(8):
        lines.append(f"  not labeled: {count} scans: {reason}")
    noted = [(scan.name, note) for scan in shards.scans for note in scan.notes]
    for name, note in noted[:10]:
        lines.append(f"  note: {name}: {note}")
    if len(noted) > 10:
        lines.append(f"  and {len(noted) - 10} more notes; python -m training.prepare check --json lists them all")
    if shards.skipped:
        lines.append(f"skipped: {len(shards.skipped)}")
        lines += [f"  {skip.name}: {skip.code}: {skip.text}" for skip in shards.skipped]
    return "\n".join(lines)


def splits_table(shards: ShardSet, splits: Splits) -> str:
    """Patients of each part in each category, as the paper's Table 2."""
    lines = ["category   " + "".join(f"{name:>12}" for name in SPLITS)]
    rows = SCHEMES[SCHEME].categories
    order = [row.category for row in rows]
    totals = []
    counts = []
    for name in SPLITS:
        worst: dict[str, int] = {}
        for n in scans_of(shards, getattr(splits, name)):
            scan = shards.scans[n]
            worst[scan.patient] = max(worst.get(scan.patient, 0), order.index(scan.category or order[0]))
        counts.append(Counter(worst.values()))
        totals.append(len(worst))
    for n, row in enumerate(rows):
        lines.append(f"{row.shown:<11}" + "".join(f"{count[n]:>12}" for count in counts))
    lines.append(f"{'total':<11}" + "".join(f"{total:>12}" for total in totals))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
