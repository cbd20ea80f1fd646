"""The commands `heartlens progress` and `heartlens compare`."""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartlens.app.console import say
from heartlens.app.options import UsageError
from heartlens.core.errors import InputRefused

if TYPE_CHECKING:
    from heartlens.case.comparison.opened import OpenedCase
    from heartlens.case.comparison.readers import Comparison, Unmatched
    from heartlens.case.result import Result

DONE = 0


def add_comparing(commands: Any) -> None:
    """Add both commands to those of the command line."""
    progress = commands.add_parser("progress", help="say what has changed between two scans of one person")
    progress.add_argument("prior", type=Path, help="case or report folder of the earlier scan")
    progress.add_argument("current", type=Path, help="case or report folder of the later scan")
    _add_output(progress, "with progress.json, progress.html and, for DICOM, progress.dcm (which names the patient)")
    add_two_scans(progress)
    progress.set_defaults(run=run_progress)

    compare = commands.add_parser("compare", help="say where two readings of one scan, or of several, agree")
    compare.add_argument("a", type=Path, help="case or report folder, or a folder of them")
    compare.add_argument("b", type=Path, help="the same, by another reader")
    _add_output(compare, "with compare.json and a difference map of each scan")
    compare.add_argument(
        "--adjudicate", type=Path, metavar="DIR", help="report folder to make with a third case: what both call "
        "coronary, and the rest undecided",
    )  # fmt: skip
    compare.set_defaults(run=run_compare)


def add_two_scans(parser: argparse.ArgumentParser) -> None:
    """Add what a user may have to say of two scans.

    Parameters
    ----------
    parser
        Of a command that takes a prior and a current scan.
    """
    for name in ("prior", "current"):
        parser.add_argument(
            f"--{name}-date", type=_day, metavar="YYYY-MM-DD", help=f"day of the {name} scan, where no header says it"
        )
    parser.add_argument(
        "--same-person", action="store_true", help="both scans are of one person though their headers differ"
    )


def check_days(days: tuple[date | None, date | None], scans: tuple[OpenedCase, OpenedCase]) -> None:
    """Refuse a day that the user says and a header contradicts.

    Parameters
    ----------
    days
        Of the prior and the current scan; None where the user says nothing.
    scans
        Both.

    Raises
    ------
    UsageError
        They differ.
    """
    for given, one in zip(days, scans, strict=True):
        if given is not None and one.acquired is not None and given != one.acquired:
            raise UsageError(f"a header says that the scan is of {one.acquired}, not of {given}")


