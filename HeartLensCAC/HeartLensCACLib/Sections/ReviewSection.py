"""Review: the lesions, and every way to correct them.

Three ways lead to the same edits: the table with the artery buttons, a click in a slice view, and Slicer's own
effects in the embedded segment editor. The case owns undo; the editor's own is off, so that there is only one.
"""

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from heartlens.app.review_session import ReviewSession
from heartlens.case.case import Case
from heartlens.core.lesions import ARTERY_COLORS, Artery
from heartlens.scoring.agatston import density_weight
from heartlens.scoring.report import LesionScore, display_agatston
from HeartLensCACLib.Parameters import Parameters
from HeartLensCACLib.Sections.Tables import LETTERS, colorIcon, fillTable, fitHeight

EFFECTS = ("Paint", "Erase", "Scissors")

EFFECT_HINTS = {
    "Paint": _("Paint gives calcium to {artery}."),
    "Erase": _("Erase takes away calcium of every artery."),
    "Scissors": _("Scissors cuts {artery} alone; choose another artery with its button."),
}

COLUMNS = (
    _("artery"), _("Agatston"), _("volume\nmm³"), _("area\nmm²"), _("peak\nHU"), _("weight"), _("slices"),
    _("found\nby"), _("confi-\ndence"),
)  # fmt: skip

REVIEW_FIRST = "?"
"""Beside the confidence of a lesion that the networks were not sure of."""

EDITOR_TAG = "HeartLensCAC"
"""Singleton tag of our segment editor node, so that the Segment Editor module keeps its own."""


class Actions:
    """What the section asks the panel to do.

    Parameters
    ----------
    assign
        A lesion to an artery.
    remove
        A lesion.
    undo, redo
        The latest edit.
    """

    def __init__(
        self,
        assign: Callable[[int, Artery], None],
        remove: Callable[[int], None],
        undo: Callable[[], None],
        redo: Callable[[], None],
    ) -> None:
        self.assign, self.remove, self.undo, self.redo = assign, remove, undo, redo


