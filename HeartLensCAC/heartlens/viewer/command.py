"""The command `heartlens review`: which cases are meant, and the server until it is ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

from heartlens.app.console import say
from heartlens.app.options import UsageError
from heartlens.case.folder import case_in, find_case
from heartlens.core.errors import InputRefused
from heartlens.viewer.listed import Listed, second_readings, third_readings


class PriorScan(NamedTuple):
    """An earlier scan of the person, as the user names it.

    Parameters
    ----------
    place
        Its case or report folder.
    days
        Of the prior and the current scan, where the user says them.
    same_person
        The user says that both are of one person.
    """

    place: Path
    days: tuple[date | None, date | None] = (None, None)
    same_person: bool = False


def review(
    places: Sequence[Path],
    *,
    out: Path | None = None,
    port: int = 0,
    reader: str = "",
    identify: bool = False,
    copy: Path | None = None,
    second: Path | None = None,
    against: Path | None = None,
    adjudicate: Path | None = None,
    prior: PriorScan | None = None,
) -> None:
    """Serve cases until Ctrl-C, or write a copy of one.

    Parameters
    ----------
    places
        Cases, results, folders of results, CTs.
    out
        Result folder for a CT.
    port
        0 takes one that is free.
    reader
        Who edits.
    identify
        Show patients' IDs and names on the page.
    copy
        File to make that shows the case without a server; then nothing is served.
    second
        Report folder of a second reading, which begins with the automatic result and does not show the first one.
    against
        The second reading, or a folder of them, to be shown beside the first.
    adjudicate
        Report folder of the third case of both.
    prior
        An earlier scan of the same person, to be shown beside the one case.

    Raises
    ------
    UsageError
        Options that do not go together.
    InputRefused
        ``input``, or a code of `heartlens score`: nothing to show; ``output``: no place for it.
    """
    _check_rounds(places, reader=reader, copy=copy, second=second, against=against, adjudicate=adjudicate)
    if prior is not None and (copy or second or against or len(places) > 1):
        raise UsageError("--prior is shown beside one case, and with no --second, --against or --export-html")
    _check_out(places, out=out, against=against)
    if copy is not None and (port or reader):
        raise UsageError(
            f"{'--port' if port else '--reader'} is of a server, and --export-html starts none: leave it out"
        )
    if copy is not None:
        _write_copy(places, out, copy, identify=identify)
        return
    _require_server()
    if second is not None:
        cases = second_readings(places[0], case_folders(places[0], out), second, reader)
    elif against is not None and adjudicate is not None:
        readings = case_folders(places[0]), case_folders(against)
        cases = third_readings(places[0], *readings, adjudicate)
        say(f"{len(cases)} of {len(readings[0])} cases were read twice")
    else:
        cases = [Listed(one) for one in dict.fromkeys(folder for place in places for folder in _in_order(place, out))]
    if prior is not None:
        cases = [_with_prior(cases, prior)]
    is_list = len(places) == 1 and case_in(places[0]) is None and bool(_cases_at(places[0]))
    _serve(
        cases, port=port, reader=reader, identify=identify, labels=places[0] if is_list else Path.cwd(),
        is_by_need=is_list and second is None and against is None,
    )  # fmt: skip


def _with_prior(cases: Sequence[Listed], prior: PriorScan) -> Listed:
    from heartlens.viewer.prior import Prior

    if len(cases) != 1:
        raise UsageError(f"--prior is shown beside one case, and here are {len(cases)}: name one of them")
    earlier = Prior(find_case(prior.place), days=prior.days, same_person=prior.same_person)
    return replace(cases[0], prior=earlier)


def review_cohort(
    folder: Path, to_read: Sequence[tuple[Path, str, str]], *, port: int = 0, reader: str = "", identify: bool = False
) -> None:
    """Serve the scans of a cohort until Ctrl-C.

    Parameters
    ----------
    folder
        Of the cohort.
    to_read
        Case folder, name for the page and need of each, in the order of the list.
    port, reader, identify
        As for `review`.

    Raises
    ------
    InputRefused
        ``input``: the first one cannot be opened.
    """
    _require_server()
    cases = [Listed(case, name=name, need=need) for case, name, need in to_read]
    _serve(cases, port=port, reader=reader, identify=identify, labels=folder, is_by_need=True)


def _require_server() -> None:
    try:
        import heartlens.viewer.serve  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("heartlens"):
            raise
        raise InputRefused(
            "input", f"the page in the browser needs {error.name}; pip install 'heartlens[viewer]', then run again"
        ) from None


def _serve(cases: Sequence[Listed], *, port: int, reader: str, identify: bool, labels: Path, is_by_need: bool) -> None:
    from heartlens.viewer.serve import serve

    try:
        serve(
            cases, port=port, reader=reader, identify=identify, labels=labels.absolute() / "labels",
            is_by_need=is_by_need, on_ready=_tell,
        )  # fmt: skip
    except KeyboardInterrupt:  # the way in which it is meant to end
        say("ended; every edit is on the disk")


def _in_order(place: Path, out: Path | None) -> Sequence[Path]:
    """The cases of a place; of a folder of them, those first that need a reader most."""
    from heartlens.viewer.worklist.rows import row_of

    folders = case_folders(place, out)
    return folders if len(folders) < 2 else sorted(folders, key=lambda folder: row_of(folder).place)


def _check_rounds(
    places: Sequence[Path],
    *,
    reader: str,
    copy: Path | None,
    second: Path | None,
    against: Path | None,
    adjudicate: Path | None,
) -> None:
    """Refuse options of which one would be forgotten."""
    if (against is None) != (adjudicate is None):
        raise UsageError("--against SECOND and --adjudicate DIR go together: two readings, and the third case of both")
    rounds = [name for name, one in (("--second", second), ("--against", against), ("--export-html", copy)) if one]
    if len(rounds) > 1:
        raise UsageError(f"{' and '.join(rounds)} are two different things: give one of them")
    if len(places) > 1 and (second or against):
        raise UsageError(f"{rounds[0]} takes one case, or one folder of results; here are {len(places)} places")
    if second and not reader.strip():
        raise UsageError("--second needs --reader NAME: whose reading it is, is kept with each edit")


def _check_out(places: Sequence[Path], *, out: Path | None, against: Path | None) -> None:
    """Refuse --out where nothing is scored, and one folder for the results of several CTs."""
    if out is None:
        return
    if against is not None:
        raise UsageError("--out and --against do not go together: --out is the result of a CT, and is scored only once")
    scored = [place for place in places if place.exists() and not _cases_at(place)]
    if len(scored) != 1:
        what = "everything here is scored already" if not scored else f"here are {len(scored)} CTs"
        raise UsageError(f"--out names the result folder of one CT, and {what}: leave it out")


def _write_copy(places: Sequence[Path], out: Path | None, copy: Path, *, identify: bool) -> None:
    from heartlens.viewer.copied.write import refuse_file, write_copy

    refuse_file(copy)  # before a CT is scored
    folders = list(dict.fromkeys(folder for place in places for folder in case_folders(place, out)))
    if len(folders) != 1:
        raise InputRefused("input", f"{len(folders)} cases were given; a copy shows one: name its case folder")
    write_copy(folders[0], copy, identify=identify)
    size = copy.stat().st_size / 2**20
    say(f"wrote {copy} ({size:.1f} MB); open it in a browser. The images in it are the patient's")


def _tell(address: str) -> None:
    print(f"Review: {address}", flush=True)
    say("open it in a browser on this computer; whoever has the address can edit. Ctrl-C ends it")


def case_folders(place: Path, out: Path | None = None) -> Sequence[Path]:
    """The cases that a reader means by a place: one, those of a folder of results, or the one made of a CT.

    Parameters
    ----------
    place
        Case folder, result folder, folder of results, or CT.
    out
        Result folder for a CT.

    Raises
    ------
    InputRefused
        It is none of them, or the CT is refused.
    """
    if not place.exists():
        raise InputRefused("input", f"{place}: expected a case, a result or a CT, found nothing; check the name")
    return _cases_at(place) or [_scored(place, out)]


def _cases_at(place: Path) -> Sequence[Path]:
    """The case of a case or result folder, else those of a folder of them; none of a CT."""
    if not place.is_dir():
        return []
    found = [case for folder in (place, *sorted(place.iterdir())) for case in (folder, folder / "case")]
    cases = [case for case in found if (case / "case.json").is_file()]
    own = [case for case in cases if case in (place, place / "case")]
    return own[:1] or cases


def _scored(ct: Path, out: Path | None) -> Path:
    """The case of a CT, scored as `heartlens score` does without options."""
    from heartlens.pipeline import Request, score_series
    from heartlens.report.outputs import check_out, write_outputs

    if out is None:
        out = Path.cwd() / f"{ct.resolve().name.split('.')[0] or 'ct'}-result"
        if (out / "case" / "case.json").is_file():
            raise InputRefused("output", f"{out} is there already: heartlens review {out} opens it; else choose --out")
    check_out(out)
    say(f"scoring {ct} into {out}")
    write_outputs(score_series(ct, Request()), out)
    return out / "case"
