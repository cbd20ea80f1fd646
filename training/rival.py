"""nnU-Net v2 on the same patients: planned, trained, asked, and judged by the statistics that judge HeartLens.

python -m training.rival --shards DIR --splits FILE --out DIR [--size full|smoke] [--device cuda]

Training and validation patients of the split are its fold, test patients are asked, and the report is that of
training.evaluate. nnU-Net runs in an environment of its own (make .venv-nnunet/installed). The same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.datasets.shards import ShardSet
from training.datasets.splits import Splits
from training.engine.cli import DONE, add_data, command_named, run_command
from training.evaluation.rivals.nnunet import PREDICTIONS, REFERENCE, SIZES, begin, run_nnunet, write_dataset

PYTHON = Path(__file__).resolve().parents[1] / ".venv-nnunet" / "bin" / "python"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.rival", description=(__doc__ or "").splitlines()[0])
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumes an existing run")
    parser.add_argument(
        "--size", choices=sorted(SIZES), default="full", help="full: as nnU-Net trains; smoke: two steps (default full)"
    )
    parser.add_argument("--configuration", help="of nnU-Net's plans (default: 3d_fullres; at size smoke 2d)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--python", type=Path, default=PYTHON, help="of nnU-Net's environment (default .venv-nnunet)")
    parser.add_argument("--draws", type=int, help="bootstrap draws of the report")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    size = SIZES[options.size]
    if options.configuration is not None:
        size = replace(size, configuration=options.configuration)
    out = options.out.absolute()
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    begin(shards, splits, out, size)
    write_dataset(shards, splits, out)
    run_nnunet(options.python, out, size, options.device)
    words = ["--reference", str(out / REFERENCE), "--prediction", str(out / PREDICTIONS), "--out", str(out / "report")]
    words.append("--force")  # of this run alone: `begin` has refused another one's folder
    if options.draws is not None:
        words += ["--draws", str(options.draws)]
    code = command_named("evaluate")(words)
    if code == DONE:
        print(f"nnU-Net: {out}")
    return code


if __name__ == "__main__":
    sys.exit(main())
