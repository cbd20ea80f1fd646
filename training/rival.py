"""nnU-Net v2 on the same patients: planned, trained, asked, and judged by the statistics that judge HeartLens.

python -m training.rival --shards DIR --splits FILE --out DIR [--size full|smoke] [--device cuda]
python -m training.rival --shards DIR --splits FILE --out DIR --prediction DIR [--layout FILE]    any other program

Training and validation patients of the split are its fold, test patients are asked, and the report is that of
training.evaluate. nnU-Net runs in an environment of its own (make .venv-nnunet/installed). The same command resumes.
With --prediction nothing is trained: the test patients lie in OUT/imagesTs for the other program, whose folder of
their segmentations is judged. Without that folder the images are written, and that is said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from heartlens.core.errors import InputRefused
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits
from training.engine.cli import DONE, add_data, command_named, run_command
from training.engine.run_log import make_run_folder
from training.evaluation.rivals.nnunet import (
    PREDICTIONS,
    REFERENCE,
    SIZES,
    TESTED,
    begin,
    run_nnunet,
    write_dataset,
    write_questions,
)

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
    parser.add_argument("--prediction", type=Path, metavar="DIR",
                        help="judge this folder of another program's segmentations of OUT/imagesTs")  # fmt: skip
    parser.add_argument("--layout", type=Path, metavar="FILE.toml", help="of --prediction, as in training.evaluate")
    parser.add_argument("--draws", type=int, help="bootstrap draws of the report")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    size = SIZES[options.size]
    if options.configuration is not None:
        size = replace(size, configuration=options.configuration)
    out = options.out.absolute()
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    if options.layout is not None and options.prediction is None:
        raise InputRefused("input", "--layout goes with --prediction; give the folder of segmentations too")
    if options.prediction is None:
        begin(shards, splits, out, size)
        write_dataset(shards, splits, out)
        run_nnunet(options.python, out, size, options.device)
    else:
        make_run_folder(out)
        write_questions(shards, splits, out)
        if not options.prediction.exists():
            names = "NAME/STRUCTURE.nii.gz or NAME.nii.gz"
            print(f"{out / TESTED}: scans to segment as {options.prediction / names}; then run the same command")
            return DONE
    predictions = options.prediction or out / PREDICTIONS
    words = ["--reference", str(out / REFERENCE), "--prediction", str(predictions), "--out", str(out / "report")]
    words.append("--force")  # of this run alone: `begin` has refused another one's folder
    if options.layout is not None:
        words += ["--layout", str(options.layout)]
    if options.draws is not None:
        words += ["--draws", str(options.draws)]
    code = command_named("evaluate")(words)
    if code == DONE:
        print(f"{'nnU-Net' if options.prediction is None else 'Judged'}: {out}")
    return code


if __name__ == "__main__":
    sys.exit(main())
