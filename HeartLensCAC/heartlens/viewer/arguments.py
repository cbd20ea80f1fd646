"""The command line of `heartlens review`, also for a cohort; what it does is imported when it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heartlens.app.comparing import add_two_scans
from heartlens.app.options import UsageError

DONE = 0

ToRead = Sequence[tuple[Path, str, str]]
"""Case folder, name for the page and need of each scan of a cohort, in the order in which they are read."""

OfCohort = Callable[[Path, str], ToRead]
"""The scans of a cohort, by its folder and the beginning of a key of settings."""


def add_review(commands: Any, of_cohort: OfCohort) -> None:
    """Add the command to those of the command line.

    Parameters
    ----------
    commands
        Of the command line.
    of_cohort
        Where the scans of a cohort are asked for: the viewer knows none.
    """
    review = commands.add_parser("review", help="read cases in the browser: look, correct, sign")
    review.add_argument(
        "input", type=Path, nargs="+",
        help="case folder, result folder, folder of results, cohort, or a CT, which is scored",
    )  # fmt: skip
    review.add_argument("--out", type=Path, help="for a CT: result folder to make (default: its name and -result)")
    _add_serving(review)
    review.add_argument(
        "--export-html", type=Path, metavar="FILE", help="make one file that shows the case, read-only and unserved"
    )
    review.add_argument(
        "--second", type=Path, metavar="DIR", help="read blind: begin again with the automatic result, in a new folder"
    )
    review.add_argument("--against", type=Path, metavar="SECOND", help="show this second reading beside the first")
    review.add_argument(
        "--adjudicate", type=Path, metavar="DIR", help="with --against: result folder of the third case"
    )
    review.add_argument(
        "--prior", type=Path, metavar="PRIOR", help="case or report folder of an earlier scan, to be shown beside it"
    )
    add_two_scans(review)
    review.set_defaults(run=lambda options: _run(options, of_cohort))


def add_cohort_review(steps: Any, of_cohort: OfCohort) -> None:
    """Add the step of `heartlens cohort`.

    Parameters
    ----------
    steps
        Of the command.
    of_cohort
        As for `add_review`.
    """
    review = steps.add_parser("review", help="read the scans in the browser, those that need a reader most first")
    review.add_argument("folder", type=Path, metavar="DIR", help="folder of the cohort")
    review.add_argument(
        "--settings",
        default="",
        metavar="KEY",
        help="version, bundle and options of an earlier run (default: the last)",
    )
    _add_serving(review)
    review.set_defaults(run=lambda options: _run_cohort(options, options.folder, options.settings, of_cohort))


def _add_serving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: a free one)")
    parser.add_argument("--reader", default="", metavar="NAME", help="who edits; kept with each edit")
    parser.add_argument("--identify", action="store_true", help="show patient ID and name on the page")


def _run(options: argparse.Namespace, of_cohort: OfCohort) -> int:
    from heartlens.viewer.command import review

    cohorts = [place for place in options.input if (place / "cohort.json").is_file()]
    if cohorts:
        others = ("out", "export_html", "second", "against", "adjudicate", "prior")
        given = [f"--{name.replace('_', '-')}" for name in others if getattr(options, name) is not None]
        if len(options.input) > 1 or given:
            what = given[0] if given else f"{len(options.input)} places"
            raise UsageError(f"{cohorts[0]} is a cohort, which is read alone and without {what}: name its results")
        return _run_cohort(options, cohorts[0], "", of_cohort)
    of_two = [options.prior_date, options.current_date, options.same_person or None]
    if options.prior is None and any(one is not None for one in of_two):
        names = ("--prior-date", "--current-date", "--same-person")
        first = next(name for name, one in zip(names, of_two, strict=True) if one is not None)
        raise UsageError(f"{first} is said of two scans: name the earlier one with --prior")
    prior = None
    if options.prior is not None:
        from heartlens.viewer.command import PriorScan

        days = (options.prior_date, options.current_date)
        prior = PriorScan(options.prior, days, options.same_person)
    review(
        options.input, out=options.out, port=options.port, reader=options.reader, identify=options.identify,
        copy=options.export_html, second=options.second, against=options.against, adjudicate=options.adjudicate,
        prior=prior,
    )  # fmt: skip
    return DONE


def _run_cohort(options: argparse.Namespace, folder: Path, settings: str, of_cohort: OfCohort) -> int:
    from heartlens.viewer.command import review_cohort

    review_cohort(
        folder, of_cohort(folder, settings), port=options.port, reader=options.reader, identify=options.identify
    )
    return DONE
