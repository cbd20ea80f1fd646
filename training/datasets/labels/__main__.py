"""Export labels from saved cases.

python -m training.datasets.labels CASE ... --format nnunet|nifti|coco|coca --out DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.datasets.labels import FORMATS, export_labels
from training.datasets.scans import LabeledScan
from training.datasets.sources import case_scan
from training.engine.cli import DONE, Progress, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.datasets.labels",
        description="Write the labels of saved cases for other programs to train on.",
    )
    parser.add_argument("case", type=Path, nargs="+", help="a case/ folder, or the result folder around it")
    parser.add_argument("--format", choices=tuple(FORMATS), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    bar = Progress("case", len(options.case))

    def scans() -> Iterator[LabeledScan]:
        for folder in options.case:
            bar.step()
            yield case_scan(folder)

    try:
        count = export_labels(options.out, scans(), options.format)
    finally:
        bar.close()
    print(f"{count} cases as {options.format}: {options.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
