"""The command `heartlens`, also `python -m heartlens`.

Exit codes: 0 done, 2 usage, 3 refused or failed (one line on stderr, nothing on disk), 4 cancelled, by Ctrl-C or by the
system. Whatever happens ends in one of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartlens import __version__
from heartlens.app.comparing import add_comparing
from heartlens.app.console import close_stdout, discreet_logs, open_streams, say, stopping_cleanly
from heartlens.app.draft.command import add_draft
from heartlens.app.export import add_export
from heartlens.app.failure import Failure, log_failure
from heartlens.app.options import UsageError, add_score_options, more_of, request_of
from heartlens.app.rounds.command import add_second, add_third
from heartlens.app.terminal import visible_output
from heartlens.cohort.command import add_cohort
from heartlens.core.errors import InputRefused
from heartlens.pacs.command import add_pacs
from heartlens.pacs.node.command import add_node
from heartlens.viewer.arguments import ToRead, add_cohort_review, add_review

if TYPE_CHECKING:
    from heartlens.case.case import Case

logger = logging.getLogger("heartlens.command")

DONE, USAGE, REFUSED, CANCELLED = 0, 2, 3, 4

DEMO_SCAN = {
    "field_of_view": "heart", "category": "101-400", "kvp": 120.0, "slice_thickness_mm": 3.0, "increment_mm": 3.0,
    "is_gated": True, "motion_mm": 0.0,
}  # fmt: skip
"""The demo shows a calcium-scoring protocol; the person, the plaques and the traps follow from the seed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    open_streams()
    with visible_output():
        try:
            with stopping_cleanly(), discreet_logs():
                return _run(arguments)
        except InputRefused as refusal:
            return _refuse(refusal)
        except KeyboardInterrupt:
            say("cancelled; nothing half-written was left")
            return CANCELLED


def _run(arguments: Sequence[str] | None) -> int:
    """Run one command; of all that can happen, only a cancellation leaves this function."""
    try:
        options = _parser().parse_args(arguments)
        code = int(options.run(options))
        _flush()
        return code
    except UsageError as error:
        say(f"heartlens: error: {error}")
        return USAGE
    except BrokenPipeError:  # the reader of our output has gone (heartlens … | head)
        return DONE
    except Exception as error:
        if not isinstance(error, InputRefused):
            log_failure(logger, "the command failed", error)
        return _refuse(error)
    finally:  # what cannot be written now cannot be written when the interpreter ends, which would say so at length
        with suppress(InputRefused, BrokenPipeError):
            _flush()


def _refuse(error: Exception) -> int:
    failure = Failure.of(error)
    say(f"error: {failure.code}: {' '.join(failure.text.split())}")
    return REFUSED


