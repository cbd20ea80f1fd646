"""The commands `heartlens pacs find|score|send|doctor`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from heartlens.app.console import say
from heartlens.app.options import add_score_options, more_of, request_of
from heartlens.core.errors import InputRefused
from heartlens.pacs.archive import Archive, ArchiveError, FoundSeries, Query, files_to_send, require_uid
from heartlens.pacs.connect import open_archive
from heartlens.pacs.profiles import DicomWebProfile, DimseProfile, config_place, find_profile, read_profiles


def add_pacs(commands: Any) -> None:
    """Add the commands.

    Parameters
    ----------
    commands
        Subparsers of the command line.
    """
    pacs = commands.add_parser("pacs", help="find, score and send in a PACS; see docs/pacs.md")
    actions = pacs.add_subparsers(required=True, metavar="ACTION")

    find = actions.add_parser("find", help="list studies")
    _add_archive(find)
    find.add_argument("--date", default="", metavar="A-B", help="a day or a range, such as 20240101-20240131")
    find.add_argument("--modality", default="CT", help="that a study must have (default CT; '' for any)")
    find.add_argument("--patient-id", default="", metavar="X", help="as the archive has it")
    find.add_argument("--study", default="", metavar="UID", help="of one study; lists its series")
    find.add_argument("--limit", type=int, default=200, metavar="N", help="so many at most (200)")
    find.add_argument("--identify", action="store_true", help="print patient ID and name")
    find.add_argument("--json", action="store_true", help="print JSON")
    find.set_defaults(run=_run_find)

    score = actions.add_parser("score", help="fetch the CT of a study and score it")
    _add_archive(score)
    score.add_argument("--study", required=True, metavar="UID", help="to fetch from")
    score.add_argument("--out", type=Path, help="folder to make with all outputs; without it nothing is kept")
    score.add_argument("--send", action="store_true", help="store SEG, SR and what else is DICOM in the archive")
    score.add_argument("--json", action="store_true", help="print report.json instead of the table")
    add_score_options(score)
    score.set_defaults(run=_run_score)

    send = actions.add_parser("send", help="store results in an archive")
    _add_archive(send)
    send.add_argument("result", type=Path, nargs="+", help="folder that heartlens score made")
    send.set_defaults(run=_run_send)

    doctor = actions.add_parser("doctor", help="try an archive, and say what must be set there")
    _add_archive(doctor, is_required=False)
    doctor.set_defaults(run=_run_doctor)


def _add_archive(parser: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    parser.add_argument("--pacs", required=is_required, metavar="NAME", help="table of pacs.toml")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="pacs.toml (default: HEARTLENS_PACS, ~/.config/heartlens/pacs.toml)"
    )


@contextmanager
def _archive(options: argparse.Namespace) -> Iterator[Archive]:
    """The archive that is meant; what it does not do becomes a refusal."""
    profile = find_profile(options.pacs, options.config)
    try:
        for caution in profile.cautions():
            say(f"warning: {caution}")
        with closing(open_archive(profile)) as archive:
            yield archive
    except ArchiveError as error:
        raise InputRefused("input", error.text) from None


def _run_find(options: argparse.Namespace) -> int:
    if options.study:
        require_uid(options.study, "--study")
        return _list_series(options)
    query = Query(options.date, options.modality, options.patient_id, "", max(1, options.limit))
    with _archive(options) as archive:
        studies = archive.studies(query)
    rows = []
    for one in studies:
        row = {
            "study_uid": one.study_uid, "date": one.date, "description": one.description,
            "modalities": one.modalities, "series": one.series,
        }  # fmt: skip
        if options.identify:
            row |= {"patient_id": one.patient_id, "patient_name": one.patient_name}
        rows.append(row)
    _print(rows, options.json, "study")
    if len(rows) == options.limit:
        say(f"note: {options.limit} studies, and perhaps more; narrow --date, or raise --limit")
    return 0


def _list_series(options: argparse.Namespace) -> int:
    with _archive(options) as archive:
        found = archive.series(options.study)
    rows = [
        {"series_uid": s.series_uid, "modality": s.modality, "description": s.description, "images": s.images}
        for s in found
    ]
    _print(rows, options.json, "series")
    return 0


def _print(rows: list[dict[str, Any]], is_json: bool, what: str) -> None:
    if is_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print("  ".join("-" if value in (None, "") else str(value) for value in row.values()))
    if not rows:
        say(f"no {what} matches")


def _run_score(options: argparse.Namespace) -> int:
    from heartlens.pipeline import score_series
    from heartlens.report.outputs import check_out, write_outputs

    require_uid(options.study, "--study")
    request = request_of(options)
    if options.out is not None:
        check_out(options.out, force=options.force)
    with ExitStack() as stack:
        archive = stack.enter_context(_archive(options))
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heartlens-")))
        fetch_ct(archive, options.study, options.series or "", work / "ct", say)
        result = score_series(work / "ct", request)
        out = options.out if options.out is not None else work / "result"
        left_out: list[str] = []
        if options.out is not None or options.send:
            left_out = write_outputs(
                result, out, force=options.force, identify=options.identify, shared_mode=options.shared_mode,
                language=options.language, more=more_of(options), embed_ct=True, predecessor=options.predecessor,
            )  # fmt: skip
        if options.json:
            print(json.dumps(result.case.report_document(), indent=1, allow_nan=False))
        else:
            print("\n".join([result.case.assessment.sentence(), *(f"warning: {c.code}" for c in result.case.cautions)]))
            if options.out is not None:
                print(f"Report: {out / 'report.html'}")
        for text in left_out:
            say(f"note: {text}")
        if options.send:
            _send(archive, out)
    return 0


def fetch_ct(archive: Archive, study_uid: str, address: str, folder: Path, tell: Callable[[str], None]) -> int:
    """Bring the CT of a study into a folder, each series whole.

    Parameters
    ----------
    archive
        That has it.
    study_uid
        Of the study.
    address
        Of one series, as ``--series`` takes it; "" brings every CT series.
    folder
        To make.
    tell
        Hears what is fetched.

    Returns
    -------
    int
        How many images came.

    Raises
    ------
    ArchiveError
        The archive does not do what it should.
    InputRefused
        ``input``: the study has no CT, or not this series.
    """
    wanted = address.partition("#")[0]
    if wanted:
        require_uid(wanted, "--series")
    found: list[FoundSeries] = [one for one in archive.series(study_uid) if one.modality in ("CT", "")]
    if wanted:
        found = [one for one in found if one.series_uid == wanted]
    if not found:
        raise InputRefused("input", f"the archive has no such CT in study {study_uid}; heartlens pacs find lists it")
    count = 0
    for number, one in enumerate(found, 1):
        require_uid(one.series_uid, "the archive's series UID")
        tell(f"fetching series {number} of {len(found)} ({one.images or '?'} images)")
        count += archive.fetch(one, folder / f"{number:03d}")
    return count


def _run_send(options: argparse.Namespace) -> int:
    from heartlens.report.outputs import is_result

    for result in options.result:
        if not is_result(result) or not (result / "report.dcm").is_file():
            raise InputRefused(
                "input",
                f"{result} holds no report.dcm of HeartLens; give a folder that heartlens score --out made of DICOM",
            )
    with _archive(options) as archive:
        for result in options.result:
            _send(archive, result)
    return 0


def _send(archive: Archive, result: Path) -> None:
    paths = files_to_send(result)
    for path in paths:
        archive.send(path)
    print(f"Sent to {archive.name}: {', '.join(path.name for path in paths)}")


def _run_doctor(options: argparse.Namespace) -> int:
    path = config_place(options.config)
    profiles = read_profiles(path)
    names = [options.pacs] if options.pacs else list(profiles)
    print(f"{path}: {', '.join(profiles) or 'no archive'}")
    troubles = 0
    for name in names:
        profile = find_profile(name, path)
        print(f"[{name}]")
        try:
            with closing(open_archive(profile)) as archive:
                for line in archive.check():
                    print(f"  ok      {line}")
        except (ArchiveError, InputRefused) as error:
            troubles += 1
            print(f"  trouble {error.text}")
        if isinstance(profile, DimseProfile):
            print(
                f"  set at the archive: AE title {profile.calling}, this computer's address, port "
                f"{profile.receive_port} (for C-MOVE); and let it ask (C-FIND), fetch (C-MOVE) and store (C-STORE)"
            )
        elif isinstance(profile, DicomWebProfile) and profile.auth == "none":
            print('  note    auth = "none": everybody who reaches the archive may read it')
        for caution in profile.cautions():
            print(f"  warning {caution}")
        print("  for heartlens node: set at whoever sends the node's own AE title, address and port (11112)")
    if troubles:
        raise InputRefused("input", f"{troubles} of {len(names)} archives cannot be used; the lines above say why")
    return 0
