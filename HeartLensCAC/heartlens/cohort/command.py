"""The command `heartlens cohort`: plan, run, one, status, table; `review` is added by the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartlens.app.console import say
from heartlens.app.options import UsageError, add_score_options, request_of

if TYPE_CHECKING:
    from collections import Counter

    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.planning.archive import Fetched

DONE = 0

LISTED = ("series", "age", "sex", "race")
"""Options of scoring that mean one scan or one person; a CSV list says them of each."""

OF_ONE_SCAN = ("segmentation", "predecessor", "risk_factors")
"""Options that mean one scan or one person, and have no column."""

OF_ONE_RESULT = ("identify", "key_page", "pdf", "fhir")
"""Options that add to a result what a cohort does not make."""

OF_THE_PLAN = ("force",)


def add_cohort(commands: Any) -> Any:
    """Add the command to those of the command line, and give its steps: one of them is not this package's."""
    cohort = commands.add_parser("cohort", help="score thousands of scans and make tables of the results")
    steps = cohort.add_subparsers(required=True, metavar="STEP")

    plan = steps.add_parser("plan", help="find the series of folders or CSV lists, and choose")
    plan.add_argument("source", type=Path, nargs="*", help="folder, file, or CSV list with a column path")
    plan.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the cohort")
    plan.add_argument(
        "--one-per",
        choices=("study", "patient", "all"),
        default="study",
        help="score one series of each (default study)",
    )
    plan.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="key of the pseudonyms; or in HEARTLENS_COHORT_KEY; else there are none",
    )
    _add_archive(plan)
    add_score_options(plan)
    for action in plan._actions:
        if action.dest in (*LISTED, *OF_ONE_SCAN, *OF_ONE_RESULT):
            action.help = argparse.SUPPRESS
        elif action.dest in OF_THE_PLAN:
            action.help = "plan again in a cohort that is there; its results stay"
    plan.set_defaults(run=run_plan)

    run = steps.add_parser("run", help="score what is planned and not done")
    _add_folder(run)
    run.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default 1; 0: this one, without Dask)"
    )
    run.add_argument(
        "--memory", default="2GiB", metavar="SIZE", help="most of a worker, then it is ended (default 2GiB)"
    )
    run.add_argument("--scheduler", default="", metavar="tcp://HOST:PORT", help="a Dask scheduler that runs already")
    run.add_argument("--slurm", type=Path, metavar="FILE.toml", help="jobs of SLURM, by dask-jobqueue")
    run.add_argument("--limit", type=int, metavar="N", help="score N series and end")
    run.add_argument("--retry", default="", metavar="WORD,…", help="also those with this status or code, such as crash")
    run.add_argument(
        "--keep", choices=("all", "none"), default="all", help="result folders (none: rows alone, no review)"
    )
    run.set_defaults(run=run_run)

    one = steps.add_parser("one", help="score one series in this process, as a job of an array")
    _add_folder(one)
    one.add_argument("key", help="of the series, or its beginning")
    one.add_argument(
        "--keep", choices=("all", "none"), default="all", help="result folders (none: rows alone, no review)"
    )
    one.set_defaults(run=run_one)

    status = steps.add_parser("status", help="say what is done and why series have no result")
    _add_folder(status)
    _add_settings(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument("--keys", action="store_true", help="print the keys that wait, one a line, and nothing else")
    status.set_defaults(run=run_status)

    table = steps.add_parser("table", help="write the tables and the page")
    _add_folder(table)
    _add_settings(table)
    table.add_argument("--no-pairs", action="store_true", help="do not compare scans of one person, which opens both")
    table.add_argument(
        "--truth", type=Path, metavar="FILE.csv",
        help="known scores or a second reader: columns agatston, and key, series_uid or subject (exam, scan)",
    )  # fmt: skip
    table.set_defaults(run=run_table)
    return steps


def _add_archive(plan: argparse.ArgumentParser) -> None:
    archive = plan.add_argument_group("archive", "Instead of a source: fetch CT into DIR/scans, and plan that.")
    archive.add_argument("--pacs", default="", metavar="NAME", help="table of pacs.toml; see docs/pacs.md")
    archive.add_argument("--config", type=Path, metavar="FILE", help="pacs.toml, as heartlens pacs takes it")
    archive.add_argument("--date", default="", metavar="A-B", help="a day or a range, such as 20240101-20240131")
    archive.add_argument("--patient-id", default="", metavar="X", help="as the archive has it")
    archive.add_argument("--study", default="", metavar="UID", help="one study")
    archive.add_argument("--limit", type=int, default=1000, metavar="N", help="so many studies at most (1000)")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the cohort")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings",
        default="",
        metavar="KEY",
        help="version, bundle and options of an earlier run (default: the last)",
    )


