"""A score of 0 is a claim: what reaches the threshold in the heart and does not count, with the reason, before signing.

The rows are those of the page, found by the same function and named by the same words.
"""

import textwrap
from functools import partial
from typing import Any

import slicer

from heartlens.case.case import Case
from HeartLensCACLib.Sections.Tables import fillTable, fitHeight
from HeartLensCACLib.Timers import Aside, singleShot

WAIT_MS = 300
"""After the case was shown or edited: the views come first."""

MOST_ROWS = 4
"""That are seen at once; the others are scrolled to."""

TITLE_CHARACTERS = 12
"""In a line of a title of a column of numbers: the reasons need the room."""


class LeftOutTable:
    """The table above the box that confirms a reading; there is none where calcium was scored.

    Parameters
    ----------
    ui
        Widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self._case: Case | None = None
        self._rows: tuple[Any, ...] = ()
        self._timer = singleShot(WAIT_MS, self._look)
        self._aside = Aside(self._show)
        self._fit = singleShot(0, self._fitRows)
        ui.leftOutTable.connect("itemSelectionChanged()", self._jump)
        ui.leftOutTable.connect("cellClicked(int,int)", lambda _row, _column: self._jump())

    @property
    def isLooking(self) -> bool:
        """Whether the candidates of the case that is shown are still to come."""
        return self._aside.isWorking or bool(self._timer.active)

    def clear(self) -> None:
        """Let go of the case."""
        self._timer.stop()
        self._aside.forget()
        self._case, self._rows = None, ()
        self.ui.leftOutTable.setRowCount(0)
        self._setVisible(False)

    def refresh(self, case: Case) -> None:
        """Another state of the case: at 0 its candidates follow a little later, above 0 there are none at once."""
        if case.report.total.agatston > 0:
            self.clear()
        elif self._case is None or self._case.report != case.report:
            if self._case is None:
                self._setVisible(False)
            self._aside.forget()
            self._case = case
            self._timer.start()

    def _look(self) -> None:
        self._timer.stop()
        self._aside.do(partial(found, self._case))

    def _show(self, leftOut: Any) -> None:
        if leftOut is None:
            self._setVisible(False)
            return
        from heartlens.report.zero_dossier import left_out_columns, left_out_title, nothing_left_out

        self._rows = leftOut.listed
        title = [left_out_title()] if self._rows else [left_out_title(), nothing_left_out()]
        self.ui.leftOutLabel.setText("\n".join(title))
        columns = [
            textwrap.fill(words, TITLE_CHARACTERS) if isNumber else words for words, isNumber in left_out_columns()
        ]
        rows = [[str(row.number), row.image, row.agatston, row.peak, row.why] for row in self._rows]
        fillTable(self.ui.leftOutTable, columns, rows, stretch=True)
        self.ui.leftOutRestLabel.setText(leftOut.rest())
        self._setVisible(True)
        self._fit.start()

    def _fitRows(self) -> None:
        """Rows as high as their reasons, once the table has its width."""
        self._fit.stop()
        self.ui.leftOutTable.resizeRowsToContents()
        fitHeight(self.ui.leftOutTable, most=MOST_ROWS)

    def _setVisible(self, isShown: bool) -> None:
        for widget in (self.ui.leftOutLabel, self.ui.leftOutRestLabel):
            widget.setVisible(isShown)
        self.ui.leftOutTable.setVisible(isShown and bool(self._rows))

    def _jump(self) -> None:
        """The views go to the brightest voxel of the selected row."""
        row = self.ui.leftOutTable.currentRow()
        if self._case is None or not 0 <= row < len(self._rows):
            return
        x, y, z = self._case.ct.lps_mm(self._rows[row].index_kji)
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, -x, -y, z, slicer.vtkMRMLSliceNode.CenteredJumpSlice)


def found(case: Case) -> Any:
    """What was left out of a case, or None; it touches no node."""
    from heartlens.report.zero_dossier import left_out

    return left_out(case)
