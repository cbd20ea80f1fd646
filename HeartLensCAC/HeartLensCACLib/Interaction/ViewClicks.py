"""Clicks in slice views, as points of the patient.

A slab of maximum intensity takes none, and no stroke of a brush: what is seen there lies somewhere within its
thickness.

A drag is no click: it pans, zooms or changes the window. While a markup is being placed, or in another mouse mode of
Slicer, the click is not ours.
"""

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

SLOP_PIXELS = 3
"""How far the mouse may move between press and release of a click."""

BEFORE_SLICER = 2.0
"""Priority of an observer that comes before the view's own (0) and the segment editor's (1), which may end an event.

Slicer takes Ctrl and the left button for blending layers, and tells nobody after it. Such a press is kept from it
while it may be a click of ours, and while a brush is in hand. Slicer 5.12 remembers the segmentation that it began to
blend, and crashes when that press comes again after the segmentation has gone
(vtkMRMLSliceIntersectionWidget.cxx:508).
"""

AFTER_SLICER = -1.0
"""A plain click comes after the view's own observers: on the handle of a markup it is the markup's, and ends there.

Below theirs (0) and not equal to it: of equal observers VTK calls the one first that was added first, and the view may
add its own again after ours.
"""


class ViewClicks:
    """Observers on the interactors of all slice views; `remove` takes every one of them off.

    Parameters
    ----------
    clicked
        Called with (r, a, s) in mm and whether Ctrl was held when the button went down.
    isWanted
        Whether a click would do something now.
    isBrushing
        Whether an effect of the segment editor is at work, to which the views belong.
    """

    def __init__(
        self,
        clicked: Callable[[tuple[float, float, float], bool], None],
        isWanted: Callable[[], bool],
        isBrushing: Callable[[], bool],
    ) -> None:
        self._clicked, self._isWanted, self._isBrushing = clicked, isWanted, isBrushing
        self._observed: list[tuple[Any, int]] = []
        self._manager: Any = None
        self._pressed: tuple[int, int] | None = None
        self._isCtrl = False

    @property
    def areInstalled(self) -> bool:
        """Whether any slice view is observed now."""
        return bool(self._observed)

    def install(self) -> None:
        """Observe every slice view of the layout, and those of a layout chosen later."""
        self.remove()
        self._manager = slicer.app.layoutManager()
        if self._manager is None:
            return
        self._manager.connect("layoutChanged(int)", self._observe)  # another layout may have views of its own
        self._observe()

    def remove(self) -> None:
        """Observe no view any more."""
        if self._manager is not None:
            self._manager.disconnect("layoutChanged(int)", self._observe)
            self._manager = None
        self._stopObserving()

    def _observe(self, *_args: Any) -> None:
        self._stopObserving()
        for name in self._manager.sliceViewNames():
            widget = self._manager.sliceWidget(name)
            interactor, node = widget.sliceView().interactor(), widget.mrmlSliceNode()

            tags: dict[str, int] = {}

            def onAnyPress(caller: Any, event: str, tags: Any = tags, node: Any = node) -> None:
                self._pressed = None
                if self._isKept(caller, node):
                    caller.GetCommand(tags["any"]).SetAbortFlag(1)

            def onPlainPress(caller: Any, event: str) -> None:
                if not caller.GetControlKey():
                    self._pressed, self._isCtrl = tuple(caller.GetEventPosition()), False

            def onRelease(caller: Any, event: str, node: Any = node) -> None:
                self._onRelease(caller, node)

            for event, slot, priority in (
                (vtk.vtkCommand.LeftButtonPressEvent, onAnyPress, BEFORE_SLICER),
                (vtk.vtkCommand.LeftButtonPressEvent, onPlainPress, AFTER_SLICER),
                (vtk.vtkCommand.LeftButtonReleaseEvent, onRelease, BEFORE_SLICER),
            ):
                tag = interactor.AddObserver(event, slot, priority)
                if slot is onAnyPress:
                    tags["any"] = tag
                self._observed.append((interactor, tag))

    def _stopObserving(self) -> None:
        for interactor, tag in self._observed:
            interactor.RemoveObserver(tag)
        self._observed = []
        self._pressed = None

    def _isKept(self, interactor: Any, sliceNode: Any) -> bool:
        """Whether nobody after us gets to know of a press."""
        isCtrl = bool(interactor.GetControlKey())
        if self._isBrushing():
            isSlab = bool(sliceNode.GetSlabReconstructionEnabled())
            if isSlab:
                slicer.util.showStatusMessage(_("A slab has no depth: paint, erase and cut in a single slice."), 5000)
            return isSlab or isCtrl
        if not (isCtrl and self._isWanted() and _isDefaultMode()):
            return False
        self._pressed, self._isCtrl = tuple(interactor.GetEventPosition()), True
        return True

    def _onRelease(self, interactor: Any, sliceNode: Any) -> None:
        pressed, self._pressed = self._pressed, None
        x, y = interactor.GetEventPosition()
        if pressed is None or max(abs(x - pressed[0]), abs(y - pressed[1])) > SLOP_PIXELS:
            return
        if not _isDefaultMode():
            return
        if sliceNode.GetSlabReconstructionEnabled():
            return
        r, a, s, _w = sliceNode.GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))
        self._clicked((r, a, s), self._isCtrl)


def _isDefaultMode() -> bool:
    """Whether Slicer's mouse neither places a markup nor adjusts the window."""
    interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    return interaction is None or interaction.GetCurrentInteractionMode() == interaction.ViewTransform
