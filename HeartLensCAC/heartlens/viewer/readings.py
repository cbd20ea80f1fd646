"""Two readings beside the third case that was made of them: what each says, draws, and where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.app.comparing import agreement_lines
from heartlens.case.case import Case
from heartlens.case.comparison.adjudication import adjudicated
from heartlens.case.comparison.opened import OpenedCase, open_case
from heartlens.case.comparison.readers import Agreement, ComparedLesion, Comparison, compare_readings
from heartlens.case.correction import island_ids
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
    lines.append(f"{len(rows)} differ, {agreed} agree voxel by voxel." if compared.lesions else "Neither has a lesion.")
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
    islands = [island_ids(case).reshape(-1) for case in (a, b)]
    agreement = compared.map.reshape(-1)
    rows = []
    for lesion in compared.lesions:
        flat = np.flatnonzero(np.isin(islands[0], lesion.a) | np.isin(islands[1], lesion.b))
        disputed = flat[agreement[flat] != Agreement.BOTH]
        if not disputed.size and not lesion.undecided:
            continue
        rows.append(
            {
                "what": _kind(lesion),
                "a": list(lesion.a),
                "b": list(lesion.b),
                "words": [_words(lesion, "a", a), _words(lesion, "b", b)],
                "kji": _brightest(a, disputed if disputed.size else flat),
            }
        )
    return rows


def _kind(lesion: ComparedLesion) -> str:
    if lesion.kind == "open" or (lesion.kind == "both" and lesion.undecided):
        return "undecided"
    if lesion.kind == "both":
        return "extent"
    return {"other artery": "artery", "only A": "A alone", "only B": "B alone"}[lesion.kind]


def _words(lesion: ComparedLesion, side: str, case: Case) -> str:
    ids: tuple[int, ...] = getattr(lesion, side)
    if not ids:
        return LETTERS[Artery.OTHER] if lesion.says_other else "–"
    arteries = "+".join(LETTERS[Artery[name]] for name in getattr(lesion, f"arteries_{side}"))
    is_open = any(case.lesions.notes[n].undecided for n in ids)
    return f"{arteries} {getattr(lesion, f'agatston_{side}'):.0f}{' ?' if is_open else ''}"


def _brightest(case: Case, flat: NDArray[np.int64]) -> list[int]:
    """(k, j, i) on the scored grid of the brightest of some voxels of the CT as it was read."""
    source = case.source_ct.hu
    k, j, i = np.unravel_index(int(flat[np.argmax(source.reshape(-1)[flat])]), source.shape)
    return [int(k) // case.slab_count, int(j), int(i)]


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
