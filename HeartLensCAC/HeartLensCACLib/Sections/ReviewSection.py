"""Review: the lesions, and every way to correct them.

Three ways lead to the same edits: the table with the artery buttons, a click or a key in a slice view, and Slicer's own
effects in the embedded segment editor. The case owns undo; the editor's own is off, so that there is only one.

To select a lesion is to look at it, and changes what no key and no button does. One that is to be changed is taken
hold of first, and let go by the edit, by Esc, and by going to another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from heartlens.app.review_session import ReviewSession
from heartlens.case.case import Case
from heartlens.case.looked_at import LookedAt
from heartlens.core.lesions import ARTERY_COLORS, Artery
from heartlens.scoring.report import LesionScore
from HeartLensCACLib.Interaction.Shortcuts import ARTERY_KEYS
from HeartLensCACLib.Parameters import Parameters
from HeartLensCACLib.Sections.Brush import Brush
from HeartLensCACLib.Sections.InputSection import choose, chosen, fill
from HeartLensCACLib.Sections.LesionQueue import (
    COLUMNS,
    FILTERS,
    SEEN,
    LesionQueue,
    cells,
    nextToDo,
    openWords,
)  # fmt: skip
from HeartLensCACLib.Sections.Tables import LETTERS, colorIcon, fillTable, fitHeight


@dataclass(frozen=True)
class Actions:
    """What the section asks the panel to do.

    Parameters
    ----------
    assign
        A lesion to an artery; to its own, it is decided on.
    remove
        A lesion.
    undo, redo
        The latest edit.
    underMouse
        Id of the lesion under the mouse in a slice view; None where there is none.
    """

    assign: Callable[[int, Artery], None]
    remove: Callable[[int], None]
    undo: Callable[[], None]
    redo: Callable[[], None]
    underMouse: "Callable[[], int | None]"


class ReviewSection:
    """The Review section: the table of lesions, artery buttons, undo and redo, and the brush."""

    def __init__(self, ui: Any, actions: Actions) -> None:
        self.ui = ui
        self._actions = actions
        self._parameters: Parameters | None = None
        self._case: Case | None = None
        self._nodes: Any = None
        self._queue = LesionQueue()
        self._seen: LookedAt | None = None
        self._seenNow: set[int] = set()
        self._held: int | None = None
        self._rows: list[LesionScore] = []
        self._filling = False
        self.brush = Brush(ui, self._onBrush)
        self.buttons = {
            Artery.LM: ui.lmButton,
            Artery.LAD: ui.ladButton,
            Artery.LCX: ui.lcxButton,
            Artery.RCA: ui.rcaButton,
            Artery.OTHER: ui.otherButton,
        }
        for artery, button in self.buttons.items():
            button.setIcon(colorIcon(ARTERY_COLORS[artery]))
            button.connect("clicked(bool)", lambda _on=False, artery=artery: self.press(artery))
        fill(ui.lesionFilterComboBox, FILTERS)
        ui.lesionFilterComboBox.connect("currentIndexChanged(int)", self._onFilter)
        ui.lesionTable.connect("itemSelectionChanged()", self._onSelection)
        ui.lesionTable.connect("cellDoubleClicked(int,int)", lambda row, _column: self.hold(self._rows[row].id))
        ui.lesionTable.horizontalHeader().connect("sectionClicked(int)", self._onColumn)
        ui.holdButton.connect("clicked(bool)", lambda _on=False: self.toggleHold())
        ui.agreeButton.connect("clicked(bool)", lambda _on=False: self.agree())
        ui.previousButton.connect("clicked(bool)", lambda _on=False: self.step(-1))
        ui.nextButton.connect("clicked(bool)", lambda _on=False: self.step(+1))
        ui.removeButton.connect("clicked(bool)", lambda _on=False: self.removeHeld())
        ui.undoButton.connect("clicked(bool)", lambda _on=False: actions.undo())
        ui.redoButton.connect("clicked(bool)", lambda _on=False: actions.redo())
        ui.tintCheckBox.connect("toggled(bool)", self._onTint)
        self.clear()

    def keys(self) -> "dict[str, Callable[[], None]]":
        """Key sequences of the section, and what they do."""
        return {
            **{key: partial(self.press, artery, isKey=True) for key, artery in ARTERY_KEYS.items()},
            "N": partial(self.step, +1),
            "P": partial(self.step, -1),
            "H": self.toggleHold,
            "Return": self.agree,
            "Enter": self.agree,
            "T": self.toggleTint,
            "Del": self.removePointed,
        }

    def setParameters(self, parameters: Parameters) -> None:
        """Show the artery of a parameter node, and write changes there from now on."""
        self._parameters = parameters
        self._showArtery()

    # What is shown

    def show(self, reading: ReviewSession, nodes: Any) -> None:
        """Another case."""
        self._case, self._nodes = reading.case, nodes
        self._looks = partial(LookedAt, reading.folder, is_kept=reading.held_by is None)
        self._seen, self._seenNow = self._looks(reading.reader), set()
        self._held = None
        self._queue = LesionQueue()
        choose(self.ui.lesionFilterComboBox, FILTERS[0][0])
        self.brush.open(nodes, reading.case, self._parameters.artery)
        self.ui.reviewSection.setEnabled(True)
        self.ui.reviewSection.collapsed = False
        self.ui.tintCheckBox.setChecked(True)
        self._showArtery()
        self.refresh(reading)

    def refresh(self, reading: ReviewSession) -> None:
        """Another state of the case; the selected lesion stays selected as long as it is there."""
        self._case = reading.case
        self._fill()
        self.ui.undoButton.setEnabled(reading.case.can_undo)
        self.ui.redoButton.setEnabled(reading.case.can_redo)

    def readBy(self, reader: str) -> None:
        """Who looked has a name now: what was seen since the case was opened was seen by that person."""
        self._seen = self._looks(reader)
        self._seen.add((), self._seenNow)
        self._fill()

    def clear(self) -> None:
        """Let go of the case; empty, disable and fold the section."""
        self._case = self._nodes = self._seen = self._held = None
        self._rows = []
        self.brush.leave()
        self.ui.lesionTable.setRowCount(0)
        self.ui.reviewSection.setEnabled(False)
        self.ui.reviewSection.collapsed = True

    def enter(self) -> None:
        """Give the segment editor the nodes of the case, and let it observe the views."""
        if self._nodes is not None:
            self.brush.take(self._nodes, self._parameters.artery)
            self._showArtery()
            self.brush.observeViews()

    def exit(self) -> None:
        """Put the brush down, let go of what is held, and let the segment editor observe no view."""
        self.hold(None)
        self.brush.leaveViews()

    # Looking

    def selectedLesion(self) -> "int | None":
        """Id of the lesion that is selected in the table; None when there is none."""
        row = self.ui.lesionTable.currentRow()
        return self._rows[row].id if 0 <= row < len(self._rows) and self._isSelected(row) else None

    def select(self, lesion: "int | None", center: bool = True) -> None:
        """Select a lesion's row, which changes nothing of it; None selects none."""
        ids = [row.id for row in self._rows]
        self._filling = not center
        if lesion in ids:
            self.ui.lesionTable.selectRow(ids.index(lesion))
        else:
            self.ui.lesionTable.clearSelection()
            self.ui.lesionTable.setCurrentCell(-1, -1)
        self._filling = False
        self._showSelected()

    def step(self, by: int) -> None:
        """To the next or previous lesion of the table."""
        if not self._rows:
            return
        lesion = self.selectedLesion()
        ids = [row.id for row in self._rows]
        row = (0 if by > 0 else len(ids) - 1) if lesion is None else (ids.index(lesion) + by) % len(ids)
        self.select(ids[row])

    def agree(self) -> None:
        """Keep the selected lesion as it is called, and go to the next one that is to be decided or seen.

        One without an artery cannot be agreed with, and stays selected.
        """
        if self._case is None or self._seen is None:
            return
        lesion = self.selectedLesion()
        following = nextToDo(self._rows, lesion, self._seen.lesions)
        row = self._row(lesion)
        if row is not None and row.artery is Artery.UNASSIGNED:
            slicer.util.showStatusMessage(_("This calcium has no artery yet: hold it, then press 1 to 4."), 5000)
            return
        if row is not None and row.undecided:
            self._actions.assign(row.id, row.artery)
        if following is not None:
            self.select(following)
        else:
            slicer.util.showStatusMessage(_("Every lesion of the list was seen and is decided."), 5000)

    def toggleTint(self) -> None:
        """Show or hide the tint over the lesions."""
        self.ui.tintCheckBox.setChecked(not self.ui.tintCheckBox.checked)

    # Changing

    @property
    def heldLesion(self) -> "int | None":
        """Id of the lesion that the reader took hold of: the next artery or Delete is for it."""
        return self._held

    def hold(self, lesion: "int | None") -> None:
        """Take hold of a lesion, for one edit; None lets go."""
        self._held = lesion
        if lesion is not None and lesion != self.selectedLesion():
            self.select(lesion)
        self._showSelected()

    def toggleHold(self) -> None:
        """Take hold of the selected lesion, or let go of it."""
        self.hold(None if self._held is not None else self.selectedLesion())

    def press(self, artery: Artery, isKey: bool = False) -> None:
        """An artery's button or key: what is meant goes there, else clicks and the brush go there from now on.

        While an effect is at work the artery is the brush's, and no lesion moves.

        Parameters
        ----------
        isKey
            A key may also mean the lesion under the mouse; who clicks a button has no mouse in a view.
        """
        lesion = self._meant(isPointed=isKey)
        if lesion is not None:
            self._held = None
            self._actions.assign(lesion, artery)
            self._showArtery()  # the button that was clicked is down now
        else:
            self._parameters.artery = artery
            self._showArtery()

    def removeHeld(self) -> None:
        """Remove the lesion that is held, if there is one."""
        self._remove(self._meant(isPointed=False))

    def removePointed(self) -> None:
        """Remove the lesion that is held or, with none held, the one under the mouse."""
        self._remove(self._meant(isPointed=True))

    def letGo(self) -> None:
        """Put the brush down; with none in hand let go of the lesion that is held, and then of the selected one."""
        if self.brush.effect:
            self.brush.putDown()
        elif self._held is not None:
            self.hold(None)
        else:
            self.select(None)

    def _meant(self, *, isPointed: bool) -> "int | None":
        if self._case is None or self.brush.effect:
            return None
        return self._held if self._held is not None or not isPointed else self._actions.underMouse()

    def _remove(self, lesion: "int | None") -> None:
        if lesion is not None:
            self._held = None
            self._actions.remove(lesion)

    @property
    def clickArtery(self) -> "Artery | None":
        """Where a click gives an island; None while an effect of the segment editor is at work and owns the mouse."""
        return None if self._case is None or self.brush.effect else self._parameters.artery

    # Drawing

    def _fill(self) -> None:
        case, seen = self._case, self._seen.lesions
        selected = self.selectedLesion()
        if self._row(self._held) is None:
            self._held = None
        self._filling = True
        self._rows = self._queue.rows(case.report.lesions, seen)
        table = self.ui.lesionTable
        fillTable(table, COLUMNS, [cells(row, case.protocol, row.id in seen) for row in self._rows])
        table.setVerticalHeaderLabels([str(row.id) for row in self._rows])
        for r, row in enumerate(self._rows):
            table.item(r, 0).setToolTip(_("Found by: {source}").format(source=row.source.value))
        header = table.horizontalHeader()
        header.setSortIndicatorShown(self._queue.column is not None)
        if self._queue.column is not None:
            order = qt.Qt.AscendingOrder if self._queue.isAscending else qt.Qt.DescendingOrder
            header.setSortIndicator(self._queue.column, order)
        fitHeight(table)
        self._filling = False
        self.select(selected, center=False)

    def _row(self, lesion: "int | None") -> "LesionScore | None":
        lesions = () if self._case is None else self._case.report.lesions
        return next((row for row in lesions if row.id == lesion), None)

    def _showArtery(self) -> None:
        artery = self._parameters.artery
        for own, button in self.buttons.items():
            button.setChecked(own is artery)
        if self._nodes is not None:
            self.brush.give(artery)
        self._showHint()

    def _showHint(self) -> None:
        if self._case is None or self._parameters is None:
            self.ui.hintLabel.setText("")
            return
        letters = LETTERS[self._parameters.artery]
        if self.brush.hint is not None:
            text = self.brush.hint.format(artery=letters)
        elif self._held is not None:
            text = _("Lesion {number} is held: 1 to 4 or 0 assigns it, Del deletes it, Esc lets go of it.")
            text = text.format(number=self._held)
        else:
            text = _(
                "Click calcium in a slice to assign it to {artery}; Ctrl-click assigns only the part in that slice. "
                "Keys 1 to 4 and 0 assign the lesion under the mouse."
            ).format(artery=letters)
        self.ui.hintLabel.setText(" ".join([text, *openWords(self._case.report.lesions)]))

    def _showSelected(self) -> None:
        lesion = self.selectedLesion()
        if self._held != lesion:
            self._held = None  # what is held is what is seen
        self.ui.holdButton.setEnabled(lesion is not None)
        self.ui.holdButton.setChecked(self._held is not None)
        self.ui.removeButton.setEnabled(self._held is not None)
        self._showHint()

    def _isSelected(self, row: int) -> bool:
        item = self.ui.lesionTable.item(row, 0)
        return item is not None and item.isSelected()

    def _onSelection(self) -> None:
        if self._filling:
            return
        self._showSelected()
        row = self._row(self.selectedLesion())
        if row is not None:
            x, y, z = row.centroid_lps_mm
            slicer.vtkMRMLSliceNode.JumpAllSlices(
                slicer.mrmlScene, -x, -y, z, slicer.vtkMRMLSliceNode.CenteredJumpSlice
            )
            self._see(row.id)

    def _see(self, lesion: int) -> None:
        """The row stays where it is although it was seen: no list moves under the mouse."""
        self._seen.add((), (lesion,))
        self._seenNow.add(lesion)
        shown = next(r for r, row in enumerate(self._rows) if row.id == lesion)
        self.ui.lesionTable.item(shown, len(COLUMNS) - 1).setText(SEEN)

    def _onColumn(self, column: int) -> None:
        self._queue.sortBy(column)
        self._fill()

    def _onFilter(self, *_args: Any) -> None:
        self._queue.shown = chosen(self.ui.lesionFilterComboBox)
        if self._case is not None:
            self._fill()

    def _onBrush(self, artery: "Artery | None") -> None:
        """The segment editor was changed by hand."""
        if self._nodes is None:
            return
        if artery is not None and artery is not self._parameters.artery:
            self._parameters.artery = artery
            self._showArtery()
        self._showHint()

    def _onTint(self, shown: bool) -> None:
        display = None if self._nodes is None else self._nodes.segmentation.GetDisplayNode()
        if display is not None:  # in slices alone: whatever paints into a hidden node is asked about it by Slicer
            display.SetVisibility2DFill(shown)
            display.SetVisibility2DOutline(shown)
