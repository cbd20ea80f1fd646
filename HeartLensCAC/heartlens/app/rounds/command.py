"""The commands `heartlens second` and `heartlens third`: readings that begin with another, or with two.

They are for whatever program the case is read in.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from heartlens.app.options import UsageError

DONE = 0


def add_second(commands: Any) -> None:
    """Add the command to those of the command line."""
    second = commands.add_parser("second", help="begin a second reading of a case, blind to the first")
    second.add_argument("case", type=Path, help="case or report folder of the first reading; it is not changed")
    second.add_argument("--out", type=Path, required=True, help="report folder to make, or to go on with")
    second.add_argument("--reader", required=True, metavar="NAME", help="who reads second")
    second.set_defaults(run=run_second)


def run_second(options: argparse.Namespace) -> int:
    """Make the second reading, or see that the one that is there may be gone on with, and say where it lies.

    Raises
    ------
    UsageError
        No reader was named.
    InputRefused
        As `make_second` says.
    """
    from heartlens.app.rounds.readings import keep_apart, make_second

    reader = options.reader.strip()
    if not reader:
        raise UsageError("--reader needs a name: whose reading it is, is kept with each edit")
    keep_apart(options.case, [options.out])
    make_second(options.case, options.out, reader)
    print(options.out / "case")
    return DONE


def add_third(commands: Any) -> None:
    """Add the command to those of the command line."""
    third = commands.add_parser("third", help="begin a third case of two readings, which settles where they differ")
    third.add_argument("a", type=Path, help="case or report folder of a reading; it is not changed")
    third.add_argument("b", type=Path, help="the same, by another reader")
    third.add_argument("--out", type=Path, required=True, help="report folder to make, or to go on with")
    third.set_defaults(run=run_third)


def run_third(options: argparse.Namespace) -> int:
    """Make the third case of two readings, or see that the one that is there may be gone on with; say where it lies.

    Raises
    ------
    InputRefused
        As `make_third` says.
    """
    from heartlens.app.rounds.readings import keep_apart, make_third
    from heartlens.case.folder import find_case

    pair = (find_case(options.a), find_case(options.b))
    for reading in pair:
        keep_apart(reading, [options.out])
    make_third(pair, options.out)
    print(options.out / "case")
    return DONE