def _flush() -> None:
    """Find out here, and not when the interpreter ends, that stdout takes no more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        close_stdout()
        raise
    except OSError as error:
        close_stdout()
        raise InputRefused(
            "output", f"cannot print: {error.strerror}; what was to be written is written; make room to print it, too"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heartlens",
        description="Find, name and score coronary artery calcium on CT. Research software, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"heartlens {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_score(commands)

    series = commands.add_parser("series", help="list the series of a folder, ranked, with reasons")
    series.add_argument("input", type=Path, help="DICOM folder or file")
    series.add_argument("--json", action="store_true", help="print JSON")
    series.set_defaults(run=_run_series)

    phantom = commands.add_parser("phantom", help="write a synthetic chest CT with known calcium")
    phantom.add_argument("--out", type=Path, required=True, help="folder to make")
    phantom.add_argument("--seed", type=int, default=1, help="random seed (default 1)")
    phantom.add_argument("--format", choices=("dicom", "nrrd", "nifti"), default="dicom")
    phantom.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter, such as noise_hu=15 (repeatable)"
    )
    phantom.add_argument("--force", action="store_true", help="replace an existing phantom folder")
    phantom.set_defaults(run=_run_phantom)

    demo = commands.add_parser("demo", help="make a phantom, score it and show where the report lies")
    demo.add_argument(
        "--out", type=Path, default=Path("heartlens-demo"), help="folder to make (default heartlens-demo)"
    )
    demo.add_argument("--seed", type=int, default=1)
    demo.set_defaults(run=_run_demo)

    doctor = commands.add_parser("doctor", help="check what is installed and whether scoring works")
    doctor.add_argument("--bundle", metavar="NAME|DIR|none", help="to examine; default: installed bundle, or the rules")
    doctor.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="for the networks; auto: use the GPU for 100 slices or more",
    )
    doctor.set_defaults(run=_run_doctor)

    verify = commands.add_parser("verify", help="say whether cases are still what was signed")
    verify.add_argument("case", type=Path, nargs="+", help="case folder, result folder, or a folder of them")
    verify.set_defaults(run=_run_verify)

    for add in (add_comparing, add_second, add_third, add_export, add_draft, add_pacs, add_node):
        add(commands)
    add_cohort_review(add_cohort(commands), _of_cohort)
    add_review(commands, _of_cohort)

    worker = commands.add_parser("worker", help="read jobs from stdin, one JSON object per line (for programs)")
    worker.set_defaults(run=_run_worker)
    return parser


def _add_score(commands: Any) -> None:
    score = commands.add_parser("score", help="score a CT")
    score.add_argument("input", type=Path, help="DICOM folder or file, .nrrd, .nhdr, .nii, .nii.gz or .mha")
    score.add_argument("--out", type=Path, help="folder to make with all outputs; without it nothing is written")
    score.add_argument("--json", action="store_true", help="print report.json instead of the table")
    add_score_options(score)
    score.set_defaults(run=_run_score)


def _run_score(options: argparse.Namespace) -> int:
    from heartlens.pipeline import score_series

    request = request_of(options)
    if options.out is None and more_of(options):
        raise UsageError("--key-page, --pdf and --fhir write files: give --out DIR")
    if options.out is None and (options.embed_ct or options.predecessor):
        raise UsageError("--embed-ct and --predecessor belong to what is written: give --out DIR")
    _check_out(options.out, options.force, options.language)
    if options.predecessor is not None and not options.predecessor.is_file():
        raise InputRefused("unreadable", f"the predecessor {options.predecessor.name} is no file; give a report.dcm")
    bar = _Bar()
    result = score_series(options.input, request, progress=bar)
    left_out: list[str] = []
    if options.out is not None:
        from heartlens.report.outputs import write_outputs

        bar("writing", 1.0)
        left_out = write_outputs(
            result, options.out, force=options.force, identify=options.identify, shared_mode=options.shared_mode,
            language=options.language, more=more_of(options), embed_ct=options.embed_ct,
            predecessor=options.predecessor,
        )  # fmt: skip
    bar.close()
    if options.json:
        print(json.dumps(result.case.report_document(), indent=1, allow_nan=False))
    else:
        print(result_table(result.case))
        if options.out is not None:
            page = options.out / ("report.html" if (options.out / "report.html").is_file() else "report.json")
            print(f"\nReport: {page}")
    for text in left_out:
        say(f"note: {text}")
    return DONE


def _check_out(out: Path | None, force: bool, language: str) -> None:
    """Refuse before the work, not after it, a target that cannot be written and a language that is not there."""
    from heartlens.report.catalogs.language import language_of

    if out is not None:
        from heartlens.report.outputs import check_out

        check_out(out, force=force)
    language_of(language)


def result_table(case: Case) -> str:
    """The result as text: totals per artery, category, warnings, notice."""
    from heartlens.case.signature import state_words
    from heartlens.core.lesions import CORONARY, Artery
    from heartlens.core.protocol import NOTICE
    from heartlens.scoring.report import display_agatston

    report = case.report
    rows = [(artery.name, report.arteries[artery]) for artery in CORONARY]
    if report.arteries[Artery.UNASSIGNED].lesions:
        rows.append(("unassigned", report.arteries[Artery.UNASSIGNED]))
    rows.append(("total", report.total))
    lines = [f"{'artery':<12}{'lesions':>8}{'Agatston':>10}{'volume mm3':>12}{'mass mg':>10}"]
    for name, totals in rows:
        if name == "total":
            lines.append("-" * 52)
        mass = "-" if totals.mass_mg is None else f"{totals.mass_mg:.2f}"
        score = display_agatston(totals.agatston) if case.assessment.has_total else "-"
        lines.append(f"{name:<12}{totals.lesions:>8}{score:>10}{totals.volume_mm3:>12.1f}{mass:>10}")
    lines += ["", state_words(case.assessment.state), *case.assessment.lines()]
    if report.dropped_small_count:
        what = "1 island" if report.dropped_small_count == 1 else f"{report.dropped_small_count} islands"
        lines.append(f"{what} below the minimum size not counted ({report.dropped_small_area_mm2:.2f} mm2)")
    lines += [f"warning: {c.code}: {c.text}" for c in case.cautions]
    lines += ["", NOTICE]
    return "\n".join(lines)


def _run_series(options: argparse.Namespace) -> int:
    from heartlens.dicom.series import find_series, rank_series

    ranked = rank_series(find_series(options.input))
    if options.json:
        print(json.dumps([entry.to_json() for entry in ranked], indent=1))
    else:
        print("\n\n".join(entry.describe() for entry in ranked))
    return DONE


def _run_phantom(options: argparse.Namespace) -> int:
    from heartlens.core.atomic import check_folder
    from heartlens.phantom import PhantomParameters, make_phantom
    from heartlens.phantom.files import is_phantom, write_phantom

    try:
        parameters = PhantomParameters.from_text(options.seed, options.set)
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_folder(options.out.absolute(), force=options.force, is_ours=is_phantom)
    write_phantom(options.out, make_phantom(parameters), format=options.format, force=options.force)
    print(f"Phantom: {options.out}")
    return DONE


def _run_demo(options: argparse.Namespace) -> int:
    from heartlens.core.atomic import atomic_folder
    from heartlens.core.lesions import CORONARY
    from heartlens.phantom import PhantomParameters, make_phantom
    from heartlens.phantom.files import write_phantom
    from heartlens.pipeline import Request, score_series
    from heartlens.report.outputs import check_out, hold_for_replacing, is_result, write_outputs
    from heartlens.risk.person import RiskInputs
    from heartlens.scoring.report import display_agatston

    check_out(options.out / "result", force=True)
    bar = _Bar()
    bar("making a phantom", 0.0)
    phantom = make_phantom(PhantomParameters.random(options.seed, **DEMO_SCAN))
    with atomic_folder(
        options.out,
        force=True,
        is_ours=lambda old: is_result(old / "result"),
        hold=lambda old: hold_for_replacing(old / "result"),
    ) as folder:
        write_phantom(folder / "phantom", phantom, format="dicom")
        result = score_series(folder / "phantom" / "ct", Request(risk=RiskInputs()), progress=bar)
        # Seen from the case: the folder has another name until all is there, and may be moved.
        case = replace(result.case, provenance=replace(result.case.provenance, source=("../../phantom/ct",)))
        result = replace(result, case=case)
        left_out = write_outputs(result, folder / "result", shared_mode=True)  # of nobody
    bar.close()
    bundle = result.case.provenance.bundle
    by = f"the networks of bundle {bundle}" if bundle else "the rules"
    print(f"A synthetic chest CT (seed {options.seed}) was written as DICOM and scored by {by}.\n")
    print(result_table(result.case))
    truth = phantom.truth["arteries"]
    known = ", ".join(f"{a.name} {display_agatston(truth[a.name]['agatston'])}" for a in CORONARY)
    total = sum(truth[a.name]["agatston"] for a in CORONARY)
    print(f"\nKnown answer of this phantom: {known}, total {display_agatston(total)}.")
    print(f"CT:     {options.out / 'phantom' / 'ct'}")
    page = "report.html" if (options.out / "result" / "report.html").is_file() else "report.json"
    print(f"Report: {options.out / 'result' / page}")
    for text in left_out:
        say(f"note: {text}")
    return DONE


def _run_doctor(options: argparse.Namespace) -> int:
    try:
        from heartlens.app.doctor import examine
    except ModuleNotFoundError:  # a library without which nothing runs: say at least which
        from heartlens.app.requirements import missing

        for requirement in missing():
            print(f"  {requirement.line}")
        return REFUSED
    return DONE if examine(print, bundle=options.bundle, device=options.device) else REFUSED


def _run_verify(options: argparse.Namespace) -> int:
    from heartlens.app.verify import find_case_folders, verify_case

    verified = [verify_case(folder) for folder in find_case_folders(options.case)]
    for one in verified:
        print(f"{one.folder}: {one}")
    bad = sum(not one.is_fine for one in verified)
    if bad:
        raise InputRefused(
            "checksum",
            f"{bad} of {len(verified)} cases are damaged or not what was signed; look through them, sign again",
        )
    return DONE


def _of_cohort(place: Path, settings: str) -> ToRead:
    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.reading import cases_to_read

    return cases_to_read(CohortFolder.open(place), settings)


def _run_worker(options: argparse.Namespace) -> int:
    from heartlens.app.worker import serve

    return serve()


class _Bar:
    """Progress on stderr when it is a terminal; silent otherwise, and when the terminal has gone."""

    WIDTH = 24

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self.stream = getattr(sys.stderr, "plain", sys.stderr)  # it returns to the start of its line

    def __call__(self, stage: str, fraction: float) -> None:
        done = round(self.WIDTH * fraction)
        self._show(f"\r[{'#' * done}{'.' * (self.WIDTH - done)}] {stage:<24}")

    def close(self) -> None:
        self._show("\r" + " " * (self.WIDTH + 28) + "\r")

    def _show(self, text: str) -> None:
        if self.shown:
            try:
                print(text, end="", file=self.stream, flush=True)
            except (OSError, ValueError):
                self.shown = False


if __name__ == "__main__":
    sys.exit(main())
