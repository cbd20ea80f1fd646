"""What the page shows of a case: numbers rounded here, words from where everybody takes them, voxels as runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.app.review_session import ReviewSession
from heartlens.case.case import Case
from heartlens.case.seal import SealState
from heartlens.case.signature import answered, confirmation, obstacles, shown_name, state_words
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import ARTERY_COLORS, ARTERY_NAMES, CORONARY, Artery
from heartlens.core.protocol import NOTICE
from heartlens.report.figures import PICTURE_WINDOW_HU
from heartlens.risk.evaluable import SETTLED_BY_SIGNING, State
from heartlens.scoring.report import LesionScore, Totals, display_agatston

LETTERS = {**{artery: artery.name for artery in Artery}, Artery.OTHER: "not coronary", Artery.UNASSIGNED: "unassigned"}
"""What stands beside every color."""


AXES = ("slices", "rows", "columns")


def geometry_of(case: Case) -> dict[str, Any]:
    """What does not change with an edit: the grid that is scored and shown, names, colors and the threshold."""
    ct = case.ct
    count = case.slab_count
    numbers = case.source_ct.header.instance_numbers
    return {
        "shape": list(ct.shape),
        "first_slice": 0,
        "slices": ct.shape[0],
        "spacing_mm": list(ct.spacing_mm),
        "dtype": ct.hu.dtype.name,
        "threshold_hu": case.protocol.label_threshold_hu,
        "window_hu": list(PICTURE_WINDOW_HU),
        "slab_count": count,
        "z_mm": [round(float(z), 1) for z in ct.lps_mm([(k, 0, 0) for k in range(ct.shape[0])])[:, 2]],
        "instances": [numbers[k * count] for k in range(ct.shape[0])] if numbers else [],
        "acquired": case.source_ct.header.acquired,
        "arteries": [
            {"name": a.name, "letters": LETTERS[a], "title": ARTERY_NAMES[a], "color": ARTERY_COLORS[a], "code": int(a)}
            for a in Artery
        ],
        "notice": NOTICE,
    }


def heart_box(case: Case) -> dict[str, list[int]]:
    """Slices, rows and columns of the heart, end exclusive; the whole scan where no heart is found."""
    from heartlens.anatomy import heart_region

    region = heart_region(case.ct)
    box = region.box(case.ct) if region.in_view else tuple(slice(0, n) for n in case.ct.shape)
    return {name: [int(part.start), int(part.stop)] for name, part in zip(AXES, box, strict=True)}


def identity_of(session: ReviewSession) -> str:
    """The patient's ID and name; "" where the series has none or is no longer there."""
    with suppress(InputRefused):
        if session.sources:
            header = session.sources[0]
            parts = (str(header.get("PatientID", "") or ""), shown_name(str(header.get("PatientName", "") or "")))
            return " · ".join(part for part in parts if part)
    return ""


def state_of_session(session: ReviewSession) -> dict[str, Any]:
    """Everything that an edit or a signature may change.

    Parameters
    ----------
    session
        Of the case; `version` in the answer is the number of its edits, and grows with each of them.
    """
    case = session.case
    assessment = answered(case, session.state)
    report = case.report
    totals = [(a.name, LETTERS[a], report.arteries[a]) for a in CORONARY]
    if report.arteries[Artery.UNASSIGNED].lesions:
        totals.append((Artery.UNASSIGNED.name, LETTERS[Artery.UNASSIGNED], report.arteries[Artery.UNASSIGNED]))
    signed = session.seal.state is SealState.HOLDS
    return {
        "version": len(case.edits),
        "is_signed": signed,
        "state": session.state.value,
        "state_words": _state_words(session),
        "findings": list(session.findings),
        "read_only": None if session.held_by is None else f"open elsewhere: {session.held_by}",
        "can_undo": case.can_undo,
        "can_redo": case.can_redo,
        "has_total": assessment.has_total,
        "score": assessment.score() if assessment.has_total else "–",
        "total": display_agatston(report.total.agatston) if assessment.has_total else "–",
        "evaluable": assessment.evaluable.value,
        "headline": assessment.headline(),
        "lines": list(assessment.lines()),
        "is_zero": report.total.agatston == 0,
        "totals": [_totals_row(*row, has_total=assessment.has_total) for row in totals]
        + [_totals_row("total", "total", report.total, has_total=assessment.has_total)],
        "lesions": _lesion_rows(case),
        "arteries": {str(lesion): artery.name for lesion, artery in case.lesions.arteries.items()},
        "runs": label_runs(case),
        "warnings": [
            {"code": one.code, "text": one.text, "is_settled": signed and one.code in SETTLED_BY_SIGNING}
            for one in case.cautions
        ],
        "confirmation": confirmation(case),
        "obstacles": list(obstacles(case, confirmed=True)),
    }


