"""What a page asks to change, checked word by word, and made on a `ReviewSession`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.app.review_session import ReviewSession
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery

GIVEABLE = {artery.name: artery for artery in Artery if artery is not Artery.UNASSIGNED}
"""What a reader can call calcium; that nobody has said is nothing to say."""

MAX_VOXELS = 1_000_000
"""Of one edit: ten times the calcium of the heaviest hearts. More is a slip, or no reader."""


def apply_edit(session: ReviewSession, words: Mapping[str, Any]) -> bool:
    """Make one edit; on the disk when it returns.

    Parameters
    ----------
    session
        Of the case.
    words
        `kind` and what belongs to it: "assign" (`lesion`, `artery`), "remove" (`lesion`), "click" (`kji` on the scored
        grid, `artery`, `part` for the part in the slice), "voxels" (`runs` of C-order indices into the scored CT, and
        `artery`, or null to take them out), "undo", "redo".

    Returns
    -------
    bool
        Whether anything changed.

    Raises
    ------
    InputRefused
        ``input``: it cannot be meant, or cannot be made; ``output``: it cannot be kept. Nothing changed.
    """
    kind = words.get("kind")
    if kind == "assign":
        return session.assign(_lesion(session, words), _artery(words))
    if kind == "remove":
        return session.remove(_lesion(session, words))
    if kind == "click":
        return session.assign_at(_source_kji(session, words), _artery(words), in_slice=words.get("part") is True)
    if kind == "voxels":
        flat = _flat(words, session.case.ct.hu.size)
        code = 0 if words.get("artery") is None else int(_artery(words))
        return session.relabel(flat, np.full(flat.size, code, np.uint8))
    if kind == "undo":
        return session.undo()
    if kind == "redo":
        return session.redo()
    raise InputRefused("input", "this edit is unknown here: the page is older or newer than the server; load it again")


def _artery(words: Mapping[str, Any]) -> Artery:
    name = words.get("artery")
    if not isinstance(name, str) or name not in GIVEABLE:
        raise InputRefused("input", f"calcium can be given to {', '.join(GIVEABLE)}; choose one of them")
    return GIVEABLE[name]


def _lesion(session: ReviewSession, words: Mapping[str, Any]) -> int:
    lesion = words.get("lesion")
    if not isinstance(lesion, int) or isinstance(lesion, bool) or lesion not in session.case.lesions.arteries:
        raise InputRefused("input", "this lesion is no longer there; choose another")
    return lesion


def _source_kji(session: ReviewSession, words: Mapping[str, Any]) -> tuple[float, float, float]:
    """A point of the page, which shows the scored slices, on the grid of the CT as it was read."""
    kji = words.get("kji")
    if not isinstance(kji, list) or len(kji) != 3 or not all(_is_index(x) for x in kji):
        raise InputRefused("input", "a click is a point in a slice; click again")
    count = session.case.slab_count
    k, j, i = (float(x) for x in kji)
    return k * count + (count - 1) / 2, j, i


def _flat(words: Mapping[str, Any], size: int) -> NDArray[np.int64]:
    """Ascending voxel indices of (start, length) runs."""
    runs = words.get("runs")
    if not isinstance(runs, list) or not runs:
        raise InputRefused("input", "nothing was marked; mark calcium")
    if len(runs) > MAX_VOXELS:
        raise InputRefused("input", TOO_MANY)
    for run in runs:
        if not isinstance(run, list) or len(run) != 2 or not all(_is_whole(x) and 0 <= x < 2**40 for x in run):
            raise InputRefused("input", "what was marked cannot be read; mark it again")
    starts, lengths = np.array(runs, np.int64).T
    if lengths.min() < 1 or (starts + lengths).max() > size:
        raise InputRefused("input", "what was marked lies outside of the scan; mark it again")
    if lengths.sum() > MAX_VOXELS:
        raise InputRefused("input", TOO_MANY)
    ends = np.cumsum(lengths)
    return np.unique(np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths))


TOO_MANY = f"one edit may mark {MAX_VOXELS} voxels, which is more than any heart's calcium; mark less"


def _is_index(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
