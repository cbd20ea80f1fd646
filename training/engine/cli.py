"""What all training commands share: words on their command line, and how they end.

They end as the command `heartlens` does: 0 done, 1 a run that died, 2 usage, 3 refused in one line, 4 cancelled.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from heartlens.core.errors import InputRefused

DONE, FAILED, USAGE, REFUSED, CANCELLED = 0, 1, 2, 3, 4
"""`FAILED`: a run that died and said why; its checkpoints are left for a look."""


def training_parser(module: str, doc: str | None, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """The command line of a training loop: recipe, changes to it, shards, splits, folder of the run, device.

    Parameters
    ----------
    module
        its name, such as "train_unet"
    doc
        Its docstring; the first line describes the command.
    run
        Does the work, and gives the exit code.
    """
    parser = argparse.ArgumentParser(prog=f"python -m training.{module}", description=(doc or "").splitlines()[0])
    parser.add_argument("recipe", type=Path, help="TOML file, see training/runs")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings that differ from the recipe")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumes an existing run")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--minutes", dest="deadline", type=deadline_after, metavar="N",
        help="time budget: save and stop after the first step that ends later; the same command resumes",
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def deadline_after(minutes: str) -> float:
    """The moment, in seconds of `time.monotonic`, at which so many minutes from now are over.

    Raises
    ------
    argparse.ArgumentTypeError
        No positive number.
    """
    try:
        value = float(minutes)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of minutes above 0, got {minutes}")
    return time.monotonic() + 60 * value


def add_data(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--shards DIR ... --splits FILE``."""
    parser.add_argument("--shards", type=Path, nargs="+", required=required, action="extend", metavar="DIR")
    parser.add_argument("--splits", type=Path, required=required, metavar="FILE.json")


def run_training(train: Callable[[], bool], out: Path) -> int:
    """Call a loop, say how it ended, and give the exit code.

    Parameters
    ----------
    train
        Gives whether the run is complete.
    out
        Folder of the run.
    """
    from training.engine.monitor import TrainingFailed

    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("training").setLevel(logging.INFO)  # ours alone: libraries say more than anybody wants to read
    try:
        is_complete = train()
    except TrainingFailed as death:
        print(f"error: dead-run: {death}", file=sys.stderr)
        return FAILED
    if not is_complete:
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    print(f"Run: {out}")
    return DONE


def command_named(name: str) -> Callable[[Sequence[str]], int]:
    """The `main` of a command of training; commands are found by their names, because nothing imports one."""
    main: Callable[[Sequence[str]], int] = importlib.import_module(f"training.{name}").main
    return main


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Parse, call the options' `run`, and turn a refusal into one line on stderr; returns the exit code."""
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except InputRefused as refusal:
        print(f"error: {' '.join(str(refusal).split())}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("cancelled; nothing was written", file=sys.stderr)
        return CANCELLED
    except BrokenPipeError:  # the reader of our output has gone (... | head)
        sys.stderr.close()
        return DONE


class Progress:
    """One line on stderr that counts up; silent when nobody watches."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._shown = sys.stderr.isatty()

    def step(self, detail: str = "") -> None:
        """Count one more, and show it with a detail."""
        self.done += 1
        if self._shown:
            of = "" if self.total is None else f" of {self.total}"
            print(f"\r\x1b[K{self.what} {self.done}{of} {detail}"[:150], end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clear the line."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