def run_plan(options: argparse.Namespace) -> int:
    """Find the series, choose, and write the plan."""
    from heartlens.cohort.folder import SCANS, CohortFolder
    from heartlens.cohort.identity import read_key
    from heartlens.cohort.planning.find import PASSED_OVER, Finder, unfetched
    from heartlens.cohort.planning.plan import listed_once, plan_rows
    from heartlens.cohort.planning.sources import sources_of
    from heartlens.cohort.progress import FindProgress

    if bool(options.source) == bool(options.pacs):
        raise UsageError("say where the scans are: folders or CSV lists, or --pacs NAME")
    if not options.pacs and (options.config or options.date or options.patient_id or options.study):
        raise UsageError("--config, --date, --patient-id and --study ask an archive: give --pacs NAME")
    words = words_of(options)
    request = request_of(options)
    folder = CohortFolder(options.out)
    folder.require_free(force=options.force)
    key = read_key(options.key_file)
    fetched = _fetch(options, folder) if options.pacs else None
    sources, notes = sources_of(options.source or [folder.path / SCANS])
    progress = FindProgress()
    finder = Finder(allow=request.allow, key=key, on_progress=progress.tell)
    found = finder.find(sources)
    progress.close()
    if fetched is not None:
        found += [unfetched(place, text) for place, text in fetched.troubles]
        if not fetched.is_all:
            notes.append(f"{options.limit} studies, and perhaps more; narrow --date, or raise --limit")
    rows = plan_rows(listed_once(found), one_per=options.one_per, allow=request.allow)
    folder.write_plan(rows, {"options": words, "one_per": options.one_per, "has_pseudonyms": key is not None})
    notes += [f"{finder.passed_over[kind]} {text}" for kind, text in PASSED_OVER.items() if finder.passed_over[kind]]
    if key is None:
        notes.append("no key was given, so there are no pseudonyms: scans of one person are not tied to each other")
    for note in notes:
        say(f"note: {note}")
    print("\n".join(plan_lines(rows)))
    print(f"Plan: {folder.plan_path}")
    return DONE


def _fetch(options: argparse.Namespace, folder: CohortFolder) -> Fetched:
    """Bring the scans of an archive into the folder of the cohort."""
    from heartlens.cohort.folder import SCANS
    from heartlens.cohort.planning.archive import fetch_scans
    from heartlens.pacs.archive import Query, require_uid

    if options.study:
        require_uid(options.study, "--study")
    query = Query(options.date, "CT", options.patient_id, options.study, max(1, options.limit))
    return fetch_scans(options.pacs, options.config, query, folder.path / SCANS, say)


def words_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options of scoring that are not the default, by their names on the command line.

    Raises
    ------
    UsageError
        One that means one scan.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_score_options(parser)
    words: dict[str, Any] = {}
    for action in parser._actions:
        value = getattr(options, action.dest)
        if value == action.default or action.dest in OF_THE_PLAN:
            continue
        name = action.option_strings[0][2:]
        if action.dest in LISTED:
            raise UsageError(f"--{name} means one scan; a CSV list says of each what is known (column {name})")
        if action.dest in OF_ONE_SCAN:
            raise UsageError(f"--{name} means one scan, and not a cohort; heartlens score takes it")
        if action.dest in OF_ONE_RESULT:
            raise UsageError(f"--{name} is not made for a cohort; heartlens score makes it of one scan")
        words[name] = value
    if options.pacs:
        words["embed-ct"] = True  # or no case would open when the scans that were fetched are deleted
    bundle = words.get("bundle")
    if bundle is not None and Path(bundle).is_dir():
        words["bundle"] = str(Path(bundle).resolve())  # workers start elsewhere
    return words


