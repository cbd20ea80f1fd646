"""Where two readings differ: a row for each lesion, and the same in the views while a case of that scan is open."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from heartlens.core.lesions import Artery
from HeartLensCACLib.Sections.LesionQueue import REVIEW_FIRST
from HeartLensCACLib.Sections.Tables import LETTERS, fillTable, fitHeight
from HeartLensCACLib.Views.DifferenceMap import Difference

COLUMNS = (_("differs in"), _("A"), _("B"))

NOTHING = "\u2013"
"""What a reading says of calcium that it has not named."""

MOST_ROWS = 8
"""On the screen at once; the rest is scrolled to."""


class Differences:
    """The table of them, and the map in the views.

    Parameters
    ----------
    ui
        Widgets by name.
    panel
        Panel: the case that is open, and its views.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self.ui = ui
        self._panel = panel
        self._rows: list[Difference] = []
        self._cases: set[Path] = set()
        ui.differencesTable.connect("itemSelectionChanged()", self._onSelection)
        self.forget()

    def show(self, document: "dict[str, Any]", cases: "Iterable[Path | None]") -> None:
        """Show what differs.

        Parameters
        ----------
        document
            What `heartlens compare --json` says of the two readings.
        cases
            Case folders of the scan: over each of them the views can show it.
        """
        self._rows = [differenceOf(one) for one in document["disputed"]]
        self._cases = {folder for folder in cases if folder is not None}
        table = self.ui.differencesTable
        fillTable(table, COLUMNS, [(row.words, row.a, row.b) for row in self._rows])
        table.setVerticalHeaderLabels([str(n) for n in range(1, len(self._rows) + 1)])
        fitHeight(table, MOST_ROWS)
        self.draw()
        self.refresh()

    def isOf(self, folder: Path) -> bool:
        """Whether a case is of the scan of which differences are shown."""
        return folder in self._cases

    def refresh(self) -> None:
        """Another case may be open: the views show what differs where it is of the scan that was read twice."""
        if self._isOpen():
            self._panel.views.differences.show(self._rows)

    def draw(self) -> None:
        """No empty table."""
        self.ui.differencesTable.setVisible(bool(self._rows))

    def forget(self) -> None:
        """Show none."""
        self._rows, self._cases = [], set()
        self.ui.differencesTable.setRowCount(0)
        self.draw()
        if self._panel.reading is not None:
            self._panel.views.differences.remove()

    def step(self) -> None:
        """To the next place where the readings differ."""
        if self._rows:
            table = self.ui.differencesTable
            table.selectRow((table.currentRow() + 1) % len(self._rows) if table.selectedItems() else 0)

    def _isOpen(self) -> bool:
        reading = self._panel.reading
        return reading is not None and self.isOf(reading.folder)

    def _onSelection(self) -> None:
        row = self.ui.differencesTable.currentRow()
        if not (self.ui.differencesTable.selectedItems() and 0 <= row < len(self._rows)):
            return
        if self._isOpen():
            node = slicer.vtkMRMLSliceNode
            node.JumpAllSlices(slicer.mrmlScene, *self._rows[row].ras, node.CenteredJumpSlice)
        else:
            slicer.util.showStatusMessage(_("Open one of the two readings to see where they differ."), 5000)


def differenceOf(told: "dict[str, Any]") -> Difference:
    """A lesion on which two readings differ, as compare.json tells it."""
    x, y, z = told["place_lps_mm"]
    runs = tuple((int(start), int(count)) for start, count in told["runs"])
    return Difference(told["what"], wordsOf(told, "a"), wordsOf(told, "b"), (-x, -y, z), runs)


def wordsOf(told: "dict[str, Any]", side: str) -> str:
    """What reading ``a`` or ``b`` says of it: arteries, score, and a mark where it is not decided."""
    if not told[side]:
        return LETTERS[Artery.OTHER] if told["says_other"] else NOTHING
    arteries = "+".join(LETTERS[Artery[name]] for name in told[f"arteries_{side}"])
    mark = f" {REVIEW_FIRST}" if told[f"undecided_{side}"] else ""
    return f"{arteries} {told[f'agatston_{side}']:.0f}{mark}"