def _add_output(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--out", type=Path, help=f"folder to make {what}; without it nothing is written")
    parser.add_argument("--json", action="store_true", help="print JSON instead of sentences")
    parser.add_argument("--force", action="store_true", help="replace an earlier comparison")
    parser.add_argument("--shared-mode", action="store_true", help="let others read the results, as the umask says")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a day as 2026-11-29, got {text!r}") from None


def run_progress(options: argparse.Namespace) -> int:
    """Compare two scans, print what may be said, and write it where asked."""
    from heartlens.case.comparison.opened import open_case
    from heartlens.case.comparison.persons import check_same_person
    from heartlens.case.comparison.progress import compare_scans
    from heartlens.case.comparison.words import progress_lines
    from heartlens.core.protocol import NOTICE
    from heartlens.report.comparison.write import write_progress

    _check_out(options.out, options.force)
    prior, current = open_case(options.prior), open_case(options.current)
    days = (options.prior_date, options.current_date)
    check_days(days, (prior, current))
    notes = check_same_person(prior, current, asserted=options.same_person)
    progress = compare_scans(prior, current, dates=days, notes=notes)
    left_out: list[str] = []
    if options.out is not None:
        left_out = write_progress(
            options.out, progress, scans=(prior, current), force=options.force, shared_mode=options.shared_mode
        )
    if options.json:
        print(json.dumps({**progress.to_json(), "sentences": list(progress_lines(progress))}, indent=1))
    else:
        print("\n".join([*progress_lines(progress), "", NOTICE]))
        if options.out is not None:
            page = options.out / "progress.html"
            print(f"\nPage: {page if page.is_file() else options.out / 'progress.json'}")
    _note(left_out)
    return DONE


def run_compare(options: argparse.Namespace) -> int:
    """Compare readings, print where they agree, and write it where asked."""
    from heartlens.case.comparison.opened import open_case
    from heartlens.case.comparison.readers import compare_readings
    from heartlens.case.comparison.words import comparison_lines
    from heartlens.case.folder import embeds_ct
    from heartlens.core.protocol import NOTICE
    from heartlens.report.comparison.write import comparison_document, write_comparison

    _check_targets(options)
    folders, unmatched = _pair(options.a, options.b)
    if options.adjudicate is not None and len(folders) != 1:
        raise UsageError(f"--adjudicate makes one case of two readings of one scan; here are {len(folders)} scans")
    pairs = []
    for first, second in folders:
        a, b = open_case(first), open_case(second)
        pairs.append((a, b, compare_readings(a, b)))
    third = None if options.adjudicate is None else _third_case(*pairs[0][:2])  # refused before anything is written
    keys, left_out = [key for key, _ in unmatched], []
    if options.out is not None:
        write_comparison(options.out, pairs, unmatched=keys, force=options.force, shared_mode=options.shared_mode)
    if third is not None:
        from heartlens.report.outputs import write_outputs

        left_out = write_outputs(
            third, options.adjudicate, force=options.force, shared_mode=options.shared_mode,
            embed_ct=any(embeds_ct(one.folder) for one in pairs[0][:2]),
        )  # fmt: skip
    if options.json:
        print(json.dumps(comparison_document(pairs, [None] * len(pairs), keys), indent=1))
        _note(left_out)
        return DONE
    for (first, _), (_, _, compared) in zip(folders, pairs, strict=True):
        if len(pairs) > 1:
            print(f"{first}:")
        print("\n".join(comparison_lines(compared)))
    if len(pairs) > 1:
        print("\n".join(["", *_kappa_lines([compared for *_, compared in pairs])]))
    for _, folder in unmatched:
        print(f"{folder} has no case of the same scan on the other side.")
    print(f"\n{NOTICE}")
    if options.out is not None:
        print(f"\nComparison: {options.out / 'compare.json'}")
    if third is not None:
        print(f"\nThird case: {options.adjudicate}")
    _note(left_out)
    return DONE


def _kappa_lines(comparisons: list[Comparison]) -> list[str]:
    from heartlens.case.comparison.readers import kappa_of

    kappa, count = kappa_of(comparisons)
    same = sum(bool(one.same_category) for one in comparisons)
    value = "undefined" if kappa is None else f"{kappa:.2f}"
    lines = [f"{len(comparisons)} scans; category the same in {same} of {count}, linear kappa {value}."]
    if count < len(comparisons):
        lines.append(f"{len(comparisons) - count} whose categories are not compared were left out of it.")
    return lines


def _pair(a: Path, b: Path) -> tuple[list[tuple[Path, Path]], list[tuple[Unmatched, Path]]]:
    """Case folders of both sides that are of one scan, by the checksum of its voxels; and those of one side alone."""
    from heartlens.app.verify import find_case_folders
    from heartlens.case.comparison.readers import Unmatched
    from heartlens.case.folder import case_in, read_json

    sides: list[dict[str, Path]] = []
    for place in (a, b):
        one = case_in(place)
        found: dict[str, Path] = {}
        for folder in [one] if one is not None else find_case_folders([place]):
            try:
                key = str(read_json(folder / "case.json")["checksums"]["voxels_sha256"])
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise InputRefused("unreadable", f"{folder}: {error}; restore it from a copy") from None
            if key in found:
                earlier = found[key]
                outer = _with_its_export(earlier, folder) or _with_its_export(folder, earlier)
                if outer is None:
                    raise InputRefused(
                        "ambiguous", f"{place} holds two cases of one scan, {earlier} and {folder}: name one"
                    )
                folder = outer
            found[key] = folder
        sides.append(found)
    both = [key for key in sides[0] if key in sides[1]]
    if not both:
        raise InputRefused(
            "input",
            "no scan is in both: expected two readings of one scan; two scans of one person: heartlens progress",
        )
    unmatched = [
        (Unmatched(name, key), folder)
        for name, mine, theirs in (("a", sides[0], sides[1]), ("b", sides[1], sides[0]))
        for key, folder in mine.items()
        if key not in theirs
    ]
    return [(sides[0][key], sides[1][key]) for key in both], unmatched


def _with_its_export(case: Path, other: Path) -> Path | None:
    """The case of a report folder, where the other one is what was exported of it into that folder; else None."""
    return case if case.name == "case" and case.parent in other.parents else None


def _third_case(a: OpenedCase, b: OpenedCase) -> Result:
    from heartlens.case.comparison.adjudication import adjudicated
    from heartlens.case.result import Result

    return Result(adjudicated(a, b), a.sources)


def _check_out(out: Path | None, force: bool) -> None:
    """Refuse a target that cannot be written before the work, not after it."""
    from heartlens.core.atomic import check_folder
    from heartlens.report.comparison.write import is_comparison

    if out is not None:
        check_folder(out.absolute(), force=force, is_ours=is_comparison)


def _check_targets(options: argparse.Namespace) -> None:
    """Refuse targets of which one cannot be written, and two that would lie in each other's way."""
    from heartlens.core.atomic import real_place
    from heartlens.report.outputs import check_out

    if options.out is not None and options.adjudicate is not None:
        out, third = real_place(options.out), real_place(options.adjudicate)
        if out == third or out in third.parents or third in out.parents:
            raise UsageError(f"--out and --adjudicate need a folder each, beside the other; here are {out} and {third}")
    _check_out(options.out, options.force)
    if options.adjudicate is not None:
        check_out(options.adjudicate, force=options.force)


def _note(left_out: list[str]) -> None:
    for text in left_out:
        say(f"note: {text}")