def _state_words(session: ReviewSession) -> str:
    if session.seal.state in (SealState.NONE, SealState.HOLDS) or session.state is State.ALTERED:
        return state_words(session.state, session.signature)
    return f"{state_words(session.state)}; {session.seal}"


def _totals_row(name: str, letters: str, totals: Totals, *, has_total: bool) -> dict[str, Any]:
    return {
        "name": name,
        "letters": letters,
        "lesions": totals.lesions,
        "agatston": display_agatston(totals.agatston) if has_total else "–",
        "volume": f"{totals.volume_mm3:.0f}",
        "mass": "–" if totals.mass_mg is None else f"{totals.mass_mg:.1f}",
    }


def _lesion_rows(case: Case) -> list[dict[str, Any]]:
    """Undecided ones first, the highest Agatston score first; then those without an artery, then the report's order."""
    first = {lesion: n for n, lesion in enumerate(case.assessment.undecided)}
    rows = sorted(
        case.report.lesions, key=lambda row: (first.get(row.id, len(first)), row.artery is not Artery.UNASSIGNED)
    )
    brightest = brightest_voxels(case)
    return [_lesion_row(row, brightest) for row in rows]


def _lesion_row(row: LesionScore, brightest: dict[int, tuple[int, int, int]]) -> dict[str, Any]:
    return {
        "id": row.id,
        "artery": row.artery.name,
        "agatston": display_agatston(row.agatston),
        "order": row.agatston,
        "volume": f"{row.volume_mm3:.0f}",
        "area": f"{row.area_mm2:.1f}",
        "peak": f"{row.peak_hu:.0f}",
        "slices": list(row.slices),
        "kji": list(brightest[row.id]),
        "undecided": row.undecided,
        "probability": None if row.probability is None else f"{row.probability:.2f}",
        "source": row.source.value,
        "why": row.why,
    }


def brightest_voxels(case: Case) -> dict[int, tuple[int, int, int]]:
    """The brightest voxel of each lesion: where its picture is centered, and certainly calcium of it.

    Parameters
    ----------
    case
        With its lesions.

    Returns
    -------
    dict[int, tuple[int, int, int]]
        (k, j, i) on the scored grid, by the lesion's id.
    """
    voxels = case.lesions.voxels
    order = np.lexsort((-case.ct.hu.reshape(-1)[voxels.flat].astype(np.float64), voxels.ids))
    ids, first = np.unique(voxels.ids[order], return_index=True)
    at = np.stack(np.unravel_index(voxels.flat[order][first], case.ct.shape), axis=-1)
    return {int(lesion): (int(k), int(j), int(i)) for lesion, (k, j, i) in zip(ids, at, strict=True)}


def slices_of(case: Case, first: int) -> Iterator[bytes]:
    """Give every scored slice, from `first` to the head, then from before it to the feet.

    Yields
    ------
    bytes
        Of one slice, row by row, little-endian.
    """
    hu = case.ct.hu
    kind = np.dtype("<i2" if hu.dtype == np.int16 else "<f4")
    for k in (*range(first, hu.shape[0]), *range(first - 1, -1, -1)):
        yield hu[k].astype(kind, copy=False).tobytes()


def label_runs(case: Case) -> list[int]:
    """The voxels that count, on the scored grid: start, length and lesion of each run, one after the other."""
    flat = case.counted.flat
    return runs_of(flat, case.lesions.ids_at(flat).astype(np.int64))


def runs_of(flat: NDArray[np.int64], ids: NDArray[np.int64]) -> list[int]:
    """Start, length and lesion of each run of ascending indices.

    Parameters
    ----------
    flat
        (n,) indices of voxels.
    ids
        (n,) lesion of each.

    Examples
    --------
    >>> runs_of(np.array([3, 4, 5, 9]), np.array([1, 1, 2, 2]))
    [3, 2, 1, 5, 1, 2, 9, 1, 2]
    """
    if not flat.size:
        return []
    starts = np.flatnonzero((np.diff(flat, prepend=-2) != 1) | (np.diff(ids, prepend=-1) != 0))
    lengths = np.diff(starts, append=flat.size)
    runs: list[int] = np.stack([flat[starts], lengths, ids[starts]], axis=-1).reshape(-1).tolist()
    return runs
