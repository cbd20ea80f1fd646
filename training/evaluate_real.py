"""What a bundle makes of the few real scans whose answer is known, with a picture of every miss.

python -m training.evaluate_real DATA --out DIR [--bundle NAME|DIR|none] [--docs docs/models.md]

DATA is a folder of openly licensed scans that is not part of HeartLens; training never sees it. Writes real.md,
real.json with the statistics of docs/method.md, section 9, and pictures. The pictures show people: they stay in --out
and go nowhere else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heartlens.case.case import Case
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import SCORED_ARTERIES
from heartlens.networks.bundle import RULES, find_bundle, load_bundle
from heartlens.pipeline import Request
from training.engine.cli import DONE, run_command
from training.engine.json_records import to_plain
from training.engine.run_log import make_run_folder
from training.evaluation.plots import labels_figure, save_png
from training.evaluation.sources.real import SCANS, RealScan, real_patients
from training.evaluation.statistics import summarize
from training.evaluation.tables import REAL_MARKS, put_into, real_table
from training.metrics.intervals import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED

SCHEMA = "heartlens.real-evaluation/1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate_real", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder of the real scans")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table and pictures of misses")
    parser.add_argument("--bundle", metavar="NAME|DIR|none", help="default: the installed one")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="write the table between the markers of this page")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    if not options.data.is_dir():
        raise InputRefused(
            "input", f"{options.data}: expected the folder of real scans, found none; it is not distributed"
        )
    make_run_folder(options.out)

    def draw_misses(scan: RealScan, way: str, case: Case, misses: tuple[str, ...]) -> None:
        if misses:
            path = options.out / f"miss-{SCANS.index(scan) + 1}-{way.replace(' ', '-')}.png"
            draw_case(scan, case, f"{scan.name}: {way}", path)
            print(f"picture of a miss: {path}", file=sys.stderr)

    patients = list(real_patients(options.data, _requests(options.bundle), on_case=draw_misses))
    text = real_table(patients, {scan.name: scan.expected for scan in SCANS})
    summary = summarize(patients, draws=BOOTSTRAP_DRAWS, seed=BOOTSTRAP_SEED)
    document = {"schema": SCHEMA, "patients": to_plain(patients), "summary": to_plain(summary)}
    with atomic_file(options.out / "real.json") as sibling:
        sibling.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    with atomic_file(options.out / "real.md") as sibling:
        sibling.write_text(text, encoding="utf-8")
    if options.docs is not None:
        put_into(options.docs, text, REAL_MARKS)
    print(text)
    return DONE


def _requests(bundle: str | None) -> dict[str, Request]:
    """The bundle with its slice stage and without, and the rules."""
    base = Request(bundle=bundle, device="cpu", allow=frozenset({"few-slices"}))
    folder = find_bundle(bundle)
    by_bundle = {}
    if folder is not None:
        by_bundle = {
            f"bundle {load_bundle(folder).title}": base,
            "without its slice stage": replace(base, slice_stage=False),
        }
    return {**by_bundle, "rules": replace(base, bundle=RULES)}


def draw_case(scan: RealScan, case: Case, title: str, path: Path) -> None:
    """The slice with most of what was called coronary, or else the middle one."""
    called = np.isin(case.scored_codes, SCORED_ARTERIES)
    count = called.sum(axis=(1, 2))
    k = int(count.argmax()) if count.any() else len(count) // 2
    save_png(labels_figure(case.source_ct.hu[k], called[k], scan.boxes, f"{title}, slice {k}"), path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