class ReviewSection:
    """The Review section: the table of lesions, artery buttons, undo and redo, and the brush."""

    def __init__(self, ui: Any, actions: Actions) -> None:
        self.ui = ui
        self._actions = actions
        self._parameters: Parameters | None = None
        self._case: Case | None = None
        self._nodes: Any = None
        self._rows: list[LesionScore] = []
        self._filling = False
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
        ui.lesionTable.connect("itemSelectionChanged()", self._onSelection)
        ui.previousButton.connect("clicked(bool)", lambda _on=False: self.step(-1))
        ui.nextButton.connect("clicked(bool)", lambda _on=False: self.step(+1))
        ui.removeButton.connect("clicked(bool)", lambda _on=False: self.removeSelected())
        ui.undoButton.connect("clicked(bool)", lambda _on=False: actions.undo())
        ui.redoButton.connect("clicked(bool)", lambda _on=False: actions.redo())
        ui.tintCheckBox.connect("toggled(bool)", self._onTint)
        self._setUpEditor()
        self.clear()

    def setParameters(self, parameters: Parameters) -> None:
        """Show the artery of a parameter node, and write changes there from now on."""
        self._parameters = parameters
        self._showArtery()

    # What is shown

    def show(self, reading: ReviewSession, nodes: Any) -> None:
        """Another case."""
        self._case, self._nodes = reading.case, nodes
        self.setEditorNode()
        self._handOver(nodes.segmentation, nodes.volume)
        self._setMask(reading.case)
        self.ui.reviewSection.setEnabled(True)
        self.ui.reviewSection.collapsed = False
        self.ui.tintCheckBox.setChecked(True)
        self._showArtery()
        self.refresh(reading)

    def refresh(self, reading: ReviewSession) -> None:
        """Another state of the case; the selected lesion stays selected as long as it is there."""
        selected, case = self.selectedLesion(), reading.case
        self._case = case
        self._filling = True
        self._rows = list(case.report.lesions)
        fillTable(self.ui.lesionTable, COLUMNS, [self._cells(row) for row in self._rows])
        fitHeight(self.ui.lesionTable)
        self._filling = False
        self.select(selected, center=False)
        self._showHint()
        self.ui.undoButton.setEnabled(case.can_undo)
        self.ui.redoButton.setEnabled(case.can_redo)

    def clear(self) -> None:
        """Let go of the case; empty, disable and fold the section."""
        self._case = self._nodes = None
        self._rows = []
        self.leaveEditor()
        self.ui.lesionTable.setRowCount(0)
        self.ui.reviewSection.setEnabled(False)
        self.ui.reviewSection.collapsed = True

    # Lesions

    def selectedLesion(self) -> "int | None":
        """Id of the lesion that is selected in the table; None when there is none."""
        row = self.ui.lesionTable.currentRow()
        return self._rows[row].id if 0 <= row < len(self._rows) and self._isSelected(row) else None

    def select(self, lesion: "int | None", center: bool = True) -> None:
        """Select a lesion's row; None selects none."""
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

    def press(self, artery: Artery) -> None:
        """An artery's button or key: the selected lesion goes there; clicks and the brush go there from now on.

        While an effect is at work the artery is the brush's, and no lesion moves that happens to be selected.
        """
        lesion = None if self._effect else self.selectedLesion()
        self._parameters.artery = artery
        self._showArtery()
        if lesion is not None:
            self._actions.assign(lesion, artery)

    def removeSelected(self) -> None:
        """Remove the selected lesion, if there is one."""
        lesion = self.selectedLesion()
        if lesion is not None:
            self._actions.remove(lesion)

    def letGo(self) -> None:
        """Put the brush down; with none in hand, let go of the selected lesion, so that no key moves it."""
        if self._effect:
            self.ui.segmentEditor.setActiveEffectByName("")
        else:
            self.select(None)

    @property
    def _effect(self) -> str:
        """Name of the segment editor's effect that is at work and owns the mouse; "" for none."""
        return "" if self._editorNode is None else str(self._editorNode.GetActiveEffectName() or "")

    def toggleTint(self) -> None:
        """Show or hide the tint over the lesions."""
        self.ui.tintCheckBox.setChecked(not self.ui.tintCheckBox.checked)

    @property
    def clickArtery(self) -> "Artery | None":
        """Where a click gives an island; None while an effect of the segment editor is at work and owns the mouse."""
        return None if self._case is None or self._effect else self._parameters.artery

    # The segment editor

    def setEditorNode(self) -> None:
        """Our own node in the scene, found or made; a closed scene takes it away."""
        node = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(EDITOR_TAG)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("Erase.EraseAllSegments", "1")  # the eraser takes what is under it, of whichever artery
        self._unobserveEditor()
        self._editorNode = node
        self.ui.segmentEditor.setMRMLSegmentEditorNode(node)
        self._editorTag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onEditorNode)

    def leaveEditor(self) -> None:
        """No effect may keep the mouse when nobody looks at the panel."""
        if self._editorNode is not None:
            self.ui.segmentEditor.setActiveEffectByName("")
            self._handOver(None, None)

    def dropEditorNode(self) -> None:
        """Before a scene closes."""
        self.leaveEditor()
        self.ui.segmentEditor.setMRMLSegmentEditorNode(None)
        self._unobserveEditor()
        self._editorNode = None

    def _unobserveEditor(self) -> None:
        if self._editorNode is not None and self._editorTag is not None:
            self._editorNode.RemoveObserver(self._editorTag)
        self._editorTag = None

    def _onEditorNode(self, *_args: Any) -> None:
        """The editor's own table names an artery too: what is chosen there is chosen here."""
        if self._isHandingOver or self._nodes is None:
            return
        name = self._editorNode.GetSelectedSegmentID()
        if name in Artery.__members__ and Artery[name] is not self._parameters.artery:
            self._parameters.artery = Artery[name]
            self._showArtery()
        self._showHint()

    def _handOver(self, segmentation: Any, volume: Any) -> None:
        """Give the editor a segmentation. It chooses the first segment of it, which is not the reader's choice."""
        self._isHandingOver = True
        self.ui.segmentEditor.setSegmentationNode(segmentation)
        self.ui.segmentEditor.setSourceVolumeNode(volume)
        if segmentation is not None:
            self.ui.segmentEditor.setCurrentSegmentID(self._parameters.artery.name)
        self._isHandingOver = False

    def enter(self) -> None:
        """Give the segment editor the nodes of the case, and let it observe the views."""
        if self._nodes is not None:
            self._handOver(self._nodes.segmentation, self._nodes.volume)
            self._showArtery()
            self.ui.segmentEditor.setupViewObservations()

    def exit(self) -> None:
        """Put the brush down, and let the segment editor observe no view."""
        if self._editorNode is not None:
            self.ui.segmentEditor.setActiveEffectByName("")
        self.ui.segmentEditor.removeViewObservations()

    def _setUpEditor(self) -> None:
        editor = self.ui.segmentEditor
        self._editorNode: Any = None
        self._editorTag: int | None = None
        self._isHandingOver = False
        editor.setMaximumNumberOfUndoStates(0)
        editor.setUndoEnabled(False)
        editor.setEffectNameOrder(list(EFFECTS))
        editor.unorderedEffectsVisible = False
        editor.setSegmentationNodeSelectorVisible(False)
        editor.setSourceVolumeNodeSelectorVisible(False)
        editor.setSwitchToSegmentationsButtonVisible(False)
        editor.setAddRemoveSegmentButtonsVisible(False)
        editor.setSpecifyGeometryButtonVisible(False)
        editor.setShow3DButtonVisible(False)
        editor.setMaskingSectionVisible(False)
        editor.setAutoShowSourceVolumeNode(False)

    def _setMask(self, case: Case) -> None:
        """Only calcium can be painted, and a voxel belongs to one artery: two would count it twice."""
        node = self._editorNode
        node.SetSourceVolumeIntensityMask(True)
        top = max(float(case.source_ct.hu.max()), case.protocol.label_threshold_hu) + 1.0
        node.SetSourceVolumeIntensityMaskRange(case.protocol.label_threshold_hu, top)
        node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteAllSegments)

    # Drawing

    def _cells(self, row: LesionScore) -> "list[Any]":
        first, last = (index + 1 for index in row.slices)
        return [
            (LETTERS[row.artery], ARTERY_COLORS[row.artery]),
            display_agatston(row.agatston) if row.artery is not Artery.OTHER else _("not counted"),
            f"{row.volume_mm3:.0f}",
            f"{row.area_mm2:.1f}",
            f"{row.peak_hu:.0f}",
            str(int(density_weight(row.peak_hu, edges_hu=self._case.protocol.edges_hu))),
            f"{first}" if first == last else f"{first}–{last}",
            row.source.value,
            _confidence(row),
        ]

    def _showArtery(self) -> None:
        artery = self._parameters.artery
        for own, button in self.buttons.items():
            button.setChecked(own is artery)
        if self._nodes is not None:
            self.ui.segmentEditor.setCurrentSegmentID(artery.name)
        self._showHint()

    def _showHint(self) -> None:
        if self._case is None or self._parameters is None:
            self.ui.hintLabel.setText("")
            return
        letters = LETTERS[self._parameters.artery]
        if self._effect in EFFECT_HINTS:
            text = EFFECT_HINTS[self._effect].format(artery=letters)
        elif self.selectedLesion() is not None:
            text = _("Press 1 to 4 or 0 to assign the selected lesion to another artery, Esc to let go of it.")
        else:
            text = _(
                "Click calcium in a slice to assign it to {artery}; Ctrl-click assigns only the part in that slice."
            ).format(artery=letters)
        unassigned = sum(row.artery is Artery.UNASSIGNED for row in self._rows)
        if unassigned:
            text += " " + _("Not assigned to an artery: {count}.").format(count=unassigned)
        unsure = sum(row.undecided for row in self._rows)
        if unsure:
            text += " " + _("Borderline, review first: {count} (marked {mark}).").format(
                mark=REVIEW_FIRST, count=unsure
            )
        self.ui.hintLabel.setText(text)

    def _showSelected(self) -> None:
        self.ui.removeButton.setEnabled(self.selectedLesion() is not None)
        self._showHint()

    def _isSelected(self, row: int) -> bool:
        item = self.ui.lesionTable.item(row, 0)
        return item is not None and item.isSelected()

    def _onSelection(self) -> None:
        if self._filling:
            return
        self._showSelected()
        lesion = self.selectedLesion()
        if lesion is not None:
            row = next(row for row in self._rows if row.id == lesion)
            x, y, z = row.centroid_lps_mm
            slicer.vtkMRMLSliceNode.JumpAllSlices(
                slicer.mrmlScene, -x, -y, z, slicer.vtkMRMLSliceNode.CenteredJumpSlice
            )

    def _onTint(self, shown: bool) -> None:
        if self._nodes is not None:
            display = self._nodes.segmentation.GetDisplayNode()
            if display is not None:
                display.SetVisibility(shown)


def _confidence(row: LesionScore) -> str:
    shown = "" if row.probability is None else f"{row.probability:.2f}"
    return f"{shown} {REVIEW_FIRST}".strip() if row.undecided else shown
