"""Two readings beside the third case that was made of them: what each says, draws, and where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heartlens.case.case import Case
from heartlens.case.comparison.adjudication import adjudicated
from heartlens.case.comparison.differing import differing
from heartlens.case.comparison.opened import OpenedCase, open_case
from heartlens.case.comparison.readers import ComparedLesion, Comparison, compare_readings
from heartlens.case.comparison.words import agreement_lines
from heartlens.core.lesions import Artery
from heartlens.viewer.state import LETTERS, label_runs

CHANGED = "A reading was edited after this case was made of both: what is beside it is the reading as it is now."


def readings_beside(pair: tuple[Path, Path], third: Case) -> dict[str, Any]:
    """What a page shows of two readings.

    Parameters
    ----------
    pair
        Their case folders.
    third
        The case that was made of them.

    Raises
    ------
    InputRefused
        One of them cannot be opened, or they are not of one scan.
    """
    a, b = (open_case(folder) for folder in pair)
    compared = compare_readings(a, b)
    lines = agreement_lines(compared)
    rows = difference_rows(a.case, b.case, compared)
    agreed = len(compared.lesions) - len(rows)
    differ, agree = ("differs" if len(rows) == 1 else "differ"), ("agrees" if agreed == 1 else "agree")
    counts = f"{len(rows)} {differ}, {agreed} {agree} voxel by voxel."
    lines.append(counts if compared.lesions else "Neither has a lesion.")
    if any(one.decides for one in compared.differences) or not _is_made_of(third, a, b):
        lines.append(CHANGED)
    return {
        "lines": lines,
        "readings": [_reading(name, one) for name, one in zip("AB", (a, b), strict=True)],
        "differences": rows,
    }


def difference_rows(a: Case, b: Case, compared: Comparison) -> list[dict[str, Any]]:
    """Where two readings differ, the highest score first: in the artery, in the extent, or in what is undecided.

    Parameters
    ----------
    a, b
        The two readings.
    compared
        Of them.
    """
    rows = []
    for one in differing(a, b, compared):
        k, j, i = one.place_kji
        rows.append(
            {
                "what": one.what.value,
                "a": list(one.lesion.a),
                "b": list(one.lesion.b),
                "words": [_words(one.lesion, "a", one.undecided_a), _words(one.lesion, "b", one.undecided_b)],
                "kji": [k // a.slab_count, j, i],  # on the grid that is scored
            }
        )
    return rows


def _words(lesion: ComparedLesion, side: str, is_open: bool) -> str:
    if not getattr(lesion, side):
        return LETTERS[Artery.OTHER] if lesion.says_other else "–"
    arteries = "+".join(LETTERS[Artery[name]] for name in getattr(lesion, f"arteries_{side}"))
    return f"{arteries} {getattr(lesion, f'agatston_{side}'):.0f}{' ?' if is_open else ''}"


def _reading(name: str, opened: OpenedCase) -> dict[str, Any]:
    lesions = opened.case.lesions
    return {
        "name": name,
        "state_words": opened.state_words,
        "arteries": {str(lesion): artery.name for lesion, artery in lesions.arteries.items()},
        "undecided": [lesion for lesion, note in lesions.notes.items() if note.undecided],
        "runs": label_runs(opened.case),
    }


def _is_made_of(third: Case, a: OpenedCase, b: OpenedCase) -> bool:
    """Whether two readings, as they are now, still make a case."""
    now = adjudicated(a, b).auto
    return now.arteries == third.auto.arteries and bool((now.labels == third.auto.labels).all())
