"""progress.json with its page, and compare.json with its difference map: whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartlens import __version__
from heartlens.case.comparison.differing import differing
from heartlens.case.comparison.opened import OpenedCase
from heartlens.case.comparison.progress import PROGRESS_SCHEMA, Progress
from heartlens.case.comparison.readers import COMPARE_SCHEMA, Comparison, Unmatched, kappa_of
from heartlens.case.comparison.words import comparison_lines, progress_lines, shown, signed
from heartlens.case.folder import read_json, write_json
from heartlens.case.result import Result
from heartlens.core.atomic import atomic_folder
from heartlens.core.lesions import CORONARY
from heartlens.core.protocol import NOTICE

if TYPE_CHECKING:
    import jinja2


def write_progress(
    out: Path,
    progress: Progress,
    *,
    scans: tuple[OpenedCase, OpenedCase] | None = None,
    force: bool = False,
    shared_mode: bool = False,
) -> list[str]:
    """Write progress.json, progress.html where jinja2 is installed, and progress.dcm where the later scan is DICOM.

    Parameters
    ----------
    out
        Folder to make.
    progress
        What has changed.
    scans
        The earlier and the later case; progress.dcm is the report of the later one with what has changed.
    force
        Replace an earlier comparison.
    shared_mode
        Give the files the rights that the umask gives, where else nobody but the user may read them.

    Returns
    -------
    list[str]
        What was left out, and why.

    Raises
    ------
    InputRefused
        ``output``: the folder exists, or cannot be written.
    """
    left_out = []
    with atomic_folder(out, force=force, is_ours=is_comparison, private=not shared_mode) as folder:
        write_json(folder / "progress.json", {**progress.to_json(), "sentences": list(progress_lines(progress))})
        try:
            # What is no text of a header or of a file's name costs letters, not the page.
            page = progress_page(progress).encode("utf-8", errors="backslashreplace")
            (folder / "progress.html").write_bytes(page)
        except ModuleNotFoundError as error:
            if error.name != "jinja2":
                raise
            left_out.append("progress.html was not written: it needs jinja2 (pip install jinja2)")
        if scans is not None and scans[1].sources:
            _write_report(folder / "progress.dcm", progress, *scans, left_out)
    return left_out


def _write_report(path: Path, progress: Progress, prior: OpenedCase, current: OpenedCase, left_out: list[str]) -> None:
    """The structured report of the later scan, with the change in numbers where it is one number."""
    from heartlens.report.outputs import noting

    with noting(left_out, path):
        from heartlens.dicom.sr_content.compared import Compared
        from heartlens.report.dicom_objects import write_compared_scores

        low, high = progress.total.change
        per_year, _ = progress.per_year
        is_one = not progress.withheld and low == high
        said = Compared(
            sentences=progress_lines(progress),
            prior_study_uid=prior.case.source_ct.header.study_uid,
            change=low if is_one else None,
            per_year=per_year[0] if is_one and per_year is not None else None,
        )
        result = Result(current.case, current.sources)
        write_compared_scores(path, result, current.signature, current.state, said)


def write_comparison(
    out: Path,
    pairs: Sequence[tuple[OpenedCase, OpenedCase, Comparison]],
    *,
    unmatched: Sequence[Unmatched] = (),
    force: bool = False,
    shared_mode: bool = False,
) -> None:
    """Write compare.json, and a difference map of each scan as NRRD.

    Parameters
    ----------
    out
        Folder to make.
    pairs
        Of each scan both readings and what was compared.
    unmatched
        Cases that only one side has.
    force
        Replace an earlier comparison.
    shared_mode
        As for `write_progress`.

    Raises
    ------
    InputRefused
        ``output``: the folder exists, or cannot be written.
    """
    from heartlens.io.nrrd import write_nrrd

    with atomic_folder(out, force=force, is_ours=is_comparison, private=not shared_mode) as folder:
        names = (
            ["difference.nrrd"] if len(pairs) == 1 else [f"difference-{n:04d}.nrrd" for n in range(1, len(pairs) + 1)]
        )
        for (a, _, compared), name in zip(pairs, names, strict=True):
            write_nrrd(folder / name, compared.map, a.case.source_ct.affine)
        write_json(folder / "compare.json", comparison_document(pairs, names, unmatched))


def comparison_document(
    pairs: Sequence[tuple[OpenedCase, OpenedCase, Comparison]],
    names: Sequence[str | None],
    unmatched: Sequence[Unmatched] = (),
) -> dict[str, Any]:
    """What compare.json holds; compare.schema.json describes every field.

    Parameters
    ----------
    pairs
        As for `write_comparison`.
    names
        Of the difference map of each pair; None where none is written.
    unmatched
        As for `write_comparison`.
    """
    kappa, count = kappa_of([compared for *_, compared in pairs])
    return {
        "schema": COMPARE_SCHEMA,
        "notice": NOTICE,
        "kappa_linear": kappa,
        "kappa_cases": count,
        "cases": [
            {
                "series_uid": a.case.source_ct.header.series_uid,
                "difference_map": name,
                **compared.to_json(),
                "disputed": [one.to_json() for one in differing(a.case, b.case, compared)],
                "sentences": comparison_lines(compared),
            }
            for (a, b, compared), name in zip(pairs, names, strict=True)
        ],
        "unmatched": [one._asdict() for one in unmatched],
    }


def is_comparison(folder: Path) -> bool:
    """Whether a folder holds nothing but a comparison of ours, so that replacing it loses nothing else."""
    for name, schema in (("progress.json", PROGRESS_SCHEMA), ("compare.json", COMPARE_SCHEMA)):
        with suppress(OSError, ValueError):
            if read_json(folder / name).get("schema") == schema:
                return all(path.name.startswith(("progress.", "compare.", "difference")) for path in folder.iterdir())
    return False


def progress_page(progress: Progress) -> str:
    """The page of a change as HTML; no identity is on it.

    Parameters
    ----------
    progress
        Of two scans.
    """
    first, *rest = progress_lines(progress)
    rows = []
    if not progress.withheld:
        rows = [(artery.name, progress.arteries[artery]) for artery in CORONARY]
        rows.append(("Total", progress.total))
    return _template().render(
        css=_resource("report.css", "heartlens.report").replace("VERSION", __version__),
        notice=NOTICE,
        version=__version__,
        progress=progress,
        headline=first,
        lines=rest,
        dates=[day.isoformat() if day else "day not stated" for day in progress.dates],
        rows=[(name, shown(c.prior), shown(c.current), signed(c.change)) for name, c in rows],
        lesions=[
            {
                "kind": one.kind,
                "prior": ", ".join(map(str, one.prior)) or "–",
                "current": ", ".join(map(str, one.current)) or "–",
                "arteries": ", ".join(one.arteries),
                "before": shown((one.agatston_prior, one.agatston_prior)) if one.prior else "–",
                "after": shown((one.agatston_current, one.agatston_current)) if one.current else "–",
                "gap": "–" if one.gap_mm is None else f"{one.gap_mm:.1f}",
                "undecided": one.undecided,
            }
            for one in progress.lesions or ()
        ],
    )


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("progress.html.jinja", "heartlens.report.comparison"))


def _resource(name: str, package: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8")
