"""Slicer's own effects Paint, Erase and Scissors in the embedded segment editor, and the artery that they give to."""

from collections.abc import Callable
from functools import partial
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from heartlens.case.case import Case
from heartlens.core.lesions import Artery

EFFECTS = ("Paint", "Erase", "Scissors")

EFFECT_HINTS = {
    "Paint": _("Paint gives calcium to {artery}."),
    "Erase": _("Erase takes away calcium of every artery."),
    "Scissors": _(
        "Scissors cuts {artery} alone, in all slices unless its Slice cut option says otherwise; "
        "choose another artery with its button."
    ),
}

EDITOR_TAG = "HeartLensCAC"
"""Singleton tag of our segment editor node, so that the Segment Editor module keeps its own."""


class Brush:
    """The embedded segment editor, with one segment for each artery.

    Parameters
    ----------
    ui
        Widgets by name.
    changed
        Called with the artery that the editor names when its node has changed; None where it names none.
    """

    def __init__(self, ui: Any, changed: "Callable[[Artery | None], None]") -> None:
        editor = self._editor = ui.segmentEditor
        self._changed = changed
        self.node: Any = None
        self._tag: int | None = None
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

    @property
    def effect(self) -> str:
        """Name of the effect that is at work and owns the mouse; "" for none."""
        return "" if self.node is None else str(self.node.GetActiveEffectName() or "")

    def keys(self) -> "dict[str, Callable[[], None]]":
        """Key sequences, and what they do."""
        return {"A": partial(self.toggle, "Paint"), "X": partial(self.toggle, "Erase")}

    def toggle(self, effect: str) -> None:
        """Take an effect up, or put it down."""
        if self.node is not None and self.node.GetSegmentationNode() is not None:
            self._editor.setActiveEffectByName("" if self.effect == effect else effect)

    @property
    def hint(self) -> "str | None":
        """What the effect at work does, with {artery} to be filled in; None without one."""
        return EFFECT_HINTS.get(self.effect)

    def putDown(self) -> None:
        """No effect is at work any more."""
        if self.node is not None:
            self._editor.setActiveEffectByName("")

    def give(self, artery: Artery) -> None:
        """What is painted from now on belongs to an artery."""
        self._editor.setCurrentSegmentID(artery.name)

    def open(self, nodes: Any, case: Case, artery: Artery) -> None:
        """Edit another case, with our own editor node, found or made: a closed scene takes it away."""
        node = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(EDITOR_TAG)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("Erase.EraseAllSegments", "1")  # the eraser takes what is under it, of whichever artery
        self._unobserve()
        self.node = node
        self._editor.setMRMLSegmentEditorNode(node)
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onNode)
        self.take(nodes, artery)
        self._setMask(case)

    def take(self, nodes: Any, artery: Artery) -> None:
        """Give the editor the nodes of a case. It chooses the first segment, which is not the reader's choice."""
        self._handOver(nodes.segmentation, nodes.volume, artery)

    def leave(self) -> None:
        """No effect may keep the mouse when nobody looks at the panel."""
        if self.node is not None:
            self.putDown()
            self._handOver(None, None)

    def drop(self) -> None:
        """Before a scene closes."""
        self.leave()
        self._editor.setMRMLSegmentEditorNode(None)
        self._unobserve()
        self.node = None

    def observeViews(self) -> None:
        """Let the editor observe the views."""
        self._editor.setupViewObservations()

    def leaveViews(self) -> None:
        """Put the brush down, and let the editor observe no view."""
        self.putDown()
        self._editor.removeViewObservations()

    def _unobserve(self) -> None:
        if self.node is not None and self._tag is not None:
            self.node.RemoveObserver(self._tag)
        self._tag = None

    def _onNode(self, *_args: Any) -> None:
        """The editor's own table names an artery too: what is chosen there is chosen in the panel."""
        if not self._isHandingOver:
            name = self.node.GetSelectedSegmentID()
            self._changed(Artery[name] if name in Artery.__members__ else None)

    def _handOver(self, segmentation: Any, volume: Any, artery: "Artery | None" = None) -> None:
        self._isHandingOver = True
        self._editor.setSegmentationNode(segmentation)
        self._editor.setSourceVolumeNode(volume)
        if artery is not None:
            self.give(artery)
        self._isHandingOver = False

    def _setMask(self, case: Case) -> None:
        """Only calcium can be painted, and a voxel belongs to one artery: two would count it twice."""
        node = self.node
        node.SetSourceVolumeIntensityMask(True)
        top = max(float(case.source_ct.hu.max()), case.protocol.label_threshold_hu) + 1.0
        node.SetSourceVolumeIntensityMaskRange(case.protocol.label_threshold_hu, top)
        node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteAllSegments)
