"""In which order the lesions are read: what a reader has to decide comes first, unless a column is to sort them.

No window: rows of a report in, rows of the table out.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from slicer.i18n import tr as _

from heartlens.core.lesions import ARTERY_COLORS, CORONARY, SITE_NAMES, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource
from heartlens.scoring.agatston import density_weight
from heartlens.scoring.report import LesionScore, display_agatston
from HeartLensCACLib.Sections.Tables import LETTERS

COLUMNS = (
    _("artery"), _("Agatston"), _("volume\nmm³"), _("area\nmm²"), _("peak\nHU"), _("weight"), _("slices"),
    _("confi-\ndence"), _("seen"),
)  # fmt: skip

REVIEW_FIRST = "?"
"""Beside the confidence of a lesion that the networks were not sure of."""

SEEN = "\u2713"
"""In the row of a lesion that was on the screen."""

ALL, TO_DO, UNDECIDED, UNSEEN, CHANGED = "all", "to do", "undecided", "unseen", "changed"

FILTERS = (
    (ALL, _("all lesions")),
    (TO_DO, _("to decide or to see")),
    (UNDECIDED, _("to decide")),
    (UNSEEN, _("not seen yet")),
    (CHANGED, _("changed by the reader")),
    *((artery.name, LETTERS[artery]) for artery in (*CORONARY, Artery.OTHER)),
)
"""What can be shown of the table, and its name."""

_KEYS: "tuple[Callable[[LesionScore], Any], ...]" = (
    lambda row: -row.artery,  # the first artery of the list is the highest
    lambda row: row.agatston,
    lambda row: row.volume_mm3,
    lambda row: row.area_mm2,
    lambda row: row.peak_hu,
    lambda row: row.peak_hu,
    lambda row: row.slices,
    lambda row: -1.0 if row.probability is None else row.probability,
)
"""What each column sorts by; `seen` is of the reader and not of the row."""


def isOpen(row: LesionScore) -> bool:
    """Whether a reader has to decide on a lesion: the networks were not sure of it, or it has no artery."""
    return row.undecided or row.artery is Artery.UNASSIGNED


class LesionQueue:
    """The lesions of a case as the reader wants to see them.

    Attributes
    ----------
    shown
        Keyword of `FILTERS`.
    column
        That sorts the rows, highest or last slice first; None for the queue: to be decided first, then by score.
    isAscending
        The other way round.
    """

    def __init__(self) -> None:
        self.shown = ALL
        self.column: int | None = None
        self.isAscending = False

    def sortBy(self, column: int) -> None:
        """A click on a column's title: by it, the other way round, and the queue again."""
        if self.column != column:
            self.column, self.isAscending = column, False
        elif not self.isAscending:
            self.isAscending = True
        else:
            self.column = None

    def rows(self, lesions: Sequence[LesionScore], seen: "Collection[int]") -> "list[LesionScore]":
        """The rows to show, in order.

        Parameters
        ----------
        lesions
            Of the report, highest score first.
        seen
            Ids of those that were on the screen.
        """
        kept = [row for row in lesions if self._isShown(row, seen)]
        if self.column is None:
            return sorted(kept, key=lambda row: not isOpen(row))
        if self.column >= len(_KEYS):
            return sorted(kept, key=lambda row: row.id in seen, reverse=not self.isAscending)
        return sorted(kept, key=_KEYS[self.column], reverse=not self.isAscending)

    def _isShown(self, row: LesionScore, seen: "Collection[int]") -> bool:
        if self.shown in Artery.__members__:
            return row.artery is Artery[self.shown]
        return {
            TO_DO: isOpen(row) or row.id not in seen,
            UNDECIDED: isOpen(row),
            UNSEEN: row.id not in seen,
            CHANGED: row.source is LabelSource.READER,
        }.get(self.shown, True)


def nextToDo(rows: Sequence[LesionScore], after: "int | None", seen: "Collection[int]") -> "int | None":
    """Id of the next lesion that is to be decided or seen, from one on and around; None when no other is left."""
    ids = [row.id for row in rows]
    start = ids.index(after) + 1 if after in ids else 0
    for row in [*rows[start:], *rows[:start]]:
        if row.id != after and (isOpen(row) or row.id not in seen):
            return row.id
    return None


def cells(row: LesionScore, protocol: ScoringProtocol, isSeen: bool) -> "list[Any]":
    """A row of the table."""
    first, last = (index + 1 for index in row.slices)
    return [
        (arteryOrSite(row), ARTERY_COLORS[row.artery]),
        display_agatston(row.agatston) if row.artery is not Artery.OTHER else _("not counted"),
        f"{row.volume_mm3:.0f}",
        f"{row.area_mm2:.1f}",
        f"{row.peak_hu:.0f}",
        str(int(density_weight(row.peak_hu, edges_hu=protocol.edges_hu))),
        f"{first}" if first == last else f"{first}–{last}",
        confidence(row),
        SEEN if isSeen else "",
    ]


def arteryOrSite(row: LesionScore) -> str:
    """Its artery, or the place of calcium that is not coronary, where that is known."""
    return LETTERS[row.artery] if row.site is None else SITE_NAMES[row.site]


def confidence(row: LesionScore) -> str:
    """Of the networks, with a mark where a reader is to look first."""
    shown = "" if row.probability is None else f"{row.probability:.2f}"
    return f"{shown} {REVIEW_FIRST}".strip() if row.undecided else shown


def openWords(rows: Sequence[LesionScore]) -> "list[str]":
    """What a reader still has to decide on, in words; of all lesions, whichever the table shows."""
    words = []
    unassigned = sum(row.artery is Artery.UNASSIGNED for row in rows)
    if unassigned:
        words.append(_("Not assigned to an artery: {count}.").format(count=unassigned))
    unsure = sum(row.undecided for row in rows)
    if unsure:
        text = _("Borderline, review first: {count} (marked {mark}).")
        words.append(text.format(mark=REVIEW_FIRST, count=unsure))
    return words