def plan_lines(rows: list[dict[str, Any]]) -> list[str]:
    """What was planned, counted.

    Parameters
    ----------
    rows
        Of the plan.
    """
    from collections import Counter

    fates = Counter((row["status"], row["code"] or "") for row in rows)
    lines = [f"{len(rows)} series found"]
    for (status, code), count in sorted(fates.items(), key=lambda item: -item[1]):
        lines.append(f"  {count:>7} {status}" + (f": {code}" if code and code != status else ""))
    return lines


def run_run(options: argparse.Namespace) -> int:
    """Score, and say how many of each status."""
    from heartlens.cohort.cluster import Workers, read_slurm
    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.run import run_cohort

    if options.workers < 0 or (options.limit is not None and options.limit < 0):
        raise UsageError("--workers and --limit take 0 or more")
    if options.scheduler and options.slurm:
        raise UsageError("--scheduler and --slurm exclude each other")
    if options.slurm and not options.workers:
        raise UsageError("--slurm needs --workers: how many jobs to ask for")
    slurm = {} if options.slurm is None else read_slurm(options.slurm)
    workers = Workers(options.workers, options.memory, options.scheduler, slurm)
    retry = retry_of(options.retry)
    folder = CohortFolder.open(options.folder)
    made = run_cohort(folder, workers, limit=options.limit, retry=retry, keep=options.keep == "all")
    print(counts_line(made))
    return DONE


def retry_of(text: str) -> frozenset[str]:
    """Statuses and codes, separated by commas.

    Raises
    ------
    UsageError
        A word that is neither: nothing would be made again, and nobody would see why.
    """
    from heartlens.cohort.row import FAILED, HELD, SCORED
    from heartlens.cohort.work import CRASH, REFUSED
    from heartlens.core.errors import FINAL, OVERRIDABLE
    from heartlens.risk.evaluable import EVALUABLE_BY_CODE

    statuses = (SCORED, HELD, REFUSED, FAILED)
    codes = {CRASH, "memory", *FINAL, *OVERRIDABLE, *EVALUABLE_BY_CODE}
    words = frozenset(word.strip() for word in text.split(",") if word.strip())
    if unknown := words - codes - set(statuses):
        raise UsageError(
            f"--retry: {', '.join(sorted(unknown))} is no status ({', '.join(statuses)}) and no code; "
            "heartlens cohort status lists those that there are"
        )
    return words


def counts_line(counts: Counter[str]) -> str:
    """Rows of each status in a line."""
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return text or "nothing to do: every planned series has its row"


def run_one(options: argparse.Namespace) -> int:
    """Score one series."""
    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.run import score_one

    print(score_one(CohortFolder.open(options.folder), options.key, keep=options.keep == "all"))
    return DONE


def run_status(options: argparse.Namespace) -> int:
    """Say how far the cohort is."""
    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.planning.plan import PLANNED
    from heartlens.cohort.settings import settings_of
    from heartlens.cohort.status import status_of

    folder = CohortFolder.open(options.folder)
    if options.keys:
        settings, _ = settings_of(folder.document["options"])
        done = folder.keys_with_rows(settings)
        keys = (row["key"] for row in folder.planned(("key",), where="status = ?", values=[PLANNED]))
        waiting = [key for key in keys if key not in done or folder.row(key, settings) is None]
        print("\n".join(waiting))
        return DONE
    status = status_of(folder, options.settings)
    print(json.dumps(status.to_json(), indent=1) if options.json else "\n".join(status.lines()))
    return DONE


def run_table(options: argparse.Namespace) -> int:
    """Write tables and page."""
    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.page.agreement import read_truth
    from heartlens.cohort.page.write import PAGE, write_page
    from heartlens.cohort.tables.table import CohortTable

    folder = CohortFolder.open(options.folder)
    truth = None if options.truth is None else read_truth(options.truth)
    table = CohortTable(folder, options.settings)
    counts = table.write(pairs=not options.no_pairs)
    for note in table.notes():
        say(f"note: {note}")
    write_page(folder, table.settings, truth)
    print(counts_line(counts))
    print(f"Page: {folder.path / PAGE}")
    return DONE
