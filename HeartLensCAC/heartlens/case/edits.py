"""What a reader did, one record an edit, and how it changes the lesions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import Artery, Draft, LesionNote, Site
from heartlens.core.provenance import LabelSource

EDIT_KINDS = ("reassign", "remove", "paint", "erase", "undo", "redo")


@dataclass(frozen=True)
class Edit:
    """One thing a reader did.

    Parameters
    ----------
    kind
        One of `EDIT_KINDS`.
    lesion
        Id, for reassign and remove.
    artery
        For reassign and paint.
    runs
        (start, length) pairs of C-order voxel indices, for paint and erase
    who, when
        Reader and ISO 8601 time, as given by the front end.
    joined
        Part of the same action as the edit before it, and undone together with it.
    site
        Where it lies, of a lesion that is called not coronary; None where the reader did not say.
    """

    kind: str
    lesion: int | None = None
    artery: Artery | None = None
    runs: tuple[tuple[int, int], ...] = ()
    who: str = ""
    when: str = ""
    joined: bool = False
    site: Site | None = None

    def __post_init__(self) -> None:
        if self.kind not in EDIT_KINDS:
            raise ValueError(f"kind must be one of {', '.join(EDIT_KINDS)}, got {self.kind!r}")
        if self.joined and self.kind in ("undo", "redo"):
            raise ValueError(f"{self.kind} is an action of its own and cannot be joined to another")
        if self.site is not None and self.artery is not Artery.OTHER:
            raise ValueError(f"a site is said of calcium that is not coronary, got {self.site} for {self.artery}")

    def to_json(self) -> dict[str, Any]:
        """Plain values, the artery by its name."""
        artery = None if self.artery is None else self.artery.name
        document = {**asdict(self), "artery": artery, "runs": [list(run) for run in self.runs]}
        site = document.pop("site")  # not said in most edits, and unknown before there were sites
        return document if site is None else {**document, "site": site.value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Edit:
        """An edit from what `to_json` made of it."""
        artery = None if document["artery"] is None else Artery[document["artery"]]
        said = {"site": Site(document["site"])} if document.get("site") is not None else {}
        return cls(**{**document, "artery": artery, "runs": tuple((s, n) for s, n in document["runs"]), **said})

    @property
    def flat(self) -> NDArray[np.int64]:
        """(n,) voxels of the runs."""
        return np.concatenate([np.arange(s, s + n) for s, n in self.runs] or [np.zeros(0, np.int64)])


def apply_edit(edit: Edit, draft: Draft) -> None:
    """Make one edit on a draft.

    Raises
    ------
    ValueError
        It cannot be made there, or does not say what it needs; undo and redo are for whoever keeps the history.
    """
    note = LesionNote(source=LabelSource.READER, why=f"{edit.kind} by the reader")
    if edit.kind in ("undo", "redo"):
        raise ValueError(f"{edit.kind} is no change of lesions")
    if edit.kind == "erase":
        draft.erase(edit.flat)
    elif edit.kind == "paint" and edit.artery is not None:
        draft.paint(edit.flat, edit.artery, note)
    elif edit.lesion is None:
        raise ValueError(f"an edit of kind {edit.kind} must name a lesion")
    elif edit.kind == "remove":
        draft.remove(edit.lesion)
    elif edit.artery is None:
        raise ValueError("a reassignment must name an artery")
    else:
        known = draft.notes.get(edit.lesion)
        site = edit.site if edit.site is not None or known is None else known.site
        draft.reassign(edit.lesion, edit.artery, replace(note, site=site))


def actions_of(edits: Iterable[Edit]) -> tuple[list[list[Edit]], list[list[Edit]]]:
    """Actions in force and actions undone (latest last), each with its edits.

    Parameters
    ----------
    edits
        Oldest first.
    """
    done: list[list[Edit]] = []
    undone: list[list[Edit]] = []
    for edit in edits:
        if edit.kind == "undo":
            undone.append(done.pop())
        elif edit.kind == "redo":
            done.append(undone.pop())
        elif edit.joined:
            done[-1].append(edit)
        else:
            done.append([edit])
            undone.clear()
    return done, undone


def edits_in_force(edits: Iterable[Edit]) -> list[Edit]:
    """The edits that were not taken back, in their order.

    Parameters
    ----------
    edits
        Oldest first.
    """
    return [edit for action in actions_of(edits)[0] for edit in action]


def runs_of(flat: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Ascending indices as (start, length) runs."""
    if not flat.size:
        return ()
    breaks = np.flatnonzero(np.diff(flat) > 1) + 1
    return tuple((int(run[0]), int(run.size)) for run in np.split(flat, breaks))
