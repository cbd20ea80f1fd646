"""Where two readings differ, in the views: the voxels outlined, and beside each lesion its number and what differs.

The colors are none of an artery's, and the letters stand beside them. Nothing of it can be chosen or is saved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from HeartLensCACLib.Views.Markers import newMarkers, removeShown

NAME = "HeartLens differences"

KINDS = {
    "artery": (_("another artery"), "#E41AFF"),
    "A alone": (_("A alone"), "#FFFFFF"),
    "B alone": (_("B alone"), "#FF2B2B"),
    "extent": (_("extent"), "#B3FF00"),
    "undecided": (_("undecided"), "#8C8CFF"),
}
"""In what readings differ, by the command's keyword: the words, and the color of the outline."""


@dataclass(frozen=True)
class Difference:
    """Lesions on which two readings differ.

    Parameters
    ----------
    kind
        Keyword of `KINDS`.
    a, b
        What each reading says, in words.
    ras
        Of the brightest voxel, mm.
    runs
        (start, count) of the voxels, C order on the grid of the CT as it was read.
    """

    kind: str
    a: str
    b: str
    ras: "tuple[float, float, float]"
    runs: "tuple[tuple[int, int], ...]"

    @property
    def words(self) -> str:
        """In what they differ."""
        return KINDS[self.kind][0]


class DifferenceMap:
    """The outlines and the markers.

    Parameters
    ----------
    shown
        With `reading`, a ReviewSession or None, and `nodes` that show it.
    """

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._nodes: list[Any] = []

    def show(self, differences: "Sequence[Difference]") -> None:
        """Show them over the case that is open; it is of the scan that was read twice."""
        from heartlens.scene import Mark, show_marks

        self.remove()
        if not differences:
            return
        marks = [
            Mark(words, color, voxelsOf([one for one in differences if one.kind == kind]))
            for kind, (words, color) in KINDS.items()
        ]
        case, volume = self._shown.reading.case, self._shown.nodes.volume
        self._nodes.append(show_marks(slicer.mrmlScene, case, volume, [one for one in marks if one.flat.size], NAME))
        for kind, (words, color) in KINDS.items():
            mine = [(n, one) for n, one in enumerate(differences, 1) if one.kind == kind]
            if not mine:
                continue
            node = newMarkers(f"{NAME}, {words}", color)
            self._nodes.append(node)
            for n, one in mine:
                node.AddControlPoint(*one.ras, f"{n}: {words}\n ")  # a line above the text of the lesion there

    def remove(self) -> None:
        """Take them out of the scene."""
        nodes, self._nodes = self._nodes, []
        for node in nodes:
            removeShown(node)


def voxelsOf(differences: "Sequence[Difference]") -> Any:
    """(n,) C-order indices of the voxels of some differences, ascending."""
    runs = [np.arange(start, start + count) for one in differences for start, count in one.runs]
    return np.unique(np.concatenate(runs)) if runs else np.zeros(0, np.int64)
