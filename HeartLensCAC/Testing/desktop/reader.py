"""A reader at the panel: what a person does with mouse, keys, brush and eraser."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from installed import need

need("PySide6", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")
need("slicer", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")

import slicer  # noqa: E402
import vtk  # noqa: E402
from PySide6.QtCore import QPoint, Qt  # noqa: E402
from PySide6.QtTest import QTest  # noqa: E402
from PySide6.QtWidgets import QApplication, QFileDialog  # noqa: E402

KEYS = {
    "Del": Qt.Key_Delete,
    "Esc": Qt.Key_Escape,
    "Return": Qt.Key_Return,
    **{letter: getattr(Qt, f"Key_{letter}") for letter in "ABCDEFGHJKLMNPRSTVWXYZ01234"},
    "Tab": Qt.Key_Tab,
    "Space": Qt.Key_Space,
    "Up": Qt.Key_Up,
    "Down": Qt.Key_Down,
}


class Reader:
    """Parameters

    ----------
    module : fixture of that name
    folder : DICOM series to read
    """

    puts_brush_down = True
    """After each stroke; a reader who counts keys does it by one."""

    def __init__(self, module: SimpleNamespace, folder: Path) -> None:
        self.module = module
        self.ui, self.dialogs, self.wait = module.ui, module.dialogs, module.wait
        self.volume = module.load(folder)
        self.ui.volumeSelector.setCurrentNode(self.volume)
        self.ui.bundleComboBox.setCurrentIndex(self.ui.bundleComboBox.findData("none"))

    @property
    def panel(self) -> Any:
        return self.module.widget.panel

    # Mouse and keys

    def click(self, button: Any) -> None:
        assert button.enabled, button.name
        QTest.mouseClick(button, Qt.LeftButton, Qt.NoModifier, QPoint(10, button.height // 2))
        QApplication.processEvents()

    def key(self, key: str) -> None:
        window = self.module.widget.parent
        window.activateWindow()
        window.setFocus()
        QTest.keyClick(window, KEYS[key])
        QApplication.processEvents()

    def type_into(self, edit: Any, text: str) -> None:
        edit.clear()
        edit.setFocus()
        QTest.keyClicks(edit, text)

    def click_row(self, row: int) -> None:
        table = self.ui.lesionTable
        at = table.visualItemRect(table.item(row, 1)).center()
        QTest.mouseClick(table.viewport(), Qt.LeftButton, Qt.NoModifier, at)
        assert self.panel.review.selectedLesion() is not None

    def row_of(self, lesion: int) -> int:
        """Where the table shows a lesion."""
        return self.lesions_shown().index(lesion)

    def lesions_shown(self) -> list[int]:
        """Ids of the lesions, as the table numbers its rows."""
        table = self.ui.lesionTable
        return [int(table.verticalHeaderItem(r).text()) for r in range(table.rowCount)]

    def click_row_of(self, lesion: int) -> None:
        self.click_row(self.row_of(lesion))

    def hold_row_of(self, lesion: int) -> None:
        self.hold_row(self.row_of(lesion))

    def hold_row(self, row: int) -> None:
        """A double click: the next artery or Delete is for this lesion."""
        self.click_row(row)
        table = self.ui.lesionTable
        at = table.visualItemRect(table.item(row, 1)).center()
        QTest.mouseDClick(table.viewport(), Qt.LeftButton, Qt.NoModifier, at)
        assert self.panel.review.heldLesion == self.panel.review.selectedLesion()

    # Steps of the journey

    def press_score(self) -> None:
        self.click(self.ui.scoreButton)

    def score(self) -> None:
        self.press_score()
        self.wait(lambda: self.ui.scoreButton.text == "Score" and (self.panel.reading or self.dialogs.shown), 120)
        assert self.dialogs.shown == []

    def sign(self) -> None:
        self.type_into(self.ui.observerEdit, "Reader^Rita")
        self.type_into(self.ui.organizationEdit, "Phantom Hospital")
        self.click(self.ui.confirmCheckBox)
        self.click(self.ui.signButton)
        assert self.dialogs.shown == []

    def close_scene(self) -> None:
        slicer.mrmlScene.Clear()

    def open_case(self, folder: Path) -> None:
        """The button, with the folder chosen in the dialog."""
        chooser = QFileDialog.getExistingDirectory
        QFileDialog.getExistingDirectory = lambda *_: str(folder)
        try:
            self.click(self.ui.openCaseButton)
        finally:
            QFileDialog.getExistingDirectory = chooser

    def shown(self) -> list[list[str]]:
        """Every text of the tables but the ticks of what was seen, the last of the lesions' columns."""
        return [
            [table.item(r, c).text() for r in range(table.rowCount) for c in range(table.columnCount - left_out)]
            for table, left_out in ((self.ui.lesionTable, 1), (self.ui.totalsTable, 0), (self.ui.riskTable, 0))
        ]

    def shown_artery(self, lesion: int) -> str:
        return str(self.ui.lesionTable.item(self.row_of(lesion), 0).text())

    # Views and brushes

    def click_in_view(
        self, name: str, lesion: int, *, ctrl: bool = False, drag: bool = False, ctrl_at_release: bool | None = None
    ) -> None:
        """A click on a voxel of a lesion, in a view that shows it."""
        view, start = self.module.views[name], self._at(name, lesion)
        if drag:  # from beside the lesion onto it: only that it is a drag keeps it from being a click there
            view.click(start[0] + 30, start[1], ctrl=ctrl, drag_to=start)
        else:
            view.click(*start, ctrl=ctrl, ctrl_at_release=ctrl_at_release)
        QApplication.processEvents()

    def point_at(self, name: str, lesion: int) -> None:
        """The mouse rests on a voxel of a lesion; `leave` of the view takes it away."""
        self.module.views[name].hover(*self._at(name, lesion))

    def _at(self, name: str, lesion: int) -> tuple[int, int]:
        """Where a view shows a voxel of a lesion, after it went there."""
        case = self.panel.reading.case
        flat = case.lesions.voxels.flat[case.lesions.voxels.ids == lesion]
        kji = np.unravel_index(flat[len(flat) // 2], case.ct.shape)
        self._go_to(name, kji)
        return self._xy(name, kji)

    def _go_to(self, name: str, kji: Any) -> None:
        x, y, z = self.panel.reading.case.ct.lps_mm(np.array(kji, float))
        self.module.views[name].node.JumpSliceByCentering(-x, -y, z)

    def _xy(self, name: str, kji: Any) -> tuple[int, int]:
        """Column and row of a view at which a voxel is."""
        x, y, z = self.panel.reading.case.ct.lps_mm(np.array(kji, float))
        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.module.views[name].node.GetXYToRAS(), to_xy)
        px, py, *_ = to_xy.MultiplyPoint((-x, -y, z, 1.0))
        return round(px), round(py)

    def free_calcium(self) -> tuple[int, int, int]:
        """A bright voxel that no lesion has, such as rib."""
        case = self.panel.reading.case
        free = (case.ct.hu >= 200) & (case.lesions.labels == 0)
        k, j, i = (int(at[len(at) // 2]) for at in np.nonzero(free))
        return k, j, i

    def paint_free_calcium(self, segment: str) -> None:
        """A stroke of 4 mm over bright voxels that no lesion has; the mask decides what is taken."""
        k, j, i = self.free_calcium()
        self.stroke_over("Paint", segment, [(k, j, i - 2), (k, j, i + 2)], diameter_mm=4.0)

    def erase_lesion(self, lesion: int, segment: str | None = None) -> int:
        """The eraser over a lesion, a stroke in each of its slices, with its own segment chosen or another one.

        Returns
        -------
        How many strokes
        """
        case = self.panel.reading.case
        voxels = np.argwhere(case.lesions.labels == lesion)
        segment = segment or case.lesions.arteries[lesion].name
        slices = np.unique(voxels[:, 0])
        for k in slices:
            # row by row and back, as an eraser is moved, with a brush of one voxel
            path = sorted(map(tuple, voxels[voxels[:, 0] == k]), key=lambda at: (at[1], at[2] * (-1) ** at[1]))
            self.stroke_over("Erase", segment, path, diameter_mm=0.9 * min(case.ct.spacing_mm[1:]))
        return len(slices)

    def stroke_over(self, effect: str, segment: str, voxels: Any, *, diameter_mm: float) -> None:
        """One stroke in the axial view, with the segment chosen in the editor's table and a brush of that diameter."""
        self.take_up(effect, diameter_mm)
        self.ui.segmentEditor.setCurrentSegmentID(segment)
        edit_count = len(self.panel.reading.case.edits)
        self._go_to("Red", voxels[0])
        self.module.views["Red"].drag(*(self._xy("Red", kji) for kji in voxels))
        self.wait(lambda: len(self.panel.reading.case.edits) > edit_count)
        if self.puts_brush_down:
            self.ui.segmentEditor.effect_button(effect).click()

    def take_up(self, effect: str, diameter_mm: float) -> None:
        """An effect by its button, where it is not in hand, and its brush by its slider."""
        editor = self.ui.segmentEditor
        if self.panel.review.brush.effect != effect:
            editor.effect_button(effect).click()
        editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
        editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", diameter_mm)
