"""Clicks in slice views, as points of the patient.

A drag is no click: it pans, zooms or changes the window. While a markup is being placed, the click is the markup's.
"""

from collections.abc import Callable
from typing import Any

import slicer
import vtk

SLOP_PIXELS = 3
"""How far the mouse may move between press and release of a click."""


class ViewClicks:
    """Observers on the interactors of all slice views; `remove` takes every one of them off.

    Parameters
    ----------
    clicked
        Called with (r, a, s) in mm and whether Ctrl was held.
    """

    def __init__(self, clicked: Callable[[tuple[float, float, float], bool], None]) -> None:
        self._clicked = clicked
        self._observed: list[tuple[Any, int]] = []
        self._manager: Any = None
        self._pressed: tuple[int, int] | None = None

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

            def onPress(caller: Any, event: str) -> None:
                self._pressed = tuple(caller.GetEventPosition())

            def onRelease(caller: Any, event: str, node: Any = node) -> None:
                self._onRelease(caller, node)

            for event, slot in (
                (vtk.vtkCommand.LeftButtonPressEvent, onPress),
                (vtk.vtkCommand.LeftButtonReleaseEvent, onRelease),
            ):
                self._observed.append((interactor, interactor.AddObserver(event, slot)))

    def _stopObserving(self) -> None:
        for interactor, tag in self._observed:
            interactor.RemoveObserver(tag)
        self._observed = []
        self._pressed = None

    def _onRelease(self, interactor: Any, sliceNode: Any) -> None:
        pressed, self._pressed = self._pressed, None
        x, y = interactor.GetEventPosition()
        if pressed is None or max(abs(x - pressed[0]), abs(y - pressed[1])) > SLOP_PIXELS:
            return
        interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        if interaction is not None and interaction.GetCurrentInteractionMode() == interaction.Place:
            return
        r, a, s, _one = sliceNode.GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))
        self._clicked((r, a, s), bool(interactor.GetControlKey()))
