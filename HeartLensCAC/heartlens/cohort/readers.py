"""What a reader has done with a result since it was scored: whether it may be replaced, and what the case says now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from heartlens.case.folder import case_journal, load_case, read_json
from heartlens.case.journal import JOURNAL, TORN
from heartlens.case.seal import REPORT, SIGNATURE, SealState, claims_signature, read_seal
from heartlens.cohort.row import FAILED, row_of_report
from heartlens.core.errors import InputRefused
from heartlens.risk.evaluable import State

DAMAGED = "the case that a reader has worked on is damaged or its CT has moved; heartlens verify says more"

NO_CASE = (InputRefused, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a damaged case ends with."""


def has_readers_work(result: Path) -> bool:
    """Whether a reader has edited, graded or signed the case of a result, also where the signature was removed since.

    Parameters
    ----------
    result
        Result folder of a scan.
    """
    place = os.path.join(result, "case")
    for name in (JOURNAL, TORN, SIGNATURE):
        with suppress(OSError):
            if os.stat(os.path.join(place, name)).st_size:
                return True
    with suppress(OSError), open(os.path.join(place, REPORT), "rb") as report:
        # Of a hundred thousand reports few are signed: only those that may be are parsed.
        return State.SIGNED.value.encode() in report.read() and claims_signature(Path(place), 0)
    return False


def current_row(row: Mapping[str, Any], result: Path) -> tuple[dict[str, Any], SealState]:
    """The row of a scan that a reader may have worked on since it was scored, and what the signature is worth.

    Where the signature does not hold nobody is named, and of a case that was altered after signing the numbers are
    those of its labels and edits, whatever its report says.

    Parameters
    ----------
    row
        As the run wrote it.
    result
        Result folder of the scan.
    """
    folder = result / "case"
    try:
        edits = len(case_journal(folder).edits)
        seal = read_seal(folder, edits)
        is_sealed = seal.state is SealState.HOLDS
        report = _report_of(folder, edits, seal.state)
        now = {**row, **row_of_report(report), "state": seal.state_of_case(State.READ if edits else State.DRAFT).value}
    except NO_CASE:
        kept = {name: value for name, value in row.items() if name in ("key", "settings", "version", "scored_at")}
        return {**kept, "status": FAILED, "code": "checksum", "text": DAMAGED, "lesions_found": []}, SealState.NONE
    if is_sealed and seal.signature is not None:
        now |= {"reader": seal.signature.observer, "signed_at": seal.signature.when}
    return now, seal.state


def _report_of(folder: Path, edits: int, seal: SealState) -> dict[str, Any]:
    """The report of a case; made again where it is behind the case, and where it may be what was altered."""
    report = read_json(folder / REPORT)
    if seal is SealState.HOLDS:
        return report
    known = read_json(folder / "case.json")["risk_inputs"]
    is_graded = report["assessment"]["scheme"] == known["scheme"] and all(
        value == known[name] for name, value in report["patient"].items()
    )
    # The reader's program may have ended before it wrote the report.
    is_current = seal is not SealState.ALTERED and report["edits"] == edits and is_graded
    return report if is_current else load_case(folder).report_document()


def kept_row(result: Path, person: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of a scan whose result is there and whose row is not, because it was damaged or the process was killed.

    Parameters
    ----------
    result
        Result folder of the scan.
    person
        What is known of the person, by the names of the options; a result that knows otherwise is not of this plan.

    Returns
    -------
    dict[str, Any] | None
        None where the scan is to be scored: there is no result, or one that no reader has worked on and that is
        damaged or of another age, sex or race.
    """
    if has_readers_work(result):
        return current_row({}, result)[0]
    try:
        report = read_json(result / REPORT)
        known = report["patient"]
        is_meant = all(known[name] == value for name, value in _by_report(person).items())
        return row_of_report(report) if is_meant else None
    except NO_CASE:
        return None


def _by_report(person: Mapping[str, Any]) -> dict[str, Any]:
    return {"age_years" if name == "age" else name: value for name, value in person.items()}
